"""Answer tables: for a person at a terminal, whose columns wrap; and as lines for a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from flows.cli.print.answer_cells import cell
from flows.cli.print.escape import CONTROLS, escape
from flows.cli.print.table import table as text_table
from flows.flow.answers.table import Kind, ordered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from flows.flow.answers.table import Column, Row, Table

# Rows of one table that a person is shown; -o wide and -o json have all.
MOST_SHOWN = 50
_NUMBERS = frozenset({Kind.COUNT, Kind.NUMBER, Kind.DURATION, Kind.RATE, Kind.BYTES})
# Colours as verdicts have them: what failed, what needs a look, what is well.
_STYLES = {
    "unanswered": "red", "SERVFAIL": "red", "REFUSED": "red", "FORMERR": "red", "NOTIMP": "red", "plain": "red",
    "no answer seen": "yellow", "slow": "yellow", "NXDOMAIN": "yellow", "unknown": "yellow", "mixed": "yellow",
    "waiting": "yellow",
    "NOERROR": "green", "resolved": "green", "encrypted": "green",
}  # fmt: skip
_PAINTED = frozenset({"result", "outcome", "encryption", "cause"})
# Columns that hold sentences need room.
_SENTENCES = frozenset({"evidence", "fix"})
_BAD_COUNTS = frozenset({"failed", "unanswered", "status_5xx"})
_NOTED_COUNTS = frozenset({"slow", "status_4xx", "no_answer_seen"})


def shown(table: Table, sort: str, *, wide: bool) -> tuple[list[Column], list[Row], int]:
    """Columns, rows in their order, and how many rows are left out."""
    rows = ordered(table.rows, sort, table.columns)
    kept = rows if wide else rows[:MOST_SHOWN]
    columns = [each for each in table.columns if wide or _used(each, kept)]
    return columns, kept, len(rows) - len(kept)


def _used(column: Column, rows: Sequence[Row]) -> bool:
    """Whether it tells anything of these rows; a column of counts is left out if nothing was counted."""
    return not column.wide and (column.kind is not Kind.COUNTS or any(row.get(column.key) for row in rows))


def as_text(tables: Sequence[Table], sort: str, *, wide: bool) -> str:
    """All tables as lines."""
    parts = []
    for table in tables:
        columns, rows, left = shown(table, sort, wide=wide)
        lines = f"{table.title}\n" if table.title and rows else ""
        if rows:
            cells = [[CONTROLS.sub(" ", cell(row.get(each.key), each, whole=wide)) for each in columns] for row in rows]
            lines += text_table([each.label.upper() for each in columns], cells)
        elif table.empty:
            lines += f"{table.empty}\n"
        lines += "".join(f"{note}\n" for note in _notes(table, left))
        parts.append(lines)
    return "\n".join(part for part in parts if part)


def as_renderable(tables: Sequence[Table], sort: str, *, wide: bool) -> RenderableType:
    """All tables for a console of rich."""
    parts: list[RenderableType] = []
    for table in tables:
        columns, rows, left = shown(table, sort, wide=wide)
        if rows:
            parts += [Text(""), *([Text(table.title, style="bold")] if table.title else [])]
            parts.append(_rich(columns, rows, wide=wide))
        elif table.empty:
            parts.append(Text(table.empty))
        parts += [Text(note, style="dim") for note in _notes(table, left)]
    return Group(*parts)


def _notes(table: Table, left: int) -> list[str]:
    more = [f"and {left:,} more rows: -o wide and -o json have all"] if left else []
    notes = [] if not table.rows and table.kind != "dns_total" else table.notes
    return more + [escape(note) for note in notes]


def _rich(columns: Sequence[Column], rows: Sequence[Row], *, wide: bool) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        justify = "right" if column.kind in _NUMBERS else "left"
        whole, least = column.kind in _NUMBERS or column.key in _PAINTED, 36 if column.key in _SENTENCES else None
        drawn.add_column(column.label.upper(), justify=justify, overflow="fold", no_wrap=whole, min_width=least)  # type: ignore[arg-type]
    for row in rows:
        drawn.add_row(*(Text(cell(row.get(each.key), each, whole=wide), style=_style(row, each)) for each in columns))
    return drawn


def _style(row: Row, column: Column) -> str:
    value = row.get(column.key)
    if column.key in _PAINTED:
        return _STYLES.get(str(value), "")
    if column.key in {"client", "server"}:
        return "cyan"
    if value and column.key in _BAD_COUNTS:
        return "red"
    return "yellow" if value and column.key in _NOTED_COUNTS else ""
