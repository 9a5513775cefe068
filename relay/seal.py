"""Seal: positions for callers who may not see everything: a node numbers all its flows, so numbers tell how many others had."""

from __future__ import annotations

import secrets
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from flows.proto import flows_pb2

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from flows.relay.access.scope import Scope

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12  # random: 100,000 a second for a year, and still it is 1 to 16,000 that no two are alike
_NUMBERS: Final = struct.Struct("<QQQq")  # instance, from, received, watermark_ns


class Seal:
    """Of one server. Its key is never stored: what another one sealed is gone on with by time."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(KEY_BYTES)

    def close(self, position: flows_pb2.Position, scope: Scope) -> flows_pb2.Position:
        """As the caller gets it."""
        if scope.namespaces is None:
            return position
        numbers = position.instance, getattr(position, "from"), position.received, position.watermark_ns
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + _cipher(self._key).encrypt(nonce, _NUMBERS.pack(*numbers), _bound(position, scope))
        return flows_pb2.Position(node=position.node, watermark_ns=position.watermark_ns, sealed=sealed)

    def open(self, position: flows_pb2.Position, scope: Scope) -> flows_pb2.Position:
        """As it was before close(). What the caller cannot have got like this tells no more than a time."""
        if not position.sealed and scope.namespaces is None:
            return position
        numbers = self._numbers(position, scope) if position.sealed else None
        if numbers is None:
            return flows_pb2.Position(node=position.node, watermark_ns=position.watermark_ns)
        instance, first, received, watermark_ns = numbers
        made = flows_pb2.Position(node=position.node, instance=instance, received=received, watermark_ns=watermark_ns)
        setattr(made, "from", first)
        return made

    def _numbers(self, position: flows_pb2.Position, scope: Scope) -> tuple[int, ...] | None:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as below

        nonce, rest = position.sealed[:NONCE_BYTES], position.sealed[NONCE_BYTES:]
        try:
            return _NUMBERS.unpack(_cipher(self._key).decrypt(nonce, rest, _bound(position, scope)))
        except (InvalidTag, ValueError):  # ValueError: too short
            return None


def _bound(position: flows_pb2.Position, scope: Scope) -> bytes:
    """What a sealed position is good for: this node, and this user."""
    return repr((position.node, scope.user)).encode()


@lru_cache(maxsize=16)
def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 9 MB, only for limited callers

    return AESGCM(key)
