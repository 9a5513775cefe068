"""Tokens: what may be known of them without being able to use them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import secrets
from typing import Final

import msgspec

_KEY: Final = secrets.token_bytes(32)  # of this process: a digest in a memory dump cannot be tried against known tokens


class _Claims(msgspec.Struct):
    exp: float | None = None


_CLAIMS: Final = msgspec.json.Decoder(_Claims)


def digest(token: str) -> bytes:
    """32 bytes that stand for a token in this process."""
    return hashlib.blake2b(token.encode(), key=_KEY, digest_size=32).digest()


def expiry(token: str) -> float:
    """When a JSON web token says that it expires (RFC 7519, `exp`), in seconds since 1970; infinity for all others.

    Not verified: good for checking earlier, never for believing longer.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return math.inf
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        stated = _CLAIMS.decode(payload).exp
    except (binascii.Error, ValueError, RecursionError, msgspec.MsgspecError):
        return math.inf
    return math.inf if stated is None else stated
