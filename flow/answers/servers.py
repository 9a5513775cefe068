"""Servers: where DNS servers run, learnt from what flows show of their ends."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flows.flow.answers.party import Party
    from flows.flow.answers.requests import Request
    from flows.flow.answers.told import Told
    from flows.flow.answers.view import View

# Addresses and Services behind which pods were seen: those that were learnt or changed last.
MOST_SERVERS = 10_000
# Pods behind one Service.
MOST_PODS = 256


class Servers:
    """Where DNS servers are, as queries that both ends saw have shown."""

    def __init__(self) -> None:
        self._behind: OrderedDict[str, dict[str, str]] = OrderedDict()
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
            if behind.get(address) == node:  # as nearly always
                continue
            if address in behind or len(behind) < MOST_PODS:
                behind[address] = node
            self._behind.move_to_end(key)
            self._ends.clear()
        while len(self._behind) > MOST_SERVERS:
            self._behind.popitem(last=False)

    def behind(self, server: Party) -> dict[str, str]:
        """Addresses of the servers behind an end, and their nodes; itself if its node is known."""
        found = dict(self._behind.get(server.address, {})) or dict(self._behind.get(server.service, {}))
        if server.node and not server.service:
            found.setdefault(server.address, server.node)
        return found
