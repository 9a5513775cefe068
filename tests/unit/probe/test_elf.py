"""ELF files: symbols are found where linkers put them, and no damage does more than raise ElfError."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.agent.probe.elf import DYNSYM, HEADER, SECTION, SEGMENT, SYMBOL, SYMTAB, Elf, ElfError
from flows.agent.probe.openssl_inner import X86_64, inner_function, past_landing_pad
from flows.agent.probe.openssl_library import GO, INNER, PROBES, SHELLS, Layout, Library, examine, is_seen, other_library

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = 0x400000  # where the code is in memory; in the file it is at CODE
CODE, CODE_BYTES = 0x4000, 0x800


def elf(
    symbols: dict[bytes, int],
    kind: int = DYNSYM,
    sections: dict[bytes, bytes] | None = None,
    defined: int = 1,
    code: bytes = b"",
    machine: int = X86_64,
) -> bytes:
    """A file with these functions, at offsets in its code, and further sections."""
    texts, table = b"\0", [np.zeros(1, SYMBOL)]
    for name, offset in symbols.items():
        table.append(np.array([(len(texts), 0x12, 0, defined, BASE + offset, 16)], SYMBOL))
        texts += name + b"\0"
    contents = {b"": b"", b".symbols": np.concatenate(table).tobytes(), b".strings": texts, **(sections or {})}
    names = b"\0" + b"".join(name + b"\0" for name in [*contents, b".names"] if name)
    contents[b".names"] = names
    at, rows, body = HEADER.itemsize + SEGMENT.itemsize, [], b""
    for name, content in contents.items():
        row = np.zeros(1, SECTION)
        row["name"] = names.index(b"\0" + name + b"\0") + 1 if name else 0
        row["type"] = kind if name == b".symbols" else 3
        row["offset"], row["bytes"], row["link"] = at + len(body), len(content), 2
        rows.append(row)
        body += content
    header, segment = np.zeros(1, HEADER), np.zeros(1, SEGMENT)
    for field, value in {
        "magic": b"\x7fELF", "word_size": 2, "byte_order": 1, "segments": HEADER.itemsize, "segment_bytes": SEGMENT.itemsize,
        "segment_count": 1, "sections": at + len(body), "section_bytes": SECTION.itemsize, "section_count": len(rows),
        "names": len(rows) - 1, "entry": BASE + 5, "machine": machine,
    }.items():  # fmt: skip
        header[field] = value
    for field, value in {"type": 1, "flags": 5, "offset": CODE, "address": BASE, "file_bytes": CODE_BYTES}.items():
        segment[field] = value
    whole = header.tobytes() + segment.tobytes() + body + np.concatenate(rows).tobytes()
    assert len(whole) <= CODE or not code
    return whole.ljust(CODE, b"\0") + code.ljust(CODE_BYTES, b"\x90") if code else whole


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = os.memfd_create("elf")
    yield made
    os.close(made)


def opened(descriptor: int, content: bytes) -> Elf:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, content, 0)
    return Elf(descriptor)


@pytest.mark.parametrize("kind", [DYNSYM, SYMTAB])
def test_functions_are_given_by_their_offset_in_the_file(descriptor: int, kind: int) -> None:
    file = opened(descriptor, elf({b"SSL_read": 0x10, b"other": 0x20, b"SSL_write": 0x30}, kind))
    wanted = (b"SSL_read", b"SSL_write", b"absent")
    assert file.functions(wanted, wanted) == {b"SSL_read": CODE + 0x10, b"SSL_write": CODE + 0x30}
    assert file.entry == CODE + 5


@pytest.mark.parametrize(
    ("symbols", "defined"),
    [({b"SSL_read": 0x10}, 0), ({b"SSL_read": CODE_BYTES}, 1), ({b"my_SSL_read": 0x10}, 1), ({b"SSL_read_ex": 0x10}, 1)],
    ids=["imported from elsewhere", "outside the code", "a longer name's end", "a longer name's beginning"],
)
def test_what_is_no_such_function_is_not_found(descriptor: int, symbols: dict[bytes, int], defined: int) -> None:
    assert opened(descriptor, elf(symbols, defined=defined)).functions((b"SSL_read",), (b"SSL_read",)) == {}


def test_a_name_that_is_the_end_of_another_is_found(descriptor: int) -> None:
    content = elf({b"my_SSL_read": 0x10})
    at = content.index(np.array([(1, 0x12)], [("name", "<u4"), ("info", "u1")]).tobytes())
    shared = content[:at] + (4).to_bytes(4, "little") + content[at + 4 :]
    assert opened(descriptor, shared).functions((b"SSL_read",), ()) == {b"SSL_read": CODE + 0x10}


ALL = {name: 0x10 * at for at, name in enumerate(PROBES) if name not in INNER and name not in SHELLS}


@pytest.mark.parametrize(
    ("extra", "layout"),
    [
        ([], Layout.UNKNOWN),
        ([b"SSL_CTX_set_ciphersuites"], Layout.V1_1_1),
        ([b"SSL_CTX_set_ciphersuites", b"SSL_CTX_new_ex"], Layout.V3_0),
        ([b"SSL_CTX_set_ciphersuites", b"SSL_CTX_new_ex", b"SSL_new_stream"], Layout.V3_2),
    ],
)
def test_the_series_is_told_by_its_functions(descriptor: int, extra: list[bytes], layout: Layout) -> None:
    opened(descriptor, elf({**ALL, **dict.fromkeys(extra, 0x700)}))
    assert examine(descriptor) == Library({name: CODE + offset for name, offset in ALL.items()}, layout)


GNUTLS = {b"gnutls_record_recv": 0x100, b"gnutls_record_send": 0x200, b"gnutls_handshake": 0x300, b"gnutls_deinit": 0x400}
SEND_2 = {b"gnutls_record_send2": 0x500}


def without(symbols: dict[bytes, int], name: bytes) -> dict[bytes, int]:
    return {other: at for other, at in symbols.items() if other != name}


@pytest.mark.parametrize(
    ("symbols", "probed"),
    [
        (GNUTLS, GNUTLS),
        (GNUTLS | SEND_2, without(GNUTLS, b"gnutls_record_send") | SEND_2),
        (without(GNUTLS, b"gnutls_record_recv"), None),
    ],
    ids=["before 3.6.3", "one function for both ways to send", "a part of it"],
)  # fmt: skip
def test_gnutls_has_functions_of_the_same_form(
    descriptor: int, symbols: dict[bytes, int], probed: dict[bytes, int] | None
) -> None:
    opened(descriptor, elf(symbols))
    found = examine(descriptor)
    assert found == (probed and Library({name: CODE + at for name, at in probed.items()}, Layout.UNKNOWN))
    if isinstance(found, Library):
        assert sorted(found.lasting) == [b"gnutls_deinit", b"gnutls_handshake"]


def test_what_is_found_behind_two_functions_takes_their_place(descriptor: int) -> None:
    symbols = {b"SSL_read": ONE, b"SSL_read_ex": OTHER, b"SSL_write": 0x500, b"SSL_write_ex": 0x600, b"SSL_CTX_new_ex": 0}
    calls = {"x100": calling(LOCAL, at=ONE), "x200": calling(LOCAL, at=OTHER), "x300": b"\x55"}
    opened(descriptor, elf(symbols, code=code(**calls)))
    expected = {b"ssl_read_internal": CODE + LOCAL, b"SSL_write": CODE + 0x500, b"SSL_write_ex": CODE + 0x600}
    assert examine(descriptor) == Library(expected, Layout.V3_0)


def test_layouts_are_packed_as_the_kernel_side_takes_them_apart() -> None:
    assert Layout.UNKNOWN.cookie == 0
    assert Layout.V3_0.cookie == 0x48_38_08_0018_0010


def calling(*targets: int, at: int) -> bytes:
    """Code at an offset that calls what is at these others."""
    return b"".join(
        b"\xe8" + (target - at - 5 * (number + 1)).to_bytes(4, "little", signed=True) for number, target in enumerate(targets)
    )


ONE, OTHER, LOCAL, STUB = 0x100, 0x200, 0x300, 0x400


def code(**pieces: bytes) -> bytes:
    """Code with pieces at the offsets that their names give in hexadecimal, after an x."""
    filled = bytearray(b"\x90" * CODE_BYTES)
    for name, piece in pieces.items():
        filled[int(name[1:], 16) : int(name[1:], 16) + len(piece)] = piece
    return bytes(filled)


@pytest.mark.parametrize(
    ("pieces", "machine", "found"),
    [
        ({"x300": b"\x55", "x400": b"\xff\x25"}, X86_64, CODE + LOCAL),
        ({"x300": b"\x41\x55", "x400": b"\xff\x25"}, X86_64, CODE + LOCAL),
        ({"x300": b"\xf3\x0f\x1e\xfa\x53", "x400": b"\xf3\x0f\x1e\xfa\xff\x25"}, X86_64, CODE + LOCAL),
        ({"x300": b"\x48\x83\xec\x18"}, X86_64, None),
        ({"x300": b"\x55", "x400": b"\x53"}, X86_64, None),
        ({"x300": b"\x55"}, 183, None),
    ],
    ids=["push", "push of a new register", "landing pad", "no push", "two that both call", "another machine"],
)
def test_the_function_behind_two_is_found_where_both_call_it(
    descriptor: int, pieces: dict[str, bytes], machine: int, found: int | None
) -> None:
    calls = {"x100": calling(LOCAL, STUB, at=ONE), "x200": calling(LOCAL, STUB, at=OTHER)}
    file = opened(descriptor, elf({}, code=code(**calls, **pieces), machine=machine))
    assert inner_function(file, CODE + ONE, CODE + OTHER) == found


def test_a_probe_goes_behind_the_landing_pad(descriptor: int) -> None:
    file = opened(descriptor, elf({}, code=code(x100=b"\xf3\x0f\x1e\xfa\x55", x200=b"\x55")))
    assert [past_landing_pad(file, CODE + at) for at in (ONE, OTHER)] == [CODE + ONE + 4, CODE + OTHER]


@pytest.mark.parametrize(
    ("sections", "found"),
    [
        ({b".go.buildinfo": b"x", b".gopclntab": b"a" * 5000 + b"crypto/tls.(*Conn).Write\0"}, GO),
        ({b".go.buildinfo": b"x", b".gopclntab": b"runtime.main"}, None),
        ({b".gopclntab": b"crypto/tls.(*Conn).Write"}, None),
        ({}, None),
    ],
    ids=["Go with TLS", "Go without TLS", "not Go", "something else"],
)
def test_go_is_told_by_its_line_table(descriptor: int, sections: dict[bytes, bytes], found: object) -> None:
    opened(descriptor, elf({}, sections=sections))
    assert examine(descriptor) == found


@pytest.mark.parametrize(
    ("name", "seen", "other"),
    [
        ("libssl.so.3", True, False), ("libssl.so", True, False), ("libssl.so.1.1", True, False),
        ("libssl3.so", False, True), ("libsslx.so.3", False, False), ("libgnutls.so.30", True, False),
        ("libgnutlsxx.so.30", False, False),
    ],
)  # fmt: skip
def test_libraries_are_told_by_their_names(name: str, seen: bool, other: bool) -> None:
    assert (is_seen(name), other_library(name) is not None) == (seen, other)


def parse(content: bytes) -> None:
    """Whatever it is: no other error than ElfError."""
    made = os.memfd_create("fuzz")
    try:
        os.pwrite(made, content, 0)
        examine(made)
    except ElfError:
        pass
    finally:
        os.close(made)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_read(content: bytes) -> None:
    parse(b"\x7fELF\2\1" + content)
    parse(content)


SOUND = elf(ALL, sections={b".go.buildinfo": b"x", b".gopclntab": b"crypto/tls"})


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=8), st.integers(0, len(SOUND)))
def test_a_damaged_file_is_refused_or_read(changes: list[tuple[int, int]], length: int) -> None:
    damaged = bytearray(SOUND)
    for at, value in changes:
        damaged[at] = value
    parse(bytes(damaged))
    parse(bytes(damaged[:length]))
