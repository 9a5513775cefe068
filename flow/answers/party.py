"""Party: one end of a request, by the names that its flow gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from flows.proto.extension_pb2 import EndpointDetail
    from flows.proto.flow_pb2 import Endpoint, Layer4, Service

# Nothing that the network says is kept longer than this: a name in DNS has 253 characters, a path in the store 160.
LONGEST = 512


class Party(NamedTuple):
    """Names are `namespace/name`; empty where the flow does not tell. service: whose address this is."""

    address: str = ""
    port: int = 0
    dns: str = ""  # a name of the address
    namespace: str = ""
    pod: str = ""
    workload: str = ""
    service: str = ""
    services: tuple[str, ...] = ()  # that select the pod
    unit: str = ""  # systemd unit, or name of the process
    pid: int = 0
    node: str = ""
    reserved: bool = False  # one of Hubble's reserved identities: world, host, ...

    @property
    def name(self) -> str:
        """How rows call it: the workload, else the most that is known."""
        return self.workload or self.pod or self.service or self.dns or self.unit or self.address or "unknown"

    @property
    def in_cluster(self) -> bool:
        """Whether it is something that Kubernetes runs."""
        return bool(self.pod or self.service or self.workload)


NOBODY = Party()


def service_name(service: Service) -> str:
    """`namespace/name`, or "" of a Service without a name."""
    return f"{service.namespace}/{service.name}"[:LONGEST] if service.name else ""


def names_of(end: Endpoint, service: Service, detail: EndpointDetail) -> tuple[object, ...]:
    """What a Party has from `namespace` on: what does not differ from flow to flow of an end."""
    namespace = end.namespace
    workload = end.workloads[0].name if end.workloads else ""
    return (
        namespace[:LONGEST],
        _qualified(namespace, end.pod_name),
        _qualified(namespace, workload),
        service_name(service),
        tuple([service_name(each) for each in detail.services[:16]]),
        (detail.systemd_unit or detail.process.name)[:LONGEST],
        detail.process.pid,
        detail.node[:LONGEST],
        0 < end.identity < 256,
    )


def _qualified(namespace: str, name: str) -> str:
    return f"{namespace}/{name}"[:LONGEST] if name and namespace else name[:LONGEST]


def transport(layer4: Layer4) -> str:
    """`TCP`, `UDP`, ...; "" if the flow does not tell."""
    return layer4.WhichOneof("protocol") or ""


def ports_of(layer4: Layer4, protocol: str) -> tuple[int, int]:
    """Source's and destination's of TCP, UDP or SCTP; 0 of any other."""
    if protocol not in {"TCP", "UDP", "SCTP"}:
        return 0, 0
    ports = getattr(layer4, protocol)
    return ports.source_port, ports.destination_port
