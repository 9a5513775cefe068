"""Rows of requests from DNS messages: what a query or an answer says of itself, before the two meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from flows.agent.l7.copied import copied
from flows.agent.l7.dns_attempts import ask_keys
from flows.agent.l7.dns_pairing import address_hash, mixed, pair_keys
from flows.agent.l7.dns_pending import ENTRY
from flows.agent.l7.dns_redaction import RedactedNames
from flows.agent.l7.http1_rows import PAYLOAD
from flows.agent.l7.masks import any_of, before, number
from flows.agent.store.request_columns import ANSWER_BYTES, Flag, Kind, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.l7.dns_questions import Questions
    from flows.agent.l7.dns_redaction import NameRule

    Rows = dict[str, NDArray[Any]]

TCP: Final = 6
_CUT, _RCODE, _SHIFT = number(Flag.CUT, np.uint16), number(15, np.uint16), number(1, np.uint64)
_DNS, _ASKED, _NO_SIZE = number(Kind.DNS, np.uint8), number(State.ASKED, np.uint8), number(-1, np.int64)


class Queries(NamedTuple):
    """n queries: keys, ENTRY, and columns of their requests, all (n, ...)."""

    keys: NDArray[np.uint64]
    entries: NDArray[np.void]
    rows: Rows


class Answers(NamedTuple):
    """n answers. columns: what they set in the requests that they answer; all (n, ...)."""

    keys: NDArray[np.uint64]
    exchange: NDArray[np.uint64]
    times: NDArray[np.uint64]
    columns: Rows

    def chosen(self, which: NDArray[Any]) -> Answers:
        """Some of them, by mask or index."""
        columns = {name: column[which] for name, column in self.columns.items()}
        return Answers(self.keys[which], self.exchange[which], self.times[which], columns)

    def with_others(self, others: Answers) -> Answers:
        """These, then the others."""
        columns = {name: np.concatenate((column, others.columns[name])) for name, column in self.columns.items()}
        keys, exchange, times = (np.concatenate(arrays) for arrays in zip(self[:3], others[:3], strict=True))
        return Answers(keys, exchange, times, columns)


def beginnings(payloads: NDArray[np.void], which: NDArray[np.int64]) -> NDArray[np.uint8]:
    """What may be kept of the text of some payloads of any width (k, w), copied as bytes."""
    size = min(payloads.dtype["text"].itemsize, ANSWER_BYTES)
    texts = np.ndarray(len(payloads), np.dtype((np.void, size)), payloads, PAYLOAD.itemsize, payloads.strides)
    return texts[which].view(np.uint8).reshape(-1, size)


class RowMaker:
    """Makes them, with names as a rule lets them be stored."""

    def __init__(self, name_rule: NameRule | None) -> None:
        self._names = RedactedNames(name_rule) if name_rule else None

    def queries(self, heads: NDArray[np.void], questions: Questions, to_wall_ns: int) -> Queries:
        """Of queries: PAYLOAD (n,) with their questions."""
        rows = copied(heads)
        server = address_hash(rows["remote_addr"])
        exchange = _exchange(rows["conn_id"], server, questions.id, rows["client"])
        entries = np.zeros(len(heads), ENTRY)
        asked = entries["asked"]
        asked["time_ns"], asked["server"], asked["id"] = heads["time_ns"], server, questions.id
        entries["conn_id"], entries["tcp"] = rows["conn_id"], rows["protocol"] == TCP
        who = np.where(rows["client"] == 1, rows["cgroup_id"], server)
        entries["ask"] = ask_keys(questions.hash, who, rows["client"])
        named = self._named(questions)
        entries["flags"] = named["flags"]
        rows |= named | {
            "time": heads["time_ns"].astype(np.int64) + to_wall_ns,
            "kind": _DNS,
            "state": _ASKED,
            "request_bytes": heads["length"],
            "response_bytes": _NO_SIZE,
        }
        return Queries(pair_keys(exchange, questions.hash), entries, rows)

    def answers(self, heads: NDArray[np.void], text: NDArray[np.uint8], questions: Questions, to_wall_ns: int) -> Answers:
        """Of answers: PAYLOAD (n,) with their questions, and their text (n, w)."""
        client = (heads["sent"] == 0).astype(np.uint8)
        exchange = _exchange(heads["conn_id"], address_hash(heads["remote_addr"]), questions.id, client)
        message, size = _message(heads, text)
        flags = np.zeros(len(heads), np.uint16)
        if self._names is not None:
            self._names.redact(*questions.texts(), flags)
            self._names.redact_messages(message, size, flags)
        for which, flag in ((questions.bits & 0x0200 != 0, Flag.TRUNCATED), (heads["length"] > size, Flag.ANSWER_CUT)):
            if any_of(which):
                flags[which] |= flag.value
        columns = {
            "answered": heads["time_ns"].astype(np.int64) + to_wall_ns,
            "status": questions.bits & _RCODE,
            "flags": flags,
            "response_bytes": heads["length"].astype(np.int64),
            "answer": message,
            "answer_bytes": size,
        }
        return Answers(pair_keys(exchange, questions.hash), exchange, heads["time_ns"].copy(), columns)

    def alone(self, heads: NDArray[np.void], questions: Questions, columns: Rows) -> Rows:
        """Requests of answers to nothing that was seen; columns as in Answers."""
        named = self._named(questions)
        flags = {"flags": named["flags"] | columns["flags"]}
        same = {"kind": np.full(len(heads), Kind.DNS, np.uint8), "state": np.full(len(heads), State.ALONE, np.uint8)}
        return copied(heads, answers=True) | columns | named | flags | same

    def _named(self, questions: Questions) -> Rows:
        text, cut = questions.texts()
        flags = cut * _CUT
        if self._names is not None:
            text = self._names.redact(text, cut, flags)
        return {"text": text, "flags": flags, "qtype": questions.qtype, "query_id": questions.id}


def _exchange(
    conn_id: NDArray[np.uint64], server: NDArray[np.uint64], identity: NDArray[np.uint16], client: NDArray[np.uint8]
) -> NDArray[np.uint64]:
    """Hash of what a query and its answer share but the question. With the server: to several, musl sends the same query."""
    return mixed(conn_id, server, identity.astype(np.uint64) << _SHIFT | client)


def _message(heads: NDArray[np.void], text: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """The first bytes of messages (n, ANSWER_BYTES), zeros behind, and how many they are."""
    size = np.minimum(np.minimum(heads["captured"], heads["length"]), min(text.shape[1], ANSWER_BYTES)).astype(np.uint16)
    known = min(text.shape[1], -(-int(size.max(initial=0)) // 8) * 8)  # whole words: before() makes a table for each width
    message = np.zeros((len(heads), ANSWER_BYTES), np.uint8)
    if known:
        np.multiply(text[:, :known], before(size.astype(np.int64), known), out=message[:, :known])
    return message, size
