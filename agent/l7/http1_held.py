"""Answers that met no request yet: theirs may come through the other ring, a little later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.http1_rows import PAYLOAD, heads, join, pick, put

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALLS: Final = 2  # after the one they came with: that of the other ring, and the expiry between two batches
MOST_HELD: Final = 16_384  # 5 MB


class Held:
    """The answers, and the payloads that they came with: answers' `row` says which."""

    def __init__(self, dtype: np.dtype[np.void], most: int = MOST_HELD) -> None:
        """dtype: of answers; most: answers; the newest are dropped beyond that."""
        self.answers, self.payloads = np.zeros(0, dtype), np.zeros(0, PAYLOAD)
        self.dropped = 0
        self._most = most

    def with_new(self, answers: NDArray[np.void]) -> NDArray[np.void]:
        """What is held, then new answers; rows of the latter are counted on after those held."""
        answers["row"] += len(self.payloads)
        return join(self.answers, answers)

    def keep(self, answers: NDArray[np.void], payloads: NDArray[np.void]) -> None:
        """Hold these of with_new(); payloads: those of the new ones."""
        if not len(answers) and not len(self.answers):
            return
        self.dropped += max(0, len(answers) - self._most)
        answers = pick(answers, slice(self._most)).copy()
        old = answers["row"] < len(self.payloads)
        held = np.zeros(len(answers), PAYLOAD)
        put(held, old, pick(self.payloads, answers["row"][old]))
        put(held, ~old, heads(payloads, answers["row"][~old] - len(self.payloads)))
        answers["row"] = np.arange(len(answers))
        self.answers, self.payloads = answers, held

    def age(self) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """End a call. Returns the answers that were held long enough, with their payloads."""
        if not len(self.answers):
            return self.answers, self.payloads
        over = self.answers["calls"] >= CALLS
        gone = pick(self.answers, over), pick(self.payloads, over)
        self.answers, self.payloads = pick(self.answers, ~over), pick(self.payloads, ~over)
        self.answers["row"] = np.arange(len(self.answers))
        self.answers["calls"] += 1
        return gone
