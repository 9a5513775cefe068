"""Texts that come several times are read once: both ends of a connection see the same, and many ask for the same again."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from flows.agent.l7.http1_keys import Keys
from flows.agent.l7.http1_rows import PAYLOAD
from flows.agent.l7.http1_text import Text
from flows.agent.l7.masks import any_of, number

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEW: Final = 64  # texts: finding equal ones would take longer than reading them
_SEEDS: Final = np.array([secrets.randbits(64) | 1 for _ in range(1 << 8)], np.uint64)  # for the words of 2,048 bytes

_HALF: Final = number(32, np.uint64)


class Some(NamedTuple):
    """m payloads and their texts. which: the payloads (m,); rows: texts that they have (k,), ascending, each once.

    text: those, among others; of: which text each payload has (m,).
    """

    text: Text
    which: NDArray[np.int64]
    rows: NDArray[np.int64]
    of: NDArray[np.int64]

    def all_with(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Those (j,), as indices into `which`, that have the given texts, which ascend; of each its text's index there (j,)."""
        places = np.full(len(self.text), -1)
        places[rows] = np.arange(len(rows))
        places = places.take(self.of)
        there = (places >= 0).nonzero()[0]
        return there, places[there]


class Distinct(NamedTuple):
    """n payloads' texts. text: k that differ, or some of them twice; of: which of those each payload has (n,)."""

    text: Text
    of: NDArray[np.int64]

    def those(self, which: NDArray[np.int64]) -> Some:
        """Of these payloads (m,)."""
        of, used = self.of.take(which), np.zeros(len(self.text), bool)
        used[of] = True
        return Some(self.text, which, used.nonzero()[0], of)


def distinct(payloads: NDArray[np.void]) -> Distinct:
    """Of payloads (n,) of any width."""
    text, captured = payloads["text"], payloads["captured"]
    if len(payloads) < _FEW:
        return Distinct(Text.of(text, captured), np.arange(len(payloads)))
    count, step = len(payloads), payloads.strides[0]
    width = min(text.shape[1], max(8, -(-int(captured.max()) // 8) * 8))
    texts = np.ndarray(count, np.dtype((np.void, width)), payloads, PAYLOAD.itemsize, (step,))
    words = np.ndarray((count, width // 8), np.uint64, payloads, PAYLOAD.itemsize, (step, 8))
    first = _first_equal(words, texts, captured.astype(np.uint64))
    own = first == np.arange(count)
    rows = own.nonzero()[0]
    return Distinct(Text.gathered(texts, rows, captured[rows]), (np.cumsum(own) - 1).take(first))


def _first_equal(words: NDArray[np.uint64], texts: NDArray[np.void], captured: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Of each text one that is equal, the same for all that are (n,), or itself. words (n, w): of the texts (n,)."""
    mixed = np.einsum("ij,j->i", words, _SEEDS[: words.shape[1]])  # of integers faster than @
    mixed += captured * _SEEDS[-1]
    mixed ^= mixed >> _HALF
    mixed *= _SEEDS[-2]
    at = Keys(mixed).equal()
    twice = (at != np.arange(len(at))).nonzero()[0]
    same = at[twice]
    other = (texts[twice].view(np.uint64) != texts[same].view(np.uint64)).reshape(-1, words.shape[1])
    lengths = captured[twice] != captured[same]
    if any_of(other) or any_of(lengths):  # nearly never: equal hashes of other texts
        wrong = twice[other.any(axis=1) | lengths]
        at[wrong] = wrong
    return at
