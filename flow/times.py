"""Times as a person writes them: a Go duration ago, or an absolute date and time.

Sources: Go's time.ParseDuration and time.Parse; Hubble hubble/pkg/time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EXPECTED = (
    "expected a duration ago (90s, 5m, 1h30m) or a date and time (2026-11-22, 2026-11-22T10:01Z, 2026-11-22T10:01:00.5+01:00)"
)
DURATION_EXPECTED = "expected a duration (500ms, 90s, 5m, 1h30m)"

_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"[-+]?(?:0|(?:{_PART})+)")
_MAX = (1 << 63) - 1  # Go's: a duration is an int64 of nanoseconds

_ZONE = r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})"
_SECOND = r"(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?"
_CLOCK = rf"(?P<hour>[0-9]{{1,2}})(?::(?P<minute>[0-9]{{2}})(?::{_SECOND})?)?"
_ISO = re.compile(rf"(?P<year>[0-9]{{4}})-(?P<month>[0-9]{{2}})-(?P<day>[0-9]{{2}})(?:T{_CLOCK}{_ZONE})?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_RFC1123Z = re.compile(
    r"(?:mon|tue|wed|thu|fri|sat|sun), "
    rf"(?P<day>[0-9]{{2}}) (?P<month>{'|'.join(_MONTHS)}) (?P<year>[0-9]{{4}})"
    rf" (?P<hour>[0-9]{{1,2}}):(?P<minute>[0-9]{{2}}):{_SECOND} (?P<zone>[+-][0-9]{{4}})",
    re.IGNORECASE,
)


class TimeError(ValueError):
    """The text is no time. nearest is what was probably meant, or empty."""

    def __init__(self, expected: str, nearest: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.nearest = nearest


def parse_time(text: str, now_ns: int) -> int:
    """Nanoseconds since 1970 (UTC). A duration counts back from now_ns. Raises TimeError."""
    try:
        return _time(text, now_ns)
    except ValueError:
        raise TimeError(EXPECTED, _nearest(text, lambda guess: _time(guess, now_ns))) from None


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration (`1h30m`, `-1.5s`, `0`). Raises TimeError."""
    try:
        return _duration(text)
    except ValueError:
        raise TimeError(DURATION_EXPECTED, _nearest(text, _duration)) from None


def _time(text: str, now_ns: int) -> int:
    if _DURATION.fullmatch(text):
        return now_ns - _duration(text)
    found = _ISO.fullmatch(text) or _RFC1123Z.fullmatch(text)
    if not found or not text.isascii():
        raise ValueError(text)
    return _absolute(found.groupdict())


def _duration(text: str) -> int:
    if not _DURATION.fullmatch(text):
        raise ValueError(text)
    total = sum(_scaled(number, _NS[unit]) for number, unit in re.findall(_PART, text))
    if total > _MAX:
        raise ValueError(text)
    return -total if text.startswith("-") else total


def _scaled(number: str, unit: int) -> int:
    """Exact, cut to whole nanoseconds; digits past the 18th decimal cannot matter."""
    whole, _, decimals = number.partition(".")
    if len(whole) > 19:
        raise ValueError(number)
    decimals = decimals[:18]
    part: int = int(decimals or "0") * unit // 10 ** len(decimals)
    return int(whole or "0") * unit + part


def _absolute(part: dict[str, str | None]) -> int:
    month = part["month"] or ""
    moment = datetime(
        int(part["year"] or 0),
        int(month) if month.isdecimal() else _MONTHS.index(month.lower()) + 1,
        int(part["day"] or 0),
        int(part["hour"] or 0),
        int(part["minute"] or 0),
        int(part["second"] or 0),
        tzinfo=_zone(part["zone"] or "Z"),
    )
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    fraction = ((part["fraction"] or "") + "0" * 9)[:9]
    return (since.days * 86400 + since.seconds) * 10**9 + int(fraction)


def _zone(text: str) -> timezone:
    if text == "Z":
        return UTC
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError(text)
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)


_WORDS = {"now": "0s", "yesterday": "24h", "today": "24h", "an hour ago": "1h", "last hour": "1h"}
_UNITS = (
    (r"\s*(milliseconds?|millis|msecs?)\b", "ms"),
    (r"\s*(seconds?|secs?)\b", "s"),
    (r"\s*(minutes?|mins?)\b", "m"),
    (r"\s*(hours?|hrs?)\b", "h"),
)


def _nearest(text: str, parse: Callable[[str], int]) -> str:
    """A usual slip mended: words for units, days, a blank for the T, a zone left out."""
    slim = re.sub(r"\s+ago$", "", text.strip().lower())
    for pattern, unit in _UNITS:
        slim = re.sub(pattern, unit, slim)
    days = re.fullmatch(r"([0-9]{1,6})\s*(d|days?|w|weeks?)", slim)
    hours = f"{int(days[1]) * (24 if days[2][0] == 'd' else 168)}h" if days else ""
    dated = re.sub(r"^([0-9-]{10})[ t_]+", r"\1T", text.strip(), flags=re.IGNORECASE).replace("/", "-")
    joined = re.sub(r"\s+|-$", "", slim)
    durations = (_WORDS.get(slim, ""), hours, joined, f"{joined}m" if "h" in joined else f"{joined}s")
    guesses = (*durations, dated, dated.upper(), f"{dated}Z")
    return next((guess for guess in guesses if _parses(guess, parse)), "")


def _parses(text: str, parse: Callable[[str], int]) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True
