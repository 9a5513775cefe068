"""Ends of this agent's flows: endpoint numbers, with processes, to numbers in an EndTable whose bytes are made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.flow.endpoint import Evidence
from flows.flow.ends import EndTable
from flows.proto import extension_pb2, flow_pb2, flows_pb2

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.agent.enrich.enricher import Enricher
    from flows.agent.store.process_names import ProcessNames
    from flows.flow.endpoint import Endpoint

# A new table is begun beyond this many ends: 2 KB each once parsed and in both roles, 16 MB. Each process is an end of its own,
# so short-lived ones fill it; what is still in use is then made anew, in some 10 us each.
MAX_ENDS = 8_192


class Ends:
    """For one thread. `table` may be another one after begin()."""

    def __init__(self, enricher: Enricher, processes: ProcessNames) -> None:
        """An empty table."""
        self.table = EndTable()
        self._enricher, self._processes = enricher, processes
        self._generation = enricher.generation
        self._numbers: dict[tuple[int, int, int, bool], int] = {}

    def begin(self) -> None:
        """Before a batch: drop what names of before made, and the table if it has grown too long."""
        if len(self.table) > MAX_ENDS:
            self.table = EndTable()
            self._numbers = {}
        if self._generation != self._enricher.generation:
            self._generation = self._enricher.generation
            self._numbers = {}

    def numbers(
        self, endpoints: NDArray[Any], pids: NDArray[Any], processes: NDArray[Any], joined: NDArray[np.bool_]
    ) -> NDArray[np.uint32]:
        """Numbers (n,) in the table. joined (n,): where the end is known by the other socket's flow."""
        known = self._numbers
        keys = zip(endpoints.tolist(), pids.tolist(), processes.tolist(), joined.tolist(), strict=True)
        return np.array([known[key] if key in known else self._add(key) for key in keys], np.uint32)

    def _add(self, key: tuple[int, int, int, bool]) -> int:
        number, pid, process, joined = key
        endpoint = self._enricher.endpoint(number)
        end = end_message(endpoint, Evidence.CONNECTION if joined else endpoint.evidence)
        if pid:
            end.detail.process.pid, end.detail.process.name = pid, self._processes[process]
        self._numbers[key] = self.table.number(end.SerializeToString(deterministic=True))
        return self._numbers[key]


def end_message(endpoint: Endpoint, evidence: Evidence) -> flows_pb2.End:
    """An endpoint as one end of a flow, without its process."""
    end = flows_pb2.End(endpoint=_endpoint(endpoint), detail=_detail(endpoint, evidence))
    if endpoint.service:
        end.service.name, end.service.namespace = endpoint.service.name, endpoint.service.namespace
    return end


def _endpoint(endpoint: Endpoint) -> flow_pb2.Endpoint:
    message = flow_pb2.Endpoint(
        identity=max(endpoint.identity, 0),
        namespace=endpoint.namespace,
        pod_name=endpoint.pod,
        labels=endpoint.labels,
        cluster_name=endpoint.cluster,
    )
    if endpoint.workload:
        message.workloads.add(name=endpoint.workload.name, kind=endpoint.workload.kind)
    return message


def _detail(endpoint: Endpoint, evidence: Evidence) -> extension_pb2.EndpointDetail:
    detail = extension_pb2.EndpointDetail(
        evidence=int(evidence),  # type: ignore[arg-type]
        systemd_unit=endpoint.systemd_unit,
        node=endpoint.node,
        cgroup=endpoint.cgroup,
        services=[flow_pb2.Service(name=service.name, namespace=service.namespace) for service in endpoint.services],
    )
    if endpoint.container:
        container = endpoint.container
        detail.container.id, detail.container.runtime = container.id, container.runtime
        detail.container.name = container.name
    return detail
