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


def select(matches: Mask, time_ns: NDArray[np.integer[Any]], selection: Selection, *, exempt: Mask | None = None) -> Mask:
    """The rows to show, in a table in stream order; bool (n,). time_ns is i64.

    exempt rows (lost events, node status) bypass the filter and do not count toward the number. They are
    shown where a reader passes them: inside the time range, from the first shown flow on if the newest are
    asked for, and up to the last if the oldest are.
    """
    timely = within(time_ns, selection)
    wanted = matches & timely
    if exempt is None:
        return _limit(wanted, selection)[0]
    shown, start, end = _limit(wanted & ~exempt, selection)
    shown[start:end] |= (exempt & timely)[start:end]
    return shown


def within(time_ns: NDArray[np.integer[Any]], selection: Selection) -> Mask:
    """Rows not before since and not after until; bool (n,)."""
    mask = np.ones(len(time_ns), np.bool_)
    if selection.since is not None:
        mask &= time_ns >= selection.since
    if selection.until is not None:
        mask &= time_ns <= selection.until
    return mask


def _limit(wanted: Mask, selection: Selection) -> tuple[Mask, int, int]:
    """The wanted rows within the number, and the span of rows that were read to find them."""
    n, number = len(wanted), selection.number
    rows = np.flatnonzero(wanted)
    if number == 0 or number > len(rows):
        return wanted, 0, n
    shown = np.zeros(n, np.bool_)
    kept = rows[:number] if selection.first else rows[-number:]
    shown[kept] = True
    return (shown, 0, int(kept[-1]) + 1) if selection.first else (shown, int(kept[0]), n)
