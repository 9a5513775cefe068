"""Rows of structured arrays, chosen and joined as bytes: NumPy itself copies them field by field, fifteen times as slowly."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.probe.payload import SHORT_PAYLOAD

if TYPE_CHECKING:
    from numpy.typing import NDArray


# A payload without its text, which is the same for all sizes.
PAYLOAD: Final = np.dtype([(name, SHORT_PAYLOAD[name]) for name in SHORT_PAYLOAD.names or () if name != "text"])


def heads(payloads: NDArray[np.void], which: NDArray[np.int64]) -> NDArray[np.void]:
    """Some payloads, by number, without their text: PAYLOAD (k,), copies."""
    plain = np.ndarray(len(payloads), _bytes(PAYLOAD.itemsize), payloads, strides=payloads.strides)
    chosen: NDArray[np.void] = plain[which].view(PAYLOAD)
    return chosen


def pick(rows: NDArray[np.void], which: NDArray[np.int64] | NDArray[np.bool_] | slice) -> NDArray[np.void]:
    """Some rows (n,), by number, mask or slice: copies, or the rows themselves where a mask takes all."""
    if isinstance(which, slice):
        return rows[which]
    if which.dtype == np.bool_:
        which = which.nonzero()[0]
        if len(which) == len(rows):
            return rows
    if rows.flags.c_contiguous:
        return rows.take(which)  # as bytes, too; of others it would copy all
    chosen: NDArray[np.void] = _plain(rows)[which].view(rows.dtype)
    return chosen


def join(*parts: NDArray[np.void]) -> NDArray[np.void]:
    """Rows of one dtype after each other; the rows themselves where no other part has any."""
    filled = [part for part in parts if len(part)]
    if len(filled) < 2:
        return filled[0] if filled else parts[0]
    joined: NDArray[np.void] = np.concatenate([_plain(part) for part in filled]).view(parts[0].dtype)
    return joined


def copy(rows: NDArray[np.void]) -> NDArray[np.void]:
    """The same rows (n,), once more."""
    again: NDArray[np.void] = _plain(rows).copy().view(rows.dtype)
    return again


def put(rows: NDArray[np.void], which: NDArray[np.int64] | NDArray[np.bool_], values: NDArray[np.void]) -> None:
    """Set rows of the same dtype."""
    _plain(rows)[which] = _plain(values)


def _plain(rows: NDArray[np.void]) -> NDArray[np.void]:
    return rows.view(_bytes(rows.dtype.itemsize))


@lru_cache
def _bytes(size: int) -> np.dtype[np.void]:
    return np.dtype((np.void, size))
