"""The handler beside a model that takes one message after the other: the same rows, however the messages come in batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from dns_samples import MS, OTHER_SERVER, SECOND, SERVER, answer, batch, payload, query
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.agent.l7.dns import TIMEOUT_NS, Dns
from flows.agent.l7.dns_attempts import PARALLEL_NS, PATIENCE_NS, REMEMBER_NS
from flows.agent.store.request_columns import Flag
from flows.agent.store.requests import RequestStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = 10 * SECOND
QUERIES = {(name, number): query(name, number=number) for name in ("a.", "b.") for number in (1, 2)}
ANSWERS = {key: answer(question) for key, question in QUERIES.items()}

Item = tuple[bool, str, int, int, bytes]  # it asks, name, id, connection, server


@dataclass
class Asked:
    """A query of the model."""

    time: int
    item: Item
    answered: int = 0
    late: bool = False
    first: int = 0
    attempt: int = 1

    @property
    def key(self) -> tuple[str, int, int, bytes]:
        return self.item[1:]


class Model:
    """Queries by number; what the handler's docstrings say, word for word."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.settled: dict[str, int] = {}
        self.answers: list[tuple[tuple[str, int, int, bytes], int]] = []
        self.repeated = self.alone = 0

    def take(self, time: int, item: Item) -> None:
        if item[0]:
            self._ask(Asked(time, item, first=len(self.asked)))
        else:
            self._answer(time, item)

    def _ask(self, new: Asked) -> None:
        earlier = [one for one in self.asked if one.key == new.key][-1:]
        copies = [one for one in earlier if not one.answered and not self._answers_after(one)]
        same = [one for one in self.asked if one.item[1] == new.item[1]][-1:]
        others = [one for one in same if one.time >= self.settled.get(new.item[1], 0) and self._repeats(new, one)]
        for one in [*copies, *others][:1]:
            if new.time - one.time < TIMEOUT_NS + REMEMBER_NS:
                parallel = new.item[2] == one.item[2] and new.item[4] != one.item[4] and new.time - one.time <= PARALLEL_NS
                new.first, new.attempt = one.first, one.attempt + (not parallel)
        self.asked.append(new)

    def _answers_after(self, one: Asked) -> bool:
        return any(key == one.key and time > one.time for key, time in self.answers)

    @staticmethod
    def _repeats(new: Asked, one: Asked) -> bool:
        return new.item[2] == one.item[2] or new.time - one.time >= PATIENCE_NS

    def _answer(self, time: int, item: Item) -> None:
        fitting = [one for one in self.asked if one.key == item[1:]]
        waiting = [one for one in fitting if not one.answered and time - one.time < TIMEOUT_NS]
        late = [one for one in fitting if not one.answered and time - one.time >= TIMEOUT_NS]
        for one in waiting or late:
            one.answered, one.late = time, not waiting
        if waiting or late:
            self.settled[item[1]] = time
        elif fitting:
            self.repeated += 1
        else:
            self.alone += 1
        self.answers.append((item[1:], time))


ITEMS = st.tuples(
    st.booleans(), st.sampled_from("ab").map("{}.".format), st.sampled_from([1, 2]), st.sampled_from([11, 12]),
    st.sampled_from([SERVER, OTHER_SERVER]),
)  # fmt: skip
GAPS = st.sampled_from([1, MS, 9 * MS, 30 * MS, 300 * MS, 2 * SECOND, 6 * SECOND])


def made(time: int, item: Item) -> NDArray[np.void]:
    asks, name, number, conn_id, server = item
    message = (QUERIES if asks else ANSWERS)[name, number]
    return payload(message, sent=asks, at=time, conn_id=conn_id, remote_addr=server)


@settings(max_examples=150)
@given(st.lists(st.tuples(GAPS, ITEMS, st.booleans()), min_size=1, max_size=14))
def test_the_handler_does_what_the_model_does(script: list[tuple[int, Item, bool]]) -> None:
    model, store = Model(), RequestStore(64)
    handler, waiting, time = Dns(store), [], T
    for gap, item, cut in script:
        time += gap
        model.take(time, item)
        waiting.append(made(time, item))
        if cut:
            handler.take(batch(*waiting), 0)
            waiting = []
    if waiting:
        handler.take(batch(*waiting), 0)
    count = len(model.asked)
    assert store.written == count
    rows = store.take(np.arange(count))
    assert rows["answered"].tolist() == [one.answered for one in model.asked]
    assert (rows["flags"] & int(Flag.LATE) != 0).tolist() == [one.late for one in model.asked]
    assert list(zip(rows["first"].tolist(), rows["attempt"].tolist(), strict=True)) == [
        (one.first, one.attempt) for one in model.asked
    ]
    handler.expire(time + SECOND, 0)
    counts = handler.counts()
    assert (counts["dns_answers_repeated"], counts["dns_answers_alone"]) == (model.repeated, model.alone)
