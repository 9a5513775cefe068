"""A watch's body: pieces as they arrive, in batches of whole lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from flows.kube.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Waking up costs ten times what decoding a change does. The first one after silence is not kept waiting.
GATHER_SECONDS: Final = 0.1
WAITED_SECONDS: Final = 0.001
LINE_LIMIT: Final = 8 << 20  # etcd holds objects of up to 1.5 MB; more than this without a newline is no watch


def gathered(pieces: Iterator[bytes], linger: Callable[[float], object]) -> Iterator[bytes]:
    """Linger after a piece that had to be waited for: changes come in swarms, and what comes meanwhile wakes nobody up."""
    began = time.monotonic()
    for piece in pieces:
        waited = time.monotonic() - began
        yield piece
        if waited > WAITED_SECONDS:
            linger(GATHER_SECONDS)
        began = time.monotonic()


def lines(pieces: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Cut a body into batches of whole lines, one batch per piece that ends any. Raises ApiError beyond
    LINE_LIMIT.
    """
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > LINE_LIMIT:
            raise ApiError(0, f"watch: more than {LINE_LIMIT} bytes without a newline")
        if batch := [line for line in whole if line.strip()]:
            yield batch
