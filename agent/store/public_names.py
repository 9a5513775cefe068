"""Names: public names of connections' far ends as one number, with where they come from: flows.v1.NameSource."""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHIFT = 30  # above the number of a name, which is below 2^17


class NameSource(IntEnum):
    """Numbers of flows.v1.NameSource, the best first."""

    TLS_SNI = 1
    HTTP_HOST = 2
    DNS_ANSWER = 3


def detail(numbers: NDArray[Any], source: NameSource) -> NDArray[np.uint32]:
    """Numbers of a NameTable (n,), 0: none, with where they come from, as the store keeps them (n,)."""
    numbers = numbers.astype(np.uint32)
    return np.where(numbers != 0, numbers | np.uint32(source << _SHIFT), np.uint32(0))


def number_of(details: NDArray[Any]) -> NDArray[np.uint32]:
    """Number in the NameTable (n,)."""
    numbers: NDArray[np.uint32] = details & np.uint32((1 << _SHIFT) - 1)
    return numbers


def source_of(details: NDArray[Any]) -> NDArray[np.uint32]:
    """NameSource (n,); 0: none."""
    sources: NDArray[np.uint32] = details >> np.uint32(_SHIFT)
    return sources


@lru_cache(maxsize=4_096)
def public_name(text: bytes) -> str:
    """The host of a Host header or an SNI, which zeros may follow; empty for an address, which is no name."""
    host = text.rstrip(b"\0").decode("ascii", "backslashreplace").lower()
    host = "" if host.startswith("[") else host.partition(":")[0].rstrip(".")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return ""
