"""Static: agents that are named on the command line."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from flows.relay.discovery.found import Found
from flows.wire.addresses import listen_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def peers(text: str) -> list[Found]:
    """`[NAME=]ADDRESS,...`; `tls://` before a local address says that TLS is spoken there, too.

    Raises argparse.ArgumentTypeError.
    """
    return [_peer(item.strip()) for item in text.split(",") if item.strip()]


def _peer(text: str) -> Found:
    name, equals, address = text.rpartition("=")
    if equals and not name:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=ADDRESS or ADDRESS, e.g. node-1=10.0.0.1:4244")
    bare = address.removeprefix("tls://")
    tls = bare != address
    if tls and bare.startswith("unix:"):
        raise argparse.ArgumentTypeError(f"{text!r}: a unix socket has no TLS; leave tls:// out")
    return Found(name, (listen_address(bare),), tls=tls)


class StaticPeers:
    """A list that never changes."""

    def __init__(self, found: Sequence[Found]) -> None:
        self.status = ""
        self._found = tuple(found)

    async def follow(self, found: Callable[[Sequence[Found]], None]) -> None:
        """Tell once."""
        found(self._found)
        await asyncio.Event().wait()
