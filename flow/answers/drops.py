"""Drops: DNS packets that did not get further, as flows tell of them."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

from flows.flow.answers.party import LONGEST
from flows.flow.answers.upstream import PATIENCE_NS
from flows.flow.answers.view import nanoseconds
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from flows.flow.answers.told import Told
    from flows.flow.answers.view import View

# Sockets whose drops came last, and drops of one: resolvers that keep a socket for all queries have many.
MOST_SOCKETS, MOST_OF_ONE = 10_000, 16
# A node tells of a UDP packet's drop as it tells of its query: at once. What is dropped later is another query's.
AT_ONCE_NS = 50_000_000
# Errors of a local send or connect: the packet never left (errno(3)).
_LOCAL_ERRORS = frozenset({"EPERM", "EACCES", "ENETUNREACH", "EHOSTUNREACH", "ENETDOWN", "EADDRNOTAVAIL", "ENOBUFS"})


class Drop(NamedTuple):
    """When, and what the node says of it."""

    time: int
    node: str
    why: str


class Drops:
    """DNS packets of which a flow says that they were dropped, by the client's address and port."""

    def __init__(self) -> None:
        self._drops: OrderedDict[tuple[str, int], deque[Drop]] = OrderedDict()

    def take(self, known: Told) -> None:
        """One more, if the flow tells of any."""
        flow, error, client = known.flow, known.connection.error, known.source
        dropped = flow.verdict == flow_pb2.DROPPED
        why = error if dropped or error in _LOCAL_ERRORS else ""
        if dropped and not why and flow.drop_reason_desc in flow_pb2.DropReason.values():
            why = flow_pb2.DropReason.Name(flow.drop_reason_desc)
        if why:
            self._add(client.address, client.port, Drop(nanoseconds(flow.time), flow.node_name[:LONGEST], why))

    def _add(self, address: str, port: int, drop: Drop) -> None:
        self._drops.setdefault((address, port), deque(maxlen=MOST_OF_ONE)).append(drop)
        self._drops.move_to_end((address, port))
        if len(self._drops) > MOST_SOCKETS:
            self._drops.popitem(last=False)

    def of(self, view: View) -> Drop | None:
        """Of the query's packet, if there was one."""
        asked = view.time
        until = asked + (AT_ONCE_NS if view.transport == "UDP" else PATIENCE_NS)  # TCP sends again
        drops = self._drops.get((view.client.address, view.client.port), ())
        near = [each for each in drops if asked - AT_ONCE_NS <= each.time <= until]
        return min(near, key=lambda each: abs(each.time - asked), default=None)
