"""Selection: which of the matching flows are wanted, by time and by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.flow.columns import Mask

# Hubble's --all: number = 2^64-1.
ALL = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Selection:
    """The selectors of a GetFlowsRequest. number 0 is no limit.

    number counts the newest flows, with first the oldest. since and until are ns since 1970 and inclusive.
    """

    number: int = 0
    first: bool = False
    follow: bool = False
    since: int | None = None
    until: int | None = None


def select(matches: Mask, time_ns: NDArray[np.integer[Any]], selection: Selection) -> Mask:
    """The rows to show, in a table in stream order; bool (n,). time_ns is i64."""
    return _limit(matches & within(time_ns, selection), selection)


def within(time_ns: NDArray[np.integer[Any]], selection: Selection) -> Mask:
    """Rows not before since and not after until; bool (n,)."""
    mask = np.ones(len(time_ns), np.bool_)
    if selection.since is not None:
        mask &= time_ns >= selection.since
    if selection.until is not None:
        mask &= time_ns <= selection.until
    return mask


def _limit(wanted: Mask, selection: Selection) -> Mask:
    """The wanted rows within the number."""
    number, rows = selection.number, np.flatnonzero(wanted)
    if number == 0 or number > len(rows):
        return wanted
    shown = np.zeros(len(wanted), np.bool_)
    shown[rows[:number] if selection.first else rows[-number:]] = True
    return shown
