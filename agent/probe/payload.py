"""The kernel's payload records as NumPy dtypes: the user side of bpf/payload.h."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHORT_TEXT = 208  # bytes: request line and Host of nearly all requests, whole DNS messages of most answers
LONG_TEXT = 1928  # bytes: any ClientHello that is sent today, HTTP/2 header blocks, DNS over TCP; a record of 2,048 bytes

# Field by field as in `struct payload`: little-endian, no padding but what is named.
_HEAD: list[tuple[str, str] | tuple[str, str, tuple[int, ...]]] = [
    ("time_ns", "<u8"),
    ("conn_id", "<u8"),
    ("cgroup_id", "<u8"),
    ("local_addr", "u1", (16,)),
    ("remote_addr", "u1", (16,)),
    ("comm", "S16"),
    ("pid", "<u4"),
    ("netns", "<u4"),
    ("sequence", "<u4"),
    ("acknowledged", "<u4"),
    ("length", "<u4"),
    ("number", "<u4"),
    ("captured", "<u2"),
    ("local_port", "<u2"),
    ("remote_port", "<u2"),
    ("kind", "u1"),
    ("protocol", "u1"),
    ("sent", "u1"),
    ("origin", "u1"),
    ("slice", "u1"),
    ("zero", "u1", (5,)),
]
SHORT_PAYLOAD = np.dtype([*_HEAD, ("text", "u1", (SHORT_TEXT,))])
LONG_PAYLOAD = np.dtype([*_HEAD, ("text", "u1", (LONG_TEXT,))])
HEAD_BYTES = SHORT_PAYLOAD.itemsize - SHORT_TEXT
# By the number of bytes captured: for short texts faster than to tell words apart.
_SHORT_MASKS = (np.tri(SHORT_TEXT + 1, SHORT_TEXT, -1, np.uint8) * np.uint8(0xFF)).view(np.uint64)
FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(8)], "<u8")  # masks of a word's first bytes


class PayloadKind(IntEnum):
    """What the text begins like: `enum payload_kind` of bpf/payload.h. The kernel looks at a few bytes only."""

    HTTP_REQUEST = 1
    HTTP_RESPONSE = 2
    HTTP2 = 3
    DNS = 4
    TLS_HELLO = 5
    HTTP2_MORE = 6


class Origin(IntEnum):
    """Where the bytes were read: `enum payload_origin` of bpf/payload.h."""

    PACKET = 0
    TLS_LIBRARY = 1


def whole(payloads: NDArray[np.void]) -> NDArray[np.void]:
    """The same payloads (n,), changed in place: zeros behind what was captured, where a slot still holds bytes of before."""
    if len(payloads):
        words = payloads.view(np.uint64).reshape(len(payloads), -1)[:, HEAD_BYTES // 8 :]
        captured = payloads["captured"]
        if payloads.dtype.itemsize == SHORT_PAYLOAD.itemsize:
            words &= _SHORT_MASKS.take(captured, axis=0, mode="clip")
            return payloads
        full = captured >> 3
        np.copyto(words, 0, where=np.arange(words.shape[1], dtype=np.uint16) > full[:, None])
        partly = np.flatnonzero(full < words.shape[1])
        words[partly, full[partly]] &= FIRST_BYTES[captured[partly] & 7]
    return payloads


def joined(parts: list[NDArray[np.void]]) -> NDArray[np.void]:
    """Copies of payloads of one dtype, after each other; as bytes: NumPy copies structures ten times as slowly."""
    plain = np.dtype((np.void, parts[0].dtype.itemsize))
    together: NDArray[np.void] = np.concatenate([part.view(plain) for part in parts]).view(parts[0].dtype)
    return together


def wipe(payloads: NDArray[np.void]) -> None:
    """Overwrite payloads (n,) that nobody needs any more: freed memory would keep them, unredacted, for who knows how long."""
    if payloads.size:
        payloads.view(np.uint8)[:] = 0
