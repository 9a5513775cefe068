"""Answer cells: values of rows as text for people, and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.cli.print.escape import escape, escape_json
from flows.flow.answers.latency import RELATIVE_ACCURACY
from flows.flow.answers.table import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flows.flow.answers.table import Column, Row, Table

# What stands where nothing is known, or nothing applies.
ABSENT = "-"
# Of a list in one cell.
MOST_SHOWN = 3


def cell(value: Any, column: Column, *, whole: bool = False) -> str:
    """The value as text, fit for a terminal. whole: lists are not cut."""
    if value is None or value in ("", [], {}):
        return ABSENT
    if column.kind is Kind.LIST:
        return _listed([escape(str(each)) for each in value], whole=whole)
    if column.kind is Kind.COUNTS:
        return _listed([f"{escape(name)} {count:,}" for name, count in value.items()], whole=whole)
    return _WRITERS[column.kind](value)


def _listed(values: list[str], *, whole: bool) -> str:
    if whole or len(values) <= MOST_SHOWN:
        return ", ".join(values)
    return f"{', '.join(values[:MOST_SHOWN])} and {len(values) - MOST_SHOWN} more"


def duration(nanoseconds: int) -> str:
    """Three digits or so, and the unit that suits."""
    for size_ns, unit in ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")):
        if nanoseconds >= size_ns:
            value = nanoseconds / size_ns
            return f"{value:,.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"
    return f"{nanoseconds}ns" if nanoseconds else "0"


def size(count: int) -> str:
    """Bytes with a binary prefix."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{count} B" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def rate(value: float) -> str:
    """Per second."""
    return f"{value:,.1f}" if value >= 0.1 else f"{value:.3f}"


def clock(nanoseconds: int) -> str:
    """Time of day, in UTC as flows are printed."""
    try:
        return f"{datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC):%H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return "N/A"


_WRITERS: Mapping[Kind, Callable[[Any], str]] = {
    Kind.TEXT: lambda value: escape(str(value)),
    Kind.COUNT: lambda value: f"{value:,}",
    Kind.NUMBER: str,
    Kind.DURATION: duration,
    Kind.TIME: clock,
    Kind.RATE: rate,
    Kind.BYTES: size,
}


def json_rows(table: Table, rows: list[Row], *, terminal: bool) -> list[str]:
    """One line per row, with its newline."""
    error = RELATIVE_ACCURACY if any(column.key.startswith("p50") for column in table.columns) else None
    return [_json_row(table, row, error, terminal=terminal) for row in rows]


def _json_row(table: Table, row: Row, error: float | None, *, terminal: bool) -> str:
    values: dict[str, Any] = {"kind": table.kind}
    for column in table.columns:
        value = row.get(column.key)
        values[column.key] = _timestamp(value) if column.kind is Kind.TIME and value is not None else value
    if error is not None:
        values["quantile_error"] = error
    line = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    line = line.encode("utf-8", "backslashreplace").decode()
    return (escape_json(line) if terminal else line) + "\n"


def _timestamp(nanoseconds: int) -> str | None:
    """RFC 3339, UTC; None beyond the years that it has."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    except (OverflowError, ValueError, OSError):
        return None
