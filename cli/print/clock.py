"""Timestamps as text, in the layouts that `--time-format` names. Always UTC and truncated, as Hubble's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

# A layout is the text of the whole second and the text of its nanoseconds, with `{}` where the fraction goes.
Second = Callable[[datetime], str]
Fraction = Callable[[int], str]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _stamp(time: datetime) -> str:
    return f"{_MONTHS[time.month - 1]} {time.day:2d} {time:%H:%M:%S}{{}}"


def _rfc3339(time: datetime) -> str:
    return f"{time.replace(tzinfo=None).isoformat()}{{}}Z"


def _rfc1123z(time: datetime) -> str:
    month = _MONTHS[time.month - 1]
    return f"{_DAYS[time.weekday()]}, {time.day:02d} {month} {time.year:04d} {time:%H:%M:%S} +0000"


def _day(time: datetime) -> str:
    return time.date().isoformat()


def _hour(time: datetime) -> str:
    return f"{_day(time)}T{time:%H}Z"


def _minute(time: datetime) -> str:
    return f"{_day(time)}T{time:%H:%M}Z"


def _none(_nanos: int) -> str:
    return ""


def _milli(nanos: int) -> str:
    return f".{nanos // 1_000_000:03d}"


def _trimmed(digits: int) -> Fraction:
    def text(nanos: int) -> str:
        return f".{nanos:09d}"[: digits + 1].rstrip("0").rstrip(".")

    return text


LAYOUTS: Mapping[str, tuple[Second, Fraction]] = {
    "StampMilli": (_stamp, _milli),
    "YearMonthDay": (_day, _none),
    "YearMonthDayHour": (_hour, _none),
    "YearMonthDayHourMinute": (_minute, _none),
    "RFC3339": (_rfc3339, _none),
    "RFC3339Milli": (_rfc3339, _trimmed(3)),
    "RFC3339Micro": (_rfc3339, _trimmed(6)),
    "RFC3339Nano": (_rfc3339, _trimmed(9)),
    "RFC1123Z": (_rfc1123z, _none),
}


def formatter(layout: str) -> Callable[[Timestamp | None], str]:
    """Text of a Timestamp in a layout of LAYOUTS; `N/A` for one that is absent or not valid."""
    second, fraction = LAYOUTS[layout]

    @lru_cache(maxsize=256)
    def whole(seconds: int) -> str:
        return second(_EPOCH + timedelta(seconds=seconds))

    def text(time: Timestamp | None) -> str:
        if time is None or not 0 <= time.nanos < 1_000_000_000:
            return "N/A"
        try:
            return whole(time.seconds).replace("{}", fraction(time.nanos))
        except OverflowError:  # before year 1 or after 9999
            return "N/A"

    return text
