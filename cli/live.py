"""Live: a line of status below the flows that scroll by, for a person who follows them on a terminal."""

from __future__ import annotations

import io
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

# How often the status changes while nothing else does, and over which time the rate is taken.
STATUS_INTERVAL_S = 1.0


class Status:
    """The counts in the line of status: flows so far, and per second over the last STATUS_INTERVAL_S."""

    def __init__(self, server: str, now: float) -> None:
        self._server = server
        self._flows = self._flows_before = 0
        self._since, self._rate = now, 0.0

    def count(self, flows: int) -> None:
        """Adds flows that were shown."""
        self._flows += flows

    def tick(self, now: float) -> bool:
        """Takes the rate anew if it is time for it."""
        passed = now - self._since
        if passed < STATUS_INTERVAL_S:
            return False
        self._rate = (self._flows - self._flows_before) / passed
        self._since, self._flows_before = now, self._flows
        return True

    def text(self) -> str:
        """The line."""
        return f"{self._flows:,} flows, {self._rate:,.0f}/s (Ctrl-C ends) from {self._server}"


class LiveStream(io.TextIOBase):
    """A terminal's text stream that writes above the line of status, on flush."""

    def __init__(self, terminal: TextIO, view: Live, status: Status, *, counted: bool) -> None:
        self._terminal, self._view, self._status, self._counted = terminal, view, status, counted
        self._pending: list[str] = []

    def write(self, text: str) -> int:
        self._pending.append(text)
        self._status.count(text.count("\n") * self._counted)
        return len(text)

    def flush(self) -> None:
        text, self._pending = "".join(self._pending), []
        changed = self._status.tick(time.monotonic())
        if text:
            self._view.console.out(text, end="", highlight=False)
        elif changed:
            self._view.refresh()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._terminal.fileno()


@contextmanager
def live(out: TextIO, err: TextIO, server: str) -> Iterator[tuple[TextIO, TextIO]]:
    """Streams for flows and for node status, above a line of status that is gone at the end.

    server: how it is called, fit for a terminal. Standard error stays as it is unless it is a terminal, too.
    """
    status = Status(server, time.monotonic())
    console = Console(file=out, highlight=False, markup=False, emoji=False)
    view = Live(
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        get_renderable=lambda: Text(status.text(), style="dim", no_wrap=True, overflow="ellipsis"),
    )
    with view:
        stream = LiveStream(out, view, status, counted=True)
        aside = LiveStream(err, view, status, counted=False) if err.isatty() else None
        try:
            yield stream, aside or err  # type: ignore[misc] # TextIOBase lacks only what is deprecated
        finally:
            for each in filter(None, (aside, stream)):
                each.flush()
