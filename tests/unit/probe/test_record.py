"""The record: C and Python agree, byte for byte."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from flows.agent.probe.record import RECORD, TABLE_ID, Counter, Event, Initiator
from flows.proto import extension_pb2

SOURCE = Path(str(resources.files("flows.bpf")))
HEADER = (SOURCE / "record.h").read_text()

C_TYPES = {"u8": "u1", "u16": "<u2", "u32": "<u4", "u64": "<u8"}

# A record as the kernel lays it out, field by field as in bpf/record.h.
BYTES = b"".join(
    [
        bytes.fromhex("0100000000000000"),  # u64 time_ns
        bytes.fromhex("0200000000000000"),  # u64 start_ns
        bytes.fromhex("0300000000000080"),  # u64 conn_id: a table entry
        bytes.fromhex("0400000000000000"),  # u64 cgroup_id
        bytes.fromhex("0500000000000000"),  # u64 sent_bytes
        bytes.fromhex("0600000000000000"),  # u64 received_bytes
        bytes.fromhex("00000000000000000000ffff0a000001"),  # struct address local: 10.0.0.1
        bytes.fromhex("fd000000000000000000000000000002"),  # struct address remote: fd00::2
        bytes.fromhex("07000000"),  # u32 sent_packets
        bytes.fromhex("08000000"),  # u32 received_packets
        bytes.fromhex("09000000"),  # u32 pid
        bytes.fromhex("0a000000"),  # u32 rtt_us
        bytes.fromhex("0b000000"),  # u32 handshake_us
        bytes.fromhex("0c000000"),  # u32 retransmits
        bytes.fromhex("3500"),  # u16 local_port: host order
        bytes.fromhex("bb01"),  # u16 remote_port
        bytes.fromhex("09"),  # u8 event: CLOSED
        bytes.fromhex("06"),  # u8 protocol
        bytes.fromhex("02"),  # u8 initiator: remote
        bytes.fromhex("13"),  # u8 flags_sent
        bytes.fromhex("1b"),  # u8 flags_received
        bytes.fromhex("68"),  # u8 error
        bytes.fromhex("08"),  # u8 icmp_type
        bytes.fromhex("01"),  # u8 icmp_code
        bytes.fromhex("0d000000"),  # u32 netns
        b"nginx\0\0\0\0\0\0\0\0\0\0\0",  # u64 comm[2]
    ]
)


def test_a_record_of_the_kernel_is_decoded_field_by_field() -> None:
    record = np.frombuffer(BYTES, RECORD)[0]
    numbers = {name: record[name].item() for name in RECORD.names or () if record[name].ndim == 0}
    assert numbers == {
        "time_ns": 1, "start_ns": 2, "conn_id": TABLE_ID | 3, "cgroup_id": 4, "sent_bytes": 5, "received_bytes": 6,
        "sent_packets": 7, "received_packets": 8, "pid": 9, "rtt_us": 10, "handshake_us": 11, "retransmits": 12,
        "local_port": 53, "remote_port": 443, "event": Event.CLOSED, "protocol": 6, "initiator": Initiator.REMOTE,
        "flags_sent": 0x13, "flags_received": 0x1B, "error": 104, "icmp_type": 8, "icmp_code": 1, "netns": 13,
        "comm": b"nginx",
    }  # fmt: skip
    assert bytes(record["local_addr"][12:]) == bytes([10, 0, 0, 1])
    assert bytes(record["remote_addr"]) == bytes.fromhex("fd000000000000000000000000000002")


def c_fields() -> list[tuple[str, str, int]]:
    body = re.search(r"struct record \{(.*?)\n\};", HEADER, re.DOTALL)
    assert body
    fields = re.findall(r"^\t(u\d+|struct address) (\w+)(?:\[(\d+)\])?;", body[1], re.MULTILINE)
    return [(type_, name, int(count or 1)) for type_, name, count in fields]


def test_both_sides_have_the_same_fields_of_the_same_sizes_in_the_same_order() -> None:
    sizes = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "struct address": 16}
    in_c = [(name, sizes[type_] * count) for type_, name, count in c_fields()]
    in_python = [(name, RECORD[name].itemsize) for name in RECORD.names or ()]
    assert in_c == in_python


def test_no_field_needs_padding() -> None:
    offset = 0
    for type_, name, count in c_fields():
        size = 8 if type_ == "struct address" else int(type_[1:]) // 8
        assert offset % size == 0, name
        assert RECORD.fields is not None
        assert RECORD.fields[name][1] == offset
        offset += size * (2 if type_ == "struct address" else count)
    assert offset == RECORD.itemsize == len(BYTES)
    assert offset % 8 == 0


def names_of(enum: str) -> list[str]:
    body = re.search(rf"enum {enum} \{{(.*?)\n?\}};", HEADER, re.DOTALL)
    assert body
    return re.findall(r"\b([A-Z][A-Z0-9_]+)\b(?=\s*(?:=\s*\d+)?\s*[,}]|\s*$)", re.sub(r"/\*.*?\*/", "", body[1]))


@pytest.mark.parametrize(
    ("enum", "names"),
    [
        ("event", [event.name for event in Event]),
        ("counter", [*(counter.name for counter in Counter), "COUNTERS"]),
        ("initiator", [f"INITIATOR_{initiator.name}" for initiator in Initiator]),
    ],
)
def test_enums_have_the_same_names_in_the_same_order(enum: str, names: list[str]) -> None:
    assert names_of(enum) == names


def test_events_are_those_of_the_api() -> None:
    assert {event.name: int(event) for event in Event} == {name: number for name, number in extension_pb2.Event.items() if number}
