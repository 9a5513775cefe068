"""Answer screens: tables shown once, or again as they change: drawn anew on a terminal, as changed rows on a pipe."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.console import Console
from rich.live import Live

from flows.cli.answers_options import Form
from flows.cli.print.answer_cells import json_rows
from flows.cli.print.answer_table import as_renderable, as_text
from flows.cli.print.color import NO_COLOR, palette
from flows.flow.answers.table import ordered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flows.cli.answers_options import AnswerOptions
    from flows.flow.answers.table import Table

# A followed table on a pipe is written whole, when something has changed, at most this often.
PERIOD_S = 10.0
# Columns of a console that is none, for --color always.
WIDTH = 240


class Screen(Protocol):
    """Shows the tables as they are now; last: they will not change any more."""

    def show(self, tables: Sequence[Table], *, last: bool) -> None: ...


class JsonLines:
    """Rows that are new or have changed, one line each."""

    def __init__(self, out: TextIO, sort: str) -> None:
        self._out, self._sort = out, sort
        self._written: set[int] = set()

    def show(self, tables: Sequence[Table], *, last: bool) -> None:  # noqa: ARG002 - a row is written once it is there
        written: set[int] = set()
        for table in tables:
            rows = ordered(table.rows, self._sort, table.columns)
            for line in json_rows(table, rows, terminal=self._out.isatty()):
                written.add(hash(line))
                if hash(line) not in self._written:
                    self._out.write(line)
        self._written = written
        self._out.flush()


class Lines:
    """Whole tables, one after the other."""

    def __init__(self, out: TextIO, sort: str, *, wide: bool) -> None:
        self._out, self._sort, self._wide = out, sort, wide
        self._before = ""
        self._next = 0.0

    def show(self, tables: Sequence[Table], *, last: bool) -> None:
        if not last and time.monotonic() < self._next:
            return
        text = as_text(tables, self._sort, wide=self._wide)
        if text != self._before:
            self._out.write(("\n" if self._before else "") + text)
            self._out.flush()
            self._before, self._next = text, time.monotonic() + PERIOD_S


class Drawn:
    """Tables on a console, once."""

    def __init__(self, console: Console, sort: str, *, wide: bool) -> None:
        self._console, self._sort, self._wide = console, sort, wide

    def show(self, tables: Sequence[Table], *, last: bool) -> None:  # noqa: ARG002
        self._console.print(as_renderable(tables, self._sort, wide=self._wide))


class Redrawn:
    """Tables that are drawn over what was there before."""

    def __init__(self, view: Live, sort: str, *, wide: bool) -> None:
        self._view, self._sort, self._wide = view, sort, wide

    def show(self, tables: Sequence[Table], *, last: bool) -> None:  # noqa: ARG002
        self._view.update(as_renderable(tables, self._sort, wide=self._wide), refresh=True)


@contextmanager
def screen_of(options: AnswerOptions, out: TextIO) -> Iterator[Screen]:
    """The screen for these options."""
    wide, follow = options.form is Form.WIDE, options.observe.selection.follow
    if options.form is Form.JSON:
        yield JsonLines(out, options.sort)
        return
    color = options.observe.output.color.value
    painted = palette(color, out) is not NO_COLOR
    if not out.isatty() and not painted:
        yield Lines(out, options.sort, wide=wide)
        return
    width = None if out.isatty() and not wide else WIDTH
    console = Console(
        file=out, highlight=False, markup=False, emoji=False, no_color=not painted, force_terminal=painted or None, width=width
    )
    if not follow or not out.isatty():
        yield Drawn(console, options.sort, wide=wide)
        return
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as view:
        yield Redrawn(view, options.sort, wide=wide)
