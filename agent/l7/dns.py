"""DNS: queries and answers of UDP and TCP payloads as requests, repetitions linked, and queries that nobody answered."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.dns_attempts import Attempts
from flows.agent.l7.dns_pairing import NONE, pair
from flows.agent.l7.dns_pending import CLOSED, GIVEN_UP, MS, WAITING, Pending
from flows.agent.l7.dns_questions import Reason, read
from flows.agent.l7.dns_rows import TCP, RowMaker, beginnings
from flows.agent.l7.dns_streams import Streams
from flows.agent.l7.dns_table import joined, put
from flows.agent.l7.events import Events, nothing, together
from flows.agent.l7.http1_rows import heads
from flows.agent.l7.masks import all_of, any_of, number
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag, State

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.l7.dns_pairing import Pairs
    from flows.agent.l7.dns_questions import Questions
    from flows.agent.l7.dns_redaction import NameRule
    from flows.agent.l7.dns_rows import Answers, Queries, Rows
    from flows.agent.store.requests import RequestStore

TIMEOUT_NS: Final = 5_000 * MS  # resolv.conf(5): the default of `timeout`
# An answer may come out of its ring before the query comes out of the other one: so long it waits for it.
HOLD_NS: Final = 500 * MS
HELD: Final = 4_096  # answers; those that find no room are stored at once, as answers to nothing that was seen
_ANSWERED, _TAKEN = number(State.ANSWERED, np.uint8), number(Reason.TAKEN, np.uint8)
_ANSWERS, _NONE = number(1 << 15, np.uint16), number(0, np.uint16)  # bits of answers; questions
_ANSWER = ("answered", "status", "flags", "response_bytes", "answer", "answer_bytes")
_COUNTED = ("dns_answers_repeated", "dns_answers_alone", "dns_answers_other_question", "dns_requests_gone")


class Dns:
    """The handler of PayloadKind.DNS. See Handler for what its methods promise.

    Pending queries are bounded by dns_pending.CAPACITY, questions whose attempts are counted by dns_attempts.CAPACITY, answers
    that wait for their query by HELD, TCP by what dns_streams says.
    """

    def __init__(self, store: RequestStore, name_rule: NameRule | None = None, timeout_ns: int = TIMEOUT_NS) -> None:
        """name_rule: gives a name (lower case, dotted, escaped) as it may be stored."""
        self._store = store
        self._timeout_ns = timeout_ns
        self._rows = RowMaker(name_rule)
        self._pending = Pending(timeout_ns)
        self._attempts = Attempts(timeout_ns)
        self._streams = Streams()
        self._counts: Counter[str] = Counter()
        self._held: Answers | None = None

    def take(self, payloads: NDArray[np.void], to_wall_ns: int) -> Events:
        """Payloads (n,) of SHORT_PAYLOAD or LONG_PAYLOAD."""
        over_tcp = payloads["protocol"] == TCP
        if not any_of(over_tcp):
            return self._messages(payloads, to_wall_ns)
        whole = self._streams.take(payloads[over_tcp])
        return together(self._messages(payloads[~over_tcp], to_wall_ns), self._messages(whole, to_wall_ns))

    def expire(self, now_ns: int, to_wall_ns: int) -> Events:
        """Give up queries and answers that have waited too long."""
        events = self._messages(self._streams.expire(now_ns), to_wall_ns)
        alone = self._alone(now_ns)
        over = self._pending.give_up(now_ns)
        given_up = self._unanswered(over, over["asked"]["time_ns"] + np.uint64(self._timeout_ns), 0)
        self._pending.forget(now_ns)
        self._attempts.expire(now_ns)
        return together(events, alone, given_up)

    def ended(self, connections: NDArray[np.uint64], time_ns: NDArray[np.uint64], to_wall_ns: int) -> Events:
        """TCP connections that ended: what waits on them is not answered."""
        events = self._messages(self._streams.end(connections), to_wall_ns)
        over = self._pending.end(connections)
        if not len(over):
            return events
        order = np.argsort(connections)
        times = time_ns[order[np.searchsorted(connections[order], over["conn_id"])]]
        return together(events, self._unanswered(over, times, Flag.CONNECTION_END))

    def counts(self) -> dict[str, int]:
        """By reason."""
        names = [f"dns_{reason.name.lower()}" for reason in Reason if reason is not Reason.TAKEN]
        counts = dict.fromkeys([*names, *_COUNTED], 0)
        counts |= self._counts
        counts["dns_pending_overflow"] = self._pending.overflow
        counts["dns_attempts_overflow"] = self._attempts.overflow
        return counts | self._streams.counts()

    def _messages(self, payloads: NDArray[np.void], to_wall_ns: int) -> Events:
        if not len(payloads):
            return nothing()
        questions = read(payloads["text"], payloads["captured"], payloads["length"])
        is_answer, taken = questions.bits >= _ANSWERS, questions.reason == _TAKEN
        bare = (is_answer & (questions.questions == _NONE)).nonzero()[0]
        bare = bare[questions.bits[bare] & 15 != 0]
        asked, answered = (taken & ~is_answer).nonzero()[0], (taken & is_answer).nonzero()[0]
        if asked.size + answered.size < len(payloads):
            self._count(np.delete(questions.reason, bare))
        answer_heads = heads(payloads, answered)
        answers = self._rows.answers(answer_heads, beginnings(payloads, answered), questions.chosen(answered), to_wall_ns)
        events, left = self._step(self._rows.queries(heads(payloads, asked), questions.chosen(asked), to_wall_ns), answers)
        if left.size:
            rows = self._rows.alone(answer_heads.take(left), questions.chosen(answered[left]), answers.chosen(left).columns)
            self._hold(answers.chosen(left)._replace(columns=rows))
        if bare.size:
            some = heads(payloads, bare), beginnings(payloads, bare), questions.chosen(bare)
            events = together(events, self._bare(*some, to_wall_ns))
        return events

    def _count(self, reasons: NDArray[np.uint8]) -> None:
        if np.count_nonzero(reasons):
            for reason, count in enumerate(np.bincount(reasons).tolist()):
                if reason and count:
                    self._counts[f"dns_{Reason(reason).name.lower()}"] += count

    def _step(self, new: Queries, answers: Answers) -> tuple[Events, NDArray[np.int64]]:
        """Pair new queries and answers with what waits, store what came of it; and which answers are left."""
        fresh, held = len(answers.keys), self._held
        if held is not None:
            answers = answers.with_others(held)
        table = self._pending.table
        found = table.find(np.concatenate((new.keys, answers.keys))) if len(table) else np.zeros(0, np.int64)
        entries = joined(table.rows.take(found), new.entries) if found.size else new.entries
        keys = np.concatenate((table.keys[found], new.keys))
        known, numbers = found.size, self._store.written + np.arange(len(new.keys))
        pairs = pair(
            keys, entries["asked"]["time_ns"], entries["state"] == GIVEN_UP, answers.keys, answers.times, self._timeout_ns
        )
        entries["asked"]["number"][known:] = numbers
        self._link(entries, known, pairs, answers.times)
        asked = entries["asked"][known:]
        self._add(new.rows | {"first": asked["first"], "attempt": asked["attempt"]})
        events = together(_events(numbers, Event.REQUEST, asked["time_ns"]), self._answered(entries, keys, pairs, answers))
        self._pending.change(found, entries[:known])
        waiting = (entries["state"][known:] == WAITING).nonzero()[0]
        self._pending.insert(new.keys[waiting], entries[known:].take(waiting))
        left = self._left(answers, pairs)
        if held is not None:
            old = left[left >= fresh] - fresh
            self._held = held.chosen(old) if old.size else None
        return self._still_stored(events), left[left < fresh]

    def _link(self, entries: NDArray[np.void], known: int, pairs: Pairs, times: NDArray[np.uint64]) -> None:
        """Attempts of the new ones among the entries, which come behind those that were known."""
        asked, before = entries["asked"][known:], pairs.before[known:]
        if known:
            # Of an older copy that was given up, PIPELINED says that its repetition was answered: that question is settled.
            settled_one = (before >= 0) & (before < known) & (entries["flags"][before] & Flag.PIPELINED.value != 0)
            before = np.where(settled_one, NONE, before)
            before = np.where(before >= known, before - known, np.where(before >= 0, before + len(asked), NONE))
        got = pairs.answer != NONE
        settled = entries["ask"][got], times[pairs.answer[got]]
        self._attempts.link(entries["ask"][known:], asked, (before, entries["asked"][:known]), settled, got[known:])

    def _answered(self, entries: NDArray[np.void], keys: NDArray[np.uint64], pairs: Pairs, answers: Answers) -> Events:
        """Store the answers of those that got one, and change their entries; the events of it."""
        entries["flags"][pairs.doubtful] |= Flag.PIPELINED.value
        unsure = pairs.doubtful & (pairs.answer == NONE)
        if any_of(unsure):
            self._store.answer(entries["asked"]["number"][unsure], {"flags": entries["flags"][unsure]})
        got = (pairs.answer != NONE).nonzero()[0]
        if not got.size:
            return nothing()
        chosen, taken = entries.take(got), pairs.answer[got]
        asked, times = chosen["asked"], answers.times[taken]
        late = times - asked["time_ns"] >= np.uint64(self._timeout_ns)
        chosen["flags"][late | (chosen["state"] == GIVEN_UP)] |= Flag.LATE.value
        rows = {name: answers.columns[name].take(taken, axis=0) for name in _ANSWER}
        rows["flags"] = rows["flags"] | chosen["flags"]
        rows["state"] = _ANSWERED
        self._store.answer(asked["number"], rows)
        unheard = late & (chosen["state"] == WAITING)
        chosen["state"] = CLOSED
        put(entries, got, chosen)
        self._pending.remember(keys[got], times)
        leads = pairs.leads[got]
        return together(
            _events(asked["number"][leads], Event.RESPONSE, times[leads]),
            _events(asked["number"][unheard], Event.NO_RESPONSE, asked["time_ns"][unheard] + np.uint64(self._timeout_ns)),
        )

    def _left(self, answers: Answers, pairs: Pairs) -> NDArray[np.int64]:
        """Answers whose query has not come yet; not those whose query was answered before."""
        left = (~pairs.used).nonzero()[0]
        if left.size:
            repeated = pairs.repeated[left] | self._pending.answered_lately(answers.keys[left], answers.times[left])
            self._counts["dns_answers_repeated"] += int(repeated.sum())
            left = left[~repeated]
        return left

    def _hold(self, answers: Answers) -> None:
        self._held = answers.with_others(self._held) if self._held is not None else answers

    def _alone(self, now_ns: int) -> Events:
        """Store the answers that have waited for their query long enough, or have no room to wait."""
        if self._held is None:
            return nothing()
        over = self._held.times + np.uint64(HOLD_NS) <= np.uint64(now_ns)
        if len(over) > HELD:
            over[np.argsort(self._held.times)[: len(over) - HELD]] = True
        if not over.any():
            return nothing()
        alone, rest = self._held.chosen(over), self._held.chosen(~over)
        self._held = rest if len(rest.keys) else None
        first, end = self._pending.with_exchange(alone.exchange)
        self._counts["dns_answers_other_question"] += int((end > first).sum())
        self._counts["dns_answers_alone"] += len(alone.keys)
        numbers = self._store.written + np.arange(len(alone.keys))
        self._add(alone.columns | {"first": numbers})
        return self._still_stored(_events(numbers, Event.RESPONSE, alone.times))

    def _bare(self, head: NDArray[np.void], text: NDArray[np.uint8], questions: Questions, to_wall_ns: int) -> Events:
        """Errors that leave out the question (BIND's FORMERR): for the query with their id that waits, if it is but one."""
        answers = self._rows.answers(head, text, questions, to_wall_ns)
        first, end = self._pending.with_exchange(answers.exchange)
        table = self._pending.table
        one = end - first == 1
        one[one] = table.rows["state"][first[one]] == WAITING
        self._count(questions.reason[~one])
        if not one.any():
            return nothing()
        none = np.zeros(0, np.intp)
        known = answers.chosen(one)._replace(keys=table.keys[first[one]])
        events, left = self._step(self._rows.queries(head.take(none), questions.chosen(none), to_wall_ns), known)
        self._counts["dns_answers_repeated"] += left.size
        return events

    def _unanswered(self, over: NDArray[np.void], times: NDArray[np.uint64], mark: int) -> Events:
        if not len(over):
            return nothing()
        numbers = over["asked"]["number"].copy()
        flags = over["flags"] | np.uint16(mark)
        self._store.answer(numbers, {"state": np.full(len(over), State.UNANSWERED, np.uint8), "flags": flags})
        return self._still_stored(_events(numbers, Event.NO_RESPONSE, times))

    def _add(self, rows: Rows) -> None:
        """Store rows, in parts if there are more than the store holds."""
        for start in range(0, len(rows["first"]), self._store.capacity):
            part = slice(start, start + self._store.capacity)
            self._store.add({name: column[part] if column.ndim else column for name, column in rows.items()})

    def _still_stored(self, events: Events) -> Events:
        """Without those whose request has been overwritten: nobody could show them."""
        stored = self._store.stored(events.request)
        if all_of(stored):
            return events
        self._counts["dns_requests_gone"] += int((~stored).sum())
        return Events(events.request[stored], events.event[stored], events.time_ns[stored])


def _events(numbers: NDArray[np.int64], event: Event, times: NDArray[np.uint64]) -> Events:
    return Events(numbers, np.full(len(numbers), event, np.uint8), times)
