"""Compact: one line per flow, `TIME: CLIENT (identity) -> SERVER (identity) TYPE VERDICT (SUMMARY)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flows.cli.print.cells import Cell

# What stands before and after a column's value.
_AROUND: Mapping[str, tuple[str, str]] = {
    "TIMESTAMP": ("", ""),
    "NODE": (" [", "]"),
    "LEFT": (": ", ""),
    "LEFT ID": (" ", ""),
    "ARROW": (" ", ""),
    "RIGHT": (" ", ""),
    "RIGHT ID": (" ", ""),
    "TYPE": (" ", ""),
    "VERDICT": (" ", ""),
    "SUMMARY": (" (", ")"),
    "LOST BY": (" EVENTS LOST: ", ""),
    "CPU": (" CPU(", ")"),
    "COUNT": (" ", ""),
}


def compact(cells: Sequence[Cell]) -> str:
    """One line of the cells (cells.exchange_cells or cells.loss_cells), without the newline."""
    return "".join([f"{_AROUND[column][0]}{value}{_AROUND[column][1]}" for column, value in cells])
