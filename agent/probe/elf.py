"""Symbols and sections of a 64-bit little-endian ELF file that somebody else wrote: bounded; a damaged one is refused.

Format: System V ABI, gabi 4.2, chapters 4 and 5. Read with pread, not mapped: whoever owns the file may cut it short at any time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEADER = np.dtype(
    [
        ("magic", "S4"), ("word_size", "u1"), ("byte_order", "u1"), ("rest", "V10"), ("type", "<u2"), ("machine", "<u2"),
        ("version", "<u4"), ("entry", "<u8"), ("segments", "<u8"), ("sections", "<u8"), ("flags", "<u4"), ("size", "<u2"),
        ("segment_bytes", "<u2"), ("segment_count", "<u2"), ("section_bytes", "<u2"), ("section_count", "<u2"), ("names", "<u2"),
    ]
)  # fmt: skip
SEGMENT = np.dtype(
    [
        ("type", "<u4"), ("flags", "<u4"), ("offset", "<u8"), ("address", "<u8"), ("physical", "<u8"), ("file_bytes", "<u8"),
        ("memory_bytes", "<u8"), ("align", "<u8"),
    ]
)  # fmt: skip
SECTION = np.dtype(
    [
        ("name", "<u4"), ("type", "<u4"), ("flags", "<u8"), ("address", "<u8"), ("offset", "<u8"), ("bytes", "<u8"),
        ("link", "<u4"), ("info", "<u4"), ("align", "<u8"), ("entry_bytes", "<u8"),
    ]
)  # fmt: skip
SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("address", "<u8"), ("bytes", "<u8")],
)

LOAD, EXECUTABLE = 1, 1  # program header: PT_LOAD, PF_X
SYMTAB, DYNSYM = 2, 11  # section header: SHT_SYMTAB, SHT_DYNSYM
FUNCTIONS = (2, 10)  # symbol: STT_FUNC, STT_GNU_IFUNC

MAX_HEADERS = 4_096  # sections or segments: real files have about 40
MAX_TABLE = (
    32 << 20
)  # bytes of one symbol or string table; of the largest runtimes the dynamic ones, which are read first, are 5 MB
MAX_SEARCHED = 64 << 20  # bytes of a section in which a text is looked for
_CHUNK = 1 << 20


class ElfError(Exception):
    """No ELF file that can be read; the text says in what it differs."""


@dataclass(frozen=True, slots=True)
class Section:
    """Where a section lies in the file."""

    name: bytes
    type: int
    offset: int
    bytes: int
    link: int


class Elf:
    """One open ELF file."""

    def __init__(self, descriptor: int) -> None:
        """Read its headers. Raises ElfError, OSError."""
        self._descriptor = descriptor
        header = self._table(0, 1, HEADER, HEADER.itemsize)[0]
        if header["magic"] != b"\x7fELF" or header["word_size"] != 2 or header["byte_order"] != 1:
            raise ElfError("not a 64-bit little-endian ELF file")
        self.machine = int(header["machine"])
        self._segments = self._table(int(header["segments"]), int(header["segment_count"]), SEGMENT, int(header["segment_bytes"]))
        self.entry = self.file_offset(int(header["entry"])) or 0
        sections = self._table(int(header["sections"]), int(header["section_count"]), SECTION, int(header["section_bytes"]))
        self.sections = self._named(sections, int(header["names"]))

    def _bytes(self, offset: int, length: int) -> bytes:
        if not 0 <= offset < 1 << 62 or not 0 <= length <= MAX_TABLE:
            raise ElfError(f"a table of {length} bytes at {offset}")
        data = os.pread(self._descriptor, length, offset)
        if len(data) < length:
            raise ElfError(f"ends within {length} bytes at {offset}")
        return data

    def _table(self, offset: int, count: int, dtype: np.dtype[np.void], stride: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        if count == 0:
            return np.zeros(0, dtype)
        if stride != dtype.itemsize or count > MAX_HEADERS:
            raise ElfError(f"{count} headers of {stride} bytes")
        return np.frombuffer(self._bytes(offset, count * stride), dtype)

    def _named(self, sections: np.ndarray[tuple[int], np.dtype[np.void]], names: int) -> list[Section]:
        if names >= len(sections):
            return []
        texts = self._bytes(int(sections[names]["offset"]), int(sections[names]["bytes"]))
        return [
            Section(
                texts[int(section["name"]) :].split(b"\0", 1)[0][:256] if int(section["name"]) < len(texts) else b"",
                int(section["type"]), int(section["offset"]), int(section["bytes"]), int(section["link"]),
            )
            for section in sections
        ]  # fmt: skip

    def section(self, name: bytes) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def functions(self, names: Iterable[bytes], enough: Iterable[bytes]) -> dict[bytes, int]:
        """File offsets of the named functions that are defined here. Raises ElfError, OSError.

        The full symbol table, which may be large, is only read if the dynamic one lacks any of `enough`.
        """
        wanted = tuple(names)
        found: dict[bytes, int] = {}
        for kind in (DYNSYM, SYMTAB):
            for section in self.sections:
                if section.type == kind:
                    found = {**self._defined(section, wanted), **found}
            if all(name in found for name in enough):
                break
        return found

    def _defined(self, section: Section, names: tuple[bytes, ...]) -> dict[bytes, int]:
        if section.link >= len(self.sections):
            raise ElfError(f"symbols without names: section {section.link} of {len(self.sections)}")
        strings = self.sections[section.link]
        texts = self._bytes(strings.offset, strings.bytes)
        symbols = np.frombuffer(self._bytes(section.offset, section.bytes // SYMBOL.itemsize * SYMBOL.itemsize), SYMBOL)
        found = {}
        for name in names:
            for symbol in symbols[np.isin(symbols["name"], list(_occurrences(texts, name)))]:
                offset = self.file_offset(int(symbol["address"]))
                if symbol["info"] & 15 in FUNCTIONS and symbol["section"] and offset is not None:
                    found[name] = offset
        return found

    def file_offset(self, address: int) -> int | None:
        """Where in the file an address of code lies; None if it is in no executable segment."""
        for segment in self._segments:
            start = int(segment["address"])
            if (
                segment["type"] == LOAD
                and segment["flags"] & EXECUTABLE
                and start <= address < start + int(segment["file_bytes"])
            ):
                return address - start + int(segment["offset"])
        return None

    def code(self, offset: int, length: int) -> bytes:
        """Bytes from an offset on, of executable segments only; fewer, or none, where they end. Raises OSError."""
        for segment in self._segments:
            start, end = int(segment["offset"]), int(segment["offset"]) + int(segment["file_bytes"])
            if segment["type"] == LOAD and segment["flags"] & EXECUTABLE and start <= offset < min(end, 1 << 62):
                return os.pread(self._descriptor, min(length, end - offset), offset)
        return b""

    def contains(self, section: Section, text: bytes) -> bool:
        """Whether a text is in a section, of which no more than MAX_SEARCHED bytes are read. Raises OSError."""
        end = section.offset + min(section.bytes, MAX_SEARCHED)
        at, tail = section.offset, b""
        while 0 <= at < min(end, 1 << 62):
            data = os.pread(self._descriptor, min(_CHUNK, end - at), at)
            if not data or text in tail + data:
                return bool(data)
            at, tail = at + len(data), data[-len(text) :]
        return False


def _occurrences(texts: bytes, name: bytes) -> Iterator[int]:
    """Offsets in a string table at which a name stands, or a longer one's end: linkers share ends."""
    ended = name + b"\0"
    at = texts.find(ended)
    while at >= 0:
        yield at
        at = texts.find(ended, at + 1)
