"""Routes: from a remote end to the agents that may have seen its socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from flows.flow.filter.identity import RESERVED
from flows.proto.flow_pb2 import Flow
from flows.relay.remote_ends import remote_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flows.flow.batch import Batch
    from flows.proto.flows_pb2 import End
    from flows.relay.connections import Numbers
    from flows.relay.inquiry import PeerLike
    from flows.relay.remote_ends import Tables

_WORLD = frozenset(RESERVED[name] for name in ("world", "world-ipv4", "world-ipv6"))
_DEFAULT_CLUSTER = "default"

# Peers, by index, and the rows of a batch for which all of them are to be asked.
Wanted = list[tuple[tuple[int, ...], "Numbers"]]


class Routes:
    """From rows to peers, by index. Made for one window: peers come and go."""

    def __init__(self, peers: Sequence[PeerLike], tables: Tables, *, everywhere: bool) -> None:
        """everywhere: a Service's backend may be on any node, so all are asked; else only nodes of pods known to be behind it."""
        self.damaged = 0  # rows that could not be read
        self._peers, self._tables, self._everywhere = peers, tables, everywhere
        self._by_name: dict[str, int] = {full_name(peer.name): index for index, peer in enumerate(peers)}
        self._by_address = {address: index for index, peer in enumerate(peers) for address in peer.addresses}

    def of(self, batch: Batch, rows: Numbers) -> tuple[Wanted, Wanted]:
        """Who has to be asked for which of the rows: as the remote end's own node, and for what is behind Services.

        Ends of which nothing but an address is known are looked up by that; nobody is asked for what cannot be read.
        """
        called = self._tables.columns.service[remote_numbers(batch)[rows]] >= 0
        named: dict[int, list[int]] = {}
        for number, seen_by, its in self._by_end(batch, rows[~called]):
            for peer, row in self._at(batch, self._tables.ends[number].end, seen_by, its):
                named.setdefault(peer, []).append(row)
        return _wanted(named), self._behind(batch, rows[called])

    def _by_end(self, batch: Batch, rows: Numbers) -> Iterator[tuple[int, str, list[int]]]:
        """Remote end, name of the node that saw it, and the rows."""
        if not len(rows):
            return
        pairs = remote_numbers(batch)[rows].astype(np.uint64) << np.uint64(32) | batch.node[rows].astype(np.uint64)
        distinct, inverse = np.unique(pairs, return_inverse=True)
        groups = np.split(rows[np.argsort(inverse, kind="stable")], np.cumsum(np.bincount(inverse))[:-1])
        for pair, its in zip(distinct.tolist(), groups, strict=True):
            yield pair >> 32, self._tables.nodes[pair & 0xFFFF_FFFF], its.tolist()

    def _at(self, batch: Batch, end: End, seen_by: str, rows: list[int]) -> Iterator[tuple[int, int]]:
        """Peer and row, for those of the rows of one remote end whose peer is known."""
        by_address = self._by_address and not end.endpoint.pod_name and end.endpoint.identity not in _WORLD
        node = self._by_name.get(_node_of(end, seen_by)) if end.detail.node else None
        for row in rows if end.detail.node or by_address else ():
            peer = node if end.detail.node else self._by_address.get(self._remote_address(batch, row))
            if peer is not None:
                yield peer, row

    def _remote_address(self, batch: Batch, row: int) -> str:
        try:
            ip = Flow.FromString(batch.flows[row]).IP
        except DecodeError:
            self.damaged += 1
            return ""
        return ip.destination if bool(batch.at_source[row]) != bool(batch.reply[row]) else ip.source

    def _behind(self, batch: Batch, rows: Numbers) -> Wanted:
        """All peers, or those of the nodes of pods that the Services are known to select."""
        if self._everywhere or not len(rows):
            return [(tuple(range(len(self._peers))), rows)] if len(rows) else []
        wanted: dict[int, list[int]] = {}
        for number, _, its in self._by_end(batch, rows):
            for peer in self._known_behind(number):
                wanted.setdefault(peer, []).extend(its)
        return _wanted(wanted)

    def _known_behind(self, number: int) -> list[int]:
        columns = self._tables.columns
        ends = [self._tables.ends[one].end for one in columns.selected_by(int(columns.service[number])).tolist()]
        names = {_node_of(end, "") for end in ends if end.detail.node}
        return [self._by_name[name] for name in sorted(names) if name in self._by_name]


def full_name(node: str) -> str:
    """`cluster/node`; a node without a cluster is in cluster `default`, as in Hubble."""
    return node if "/" in node else f"{_DEFAULT_CLUSTER}/{node}"


def _node_of(end: End, seen_by: str) -> str:
    """The full name of an end's node; its cluster is that of the node that saw it if it does not say."""
    cluster = end.endpoint.cluster_name or full_name(seen_by).partition("/")[0]
    return f"{cluster}/{end.detail.node}"


def _wanted(rows: dict[int, list[int]]) -> Wanted:
    return [((peer,), np.array(its, np.int64)) for peer, its in rows.items()]
