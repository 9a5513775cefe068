"""Stored flows as messages: who, what, and what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from samples import CLIENT_NUMBER, CLUSTER_IP_NUMBER, SERVER_NUMBER, WORLD_NUMBER, record

from flows.agent.observer.query import parse_request
from flows.agent.probe.record import TABLE_ID, Event, Initiator
from flows.flow.batch import compose
from flows.proto import extension_pb2, flow_pb2, observer_pb2

if TYPE_CHECKING:
    from agent_streams import Filler

    from flows.agent.observer.observer import Observer

UDP, ICMP, ICMPV6, SCTP = 17, 1, 58, 132


def shown(observer: Observer, **request: Any) -> list[flow_pb2.Flow]:
    parsed = parse_request(observer_pb2.GetFlowsRequest(**request))
    batch = observer.batch(observer.past(parsed), observer.ends)
    return [flow_pb2.Flow.FromString(raw) for raw in compose(batch, observer.ends.table)]


def extension(flow: flow_pb2.Flow) -> extension_pb2.FlowExtension:
    message = extension_pb2.FlowExtension()
    assert flow.extensions.Unpack(message)
    return message


def test_who_opened_is_the_source(observer: Observer, fill: Filler) -> None:
    fill(
        (record(), CLIENT_NUMBER, SERVER_NUMBER),
        (record(initiator=Initiator.REMOTE, conn_id=2, local_port=80, remote_port=40_000), SERVER_NUMBER, CLIENT_NUMBER),
        (record(initiator=Initiator.UNKNOWN, conn_id=3), CLIENT_NUMBER, SERVER_NUMBER),
    )
    opened, accepted, unknown = shown(observer)
    assert [flow.source.pod_name for flow in (opened, accepted, unknown)] == ["svc-a-1"] * 3
    assert [flow.l4.TCP.source_port for flow in (opened, accepted)] == [40_000, 40_000]
    assert [flow.traffic_direction for flow in (opened, accepted, unknown)] == [flow_pb2.EGRESS, flow_pb2.INGRESS, 0]
    assert [flow.HasField("is_reply") for flow in (opened, accepted, unknown)] == [True, True, False]
    assert extension(unknown).connection.initiator == extension_pb2.INITIATOR_UNKNOWN
    assert not extension(accepted).connection.observed_at_source


def test_counters_are_by_direction(observer: Observer, fill: Filler) -> None:
    fill((record(), CLIENT_NUMBER, SERVER_NUMBER), (record(initiator=Initiator.REMOTE), SERVER_NUMBER, CLIENT_NUMBER))
    opened, accepted = (extension(flow).connection for flow in shown(observer))
    assert (opened.from_source.bytes, opened.from_destination.bytes) == (100, 2000)
    assert (accepted.from_source.bytes, accepted.from_destination.bytes) == (2000, 100)
    assert (opened.handshake.nanos, opened.rtt.nanos, opened.duration.nanos) == (300_000, 150_000, 5_000_000)


def test_names_and_their_evidence(observer: Observer, fill: Filler) -> None:
    fill((record(), CLIENT_NUMBER, CLUSTER_IP_NUMBER))
    flow = shown(observer)[0]
    detail = extension(flow)
    assert (flow.destination_service.namespace, flow.destination_service.name) == ("demo", "svc-b")
    assert not flow.HasField("source_service")
    assert detail.source.evidence == extension_pb2.CGROUP
    assert detail.destination.evidence == extension_pb2.ADDRESS
    assert (detail.source.process.name, detail.source.process.pid, detail.source.container.runtime) == ("curl", 42, "containerd")
    assert not detail.destination.HasField("process")


def test_the_other_end_on_the_same_node_gives_its_process(observer: Observer, fill: Filler) -> None:
    ends = {"local_addr": "10.0.0.2", "remote_addr": "10.0.0.1", "local_port": 80, "remote_port": 40_000}
    accepted = record(initiator=Initiator.REMOTE, conn_id=2, pid=43, comm=b"nginx", netns=10, **ends)
    fill((record(), CLIENT_NUMBER, WORLD_NUMBER), (accepted, SERVER_NUMBER, CLIENT_NUMBER))
    opened, _ = shown(observer)
    destination = extension(opened).destination
    assert (destination.process.name, destination.process.pid) == ("nginx", 43)
    assert destination.evidence == extension_pb2.CONNECTION
    assert opened.destination.pod_name == "svc-b-1"


@pytest.mark.parametrize(("netns", "named"), [(9, True), (10, False), (0, False)])
def test_loopback_joins_only_within_one_network_namespace(observer: Observer, fill: Filler, netns: int, named: bool) -> None:
    here = record(local_addr="127.0.0.1", remote_addr="127.0.0.1")
    ends = {"local_addr": "127.0.0.1", "remote_addr": "127.0.0.1", "local_port": 80, "remote_port": 40_000}
    there = record(initiator=Initiator.REMOTE, conn_id=2, comm=b"nginx", netns=netns, **ends)
    fill((here, CLIENT_NUMBER, WORLD_NUMBER), (there, SERVER_NUMBER, WORLD_NUMBER))
    assert extension(shown(observer)[0]).destination.HasField("process") == named


@pytest.mark.parametrize(
    ("fields", "layer", "summary"),
    [
        ({}, "TCP", "TCP Flags: SYN, ACK, FIN"),
        ({"protocol": UDP, "conn_id": TABLE_ID | 1}, "UDP", "UDP"),
        ({"protocol": SCTP, "conn_id": TABLE_ID | 1}, "SCTP", "SCTP"),
        ({"protocol": ICMP, "icmp_type": 8}, "ICMPv4", "ICMPv4 EchoRequest"),
        ({"protocol": ICMP, "icmp_type": 3, "icmp_code": 3}, "ICMPv4", "ICMPv4 DestinationUnreachable(Port)"),
        ({"protocol": ICMPV6, "icmp_type": 129}, "ICMPv6", "ICMPv6 EchoReply"),
    ],
)
def test_layer_and_summary(observer: Observer, fill: Filler, fields: dict[str, int], layer: str, summary: str) -> None:
    fill((record(**fields), CLIENT_NUMBER, SERVER_NUMBER))
    flow = shown(observer)[0]
    assert flow.l4.WhichOneof("protocol") == layer
    assert flow.Summary == summary
    assert (flow.socket_cookie == 0) == (fields.get("conn_id", 1) != 1)


@pytest.mark.parametrize(
    ("event", "verdict", "words"),
    [
        (Event.ESTABLISHED, "FORWARDED", ""),
        (Event.REFUSED, "FORWARDED", "; refused"),
        (Event.RESET, "FORWARDED", "; reset"),
        (Event.UNANSWERED, "ERROR", "; unanswered after 0.005s, 3 SYNs"),
        (Event.UNREACHABLE, "ERROR", "; unreachable (EHOSTUNREACH)"),
        (Event.TIMED_OUT, "ERROR", "; timed out"),
    ],
)
def test_outcomes(observer: Observer, fill: Filler, event: Event, verdict: str, words: str) -> None:
    fill((record(event=event, error=113, retransmits=2, flags_sent=2, flags_received=0), CLIENT_NUMBER, SERVER_NUMBER))
    flow = shown(observer)[0]
    assert flow_pb2.Verdict.Name(flow.verdict) == verdict
    assert flow.Summary == f"TCP Flags: SYN{words}"


@pytest.mark.parametrize(("address", "text", "version"), [("10.0.0.2", "10.0.0.2", "IPv4"), ("fd00::2", "fd00::2", "IPv6")])
def test_addresses(observer: Observer, fill: Filler, address: str, text: str, version: str) -> None:
    fill((record(local_addr=address, remote_addr=address), CLIENT_NUMBER, SERVER_NUMBER))
    flow = shown(observer)[0]
    assert (flow.IP.destination, flow_pb2.IPVersion.Name(flow.IP.ipVersion)) == (text, version)


def test_the_message_is_what_hubble_clients_expect(observer: Observer, fill: Filler) -> None:
    fill((record(), CLIENT_NUMBER, SERVER_NUMBER))
    flow = shown(observer)[0]
    assert (flow.Type, flow.event_type.type, flow.event_type.sub_type) == (flow_pb2.L3_L4, 4, 5)
    assert (flow.node_name, list(flow.node_labels), flow.emitter.name) == ("demo/node-1", ["zone=a"], "flows")
    assert (flow.source.workloads[0].kind, flow.source.workloads[0].name) == ("Deployment", "svc-a")
