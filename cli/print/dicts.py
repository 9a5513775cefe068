"""Dict: one line per column, `     COLUMN: value`, and a rule between records."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.cli.print.cells import Cell

RULE = "------------\n"
# As wide as DESTINATION, the longest column of a flow.
FLOW_WIDTH = 11


def record(cells: Sequence[Cell], width: int = FLOW_WIDTH) -> str:
    """The cells as lines, column names aligned to the right at width, each line ended."""
    return "".join([f"{column:>{width}}: {value}\n" for column, value in cells])
