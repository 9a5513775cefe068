"""Tuples: hashes of protocol, addresses and ports, equal on every node: by these two views of one connection are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Odd constants of SplitMix64: any odd numbers would do.
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)

Ends = tuple["NDArray[np.uint8]", "NDArray[Any]"]  # addresses (n, 16), ports (n,)


def _mixed(words: tuple[NDArray[np.uint64], ...]) -> NDArray[np.uint64]:
    mixed = np.zeros(len(words[0]), np.uint64)
    for word, multiplier in zip(words, _MULTIPLIERS, strict=False):
        mixed = (mixed ^ word) * np.uint64(multiplier)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _halves(addresses: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    halves = np.ascontiguousarray(addresses).view("<u8")
    return halves[:, 0], halves[:, 1]


def opener_keys(protocol: NDArray[Any], opener: Ends) -> NDArray[np.uint64]:
    """A hash (n,) of the end that opened; 0 where it is no name for one connection at a time.

    That is without a port (ICMP), and for addresses that several hosts have: loopback, link-local, unspecified.
    """
    addresses, ports = opener
    low = ports.astype(np.uint64) << np.uint64(8) | protocol.astype(np.uint64)
    keys = _mixed((*_halves(addresses), low)) | np.uint64(1)
    return np.where((ports == 0) | _ambiguous(addresses), np.uint64(0), keys)


def tuple_keys(protocol: NDArray[Any], opener: Ends, acceptor: Ends) -> NDArray[np.uint64]:
    """A hash (n,) of protocol and both ends."""
    ports = opener[1].astype(np.uint64) << np.uint64(16) | acceptor[1].astype(np.uint64)
    low = ports << np.uint64(8) | protocol.astype(np.uint64)
    return _mixed((*_halves(opener[0]), *_halves(acceptor[0]), low))


def _ambiguous(addresses: NDArray[np.uint8]) -> NDArray[np.bool_]:
    mapped = (addresses[:, :10] == 0).all(axis=1) & (addresses[:, 10:12] == 255).all(axis=1)
    first, second = addresses[:, 12], addresses[:, 13]
    ipv4 = mapped & ((first == 127) | (first == 0) | (first == 169) & (second == 254))
    ipv6 = (addresses[:, :15] == 0).all(axis=1) & (addresses[:, 15] <= 1)
    local = (addresses[:, 0] == 0xFE) & (addresses[:, 1] & 0xC0 == 0x80)
    result: NDArray[np.bool_] = ipv4 | ipv6 | local
    return result
