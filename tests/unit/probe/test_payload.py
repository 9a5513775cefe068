"""The payload record: C and Python agree, byte for byte."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from flows.agent.probe.lanes import LANE, LANES, SECOND_SLOTS
from flows.agent.probe.payload import LONG_PAYLOAD, LONG_TEXT, SHORT_PAYLOAD, SHORT_TEXT, Origin, PayloadKind, whole

HEADER = re.sub(r"/\*.*?\*/", "", (Path(str(resources.files("flows.bpf"))) / "payload.h").read_text(), flags=re.DOTALL)
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "struct address": 16}

# What both sizes begin with, as the kernel lays it out, field by field as in bpf/payload.h.
HEAD = b"".join(
    [
        bytes.fromhex("0100000000000000"),  # u64 time_ns
        bytes.fromhex("0200000000000080"),  # u64 conn_id: a table entry
        bytes.fromhex("0300000000000000"),  # u64 cgroup_id
        bytes.fromhex("00000000000000000000ffff0a000001"),  # struct address local: 10.0.0.1
        bytes.fromhex("fd000000000000000000000000000002"),  # struct address remote: fd00::2
        b"nginx\0\0\0\0\0\0\0\0\0\0\0",  # u64 comm[2]
        bytes.fromhex("04000000"),  # u32 pid
        bytes.fromhex("05000000"),  # u32 netns
        bytes.fromhex("feffffff"),  # u32 sequence: just before it begins anew
        bytes.fromhex("06000000"),  # u32 acknowledged
        bytes.fromhex("07000000"),  # u32 length
        bytes.fromhex("08000000"),  # u32 number
        bytes.fromhex("0300"),  # u16 captured
        bytes.fromhex("3500"),  # u16 local_port: host order
        bytes.fromhex("bb01"),  # u16 remote_port
        bytes.fromhex("04"),  # u8 kind: DNS
        bytes.fromhex("11"),  # u8 protocol: UDP
        bytes.fromhex("01"),  # u8 sent
        bytes.fromhex("01"),  # u8 origin: TLS_LIBRARY
        bytes.fromhex("09"),  # u8 slice
        bytes(5),  # u8 zero[5]
    ]
)
both_sizes = pytest.mark.parametrize(("dtype", "room"), [(SHORT_PAYLOAD, SHORT_TEXT), (LONG_PAYLOAD, LONG_TEXT)])


@both_sizes
def test_a_payload_of_the_kernel_is_decoded_field_by_field(dtype: np.dtype[np.void], room: int) -> None:
    payload = np.frombuffer(HEAD + b"abc".ljust(room, b"."), dtype)[0]
    numbers = {name: payload[name].item() for name in dtype.names or () if payload[name].ndim == 0}
    assert numbers == {
        "time_ns": 1, "conn_id": 1 << 63 | 2, "cgroup_id": 3, "comm": b"nginx", "pid": 4, "netns": 5,
        "sequence": (1 << 32) - 2, "acknowledged": 6, "length": 7, "number": 8, "captured": 3, "local_port": 53,
        "remote_port": 443, "kind": PayloadKind.DNS, "protocol": 17, "sent": 1, "origin": Origin.TLS_LIBRARY, "slice": 9,
    }  # fmt: skip
    assert bytes(payload["local_addr"][12:]) == bytes([10, 0, 0, 1])
    assert bytes(payload["remote_addr"]) == bytes.fromhex("fd000000000000000000000000000002")
    assert bytes(payload["text"][:4]) == b"abc."


def c_fields(struct: str) -> list[tuple[str, int, int]]:
    """Name, size of one value, how many."""
    body = re.search(rf"struct {struct} \{{(.*?)\n\}};", HEADER, re.DOTALL)
    assert body
    fields = re.findall(r"^\t(u\d+|struct address) (\w+)(?:\[(\d+)\])?;", body[1], re.MULTILINE)
    return [(name, SIZES[type_], int(count or 1)) for type_, name, count in fields]


@pytest.mark.parametrize(
    ("struct", "dtype", "more"), [("payload", SHORT_PAYLOAD, 1), ("payload", LONG_PAYLOAD, 1), ("lane", LANE, 0)]
)
def test_both_sides_have_the_same_fields_without_padding(struct: str, dtype: np.dtype[np.void], more: int) -> None:
    assert dtype.fields is not None
    in_python = [(name, dtype.fields[name][1], dtype.fields[name][0].itemsize) for name in dtype.names or ()]
    offset, in_c = 0, []
    for name, size, count in c_fields(struct):
        assert offset % min(size, 8) == 0, name
        in_c.append((name, offset, size * count))
        offset += size * count
    assert in_c == in_python[: len(in_python) - more]
    assert offset % 8 == 0


@both_sizes
def test_the_text_follows_the_head_and_ends_the_record(dtype: np.dtype[np.void], room: int) -> None:
    assert dtype.fields is not None
    assert dtype.fields["text"][1] == len(HEAD)
    assert dtype.itemsize == len(HEAD) + room
    assert dtype.itemsize % 8 == 0


def test_a_lane_is_a_cache_line_or_two_of_its_own() -> None:
    assert LANE.itemsize % 64 == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("SHORT_TEXT", SHORT_TEXT), ("LONG_TEXT", LONG_TEXT), ("LANES", LANES), ("SECOND_SLOTS", SECOND_SLOTS)],
)
def test_sizes_are_the_same(name: str, value: int) -> None:
    assert re.findall(rf"^#define {name} (\d+)", HEADER, re.MULTILINE) == [str(value)]


@pytest.mark.parametrize(("size", "room"), [("short", "SHORT_TEXT"), ("long", "LONG_TEXT")])
def test_each_size_is_the_head_and_its_text(size: str, room: str) -> None:
    body = re.search(rf"struct {size}_payload \{{(.*?)\}};", HEADER, re.DOTALL)
    assert body
    assert body[1].split() == ["struct", "payload", "head;", "u8", f"text[{room}];"]


@pytest.mark.parametrize(
    ("enum", "expected"),
    [
        ("payload_kind", {each.name: int(each) for each in PayloadKind}),
        ("payload_origin", {f"ORIGIN_{each.name}": int(each) for each in Origin}),
    ],
)
def test_enums_have_the_same_names_and_numbers(enum: str, expected: dict[str, int]) -> None:
    body = re.search(rf"enum {enum} \{{(.*?)\}};", HEADER, re.DOTALL)
    assert body
    numbers, following = {}, 0
    for name, equals in re.findall(r"(\w+)(?: = (\d+))?", body[1]):
        following = int(equals or following)
        numbers[name], following = following, following + 1
    assert numbers == expected


@pytest.mark.parametrize("captured", [0, 1, SHORT_TEXT - 1, SHORT_TEXT])
def test_what_a_slot_held_before_is_not_shown(captured: int) -> None:
    payloads = np.zeros(2, SHORT_PAYLOAD)
    payloads["text"], payloads["captured"] = 7, [captured, 3]
    text = whole(payloads)["text"]
    assert text[0].tolist() == [7] * captured + [0] * (SHORT_TEXT - captured)
    assert text[1].tolist() == [7] * 3 + [0] * (SHORT_TEXT - 3)
