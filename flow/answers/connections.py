"""Connections: those that clients began, and which of them followed from a lookup."""

from __future__ import annotations

from collections import OrderedDict, deque
from operator import itemgetter
from typing import TYPE_CHECKING

from flows.flow.answers.requests import SECOND
from flows.flow.answers.view import is_reply, nanoseconds

if TYPE_CHECKING:
    from flows.flow.answers.lookup import Lookup, Try
    from flows.flow.answers.told import Told

# A connection follows from a lookup as long as its answer is good; without a TTL that is taken for a minute, and never for more
# than an hour. It may begin this much before the answer was seen: clocks differ.
DEFAULT_TTL_S, LONGEST_TTL_S, EARLY_NS = 60, 3_600, 50_000_000
# (client, address) pairs whose connections are remembered, and how many of each.
MOST_PAIRS, MOST_TIMES = 50_000, 64


class Connections:
    """When connections from an address to another began, and to which port."""

    def __init__(self) -> None:
        self._began: OrderedDict[tuple[str, str], deque[tuple[int, str]]] = OrderedDict()

    def learn(self, known: Told) -> None:
        """Takes what a flow tells; DNS itself is not what follows from a lookup."""
        flow, connection, ours = known.flow, known.connection, known.extended
        if flow.l7.WhichOneof("record") == "dns" or connection.HasField("request"):
            return
        if is_reply(flow) or (ours and not connection.HasField("started")):
            return
        client, server = known.source, known.destination
        if not client.address or not server.address or server.port == 53:
            return
        time = nanoseconds(connection.started) if ours else nanoseconds(flow.time)
        began = self._began.setdefault((client.address, server.address), deque(maxlen=MOST_TIMES))
        entry = (time, f"{server.address} {known.transport} {server.port}".strip())
        if entry not in began:
            began.append(entry)
        if len(self._began) > MOST_PAIRS:
            self._began.popitem(last=False)

    def after(self, lookup: Lookup) -> str:
        """The connection that followed from a lookup, or ""."""
        found = (
            connection
            for each in lookup.tries
            for address in each.addresses
            for connection in self._began.get((lookup.client.address, address), ())
            if each.ended - EARLY_NS <= connection[0] <= _good_until(each)
        )
        return min(found, default=(0, ""), key=itemgetter(0))[1]


def watched_until(lookup: Lookup) -> int:
    """Until when a connection may follow."""
    return max((_good_until(each) for each in lookup.tries if each.addresses), default=lookup.ended)


def _good_until(one: Try) -> int:
    """A client goes ahead with the first answer that has addresses, whatever it still waits for: each is good for itself."""
    return one.ended + min(one.ttl or DEFAULT_TTL_S, LONGEST_TTL_S) * SECOND
