"""Table: rows under a header, each column as wide as its widest value; nothing is printed before the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Hubble's tabwriter: three blanks after the widest value of each column but the last.
GAP = 3


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The header and the rows as aligned lines, each line ended. Every row is as long as the header."""
    widths = [max(map(len, column)) + GAP for column in zip(header, *rows, strict=True)][:-1]
    return "".join([_line(row, widths) for row in (header, *rows)])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    line = "".join([value.ljust(width) for value, width in zip(row, widths, strict=False)]) + row[-1]
    return (line if row[-1] else line.rstrip(" ")) + "\n"
