"""For all tests: Ctrl-C works in what they start, however they were started; how long one takes is no fault."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# Shells start what is to run in the background with it ignored, and so would all be that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that has much to do is slow now and then.
settings.register_profile("flows", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flows")
