"""Backends: who answered for a Service, told by the acceptor's view, as bytes to append to the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.flow.ends import field
from flows.proto.extension_pb2 import Backend
from flows.proto.flow_pb2 import L7, Flow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.ends import EndTable

_BACKEND, _SUMMARY = 14, 100_000  # fields of flows.v1.Connection and of flow.Flow
_WITH_PORTS = ("TCP", "UDP", "SCTP")
# A relay meets as many backends as there are pods behind Services, times their ports.
_REMEMBERED = 65_536

Told = tuple[bytes, str]


class Backends:
    """Backends by what tells of them; each is made once."""

    def __init__(self, ends: EndTable, nodes: Sequence[str]) -> None:
        """The tables that numbers are of."""
        self._ends, self._nodes = ends, nodes
        self._told: dict[tuple[str, int, int, int], Told] = {}

    def of(self, flow: bytes, end: int, node: int, *, reply: bool) -> Told:
        """What an acceptor's view says: its flow without ends, the number of its own end and of its node; reply: it is an answer.

        Returns bytes to append to a Connection, and `namespace/pod:port` for people, or the address if no pod is known.
        Raises google.protobuf.message.DecodeError.
        """
        message = Flow.FromString(flow)
        key = message.IP.source if reply else message.IP.destination, _port(message, reply=reply), end, node
        if key not in self._told:
            if len(self._told) >= _REMEMBERED:
                self._told.clear()
            self._told[key] = self._tell(*key)
        return self._told[key]

    def _tell(self, address: str, port: int, end: int, node: int) -> Told:
        endpoint = self._ends[end].end.endpoint
        backend = Backend(address=address, port=port, endpoint=endpoint, node=self._nodes[node])
        if endpoint.pod_name:
            name = f"{endpoint.namespace}/{endpoint.pod_name}"
        else:
            name = f"[{address}]" if ":" in address else address
        return field(_BACKEND, backend.SerializeToString()), f"{name}:{port}" if port else name


def _port(flow: Flow, *, reply: bool) -> int:
    protocol = flow.l4.WhichOneof("protocol")
    if protocol not in _WITH_PORTS:
        return 0
    ports = getattr(flow.l4, protocol)
    return int(ports.source_port if reply else ports.destination_port)


def summarized(flow: bytes, backend: str) -> bytes:
    """A flow whose Summary names the backend, too; as it was if it has none (the field mask left it out).

    So is that of a request or an answer, whose Summary is Hubble's to the letter.

    Appended: of a field that comes twice, protobuf takes the last. Raises google.protobuf.message.DecodeError.
    """
    message = Flow.FromString(flow)
    if not message.Summary or not backend or message.Type == L7:
        return flow
    return flow + field(_SUMMARY, f"{message.Summary}; backend {backend}".encode())
