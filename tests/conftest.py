"""For all tests: Ctrl-C works in what they start, however they were started."""

from __future__ import annotations

import signal

# Shells start what is to run in the background with it ignored, and so would all be that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
