"""Records of a batch by column: those of requests have few of RECORD's columns, so no row is made that would have them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, Union

import numpy as np

from flows.agent.probe.record import RECORD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_ZERO: Final = bytes(max(RECORD[name].itemsize for name in RECORD.names or ()))


class Batch:
    """n records, whose columns are asked for as those of RECORD (n,) are; what they lack is zero."""

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """columns: those that there are, (n, ...) each, with dtypes and shapes of RECORD; at least one."""
        self._columns = columns
        self._count = len(next(iter(columns.values())))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, name: str) -> NDArray[Any]:
        column = self._columns.get(name)
        return column if column is not None else _zeros(self._count, RECORD[name])

    def part(self, which: slice | NDArray[Any]) -> Batch:
        """Some of them, by slice, mask or number."""
        return Batch({name: column[which] for name, column in self._columns.items()})


Records: TypeAlias = Union["NDArray[np.void]", Batch]


def joined(records: NDArray[np.void], others: Batch) -> Records:
    """Both after each other; the one itself where the other has none."""
    if not len(others):
        return records
    if not len(records):
        return others
    return Batch({name: np.concatenate((records[name], others[name])) for name in RECORD.names or ()})


def _zeros(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """One zero, seen from everywhere."""
    return np.ndarray((count, *dtype.shape), dtype.base, _ZERO, strides=(0,) * (1 + len(dtype.shape)))
