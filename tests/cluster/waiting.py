"""What takes its time in a cluster is waited for, within bounds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_SECONDS = 30.0


def eventually(what: str, condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """What the condition gives, once that is something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return found
