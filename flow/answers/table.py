"""Tables: columns and rows of an answer, in the order that was asked for, and never more rows than there is room for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

# Rows of one table: at about 2 kB each, 20 MB. What comes after that is counted in one row.
MOST_ROWS = 10_000
# What the names of a row beyond that are.
OTHER = "(other)"
# Values that say nothing; 0 is not among them.
_ABSENT: tuple[Any, ...] = (None, "", [], {}, ())

V = TypeVar("V")
Row = dict[str, Any]


class Kind(Enum):
    """What a column's values are. DURATION and TIME are ns (TIME since 1970); RATE is per second."""

    TEXT = "text"
    COUNT = "count"
    NUMBER = "number"  # that is a name: a port
    DURATION = "duration"
    TIME = "time"
    RATE = "rate"
    BYTES = "bytes"
    LIST = "list"
    COUNTS = "counts"  # a mapping of names to numbers


@dataclass(frozen=True, slots=True)
class Column:
    """key: in JSON. name: in --sort and, in capitals, in the header. wide: only with `-o wide` and JSON."""

    key: str
    kind: Kind = Kind.TEXT
    name: str = ""
    wide: bool = False

    @property
    def label(self) -> str:
        """The name."""
        return self.name or self.key


@dataclass(frozen=True, slots=True)
class Table:
    """kind: what JSON calls one of its rows. notes: single lines that belong below it. empty: what to say without rows."""

    kind: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    notes: Sequence[str] = field(default_factory=tuple)
    empty: str = ""


class SortError(ValueError):
    """No table has such a column. expected: those that there are."""

    def __init__(self, expected: Sequence[str]) -> None:
        super().__init__(f"expected one of {', '.join(expected)}")
        self.expected = expected


def check_sort(order: str, columns: Sequence[Column]) -> None:
    """order: a column's name or key, with `-` before it for descending. Raises SortError."""
    if order and _column(order, columns) is None:
        raise SortError([column.label for column in columns])


def ordered(rows: Sequence[Row], order: str, columns: Sequence[Column]) -> list[Row]:
    """Sorted by a column; rows without a value come last, equal ones stay as they are. "" or no such column: as they are."""
    column = _column(order, columns) if order else None
    if column is None:
        return list(rows)
    known = [row for row in rows if row.get(column.key) not in _ABSENT]
    missing = [row for row in rows if row.get(column.key) in _ABSENT]
    return sorted(known, key=lambda row: _comparable(row[column.key]), reverse=order.startswith("-")) + missing


def _column(order: str, columns: Sequence[Column]) -> Column | None:
    name = order.removeprefix("-").lower().replace("_", "-")
    return next((each for each in columns if name in {each.label, each.key.replace("_", "-")}), None)


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return sum(value.values())
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return value


class Groups(Generic[V]):
    """Values by key: as many as there is room for, and one more for all further keys."""

    def __init__(self, make: Callable[[Hashable], V], other: Hashable, most: int = MOST_ROWS) -> None:
        """make: an empty value of a key. other: the key of what there is no room for."""
        self._make, self._other, self._most = make, other, most
        self._values: dict[Hashable, V] = {}
        self.overflowed = 0  # how often something went to `other`

    def __getitem__(self, key: Hashable) -> V:
        value = self._values.get(key)
        if value is None:
            if len(self._values) >= self._most:
                self.overflowed += 1
                key = self._other
            value = self._values.setdefault(key, self._make(key))
        return value

    def items(self) -> Iterator[tuple[Any, V]]:
        """In the order in which they came."""
        return iter(self._values.items())

    def place(self, key: Hashable) -> Hashable:
        """The key under which a key's value is."""
        return key if key in self._values else self._other

    def __len__(self) -> int:
        return len(self._values)


def overflow_note(groups: Groups[Any]) -> list[str]:
    """What is to be said if rows were put together."""
    if not groups.overflowed:
        return []
    return [f"{groups.overflowed:,} of them are in the row {OTHER}: there is room for {MOST_ROWS:,} rows"]


def most_common(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts, greatest first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
