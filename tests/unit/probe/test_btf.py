"""BTF: offsets and ids from a small blob made here, and no crash on any bytes."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.probe.btf import Btf, BtfError, Kind

STRINGS = b"\0inner\0a\0b\0outer\0x\0y\0alias\0func\0"


def name(text: str) -> int:
    return STRINGS.index(b"\0" + text.encode() + b"\0") + 1


def head(text: str, kind: Kind, count: int, size_or_type: int) -> bytes:
    return struct.pack("<III", name(text) if text else 0, kind << 24 | count, size_or_type)


def member(text: str, type_: int, byte: int) -> bytes:
    return struct.pack("<III", name(text) if text else 0, type_, byte * 8)


def blob() -> bytes:
    types = [
        head("", Kind.INT, 0, 4) + struct.pack("<I", 32),  # 1
        head("inner", Kind.STRUCT, 2, 8) + member("a", 1, 0) + member("b", 1, 4),  # 2
        head("", Kind.CONST, 0, 2),  # 3: const struct inner
        head("", Kind.UNION, 1, 8) + member("y", 2, 0),  # 4: anonymous
        head("outer", Kind.STRUCT, 2, 24) + member("x", 3, 8) + member("", 4, 16),  # 5
        head("alias", Kind.TYPEDEF, 0, 5),  # 6
        head("func", Kind.FUNC, 0, 1),  # 7
    ]
    body = b"".join(types)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(STRINGS)) + body + STRINGS


@pytest.mark.parametrize(
    ("structure", "path", "offset"),
    [("inner", "b", 4), ("outer", "x", 8), ("outer", "x.b", 12), ("outer", "y", 16), ("outer", "y.b", 20)],
)
def test_offsets_go_through_nested_and_anonymous_members(structure: str, path: str, offset: int) -> None:
    assert Btf(blob()).offset(structure, path) == offset


def test_ids_count_from_one() -> None:
    btf = Btf(blob())
    assert (btf.type_id("inner", Kind.STRUCT), btf.type_id("alias", Kind.TYPEDEF), btf.type_id("func", Kind.FUNC)) == (
        2, 6, 7,
    )  # fmt: skip


@pytest.mark.parametrize(("structure", "path"), [("outer", "z"), ("outer", "x.z"), ("absent", "a")])
def test_what_the_kernel_lacks_is_named(structure: str, path: str) -> None:
    with pytest.raises(BtfError, match=structure):
        Btf(blob()).offset(structure, path)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_give_a_table_or_a_btf_error(noise: bytes, at: int) -> None:
    whole = blob()
    for damaged in (noise, whole[:at], whole[:at] + noise + whole[at + len(noise) :]):
        with contextlib.suppress(BtfError):
            assert Btf(damaged).type_id("inner", Kind.STRUCT) > 0
