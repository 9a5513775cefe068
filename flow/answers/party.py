"""Party: one end of a request, by the names that its flow gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from flows.proto.extension_pb2 import EndpointDetail
    from flows.proto.flow_pb2 import Flow, Service

# Nothing that the network says is kept longer than this: a name in DNS has 253 characters, a path in the store 160.
LONGEST = 512


class Party(NamedTuple):
    """Names are `namespace/name`; empty where the flow does not tell. service: whose address this is."""

    address: str = ""
    port: int = 0
    namespace: str = ""
    pod: str = ""
    workload: str = ""
    service: str = ""
    services: tuple[str, ...] = ()  # that select the pod
    dns: str = ""  # a name of the address
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


def party(flow: Flow, detail: EndpointDetail, side: str) -> Party:
    """The end at side (`source` or `destination`)."""
    end = getattr(flow, side)
    namespace = end.namespace
    workload = end.workloads[0].name if end.workloads else ""
    names = getattr(flow, f"{side}_names")
    return Party(
        address=getattr(flow.IP, side)[:LONGEST],
        port=port_of(flow, side),
        namespace=namespace[:LONGEST],
        pod=_qualified(namespace, end.pod_name),
        workload=_qualified(namespace, workload),
        service=service_name(getattr(flow, f"{side}_service")),
        services=tuple([service_name(each) for each in detail.services[:16]]) if detail.services else (),
        dns=names[0][:LONGEST] if names else "",
        unit=(detail.systemd_unit or detail.process.name)[:LONGEST],
        pid=detail.process.pid,
        node=detail.node[:LONGEST],
        reserved=0 < end.identity < 256,
    )


def _qualified(namespace: str, name: str) -> str:
    return f"{namespace}/{name}"[:LONGEST] if name and namespace else name[:LONGEST]


def transport(flow: Flow) -> str:
    """`TCP`, `UDP`, ...; "" if the flow does not tell."""
    return flow.l4.WhichOneof("protocol") or ""


def port_of(flow: Flow, side: str) -> int:
    """Of a TCP, UDP or SCTP flow's end; 0 of any other."""
    protocol = transport(flow)
    if protocol not in {"TCP", "UDP", "SCTP"}:
        return 0
    return int(getattr(getattr(flow.l4, protocol), f"{side}_port"))
