"""Times as Go and Hubble read them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.times import TimeError, parse_duration, parse_time

S = 10**9
NOW = 1_800_000_000 * S
# 2026-11-22T10:01:00Z
MOMENT = 1_795_341_660 * S


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("5s", 5 * S),
        ("1h30m", 5400 * S),
        ("1.5h", 5400 * S),
        (".5s", S // 2),
        ("1.s", S),
        ("0", 0),
        ("-3s", -3 * S),
        ("+2us", 2000),
        ("1ns", 1),
        ("0.1ns", 0),
        ("9223372036s", 9223372036 * S),
    ],
)
def test_durations(text: str, duration: int) -> None:
    assert parse_duration(text) == duration
    assert parse_time(text, NOW) == NOW - duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22", MOMENT - 36060 * S),
        ("2026-11-22T10Z", MOMENT - 60 * S),
        ("2026-11-22T10:01Z", MOMENT),
        ("2026-11-22T11:01+01:00", MOMENT),
        ("2026-11-22T10:01:00Z", MOMENT),
        ("2026-11-22T10:01:00.123Z", MOMENT + 123 * 10**6),
        ("2026-11-22T10:01:00.1234567891-00:00", MOMENT + 123456789),
        ("2026-11-22T10:01:00,5Z", MOMENT + S // 2),
        ("Sun, 22 Nov 2026 10:01:00 +0000", MOMENT),
        ("sun, 22 NOV 2026 11:01:00 +0100", MOMENT),
        ("1969-12-31T23:59:59.9Z", -S // 10),
    ],
)
def test_absolute_times(text: str, expected: int) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("yesterday", "24h"),
        ("3 days ago", "72h"),
        ("5 min", "5m"),
        ("5", "5s"),
        ("1h43", "1h43m"),
        ("2026-11-22 10:01", "2026-11-22T10:01Z"),
        ("2026-11-22t10:01:00z", "2026-11-22T10:01:00Z"),
        ("2026-11-22T10:01:00", "2026-11-22T10:01:00Z"),
        ("2026/11/22", "2026-11-22"),
        ("2026-02-30", ""),
        ("0000-01-01", ""),
        ("2026-11-22T25:00Z", ""),
        ("2026-11-22T10:01:00+24:00", ""),
        ("9223372037s", ""),
        ("٣s", ""),
        ("", ""),
        ("Nov 22 10:01:10.000", ""),
    ],
)
def test_what_is_no_time_names_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(TimeError) as caught:
        parse_time(text, NOW)
    assert caught.value.nearest == nearest


@given(st.one_of(st.text(), st.text("0123456789.hmsun-:TZ+ ", max_size=30)))
def test_any_text_is_a_time_or_a_time_error(text: str) -> None:
    for parse in (parse_duration, lambda given: parse_time(given, NOW)):
        with suppress(TimeError):
            assert isinstance(parse(text), int)


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_datetime_writes_is_read_back(moment: datetime) -> None:
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    assert parse_time(moment.isoformat(), NOW) == expected
