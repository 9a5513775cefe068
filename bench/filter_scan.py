"""Filter scan: what a typical filter costs per flow of a full store: the first time, and once it has met the endpoints.

The observer keeps compiled filters, so the first time is that of a new filter, or after names have changed."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from bench import records
from bench.figures import Measured
from flows.agent.observer.observer import Endpoints
from flows.agent.observer.query import parse_request
from flows.agent.options import DEFAULT_FLOWS
from flows.agent.store.store import FlowStore
from flows.agent.store.table import FlowIds, StoreTable
from flows.proto.flow_pb2 import EventTypeFilter, FlowFilter, TCPFlags, Verdict
from flows.proto.observer_pb2 import GetFlowsRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROUNDS: Final = 30

# As on the command line: what is allowed. Two filters mean either.
FILTERS: Final[dict[str, Sequence[FlowFilter]]] = {
    "--pod": [FlowFilter(source_pod=["ns-7/app-57"]), FlowFilter(destination_pod=["ns-7/app-57"])],
    "--from-pod --to-pod": [FlowFilter(source_pod=["ns-7/app-57"], destination_pod=["ns-8/app-8"])],
    "--namespace": [FlowFilter(source_pod=["ns-7/"]), FlowFilter(destination_pod=["ns-7/"])],
    "--from-label": [FlowFilter(source_label=["app=app-57"])],
    "--to-workload": [FlowFilter(destination_workload=[{"name": "app-57", "kind": "StatefulSet"}])],
    "--to-ip CIDR": [FlowFilter(destination_ip=["10.244.3.0/24"])],
    "--to-port --protocol": [FlowFilter(destination_port=["443"], protocol=["tcp"])],
    "--verdict": [FlowFilter(verdict=[Verdict.ERROR, Verdict.DROPPED])],
    "--tcp-flags": [FlowFilter(tcp_flags=[TCPFlags(FIN=True)])],
    "--type --from-pod": [FlowFilter(event_type=[EventTypeFilter(type=4)], source_pod=["ns-7/app-57"])],
}


def measure() -> Iterator[Measured]:
    """Scan a full store with each filter; then the slowest of them with every pod of the cluster among the flows."""
    spent, met = scan(records.PEERS)
    medians = {name: statistics.median(times[1:]) for name, times in spent.items()}
    slowest = max(medians, key=medians.__getitem__)
    note = f"{len(FILTERS)} filters, {DEFAULT_FLOWS:,} flows of {met:,} endpoints"
    yield Measured("filter_scan", list(medians.values()), note)
    yield Measured("filter_scan_slowest", spent[slowest][1:], slowest)
    firsts = {name: times[0] for name, times in spent.items()}
    late = max(firsts, key=firsts.__getitem__)
    worst, all_met = scan(records.PODS // records.LOCAL_PODS + 1)
    note = f"slowest: {late}; with {all_met:,} endpoints among the flows {worst[late][0]:.0f}"
    yield Measured("filter_scan_first", list(firsts.values()), note)


def scan(peers: int) -> tuple[dict[str, list[float]], int]:
    """ns per flow of each filter, again and again, over a full store of pods with so many peers each; its endpoints."""
    with records.cluster() as (enricher, cgroups):
        store = FlowStore(DEFAULT_FLOWS)
        batch = records.batch(DEFAULT_FLOWS, cgroups, 0, peers)
        store.append(batch, *enricher.resolve(batch), time.time_ns() - time.monotonic_ns())
        endpoints = Endpoints(enricher)
        spent = {name: [_scan_ns(store, endpoints, allow) for _ in range(ROUNDS)] for name, allow in FILTERS.items()}
        return spent, len(store.endpoints_in_use())


def _scan_ns(store: FlowStore, endpoints: Any, allow: Sequence[FlowFilter]) -> float:
    """One request's scan, as the observer does it; ns per flow."""
    request = GetFlowsRequest(whitelist=allow)
    start = time.perf_counter_ns()
    matches = parse_request(request).matches
    with store.lock:
        table = StoreTable(store, store.oldest, store.written, endpoints=endpoints, node=("node-0", ()), ids=FlowIds())
        matches(table)
    return (time.perf_counter_ns() - start) / len(table)
