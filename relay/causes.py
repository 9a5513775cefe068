"""Causes: where DNS queries died, written into the flows that tell of them, after a look at what all nodes saw of them."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
from google.protobuf.message import DecodeError

from flows.flow.answers import filters
from flows.flow.answers.fates import Fates, identity_of
from flows.flow.answers.requests import HOLD_NS
from flows.flow.answers.told import Teller
from flows.flow.answers.view import SLOW_NS, State, nanoseconds, view_told
from flows.proto import extension_pb2
from flows.proto.extension_pb2 import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

    from flows.flow.answers.fate import Judgement
    from flows.flow.answers.fates import Identity
    from flows.flow.answers.told import Told
    from flows.flow.answers.view import View
    from flows.flow.batch import Batch
    from flows.flow.ends import EndTable
    from flows.proto.flow_pb2 import FlowFilter
    from flows.proto.flows_pb2 import Coverage
    from flows.relay.parcel import Parcel

LOOK_SECONDS: Final = 2.0  # what one window of flows waits at most: it is shown without causes then
REST_SECONDS: Final = 10.0  # without a look after that: followers must not wait each time
MOST_LOOKED_AT: Final = 10_000  # flows of one look: some 0.2 s of the loop's time
MOST_LOOKS: Final = 4  # of one window of flows
SPAN_NS: Final = 60_000_000_000  # what one look is about: of names that are asked for often, more would be too many flows
BEFORE_NS: Final = HOLD_NS["dns"]  # before an outcome: when it was asked may not be told, and the asking is part of what is seen
AFTER_NS: Final = 10_000_000_000  # replies that come later are of no use to any resolver
MOST_TROUBLES: Final = 1_024  # flows of one window that causes are told of, the newest: reading them takes some 40 ms
TURN: Final = 256  # flows that are read before others get their turn: some 5 ms
TOO_MANY: Final = f"only the newest {MOST_LOOKED_AT:,} flows were looked at that may tell of it"
HIDDEN: Final = "told from flows of which some are not shown to you"
NXDOMAIN: Final = 3  # an answer like any other, and search lists make many: who wants to know its cause asks for it

# In any Connection of a DNS query's outcome: tags of Request.kind and Connection.event with their values.
_DNS, _RESPONSE, _NO_RESPONSE = (
    bytes((tag << 3, value))
    for tag, value in ((2, extension_pb2.DNS), (2, extension_pb2.RESPONSE), (2, extension_pb2.NO_RESPONSE))
)


class Looks(Protocol):
    """What is asked of relay.looks.Looks."""

    def take(self) -> bool: ...
    def parcels(
        self, wanted: Sequence[FlowFilter], number: int, since_ns: int, until_ns: int | None
    ) -> AsyncGenerator[Parcel, None]: ...


class Trouble(NamedTuple):
    """A flow of a query that went wrong: its row, and what it tells."""

    row: int
    known: Told
    view: View


class Causes:
    """Of one answer. Give it every window of flows whose ends are told as well as they will be."""

    def __init__(
        self,
        looks: Looks,
        count: Callable[[str, int], None],
        *,
        limited: Callable[[], bool],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """count: gets what became of troubled flows, a word and their number; limited: whether the caller may not see all."""
        self._looks, self._count, self._limited, self._now_ns = looks, count, limited, now_ns
        self._teller = Teller()
        self._rest_until = 0.0

    async def told(self, batch: Batch, ends: EndTable) -> Batch:
        """The flows (n,), with Dns.fate and fate_evidence in those of queries that failed, were slow or were not answered.

        ends: what their ends are numbers of. Where nobody could be asked, and of what is too much, nothing is said.
        """
        rows = troubled_rows(batch.connections.tolist())
        if not rows:
            return batch
        troubles = list(self._read(batch, rows[-MOST_TROUBLES:], ends))
        judgements = await self._all_judged(troubles) if time.monotonic() >= self._rest_until else {}
        said = {each.row: judgements[identity_of(each.view)] for each in troubles if identity_of(each.view) in judgements}
        self._count("not looked into", len(rows) - len(said))
        return self._written(batch, said) if said else batch

    def _read(self, batch: Batch, rows: list[int], ends: EndTable) -> Iterator[Trouble]:
        for row in rows:  # one by one, as those that cannot be read are left out
            for known in self._teller.read(batch.take(np.array([row])), ends):
                view = view_told(known)
                if view is not None and view.dns is not None:
                    yield Trouble(row, known, view)

    async def _all_judged(self, troubles: Iterable[Trouble]) -> dict[Identity, Judgement]:
        """As far as time and allowance go."""
        judgements: dict[Identity, Judgement] = {}
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                for portion in islice(portions(troubles), MOST_LOOKS):
                    judgements |= await self._judged(portion)
        except TimeoutError:
            self._rest_until = time.monotonic() + REST_SECONDS
        except _Refused:
            pass
        return judgements

    async def _judged(self, portion: Sequence[Trouble]) -> dict[Identity, Judgement]:
        """What one look tells, and a second one where servers are not known that did not answer. Raises _Refused."""
        fates, urgent = Fates(), sorted(portion, key=lambda each: each.view.state is not State.GIVEN_UP)
        wanted, names = filters.of_names(dict.fromkeys(map(_name, urgent)))
        if not names:
            return {}
        coverage, doubt = await self._look(fates, portion, (*wanted, filters.of_drops()))
        asked_for = [each for each in portion if _name(each) in names]  # of others nobody told what their servers saw
        for each in asked_for:
            fates.take(each.known)
        fates.settle()
        if homeless := fates.homeless():
            _, more = await self._look(fates, portion, filters.of_callers(homeless))
            doubt = doubt or more
        told, mine = fates.judged(coverage, doubt), {identity_of(each.view) for each in asked_for}
        return {identity: judgement for identity, judgement in told.items() if identity in mine}

    async def _look(self, fates: Fates, portion: Sequence[Trouble], wanted: Sequence[FlowFilter]) -> tuple[Coverage | None, str]:
        """Put in what all nodes have of the time of these troubles. Gives how far that can be trusted. Raises _Refused."""
        if not self._looks.take():
            raise _Refused
        since = min(each.view.time for each in portion) - BEFORE_NS
        until = max(each.view.changed for each in portion) + AFTER_NS
        coverage, flows, teller = None, 0, Teller()
        parcels = self._looks.parcels(wanted, MOST_LOOKED_AT, since, until if until < self._now_ns() else None)
        async with aclosing(parcels):
            async for parcel in parcels:
                flows += len(parcel.batch)
                read = teller.read(parcel.batch, parcel.ends)
                while some := list(islice(read, TURN)):
                    for known in some:
                        fates.take(known)
                    await asyncio.sleep(0)
                coverage = parcel.coverage or coverage
        return coverage, TOO_MANY if flows >= MOST_LOOKED_AT else ""

    def _written(self, batch: Batch, said: dict[int, Judgement]) -> Batch:
        connections, limited = batch.connections.copy(), self._limited()
        for row, judgement in said.items():
            self._count(extension_pb2.Fate.Name(judgement.fate), 1)
            if judgement.fate or not limited:
                connections[row] += _as_bytes(judgement, limited=limited)
        return replace(batch, connections=connections)


class _Refused(Exception):  # noqa: N818 - what happened to a look
    """There were too many looks lately."""


def troubled_rows(connections: Iterable[bytes]) -> list[int]:
    """Which Connections are of outcomes of DNS queries that went wrong, and say nothing of the cause."""
    return [row for row, raw in enumerate(connections) if raw.find(_DNS) >= 0 and _may_be_outcome(raw) and _went_wrong(raw)]


def _may_be_outcome(raw: bytes) -> bool:
    """find() takes half of the time of `in`, which takes bytes for a number first."""
    return raw.find(_RESPONSE) >= 0 or raw.find(_NO_RESPONSE) >= 0


def _went_wrong(raw: bytes) -> bool:
    try:
        connection = Connection.FromString(raw)
    except DecodeError:
        return False
    request = connection.request
    if request.kind != extension_pb2.DNS or request.dns.fate:
        return False
    if connection.event != extension_pb2.RESPONSE:
        return bool(connection.event == extension_pb2.NO_RESPONSE)
    slow = extension_pb2.LATE_ANSWER in request.marks or nanoseconds(request.latency) > SLOW_NS
    return slow or request.dns.rcode not in {0, NXDOMAIN}


def portions(troubles: Iterable[Trouble]) -> Iterator[list[Trouble]]:
    """Troubles that one look can tell of: the newest first, no more names than it may have, within SPAN_NS."""
    left = sorted(troubles, key=lambda each: each.view.changed, reverse=True)
    while left:
        end, names, portion, others = left[0].view.changed, set[str](), list[Trouble](), list[Trouble]()
        for each in left:
            name = _name(each)
            fits = end - each.view.time <= SPAN_NS and (name in names or len(names) < filters.MOST_NAMES)
            (portion if fits else others).append(each)
            names |= {name} if fits else set()
        if not portion:  # one that took longer by itself
            portion, others = left[:1], left[1:]
        yield portion
        left = others


def _name(trouble: Trouble) -> str:
    assert trouble.view.dns is not None
    return trouble.view.dns.name


def _as_bytes(judgement: Judgement, *, limited: bool) -> bytes:
    """To append to a Connection: fields of a message that comes in parts are put together by whoever reads it."""
    said = Connection()
    said.request.dns.fate = judgement.fate  # type: ignore[assignment]
    said.request.dns.fate_evidence = HIDDEN if limited else judgement.evidence
    return said.SerializeToString()
