"""The ring's region: finished records are taken, busy ones end the region, discarded ones are left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.probe.record import RECORD
from flows.agent.probe.ring import BUSY, DISCARDED, slots, take, wrapped

DONE = RECORD.itemsize
SLOT = slots(RECORD)


def region(headers: list[int]) -> np.ndarray:
    made = np.zeros(len(headers), SLOT)
    made["header"] = headers
    made["record"]["conn_id"] = range(len(headers))
    return made


@pytest.mark.parametrize(
    ("headers", "ids", "consumed"),
    [
        ([], [], 0),
        ([DONE, DONE], [0, 1], 2),
        ([DONE | BUSY, DONE], [], 0),
        ([DONE, DONE | BUSY, DONE], [0], 1),
        ([DONE | DISCARDED, DONE], [1], 2),
        ([DONE, DONE | DISCARDED, DONE, DONE | BUSY], [0, 2], 3),
    ],
)
def test_what_is_taken(headers: list[int], ids: list[int], consumed: int) -> None:
    records, count = take(region(headers))
    assert records["conn_id"].tolist() == ids
    assert count == consumed


@pytest.mark.parametrize(("headers", "copied"), [([DONE], False), ([DONE, DONE | DISCARDED], True)])
def test_taken_records_are_a_view_unless_some_are_left_out(headers: list[int], copied: bool) -> None:
    area = region(headers)
    records, _ = take(area)
    assert np.shares_memory(records, area) != copied


def test_a_slot_is_the_header_and_the_record() -> None:
    assert SLOT.itemsize == 8 + RECORD.itemsize
    assert SLOT.fields is not None
    assert SLOT.fields["record"][1] == 8


@given(st.lists(st.sampled_from([DONE, DONE | BUSY, DONE | DISCARDED]), max_size=50))
def test_every_slot_is_taken_discarded_or_left_for_later(headers: list[int]) -> None:
    records, consumed = take(region(headers))
    ended = headers[:consumed]
    assert not any(header & BUSY for header in ended)
    assert len(records) == sum(not header & DISCARDED for header in ended)
    assert consumed == len(headers) or headers[consumed] & BUSY


@given(st.integers(1, 20), st.integers(0, 19), st.integers(0, 20))
def test_a_region_goes_around_the_end(size: int, first: int, length: int) -> None:
    first, length = first % size, min(length, size)
    data = np.arange(size, dtype=np.uint8)
    assert wrapped(data, first, length).tolist() == [(first + index) % size for index in range(length)]
