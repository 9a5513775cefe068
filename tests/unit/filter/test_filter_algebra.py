"""Allow minus deny over whole tables equals Hubble's definition, flow by flow."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, TypeVar

from hypothesis import given
from hypothesis import strategies as st

from flows.flow.filter import compile_filters
from flows.flow.table import MessageTable
from flows.proto.flow_pb2 import DROPPED, FORWARDED, VERDICT_UNKNOWN, Endpoint, Flow, FlowFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
NAMESPACES, PODS, ADDRESSES = (
    ("", "a", "default"),
    ("", "web", "web-1", "db"),
    ("", "10.0.0.1", "10.0.1.1", "fd00::1"),
)
VERDICTS, PORTS, IDENTITIES = (VERDICT_UNKNOWN, FORWARDED, DROPPED), (0, 53, 80), (0, 1, 300)


def pick(values: Sequence[T]) -> st.SearchStrategy[T]:
    return st.sampled_from(values)


ENDPOINTS = st.builds(Endpoint, namespace=pick(NAMESPACES), pod_name=pick(PODS), identity=pick(IDENTITIES))


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    flow = Flow(verdict=draw(pick(VERDICTS)), source=draw(ENDPOINTS), destination=draw(ENDPOINTS))
    flow.IP.source = draw(pick(ADDRESSES))
    layer = draw(pick(("TCP", "UDP", "ICMPv4")))
    getattr(flow.l4, layer).SetInParent()
    if layer != "ICMPv4":
        getattr(flow.l4, layer).destination_port = draw(pick(PORTS))
    return flow


def some(values: Sequence[T]) -> st.SearchStrategy[list[T]]:
    return st.lists(pick(values), max_size=2)


FILTERS = st.builds(
    FlowFilter,
    verdict=some(VERDICTS),
    source_pod=some(("web", "a/", "/web", "a/db", "/")),
    destination_pod=some(("web-", "default/", "/")),
    source_ip=some(("10.0.0.1", "10.0.0.0/16", "fd00::/16", "::/0")),
    destination_port=some(("0", "53", "80")),
    destination_identity=some(IDENTITIES),
    protocol=some(("tcp", "udp", "icmp")),
)


def is_pod(name: str, endpoint: Endpoint) -> bool:
    namespace, prefix = name.split("/") if "/" in name else ("default", name)
    known = endpoint.namespace or endpoint.pod_name
    return bool(known) and namespace in ("", endpoint.namespace) and endpoint.pod_name.startswith(prefix)


def is_address(wanted: str, text: str) -> bool:
    return text != "" and ip_address(text) in ip_network(wanted)


def naive(wanted: FlowFilter, flow: Flow) -> bool:
    """All fields of one FlowFilter hold, of each field any value."""
    layer = flow.l4.WhichOneof("protocol")
    port = str(getattr(flow.l4, layer).destination_port) if layer != "ICMPv4" else None
    return (
        (not wanted.verdict or flow.verdict in wanted.verdict)
        and (not wanted.source_pod or any(is_pod(name, flow.source) for name in wanted.source_pod))
        and (not wanted.destination_pod or any(is_pod(name, flow.destination) for name in wanted.destination_pod))
        and (not wanted.source_ip or any(is_address(text, flow.IP.source) for text in wanted.source_ip))
        and (not wanted.destination_port or port in wanted.destination_port)
        and (not wanted.destination_identity or flow.destination.identity in wanted.destination_identity)
        and (not wanted.protocol or {"TCP": "tcp", "UDP": "udp", "ICMPv4": "icmp"}[layer] in wanted.protocol)
    )


@given(st.lists(flows(), max_size=12), st.lists(FILTERS, max_size=3), st.lists(FILTERS, max_size=2))
def test_a_table_is_filtered_as_each_flow_alone(messages: list[Flow], allow: list[FlowFilter], deny: list[FlowFilter]) -> None:
    expected = [
        (not allow or any(naive(wanted, flow) for wanted in allow)) and not any(naive(wanted, flow) for wanted in deny)
        for flow in messages
    ]
    assert compile_filters(allow, deny)(MessageTable(messages)).tolist() == expected


@given(st.lists(flows(), max_size=6), st.lists(flows(), max_size=6), FILTERS)
def test_one_filter_serves_table_after_table(first: list[Flow], second: list[Flow], wanted: FlowFilter) -> None:
    compiled = compile_filters([wanted])
    for messages in (first, second, first):
        assert compiled(MessageTable(messages)).tolist() == [naive(wanted, flow) for flow in messages]


def test_conditions_that_clauses_share_are_compiled_once() -> None:
    one, two = FlowFilter(verdict=[FORWARDED], source_pod=["a/"]), FlowFilter(verdict=[FORWARDED], destination_pod=["a/"])
    assert len(compile_filters([one, two], [one]).conditions) == 3


def test_an_empty_filter_holds_for_every_flow() -> None:
    table = MessageTable([Flow(), Flow()])
    assert compile_filters([FlowFilter()])(table).all()
    assert not compile_filters([], [FlowFilter()])(table).any()
    assert compile_filters()(table).all()
