"""Remote ends: what a flow says of its other end, replaced by what that end's own node says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from flows.proto import extension_pb2
from flows.proto.flows_pb2 import End
from flows.relay.backends import Backends, summarized

if TYPE_CHECKING:
    from flows.flow.batch import Batch
    from flows.flow.ends import EndTable
    from flows.relay.connections import Numbers
    from flows.relay.end_columns import EndColumns

_OTHER_VIEW = 13 << 3  # Connection.other_view, a varint


def other_view(seen: int) -> bytes:
    """flows.v1.OtherView as bytes to append to a Connection."""
    return bytes((_OTHER_VIEW, seen))


def remote_numbers(batch: Batch) -> Numbers:
    """Each row's remote end (n,): the destination where the source's socket was observed, else the source."""
    remote: Numbers = np.where(batch.at_source != 0, batch.destination, batch.source)
    return remote


def own_numbers(batch: Batch) -> Numbers:
    """Each row's own end (n,): that whose socket was observed."""
    own: Numbers = np.where(batch.at_source != 0, batch.source, batch.destination)
    return own


@dataclass(frozen=True, slots=True)
class Tables:
    """What a batch's numbers mean. columns: over ends."""

    ends: EndTable
    columns: EndColumns
    nodes: list[str]


class RemoteEnds:
    """Puts what partners say into rows of one pair of tables."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._backends = Backends(tables.ends, tables.nodes)
        self._replaced: dict[int, int] = {}
        self.damaged = 0  # rows that could not be read, and have no backend therefore

    def put(self, batch: Batch, partners: Numbers) -> Batch:
        """A batch in which rows with a partner (a row's number, or -1) say what both saw.

        The remote end becomes the partner's own with evidence PEER, unless a socket told who it is already: the agent
        itself had both. `service`, whose address was called, stays. Where the opener called a Service, the destination
        stays the Service, and Connection.backend and the Summary say who answered. other_view becomes SEEN.
        """
        joined = np.flatnonzero(partners >= 0)
        if not len(joined):
            return batch
        columns, remote = self._tables.columns, remote_numbers(batch)[joined]
        through = (batch.at_source[joined] != 0) & (columns.service[remote] >= 0)
        batch = self._name(batch, partners, joined[~through & ~columns.observed[remote]])
        has = joined[batch.connections[joined].astype(np.bool_)]
        connections = batch.connections.copy()
        connections[has] += np.array(other_view(extension_pb2.SEEN), object)
        batch = replace(batch, connections=connections)
        return self._tell_backends(batch, partners, joined[through])

    def _name(self, batch: Batch, partners: Numbers, rows: Numbers) -> Batch:
        """With the partners' own ends as the rows' remote ends."""
        if not len(rows):
            return batch
        at_source = batch.at_source[rows] != 0
        told, before = (column.astype(np.uint64) for column in (own_numbers(batch)[partners[rows]], remote_numbers(batch)[rows]))
        keys = told << np.uint64(32) | before
        distinct, inverse = np.unique(keys, return_inverse=True)
        numbers = np.array([self._replacement(key) for key in distinct.tolist()], np.uint32)[inverse]
        source, destination = batch.source.copy(), batch.destination.copy()
        source[rows[~at_source]] = numbers[~at_source]
        destination[rows[at_source]] = numbers[at_source]
        return replace(batch, source=source, destination=destination)

    def _replacement(self, key: int) -> int:
        """The number of a partner's own end in the place of the one that was there before."""
        if key not in self._replaced:
            told, before = key >> 32, key & 0xFFFF_FFFF
            ends, end = self._tables.ends, End()
            end.CopyFrom(ends[told].end)
            if end.HasField("detail"):
                end.detail.evidence = extension_pb2.PEER
            end.ClearField("service")
            if ends[before].end.HasField("service"):
                end.service.CopyFrom(ends[before].end.service)
            self._replaced[key] = ends.number(end.SerializeToString(deterministic=True))
        return self._replaced[key]

    def _tell_backends(self, batch: Batch, partners: Numbers, rows: Numbers) -> Batch:
        if not len(rows):
            return batch
        flows, connections = batch.flows.copy(), batch.connections
        own = own_numbers(batch)[partners[rows]].tolist()
        for row, partner, end in zip(rows.tolist(), partners[rows].tolist(), own, strict=True):
            try:
                told, name = self._backends.of(
                    batch.flows[partner], end, int(batch.node[partner]), reply=bool(batch.reply[partner])
                )
                flows[row] = summarized(batch.flows[row], name)
            except DecodeError:
                self.damaged += 1
                continue
            if connections[row]:
                connections[row] += told
        return replace(batch, flows=flows)
