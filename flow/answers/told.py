"""Told: what one flow tells, with the names of its ends: of a whole flow.Flow, or of a batch, whose ends are looked at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import DecodeError

from flows.flow.answers.party import LONGEST, Party, names_of, ports_of, transport
from flows.proto import extension_pb2
from flows.proto.extension_pb2 import Connection, EndpointDetail, FlowExtension
from flows.proto.flow_pb2 import Flow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.flow.batch import Batch
    from flows.flow.ends import EndEntry, EndTable
    from flows.proto.flow_pb2 import Service

    Named = tuple[str, str]  # a Service's namespace and name


@dataclass(slots=True)
class Told:
    """flow: what is not of its ends; those of a batch's flows are not in it, and neither is its extension.

    transport: `TCP`, `UDP`, ...; "" if the flow does not tell. extended: whether there is an extension. source_seen,
    destination_seen: whether the end was named by its socket's cgroup. services: all that the flow names.
    """

    flow: Flow
    connection: Connection
    extended: bool
    transport: str
    source: Party
    destination: Party
    source_seen: bool
    destination_seen: bool
    services: tuple[tuple[Named, ...], tuple[Named, ...]]

    def at_client(self, *, reply: bool) -> bool:
        """Whether it was the client's socket that was looked at: its end is then named by its cgroup, and only that end."""
        unlike = self.source_seen != self.destination_seen
        at_source = self.source_seen if unlike else self.connection.observed_at_source
        return bool(at_source != reply)


# As Party._make, which also counts the fields.
_new_party = tuple.__new__


class _End(NamedTuple):
    """What an end's number stands for. rest: of a Party, from namespace on."""

    rest: tuple[object, ...]
    seen: bool
    services: tuple[Named, ...]


def told(flow: Flow) -> Told:
    """What a whole flow tells."""
    extension = extension_of(flow)
    layer4, ip = flow.l4, flow.IP
    protocol = transport(layer4)
    source_port, destination_port = ports_of(layer4, protocol)
    source = _end(names_of(flow.source, flow.source_service, extension.source), extension.source, flow.source_service)
    destination = _end(
        names_of(flow.destination, flow.destination_service, extension.destination),
        extension.destination,
        flow.destination_service,
    )
    return Told(
        flow,
        extension.connection,
        flow.HasField("extensions"),
        protocol,
        _party(ip.source, source_port, flow.source_names, source),
        _party(ip.destination, destination_port, flow.destination_names, destination),
        source.seen,
        destination.seen,
        (source.services, destination.services),
    )


def extension_of(flow: Flow) -> FlowExtension:
    """What the flow says beyond Hubble's; empty if it says nothing, or nothing that can be read."""
    extension = FlowExtension()
    try:
        flow.extensions.Unpack(extension)
    except DecodeError:
        return FlowExtension()
    return extension


class Teller:
    """Reads the batches of one stream. unreadable: flows that were left out because their bytes are no flow."""

    def __init__(self) -> None:
        self._table: EndTable | None = None
        self._ends: list[_End | None] = []
        self.unreadable = 0

    def read(self, batch: Batch, table: EndTable) -> Iterator[Told]:
        """What its flows tell, in order. table: what its ends are numbers of."""
        if self._table is not table:
            self._table, self._ends = table, []
        self._ends += [None] * (len(table) - len(self._ends))
        rows = zip(
            batch.flows, batch.connections, batch.source.tolist(), batch.destination.tolist(), batch.reply.tolist(), strict=True
        )
        for raw, connection, opener, acceptor, reply in rows:
            source, destination = (acceptor, opener) if reply else (opener, acceptor)
            try:
                yield self._read(raw, connection, source, destination, table)
            except DecodeError:
                self.unreadable += 1

    def _read(self, raw: bytes, connection: bytes, source: int, destination: int, table: EndTable) -> Told:
        try:
            made = Connection.FromString(connection) if connection else None
        except DecodeError:  # then all of the extension says nothing
            made = None
        if made is None:
            whole = told(Flow.FromString(raw + table[source].as_source[0] + table[destination].as_destination[0]))
            whole.extended |= bool(connection)
            return whole
        flow = Flow.FromString(raw)
        layer4, ip = flow.l4, flow.IP
        protocol = layer4.WhichOneof("protocol") or ""
        source_port, destination_port = ports_of(layer4, protocol)
        one = self._ends[source] or self._learn(source, table)
        other = self._ends[destination] or self._learn(destination, table)
        return Told(
            flow,
            made,
            True,
            protocol,
            _party(ip.source, source_port, flow.source_names, one),
            _party(ip.destination, destination_port, flow.destination_names, other),
            one[1],
            other[1],
            (one[2], other[2]),
        )

    def _learn(self, number: int, table: EndTable) -> _End:
        entry: EndEntry = table[number]
        end = entry.end
        found = self._ends[number] = _end(names_of(end.endpoint, end.service, end.detail), end.detail, end.service)
        return found


def _end(rest: tuple[object, ...], detail: EndpointDetail, service: Service) -> _End:
    services = [(service.namespace, service.name)] if service.name else []
    services += [(each.namespace, each.name) for each in detail.services]
    return _End(rest, detail.evidence == extension_pb2.CGROUP, tuple(services))


def _party(address: str, port: int, names: object, end: _End) -> Party:
    dns = names[0][:LONGEST] if names else ""  # type: ignore[index]
    return _new_party(Party, (address[:LONGEST], port, dns, *end[0]))
