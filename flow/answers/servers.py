"""Servers: where DNS servers run, learnt from what flows show of their ends."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from flows.flow.answers.place import loopback, of_each_node

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flows.flow.answers.party import Party
    from flows.flow.answers.requests import Request
    from flows.flow.answers.told import Told
    from flows.flow.answers.view import View

# Addresses and Services behind which pods were seen: those that were learnt or changed last.
MOST_SERVERS = 10_000
# Pods behind one Service, and nodes that have one address.
MOST_PODS, MOST_NODES = 256, 16


class Homes(NamedTuple):
    """nodes: where a server may run, "" not among them. anywhere: also on others that were never seen to run it."""

    nodes: list[str]
    anywhere: bool


class Servers:
    """Where DNS servers are, as queries that both ends saw have shown."""

    def __init__(self) -> None:
        self._behind: OrderedDict[str, dict[str, set[str]]] = OrderedDict()
        self._ends: set[tuple[str, str, tuple[str, ...]]] = set()  # that were learnt, and still are as they were

    def learn(self, request: Request) -> None:
        """Takes what a request tells of the address that was asked, and of who answered there."""
        if (view := request.at_server) is None:
            return
        keys = {view.server.address, *view.server.services}
        if (client := request.at_client) is not None:
            keys |= {client.server.address, client.server.service}
        self._note(keys - {""}, view.server.address, view.node)

    def learn_view(self, view: View) -> None:
        """Takes where a query's ends run, as far as its flow tells."""
        self.learn_end(view.server, view.server.node or (view.node if view.at_client is False else ""))
        self.learn_end(view.client, view.client.node or (view.node if view.at_client else ""))

    def learn_opener(self, known: Told) -> None:
        """Takes where the end runs that opened a connection."""
        source = known.source
        self.learn_end(source, source.node or (known.flow.node_name if known.connection.observed_at_source else ""))

    def learn_end(self, end: Party, node: str) -> None:
        """Takes that a pod which Services select runs on a node; "": that is not known."""
        if not node or not end.services:
            return
        known = (end.address, node, end.services)
        if known not in self._ends:
            self._note(end.services, end.address, node)
            self._ends.add(known)

    def _note(self, keys: Iterable[str], address: str, node: str) -> None:
        for key in keys:
            behind = self._behind.get(key)
            if behind is None:
                behind = self._behind[key] = {}
            nodes = behind.get(address, set())
            if node in nodes or len(nodes) >= MOST_NODES:  # as nearly always
                continue
            if nodes or len(behind) < MOST_PODS:
                behind[address] = nodes | {node}
            self._behind.move_to_end(key)
            self._ends.clear()
        while len(self._behind) > MOST_SERVERS:
            self._behind.popitem(last=False)

    def behind(self, server: Party) -> dict[str, set[str]]:
        """Addresses of the servers behind an end, and the nodes that have them; itself if its node is known."""
        found = dict(self._behind.get(server.address, {})) or dict(self._behind.get(server.service, {}))
        if server.node and not server.service:
            found.setdefault(server.address, {server.node})
        return found

    def homes(self, view: View) -> Homes:
        """Where the server of a query runs, as far as that is known."""
        server, behind = view.server, self.behind(view.server)
        if loopback(server.address) or (behind and of_each_node(server.address)):
            return Homes([view.node] if view.node else [], anywhere=False)
        if not behind and view.backend.node:
            behind = {view.backend.address: {view.backend.node}}
        nodes = sorted(set[str]().union(*behind.values()) - {""})
        # A Service may have pods that were never seen, and what several nodes have, others may have, too.
        return Homes(nodes, bool(server.service) or any(len(each) > 1 for each in behind.values()))
