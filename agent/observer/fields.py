"""Fields: protobuf fields of many messages at once, as arrays (protobuf.dev/programming-guides/encoding)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flows.flow.ends import varint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VARINT, LENGTH_DELIMITED = 0, 2  # wire types
SECOND = 1_000_000_000


class Fields(NamedTuple):
    """A piece of n messages. raw: u8 (n, w); kept: bool (n, w), which of the bytes are the message's."""

    raw: NDArray[np.uint8]
    kept: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.raw)

    def rows(self) -> list[bytes]:
        """The n messages."""
        whole = self.raw[self.kept].tobytes()
        ends = np.cumsum(np.count_nonzero(self.kept, axis=1)).tolist()
        return [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def join(*pieces: Fields) -> Fields:
    """Pieces of the same messages, one after the other."""
    raw = np.concatenate([piece.raw for piece in pieces], axis=1)
    return Fields(raw, np.concatenate([piece.kept for piece in pieces], axis=1))


def constant(value: bytes, count: int) -> Fields:
    """The same bytes in each message."""
    return fixed(np.broadcast_to(np.frombuffer(value, np.uint8), (count, len(value))))


def fixed(raw: NDArray[np.uint8]) -> Fields:
    """Bytes (n, w) of each message, all of the same length."""
    return Fields(raw, np.ones(raw.shape, np.bool_))


def texts(values: Sequence[bytes]) -> Fields:
    """Bytes of each message."""
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    width = max(1, int(lengths.max(initial=0)))
    raw = np.array(values, f"S{width}").view(np.uint8).reshape(-1, width)
    return Fields(raw, np.arange(width) < lengths[:, None])


def chosen(codes: NDArray[np.integer[Any]], table: Fields) -> Fields:
    """Of each message the piece that its code (n,) has in a table of pieces."""
    return Fields(table.raw[codes], table.kept[codes])


def varints(values: NDArray[np.integer[Any]] | NDArray[np.bool_], lead: bytes = b"") -> Fields:
    """Numbers (n,) in base 128 after a lead; negative ones as their two's complement, as int64 fields have them."""
    numbers, at = values.astype(np.uint64), len(lead)
    width = max(1, (int(numbers.max(initial=0)).bit_length() + 6) // 7)
    rest = numbers[:, None] >> (np.uint64(7) * np.arange(width, dtype=np.uint64))
    raw, kept = np.empty((len(numbers), at + width), np.uint8), np.ones((len(numbers), at + width), np.bool_)
    raw[:, :at] = np.frombuffer(lead, np.uint8)
    np.bitwise_and(rest, np.uint64(0x7F), out=raw[:, at:], casting="unsafe")
    np.not_equal(rest[:, 1:], 0, out=kept[:, at + 1 :])
    raw[:, at:-1] |= kept[:, at + 1 :].view(np.uint8) << 7
    return Fields(raw, kept)


def number(field: int, values: NDArray[np.integer[Any]] | NDArray[np.bool_]) -> Fields:
    """A field of integers, bools or enums (n,); left out where it is 0."""
    whole = varints(values, varint(field << 3 | VARINT))
    return Fields(whole.raw, whole.kept & (values != 0)[:, None])


def nested(field: int | NDArray[np.uint8], *pieces: Fields, present: NDArray[np.bool_] | None = None) -> Fields:
    """A field that is a message, text or bytes.

    field: its number, or, below 16, one for each message (n,); present (n,): in which messages it is, all if None.
    """
    lengths = sum(np.count_nonzero(piece.kept, axis=1) for piece in pieces)
    whole = join(_tags(field, len(pieces[0])), varints(lengths), *pieces)
    return whole if present is None else Fields(whole.raw, whole.kept & present[:, None])


def _tags(field: int | NDArray[np.uint8], count: int) -> Fields:
    if isinstance(field, int):
        return constant(varint(field << 3 | LENGTH_DELIMITED), count)
    return Fields((field << np.uint8(3) | np.uint8(LENGTH_DELIMITED))[:, None], np.ones((count, 1), np.bool_))


def nanoseconds(field: int, ns: NDArray[np.int64], present: NDArray[np.bool_] | None = None) -> Fields:
    """A field that is a Timestamp (since 1970) or a Duration."""
    return nested(field, number(1, ns // SECOND), number(2, ns % SECOND), present=present)
