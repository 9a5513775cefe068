"""Lanes: every whole slot of every CPU once, in order, where the ring wraps, and room only given back when told to."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.probe import bpf
from flows.agent.probe.lanes import LANE, LANES, SECOND_SLOTS, SMALLEST, Lanes, cpus, slots_of_cpu
from flows.agent.probe.payload import SHORT_PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Iterator

CPUS, SLOTS = 3, 256


class Kernel:
    """What programs on several CPUs do with both maps, which are files here."""

    def __init__(self) -> None:
        counts = CPUS * LANES, CPUS * (SLOTS + SECOND_SLOTS)
        self.files = os.memfd_create("lanes"), os.memfd_create("slots")
        sizes = counts[0] * LANE.itemsize, counts[1] * SHORT_PAYLOAD.itemsize
        memory = []
        for file, size in zip(self.files, sizes, strict=True):
            os.ftruncate(file, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
            memory.append(mmap.mmap(file, 0))
        self.lanes = np.frombuffer(memory[0], LANE, counts[0])
        self.slots = np.frombuffer(memory[1], SHORT_PAYLOAD, counts[1])
        self.entries = dict(zip(self.files, counts, strict=True))

    def write(self, cpu: int, value: int, depth: int = 0) -> bool:
        """next_short() and keep() of bpf/l7.h; False: there is no room."""
        lane = self.lanes[cpu * LANES + depth]
        room = SECOND_SLOTS if depth else SLOTS
        if int(lane["written"]) - int(lane["read"]) >= room:
            return False
        at = cpu * (SLOTS + SECOND_SLOTS) + (SLOTS if depth else 0) + (int(lane["written"]) & (room - 1))
        self.slots[at]["sequence"] = value
        self.lanes["written"][cpu * LANES + depth] += 1
        return True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made = Kernel()
    monkeypatch.setattr(bpf, "map_sizes", lambda descriptor: (4, 0, made.entries[descriptor]))
    yield made
    for file in made.files:
        os.close(file)


@pytest.fixture
def lanes(kernel: Kernel) -> Lanes:
    return Lanes(*kernel.files, SHORT_PAYLOAD)


def taken(lanes: Lanes) -> list[int]:
    values: list[int] = lanes.peek()["sequence"].tolist()
    lanes.release()
    return values


def test_nothing_waits_at_first(lanes: Lanes) -> None:
    assert len(lanes.peek()) == 0


def test_both_lanes_of_all_cpus_are_read(kernel: Kernel, lanes: Lanes) -> None:
    places = [(cpu, depth) for cpu in range(CPUS) for depth in range(LANES)]
    for value, (cpu, depth) in enumerate(places):
        for step in range(3):
            assert kernel.write(cpu, 10 * value + step, depth)
    assert taken(lanes) == [10 * value + step for value in range(len(places)) for step in range(3)]
    assert taken(lanes) == []


@pytest.mark.parametrize(("depth", "room"), [(0, SLOTS), (1, SECOND_SLOTS)])
def test_a_full_lane_takes_no_more_until_its_slots_are_given_back(kernel: Kernel, lanes: Lanes, depth: int, room: int) -> None:
    wrote = [kernel.write(1, value, depth) for value in range(room + 2)]
    assert wrote == [True] * room + [False] * 2
    assert lanes.peek()["sequence"].tolist() == list(range(room))
    assert not kernel.write(1, 0, depth)
    lanes.release()
    assert kernel.write(1, 7, depth)
    assert taken(lanes) == [7]


@pytest.mark.parametrize(("depth", "room"), [(0, SLOTS), (1, SECOND_SLOTS)])
@pytest.mark.parametrize("step", [1, 63, 64, 100])
def test_order_is_kept_where_the_ring_wraps(kernel: Kernel, lanes: Lanes, depth: int, room: int, step: int) -> None:
    seen: list[int] = []
    values = iter(range(10 * room))
    written = 0
    while written < 9 * room:
        count = min(step, room)
        assert all(kernel.write(2, next(values), depth) for _ in range(count))
        written += count
        seen += taken(lanes)
    assert seen == list(range(written))


def test_the_fullest_lane_tells_how_full_they_are(kernel: Kernel, lanes: Lanes) -> None:
    assert lanes.filled == 0
    kernel.write(0, 1)
    for value in range(SECOND_SLOTS // 4):
        kernel.write(2, value, depth=1)
    assert lanes.filled == 0.25
    taken(lanes)
    assert lanes.filled == 0


@pytest.mark.parametrize(("share", "left_out"), [(1.0, 0), (0.75, 1 << 30), (0.0, 1 << 32)])
def test_all_lanes_are_told_what_to_leave_out(kernel: Kernel, lanes: Lanes, share: float, left_out: int) -> None:
    lanes.sample(share)
    assert kernel.lanes["left_out"].tolist() == [left_out] * CPUS * LANES


def test_what_comes_after_a_look_is_not_given_back_with_it(kernel: Kernel, lanes: Lanes) -> None:
    kernel.write(0, 1)
    assert lanes.peek()["sequence"].tolist() == [1]
    kernel.write(0, 2)
    lanes.release()
    assert taken(lanes) == [2]


def test_what_was_looked_at_and_not_given_back_is_seen_again(kernel: Kernel, lanes: Lanes) -> None:
    kernel.write(0, 1)
    lanes.peek()
    kernel.write(0, 2)
    assert lanes.peek()["sequence"].tolist() == [1, 2]


def test_what_is_read_stays_as_it_was(kernel: Kernel, lanes: Lanes) -> None:
    """Copies: the kernel may write to the slots as soon as they are given back."""
    for value in range(SLOTS):
        kernel.write(0, value)
    payloads = lanes.peek()
    lanes.release()
    for _ in range(SLOTS):
        kernel.write(0, 9_999)
    assert payloads["sequence"].tolist() == list(range(SLOTS))


def test_the_next_agent_goes_on_where_this_one_gave_back(kernel: Kernel, lanes: Lanes) -> None:
    for value in range(3):
        kernel.write(0, value)
    taken(lanes)
    kernel.write(0, 3)
    lanes.peek()
    lanes.close()
    assert taken(Lanes(*kernel.files, SHORT_PAYLOAD)) == [3]


@given(st.lists(st.tuples(st.integers(0, CPUS - 1), st.integers(0, LANES - 1), st.integers(1, 90)), max_size=40), st.data())
def test_each_payload_is_given_once_or_refused(writes: list[tuple[int, int, int]], data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kernel = Kernel()
        patch.setattr(bpf, "map_sizes", lambda descriptor: (4, 0, kernel.entries[descriptor]))
        lanes = Lanes(*kernel.files, SHORT_PAYLOAD)
        kept: list[int] = []
        seen: list[int] = []
        value = 0
        for cpu, depth, count in writes:
            for _ in range(count):
                value += 1
                if kernel.write(cpu, value, depth):
                    kept.append(value)
            if data.draw(st.booleans()):
                seen += taken(lanes)
        seen += taken(lanes)
        assert sorted(seen) == kept
        lanes.close()
        for file in kernel.files:
            os.close(file)


@pytest.mark.parametrize("total", [0, 1, 255, 256, 2_048, 32_768, 1 << 20])
def test_slots_of_a_cpu_are_a_power_of_two_and_about_what_was_asked_for(total: int) -> None:
    slots = slots_of_cpu(total)
    assert slots & (slots - 1) == 0
    assert slots >= SMALLEST
    assert slots == SMALLEST or total // cpus() // 2 < slots <= total // cpus()
