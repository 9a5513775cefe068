"""Told: batches tell the same as the whole flows that would be made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from answer_feeds import batches, coverage
from answer_samples import DNS_POD, VIP, A, B, Call, Pod, Query, connection, hubble, ordered, server_view
from answer_samples import upstream_query as upstream
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.encryption import EncryptionAnswer
from flows.flow.answers.http import HttpAnswer
from flows.flow.answers.names import NamesAnswer
from flows.flow.answers.told import Teller, told
from flows.flow.batch import compose, objects
from flows.proto import extension_pb2, flow_pb2
from flows.proto.flow_pb2 import Flow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.answers.told import Told

FAILED = Query("bad.example.com", rcode=2)
DROP = connection(A, DNS_POD, port=53)
DROP.verdict, DROP.drop_reason_desc = flow_pb2.DROPPED, flow_pb2.POLICY_DENIED
NAMED = Call(number=31, client=Pod("demo/svc-a-1", "10.0.1.1", "node-1", selected_by=("demo/svc-a",), pid=3)).flows()[1]
NAMED.source_names.append("b.example.com")
WORLD = Call(number=32, server=Pod("", "1.1.1.1")).flows()[0]
WORLD.destination.identity = 2
ICMP = Flow(node_name="node-1")
ICMP.IP.source, ICMP.IP.destination, ICMP.l4.ICMPv4.type = "10.0.1.1", "10.0.2.1", 8
FLOWS = ordered(
    [
        *FAILED.flows(), *server_view(FAILED).flows(), *upstream(FAILED, rcode=5).flows(), DROP, NAMED, WORLD, ICMP,
        *Query("svc-b.demo", ips=(B.address,), at=1, number=5, server=VIP).flows(), connection(A, B, at=1.1, port=80),
        *Query("slow.example", took=None, gave_up=5.0, number=6).flows(), hubble("x.example", reply=False),
        hubble("x.example", reply=True, latency=0.1), *Call(grpc=("shop.Cart", "Add", 5), number=8).flows(),
        *Call("/media/1.ts", took=None, gave_up=3.0, number=9).flows(), *Call(number=10, at_client=False, node="node-2").flows(),
    ]
)  # fmt: skip
ANSWERS = (DnsAnswer, NamesAnswer, HttpAnswer, EncryptionAnswer)


def read(flows: Sequence[Flow], size: int = 3) -> list[Told]:
    teller = Teller()
    return [known for batch, ends in batches(flows, size) for known in teller.read(batch, ends)]


def shown(answer: Any) -> list[object]:
    answer.end()
    answer.cover(coverage())
    if answer.more():
        answer.looked()
    return [(table.rows, table.notes) for table in answer.tables()]


@pytest.mark.parametrize("answer", ANSWERS)
@given(chosen=st.lists(st.sampled_from(range(len(FLOWS))), max_size=30).map(sorted), size=st.integers(1, 7))
def test_answers_are_the_same(answer: Any, chosen: list[int], size: int) -> None:
    flows = [FLOWS[number] for number in chosen]
    one, other = answer(filtered=False), answer(filtered=False)
    for flow in flows:
        one.add(flow)
    for known in read(flows, size):
        other.take(known)
    assert shown(one) == shown(other)


@pytest.mark.parametrize("flow", FLOWS, ids=range(len(FLOWS)))
def test_all_is_told_of_each_flow(flow: Flow) -> None:
    whole, (parted,) = told(flow), read([flow])
    assert (parted.source, parted.destination, parted.services) == (whole.source, whole.destination, whole.services)
    assert (parted.transport, parted.connection) == (whole.transport, whole.connection)
    assert [parted.at_client(reply=reply) for reply in (False, True)] == [whole.at_client(reply=reply) for reply in (False, True)]


def test_answers_change_ends_in_batches() -> None:
    """The column `reply` says so: source and destination are of who opened and who accepted."""
    flow = Call().flows()[0]
    ((batch, ends),) = batches([flow])
    batch.reply = np.ones(1, np.uint8)
    (known,) = Teller().read(batch, ends)
    (raw,) = compose(batch, ends)
    assert known.source[3:] == told(Flow.FromString(raw)).source[3:]
    assert known.source.pod == "demo/svc-b-1"


@pytest.mark.parametrize(
    ("flow", "connections", "read_of"),
    [(b"\xff", None, 0), (b"\xff", b"", 0), (None, b"\xff", 1), (None, b"", 1)],
    ids=["no flow", "no flow and no connection", "connection that is none", "no connection"],
)
def test_bytes_that_are_no_flow_are_counted(flow: bytes | None, connections: bytes | None, read_of: int) -> None:
    ((batch, ends),) = batches(Call().flows()[:1])
    batch.flows = objects([flow]) if flow is not None else batch.flows
    batch.connections = objects([connections]) if connections is not None else batch.connections
    teller = Teller()
    found = list(teller.read(batch, ends))
    assert (len(found), teller.unreadable) == (read_of, 1 - read_of)
    for known in found:
        assert known.source.pod == "demo/svc-a-1"
        assert known.source.pid == 0  # it came with what cannot be read
        assert known.connection == extension_pb2.Connection()


def test_ends_are_those_of_the_table() -> None:
    """A stream that begins its tables anew gives the same numbers to other ends."""
    teller = Teller()
    for flows in (Call().flows(), Call(client=B, server=A).flows()):
        ((batch, ends),) = batches(flows)
        assert [known.source.pod for known in teller.read(batch, ends)] == [told(flow).source.pod for flow in flows]
