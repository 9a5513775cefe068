"""Spans of time as `kubectl` shortens them."""

from __future__ import annotations

from datetime import UTC, datetime

from flows.demo.api.clock import parse_time

UNKNOWN = "<unknown>"


def age(text: object) -> str:
    """Time since a timestamp, as `kubectl` shortens it (`duration.HumanDuration`)."""
    moment = parse_time(text)
    if moment is None:
        return UNKNOWN
    return human_duration((datetime.now(UTC) - moment).total_seconds())


def human_duration(seconds: float) -> str:
    """`45s`, `3m5s`, `2h`, `4d3h`, `3y20d`: at most two units, fewer as it grows."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    total = max(0, total)
    for below, unit, letter, smaller, small_letter in _DURATIONS:
        if total < below:
            rest = total % unit // smaller if smaller else 0
            return f"{total // unit}{letter}" + (f"{rest}{small_letter}" if rest else "")
    return f"{total // _YEAR}y"


_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY
_DURATIONS = (
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
)
"""(seconds below which a row holds, its unit, its letter, the smaller unit or 0, its letter)."""
