"""Parted requests: filters that a request's flows pass one by one may take what came of it away, and leave the question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.answers.view import State

if TYPE_CHECKING:
    from flows.flow.answers.requests import Request


class Parted:
    """Then a question alone is not one without an answer: it is left out, and how many are is told."""

    def __init__(self, *, parted: bool) -> None:
        """parted: whether there are such filters."""
        self._parted = parted
        self._count = 0

    def leaves_out(self, request: Request) -> bool:
        """Whether that is so of a request of which nothing more is expected; each is asked about once."""
        out = self._parted and request.state is State.ASKED
        self._count += out
        return out

    @property
    def notes(self) -> list[str]:
        """What is to be said of those that were left out."""
        return [f"{self._count:,} requests are left out: no flow of what came of them passes the filters"] if self._count else []

    def none(self, text: str) -> str:
        """What is to be said if there is nothing else."""
        return "; ".join((text, *self.notes))
