"""Time, and the way to the records of connections, for tests of what the door to all handlers gives."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

from door_samples import S


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """It is second 2 until a test says otherwise."""
    now = [2 * S]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now
