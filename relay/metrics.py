"""Metrics: what the relay counts, for Prometheus. Numbers only: no name of a node, a namespace or a user is a label."""

from __future__ import annotations

import time
from collections import Counter as Tally
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from flows.relay.inquiry import Counts
from flows.wire.addresses import AddressError, host_and_port

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.core import Metric

    from flows.relay.pool import Pool

# Hubble relay's words for the state of a peer's connection; all are exported, also those that no peer is in.
CONNECTIVITY: Final = ("IDLE", "CONNECTING", "READY", "TRANSIENT_FAILURE", "SHUTDOWN", "NIL_CONNECTION")


class Metrics:
    """The counters of one relay, in a registry of their own. Each has Prometheus' thread-safe inc(), dec() and set().

    joins: what all queries of the relay count into, by the loop's thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.flows = Counter("flows_relay_flows_delivered", "Flows sent to clients", registry=self.registry)
        self.lost = Counter("flows_relay_flows_lost", "Flows that a client did not get", ("reason",), registry=self.registry)
        self.streams = Gauge("flows_relay_streams_open", "Streams of flows under way", registry=self.registry)
        self.requests = Counter(
            "flows_relay_requests", "Calls that ended, by method and gRPC code", ("method", "code"), registry=self.registry
        )
        self.causes = Counter(
            "flows_relay_dns_causes", "Flows of DNS queries that went wrong, by cause", ("cause",), registry=self.registry
        )
        self.joins = Counts()
        self.registry.register(JoinCollector(self.joins))
        self.denials = Counter("flows_relay_denials", "Calls and streams refused", ("reason",), registry=self.registry)

    def watch(self, pool: Pool) -> None:
        """Export a pool's state, read when it is asked for."""
        self.registry.register(PoolCollector(pool))

    def serve(self, address: str) -> tuple[WSGIServer, threading.Thread]:
        """Serve over HTTP, in threads; `host:port`. Raises AddressError. To end it: shutdown() and server_close()."""
        host, port = host_and_port(address)
        try:
            return start_http_server(port, host, self.registry)
        except (OSError, OverflowError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise AddressError(f"serving metrics on {address}: {cause}; choose another with --metrics-listen") from error


class JoinCollector(Collector):
    """What became of joins, and of the questions asked for them."""

    def __init__(self, counts: Counts) -> None:
        self._counts, self._created = counts, time.time()

    def collect(self) -> Iterator[Metric]:
        """Called from the HTTP server's threads: it reads whole numbers."""
        counts = self._counts
        joins = CounterMetricFamily("flows_relay_joins", "Flows by what joining both ends' views gave", labels=("result",))
        for result in ("joined", "added", "not_seen", "skipped", "damaged"):
            joins.add_metric((result,), getattr(counts, result), self._created)
        yield joins
        for name, text, count in (
            ("flows_relay_questions", "Calls to agents for other views of connections", counts.asked),
            ("flows_relay_questions_failed", "Those without a usable answer in time", counts.failed),
        ):
            yield CounterMetricFamily(name, text, count, created=self._created)


class PoolCollector(Collector):
    """What a pool is like now."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Called from the HTTP server's threads: it reads what the loop's thread replaces whole."""
        peers = self._pool.peers()
        states = Tally(peer.connectivity for peer in peers)
        connections = GaugeMetricFamily(
            "hubble_relay_pool_peer_connection_status", "Peers by the state of their connection", labels=("status",)
        )
        for status in CONNECTIVITY:
            connections.add_metric((status,), states[status])
        yield connections
        offsets = [abs(peer.clock.offset_ns) for peer in peers if peer.clock is not None]
        largest = max(offsets, default=0) / 1e9
        yield GaugeMetricFamily("flows_relay_clock_offset_max_seconds", "Clock farthest from the relay's", largest)
        yield GaugeMetricFamily("flows_relay_clocks_measured", "Peers whose clock is measured", len(offsets))
        known = float(not self._pool.discovery_status)
        yield GaugeMetricFamily("flows_relay_discovery_up", "1 if the list of peers is up to date", known)
