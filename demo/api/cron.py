"""Cron schedules: the five fields and the `@` names, and the minutes they mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

_NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_EVERY = re.compile(r"@every (?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Minutes, hours, days of month, months and weekdays (0 is Sunday); or an interval for `@every`."""

    fields: tuple[frozenset[int], ...] = ()
    any_day: bool = True
    any_weekday: bool = True
    every: timedelta | None = None

    def matches(self, moment: datetime) -> bool:
        """Whether a minute is on the schedule; when both day fields are restricted, either may match (POSIX)."""
        minute, hour, day, month, weekday = self.fields
        if moment.minute not in minute or moment.hour not in hour or moment.month not in month:
            return False
        on_day, on_weekday = moment.day in day, moment.isoweekday() % 7 in weekday
        return (on_day and on_weekday) if self.any_day or self.any_weekday else (on_day or on_weekday)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """The last time in (after, until]; at most a day is searched, older misses do not matter."""
        if self.every is not None:
            steps = int((until - after) / self.every)
            return after + steps * self.every if steps > 0 else None
        moment = until.replace(second=0, microsecond=0)
        oldest = max(after, until - timedelta(days=1))
        while moment > oldest:
            if self.matches(moment):
                return moment
            moment -= timedelta(minutes=1)
        return None


def parse_schedule(text: str) -> Schedule:
    """Read a schedule. ValueError says which part is wrong."""
    text = text.strip()
    if text.startswith("@every"):
        return _every(text)
    parts = _NAMES.get(text, text).split()
    if len(parts) != 5:
        raise ValueError(f"expected exactly 5 fields, found {len(parts)}: [{text}]")
    fields = [_field(part.lower(), low, high) for part, (low, high) in zip(parts, _RANGES, strict=True)]
    fields[4] = frozenset(day % 7 for day in fields[4])
    return Schedule(tuple(fields), parts[2][0] in "*?", parts[4][0] in "*?")


def _every(text: str) -> Schedule:
    found = _EVERY.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    interval = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if not interval:
        raise ValueError(f"failed to parse duration {text!r}: write it like '@every 1h30m'")
    return Schedule(every=interval)


def _field(text: str, low: int, high: int) -> frozenset[int]:
    return frozenset(value for part in text.split(",") for value in _range(part, low, high))


def _range(text: str, low: int, high: int) -> range:
    bounds, _, step_text = text.partition("/")
    step = _number(step_text, 1, high) if step_text else 1
    if bounds in {"*", "?"}:
        return range(low, high + 1, step)
    first_text, dash, last_text = bounds.partition("-")
    first = _number(first_text, low, high)
    last = _number(last_text, low, high) if dash else (high if step_text else first)
    if last < first:
        raise ValueError(f"beginning of range ({first}) beyond end of range ({last}): {text}")
    return range(first, last + 1, step)


def _number(text: str, low: int, high: int) -> int:
    for names, offset, top in ((_MONTHS, 1, 12), (_DAYS, 0, 7)):
        if text in names and high == top:
            return names.index(text) + offset
    if not re.fullmatch("[0-9]{1,4}", text) or not low <= int(text) <= high:
        raise ValueError(f"failed to parse {text!r}: expected a number from {low} to {high}")
    return int(text)
