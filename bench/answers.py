"""Answers: what a flow of a request costs `flows http` and `flows dns`, from a batch's bytes to what is counted."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.figures import Measured
from flows.cli.answers import COLLECT_AFTER
from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.http import HttpAnswer
from flows.flow.answers.told import Teller
from flows.flow.batch import COLUMNS, Batch, BatchReader, BatchWriter, objects
from flows.flow.ends import EndTable
from flows.proto import extension_pb2, flow_pb2, flows_pb2
from flows.proto.extension_pb2 import Connection
from flows.proto.flow_pb2 import Flow
from flows.proto.flows_pb2 import FlowBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    Made = tuple[int, Flow, Connection, int, int]

BATCH: Final = 1_000  # flows, as agents send them
REQUESTS: Final = 10_000  # of four flows each: question and answer, as both ends saw them
PER_SECOND: Final = 5_000
REPEATS: Final = 5
START: Final = 1_800_000_000 * 1_000_000_000
MS: Final = 1_000_000


class MiscountedError(Exception):
    """Not each request was counted once: what was timed is not the answer that is meant."""


def measure() -> Iterator[Measured]:
    """us per flow, CPU time; of one pod that asks another."""
    note = f"{PER_SECOND:,} requests/s, both ends' views"
    for name, answer, make, rows in (("answer_http", HttpAnswer, _call, "http"), ("answer_dns", DnsAnswer, _query, "dns")):
        messages = _messages([each for number in range(REQUESTS) for each in make(number)])
        yield Measured(name, [_microseconds(answer(), messages, rows) for _ in range(REPEATS)], note)


def _microseconds(answer: HttpAnswer | DnsAnswer, messages: list[bytes], kind: str) -> float:
    gc.collect()
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER)  # as the command does
    start = time.thread_time_ns()
    ends, teller = EndTable(), Teller()
    reader = BatchReader(ends, [])
    for message in messages:
        for known in teller.read(reader.read(FlowBatch.FromString(message)), ends):
            answer.take(known)
    answer.end()
    table = answer.tables()[0]
    took = time.thread_time_ns() - start
    gc.set_threshold(*before)
    counted = sum(row["count"] for row in table.rows)
    if table.kind != kind or counted != REQUESTS:
        raise MiscountedError(f"{counted:,} of {REQUESTS:,} requests")
    return took / 1_000 / (4 * REQUESTS)


def _messages(made: list[Made]) -> list[bytes]:
    ends = EndTable()
    for name, node, service in (("web-1", "node-1", "web"), ("api-1", "node-2", "api")):
        ends.number(_end(name, node, service).SerializeToString(deterministic=True))
    writer = BatchWriter(ends, ["relay"])
    made.sort(key=lambda each: each[0])
    return [writer.write(_batch(made[at : at + BATCH])).SerializeToString() for at in range(0, len(made), BATCH)]


def _batch(made: list[Made]) -> Batch:
    times, flows, connections, sources, destinations = zip(*made, strict=True)
    columns = {name: np.zeros(len(made), dtype) for name, dtype in COLUMNS.items()}
    columns |= {"time_ns": np.array(times), "source": np.array(sources, "<u4"), "destination": np.array(destinations, "<u4")}
    raw, told = (objects(each.SerializeToString() for each in some) for some in (flows, connections))
    return Batch(flows=raw, connections=told, **columns)


def _end(pod: str, node: str, service: str) -> flows_pb2.End:
    end = flows_pb2.End()
    end.endpoint.namespace, end.endpoint.pod_name, end.endpoint.identity = "shop", pod, 40_000
    end.endpoint.labels.extend([f"k8s:app={service}", "k8s:io.kubernetes.pod.namespace=shop"])
    end.endpoint.workloads.add(name=service, kind="Deployment")
    end.detail.node, end.detail.process.pid, end.detail.process.name = node, 77, service
    end.detail.services.add(namespace="shop", name=service)
    return end


def _call(number: int) -> Iterator[Made]:
    """On one of 64 connections that are kept alive; half of all calls are of one path."""
    path = f"/users/{number % 997}/posts" if number % 2 else "/media/film/playlist.m3u8"
    for made in _views(number, 50_000 + number % 64, number % 64 + 1):
        _, flow, connection, _, _ = made
        answered = flow.l7.type == flow_pb2.RESPONSE
        flow.l4.TCP.source_port, flow.l4.TCP.destination_port = flow.l4.UDP.source_port, flow.l4.UDP.destination_port
        http = flow.l7.http
        http.method, http.url, http.protocol = "GET", f"http://api.shop{path}", "HTTP/1.1"
        http.code = 200 if answered else 0
        flow.Summary = f"HTTP/1.1 200 1ms (GET {http.url})" if answered else f"HTTP/1.1 GET {http.url}"
        connection.request.kind, connection.spoken = extension_pb2.HTTP1, extension_pb2.SPOKEN_HTTP1
        connection.request.response_bytes = 1_234 if answered else 0
        yield made


def _query(number: int) -> Iterator[Made]:
    """A third of 1,000 names does not exist."""
    name = f"svc-{number % 1_000}.shop.svc.cluster.local"
    for made in _views(number, 20_000 + number % 40_000, number + 1):
        _, flow, connection, _, _ = made
        dns, more = flow.l7.dns, connection.request.dns
        dns.query, dns.qtypes[:] = f"{name}.", ["A"]
        more.id, more.qtype, more.attempt = number * 7_919 % 65_536, "A", 1
        connection.request.kind, connection.spoken = extension_pb2.DNS, extension_pb2.SPOKEN_DNS
        if flow.l7.type == flow_pb2.RESPONSE:
            dns.rcode = 3 if number % 3 == 0 else 0
            dns.ips[:], dns.ttl = ([], 0) if dns.rcode else (["10.96.0.20"], 30)
        flow.Summary = f"DNS Query {name}. A"
        yield made


def _views(number: int, port: int, connection: int) -> Iterator[Made]:
    """Question and answer at the client's node, then at the server's."""
    asked = START + number * 1_000_000_000 // PER_SECOND
    for node, apart in (("node-1", 0), ("node-2", MS // 10)):
        for event, time_ns in ((extension_pb2.REQUEST, asked + apart), (extension_pb2.RESPONSE, asked + MS - apart)):
            answered = event == extension_pb2.RESPONSE
            flow, made = Flow(node_name=node, verdict=flow_pb2.FORWARDED), Connection(id=connection, event=event)
            flow.time.FromNanoseconds(time_ns)
            flow.is_reply.value, flow.l7.type = answered, flow_pb2.RESPONSE if answered else flow_pb2.REQUEST
            ends = [("10.0.1.1", port, 0), ("10.0.2.1", 8_080, 1)]
            source, destination = reversed(ends) if answered else ends
            flow.IP.source, flow.IP.destination = source[0], destination[0]
            flow.l4.UDP.source_port, flow.l4.UDP.destination_port = source[1], destination[1]
            made.observed_at_source = (node == "node-1") != answered
            made.request.id = number + 1
            if answered:
                flow.l7.latency_ns = MS - 2 * apart
                made.request.latency.FromNanoseconds(MS - 2 * apart)
            yield time_ns, flow, made, source[2], destination[2]
