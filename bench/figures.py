"""What is measured, in which unit, beside which target and reference: the one table of them."""

from __future__ import annotations

import operator
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPARISONS: Final = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True, slots=True)
class Goal:
    """One row. target: `<= 250`, `>= 98`, `= 0`, or empty where none is set; reference: the same of other tools."""

    what: str
    unit: str
    target: str
    reference: str

    def holds(self, value: float) -> bool | None:
        """Whether the value keeps the target; None without one."""
        if not self.target:
            return None
        comparison, bound = self.target.split()
        return bool(COMPARISONS[comparison](value, float(bound)))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a benchmark gives: repeated values of one goal, by its name, and what helps to read them."""

    name: str
    values: Sequence[float]
    note: str = ""

    @property
    def value(self) -> float:
        """The figure: the median."""
        return statistics.median(self.values)


# Targets: docs/benchmarks.md. References were taken with the same load, unless they say otherwise.
GOALS: Final = {
    "ingest_batch": Goal("ingest of a record, made-up batches of 4,096", "ns", "<= 250", "Hubble 2,812"),
    "ingest_ring": Goal("ingest of a record, from the kernel's ring under load", "ns", "<= 250", "Hubble 2,812"),
    "stored_flow": Goal("memory per stored flow", "B", "<= 128", "Hubble 918"),
    "filter_scan": Goal("scan of a full store, per flow, typical filter", "ns", "<= 10", "Hubble 77 to 89"),
    "filter_scan_slowest": Goal("the same, slowest of the typical filters", "ns", "<= 10", "Hubble 77 to 89"),
    "filter_scan_first": Goal("the same, the first time that a filter is used", "ns", "", ""),
    "l7_http": Goal("HTTP: an answer or a request, first bytes to stored", "ns", "<= 1000", ""),
    "l7_http_path": Goal("HTTP: the same, from the kernel's slots to a stored flow", "ns", "<= 1000", ""),
    "l7_http_long": Goal("the same, requests of more than 208 bytes", "ns", "<= 1000", ""),
    "l7_http_small": Goal("the same, batches of 400", "ns", "", ""),
    "l7_dns": Goal("DNS: a message, first bytes to stored, batches of 4,096", "ns", "<= 1000", ""),
    "l7_dns_small": Goal("the same, batches of 400", "ns", "", ""),
    "l7_decode_http": Goal("decoding a flow of HTTP for who asks, per flow", "us", "", ""),
    "l7_decode_dns": Goal("the same of DNS, questions and answers met before", "us", "", ""),
    "l7_decode_dns_new": Goal("the same of DNS, all new", "us", "", ""),
    "answer_http": Goal("flows http: a flow, batch's bytes to counted", "us", "", ""),
    "answer_dns": Goal("flows dns: the same", "us", "", ""),
    "kernel_connection": Goal("kernel, per TCP connection, both ends, --no-requests", "ns", "<= 3500", "NetObserv 10,500"),
    "kernel_request": Goal("kernel, per keep-alive request, the same", "ns", "<= 500", "NetObserv 1,440"),
    "kernel_connection_l7": Goal("kernel, per TCP connection, both ends, all L7", "ns", "<= 5000", "NetObserv 10,500, no L7"),
    "kernel_request_l7": Goal("kernel, per keep-alive request, the same", "ns", "<= 800", "NetObserv 1,440, no L7"),
    "kept_keepalive": Goal("throughput kept: wrk, keep-alive", "%", ">= 97", "NetObserv 100, no L7"),
    "kept_empty": Goal("the same with empty programs and no agent", "%", "", ""),
    "kept_https": Goal("throughput kept: wrk, keep-alive HTTPS, plaintext read", "%", ">= 93", ""),
    "kept_connections": Goal("throughput kept: wrk, a connection per request", "%", ">= 93", "NetObserv 87"),
    "kept_iperf3": Goal("throughput kept: iperf3", "%", ">= 98", "NetObserv 100"),
    "lost_connections": Goal("connections lost or miscounted in 30 s", "", "= 0", "Hubble, Retina lose events"),
    "wrong_bytes": Goal("bytes miscounted in 30 s", "B", "= 0", ""),
    "offered_connections": Goal("new connections while that was counted", "1/s", ">= 10000", ""),
    "cpu_paced": Goal("agent's CPU at 3,500 flows/s, of one core", "%", "<= 1", "NetObserv 1.3 (published)"),
    "cpu_requests": Goal("agent's CPU at 5,000 HTTP requests/s, both ends", "%", "", ""),
    "cpu_keepalive": Goal("agent's CPU, wrk keep-alive at full speed", "%", "<= 4", "NetObserv 8, no sink"),
    "cpu_connections": Goal("agent's CPU, a connection per request, full speed", "%", "<= 4", "NetObserv 8, no sink"),
    "resident_start": Goal("agent's resident memory after its start", "MB", "<= 120", "NetObserv 178"),
    "resident_full": Goal("the same, 65,535 flows and 10,000 pods known", "MB", "<= 120", "NetObserv 178"),
    "first_list_time": Goal("first list of 10,000 pods", "s", "<= 3", ""),
    "first_list_memory": Goal("memory that it adds", "MB", "<= 40", ""),
    "first_list_whole": Goal("the same list, in one body from a server that does not stream it", "s", "<= 3", ""),
    "first_list_whole_memory": Goal("memory that it adds", "MB", "<= 40", ""),
    "pod_changes": Goal("agent's CPU, 100 pod changes/s of 10,000 pods, of one core", "%", "<= 5", ""),
    "relay_connect": Goal("relay: 1,000 agents connected", "s", "", ""),
    "relay_last": Goal("relay: newest 100 flows of 1,000 agents", "s", "", ""),
    "relay_flows": Goal("relay: flows to one follower, batched", "1/s", ">= 50000", ""),
    "relay_resident": Goal("relay: resident memory, 1,000 agents", "MB", "", ""),
    "relay_order_jitter": Goal("relay: neighbours in order, 50 ms jitter", "%", "= 100", "Hubble: by the last 100 flows"),
    "relay_order_skew": Goal("relay: the same, and clocks 200 ms apart", "%", "= 100", "Hubble: not corrected"),
    "observe_cold": Goal("`flows observe --last 20`, cold, full store", "s", "<= 0.5", ""),
}
