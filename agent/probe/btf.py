"""The running kernel's own description of its structures (BTF): field offsets and type ids.

Format: Documentation/bpf/btf.rst of the kernel. Reading offsets here, at load time, is what makes kernel headers unnecessary.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

VMLINUX = Path("/sys/kernel/btf/vmlinux")
MAGIC = 0xEB9F


class Kind(IntEnum):
    """The kinds of type that are looked at or skipped over."""

    INT = 1
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


MODIFIERS = {Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG}
# Bytes that follow a type's 12-byte head: a fixed part, or so many per element.
FIXED_TAIL = {Kind.INT: 4, Kind.ARRAY: 12, Kind.VAR: 4, Kind.DECL_TAG: 4}
ELEMENT_TAIL = {
    Kind.STRUCT: 12,
    Kind.UNION: 12,
    Kind.ENUM: 8,
    Kind.FUNC_PROTO: 8,
    Kind.DATASEC: 12,
    Kind.ENUM64: 12,
}


class BtfError(Exception):
    """The kernel's BTF is absent, damaged, or lacks what is needed."""


@dataclass(frozen=True, slots=True)
class Type:
    """One entry: its name's offset, kind, element count, size or referenced type, and where its tail starts."""

    name: int
    kind: int
    count: int
    size_or_type: int
    tail: int
    bitfields: bool


class Btf:
    """All types of one BTF blob, by id (1-based, as the kernel counts)."""

    def __init__(self, blob: bytes) -> None:
        """Index blob. Raises BtfError if it is no BTF."""
        try:
            self._index(blob)
        except (struct.error, ValueError) as error:
            raise BtfError(f"reading BTF: damaged after {len(blob)} bytes ({error})") from error

    @classmethod
    def of_running_kernel(cls) -> Self:
        """Read the running kernel's BTF. Raises BtfError if it has none."""
        try:
            return cls(VMLINUX.read_bytes())
        except OSError as error:
            raise BtfError(
                f"reading {VMLINUX}: {error.strerror}; the agent needs a kernel built with CONFIG_DEBUG_INFO_BTF=y"
            ) from error

    def _index(self, blob: bytes) -> None:
        magic, _version, _flags, header, types, types_length, strings, strings_length = struct.unpack_from("<HBBIIIII", blob)
        if magic != MAGIC:
            raise BtfError(f"reading BTF: wrong magic number {magic:#x}")
        self._blob = blob
        self._strings = blob[header + strings : header + strings + strings_length]
        self._types: list[Type] = [Type(0, 0, 0, 0, 0, bitfields=False)]
        position, end = header + types, header + types + types_length
        while position < end:
            name, info, size_or_type = struct.unpack_from("<III", blob, position)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            position += 12
            self._types.append(Type(name, kind, count, size_or_type, position, bool(info >> 31)))
            position += FIXED_TAIL.get(kind, 0) + ELEMENT_TAIL.get(kind, 0) * count
        self._ids: dict[tuple[bytes, int], int] = {}
        for number, entry in enumerate(self._types):
            if entry.kind in (Kind.STRUCT, Kind.TYPEDEF, Kind.FUNC, Kind.ENUM):
                self._ids.setdefault((self._name(entry.name), entry.kind), number)

    def _name(self, offset: int) -> bytes:
        return self._strings[offset : self._strings.index(b"\0", offset)]

    def type_id(self, name: str, kind: Kind) -> int:
        """Id of the named type. Raises BtfError if the kernel has none."""
        try:
            return self._ids[name.encode(), kind]
        except KeyError:
            raise BtfError(f"looking up {kind.name.lower()} {name} in BTF: this kernel does not have it") from None

    def enumerators(self, name: str) -> dict[str, int]:
        """Names and values of an enum. Raises BtfError if the kernel has none."""
        entry = self._types[self.type_id(name, Kind.ENUM)]
        pairs = (struct.unpack_from("<Ii", self._blob, entry.tail + 8 * index) for index in range(entry.count))
        return {self._name(name_).decode(errors="replace"): value for name_, value in pairs}

    def _members(self, number: int) -> Iterator[tuple[bytes, int, int]]:
        entry = self._types[number]
        for index in range(entry.count):
            name, type_, offset = struct.unpack_from("<III", self._blob, entry.tail + 12 * index)
            yield self._name(name), type_, offset & 0xFFFFFF if entry.bitfields else offset

    def _strip(self, number: int) -> int:
        while self._types[number].kind in MODIFIERS:
            number = self._types[number].size_or_type
        return number

    def _find(self, number: int, path: list[bytes]) -> int | None:
        for name, type_, bits in self._members(number):
            if name == path[0]:
                rest = self._find(self._strip(type_), path[1:]) if path[1:] else 0
            elif not name:  # an anonymous struct or union: its fields are the parent's
                rest = self._find(self._strip(type_), path)
            else:
                continue
            if rest is not None:
                return bits // 8 + rest
        return None

    def offset(self, structure: str, path: str) -> int:
        """Byte offset of a field, e.g. offset("sock", "__sk_common.skc_state"). Raises BtfError if it does not exist."""
        found = self._find(self.type_id(structure, Kind.STRUCT), [part.encode() for part in path.split(".")])
        if found is None:
            raise BtfError(f"looking up {structure}.{path} in BTF: this kernel has no such field")
        return found
