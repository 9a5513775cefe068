"""Drops: DNS packets that did not get further, as flows tell of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from flows.flow.answers.upstream import CLOCKS_NS, PATIENCE_NS
from flows.flow.answers.view import nanoseconds
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from flows.flow.answers.told import Told
    from flows.flow.answers.view import View

# Those that came last.
MOST_DROPS = 10_000
# Errors of a local send or connect: the packet never left (errno(3)).
_LOCAL_ERRORS = frozenset({"EPERM", "EACCES", "ENETUNREACH", "EHOSTUNREACH", "ENETDOWN", "EADDRNOTAVAIL", "ENOBUFS"})


class Drops:
    """DNS packets of which a flow says that they were dropped, by the client's address and port."""

    def __init__(self) -> None:
        self._drops: OrderedDict[tuple[str, int], tuple[int, str]] = OrderedDict()

    def take(self, known: Told) -> None:
        """One more, if the flow tells of any."""
        flow, error, client = known.flow, known.connection.error, known.source
        dropped = flow.verdict == flow_pb2.DROPPED
        why = error if dropped or error in _LOCAL_ERRORS else ""
        if dropped and not why and flow.drop_reason_desc in flow_pb2.DropReason.values():
            why = flow_pb2.DropReason.Name(flow.drop_reason_desc)
        if why:
            self._add(client.address, client.port, nanoseconds(flow.time), why)

    def _add(self, address: str, port: int, time: int, why: str) -> None:
        self._drops[address, port] = (time, why)
        self._drops.move_to_end((address, port))
        if len(self._drops) > MOST_DROPS:
            self._drops.popitem(last=False)

    def why(self, view: View) -> str:
        """Of the query's packet, or ""."""
        time, why = self._drops.get((view.client.address, view.client.port), (0, ""))
        return why if view.time - CLOCKS_NS <= time <= view.time + PATIENCE_NS else ""
