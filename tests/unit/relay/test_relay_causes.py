"""Where DNS queries died is told in the flows themselves, from what all nodes saw, and no more of it than a caller may know."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest

sys.path.insert(0, str(Path(__file__).parents[1] / "answers"))

from answer_feeds import batches, coverage
from answer_samples import DNS_POD, START, B, Query, both, connection, ordered, server_view, upstream_query

from flows.flow.batch import concatenate, empty, objects
from flows.flow.ends import EndTable
from flows.proto import extension_pb2, flows_pb2
from flows.proto.extension_pb2 import Connection
from flows.relay import causes, looks
from flows.relay.causes import HIDDEN, MOST_LOOKED_AT, Causes, troubled_rows
from flows.relay.metrics import Metrics
from flows.relay.parcel import Parcel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from flows.proto.flow_pb2 import Flow, FlowFilter

LOST = Query("lost.example.com", took=None, gave_up=5.0)
FAILED = Query("bad.example.com", rcode=2)
SLOW = Query("slow.example.com", took=2.0)
FINE, ABSENT = Query("ok.example.com"), Query("no.example.com", rcode=3)
TOLD = Query("told.example.com", took=None, gave_up=5.0, fate=extension_pb2.NEVER_LEFT)


class Nodes:
    """What all nodes have; each look is given what the next of these tells, and is noted."""

    def __init__(self, *told: Sequence[Flow], covered: flows_pb2.Coverage | None = None) -> None:
        self.told, self.covered = list(told), covered if covered is not None else coverage()
        self.asked: list[tuple[Sequence[FlowFilter], int, int | None]] = []
        self.refuse = False
        self.hold = asyncio.Event()
        self.hold.set()

    def take(self) -> bool:
        return not self.refuse

    async def parcels(
        self, wanted: Sequence[FlowFilter], number: int, since_ns: int, until_ns: int | None
    ) -> AsyncGenerator[Parcel, None]:
        assert number == MOST_LOOKED_AT
        self.asked.append((wanted, since_ns, until_ns))
        await self.hold.wait()
        flows = self.told.pop(0) if self.told else []
        for batch, ends in batches(flows, 5) if flows else []:
            yield Parcel(batch, ends, [])
        yield Parcel(empty(), EndTable(), [], coverage=self.covered)


async def shown(nodes: Nodes, *queries: Query, limited: bool = False) -> tuple[list[extension_pb2.Dns], dict[str, int]]:
    """What the flows of these queries say in the end, in order of time; and what was counted."""
    made = batches(ordered(flow for query in queries for flow in query.flows()), 10_000)
    counts: dict[str, int] = {}

    def count(word: str, flows: int) -> None:
        counts[word] = counts.get(word, 0) + flows

    one = Causes(nodes, count, limited=lambda: limited, now_ns=lambda: START + 3600 * 10**9)
    (batch, ends), *_ = made
    told = await one.told(batch, ends)
    assert told.flows.tolist() == batch.flows.tolist()
    return [Connection.FromString(raw).request.dns for raw in told.connections], {
        word: flows for word, flows in counts.items() if flows
    }


CASES: dict[str, tuple[Query, list[Query], str]] = {
    "SERVER_SILENT": (LOST, [server_view(LOST)], "got it (seen on node-2) and sent no reply"),
    "LOST_TO_CLIENT": (LOST, [server_view(LOST, took=0.001)], "node-1 did not see the reply"),
    "UPSTREAM_FAILED": (
        FAILED,
        [server_view(FAILED), upstream_query(FAILED, rcode=5, took=0.0002)],
        "9.9.9.9, which answered REFUSED",
    ),
    "UPSTREAM_SLOW": (SLOW, [server_view(SLOW), upstream_query(SLOW, took=1.9)], "which took 1.9 s"),
    "FATE_UNKNOWN": (LOST, [], "on a node that is not known"),
}


@pytest.mark.parametrize(("fate", "case"), CASES.items(), ids=CASES)
async def test_the_flow_of_the_outcome_says_where_and_why(fate: str, case: tuple[Query, list[Query], str]) -> None:
    query, others, evidence = case
    nodes = Nodes(ordered(flow for each in (query, *others) for flow in each.flows()))
    (asked, outcome), counts = await shown(nodes, query)
    assert (asked.fate, asked.fate_evidence) == (extension_pb2.FATE_UNKNOWN, "")
    assert extension_pb2.Fate.Name(outcome.fate) == fate
    assert evidence in outcome.fate_evidence
    assert outcome.qtype == "A"  # all else is as it was
    assert counts == {fate: 1}


async def test_one_look_is_for_the_name_whoever_asked_and_for_drops_and_only_for_the_time_around() -> None:
    nodes = Nodes(both(LOST, server_view(LOST)))
    await shown(nodes, LOST)
    ((wanted, since, until),) = nodes.asked
    assert [pattern for each in wanted for pattern in each.dns_query] == ["(?i)^lost\\.example\\.com[.]?$"]
    assert any(each.verdict for each in wanted)
    assert not any(each.source_ip or each.source_pod for each in wanted)
    assert until is not None
    assert (since - START, until - START) == (-10 * 10**9, 15 * 10**9)


async def test_where_a_silent_service_s_pods_run_is_asked_for_too() -> None:
    nodes = Nodes(LOST.flows(), [connection(DNS_POD, B, at=-3, node="node-2")])
    (_, outcome), _ = await shown(nodes, LOST)
    assert [list(each.source_service) for each in nodes.asked[1][0]] == [["kube-system/kube-dns"]]
    assert outcome.fate == extension_pb2.LOST_TO_SERVER


@pytest.mark.parametrize("query", [FINE, ABSENT, TOLD, Query("waits.example.com", took=None)])
async def test_nobody_is_asked_about_what_did_not_go_wrong_or_is_told_already(query: Query) -> None:
    nodes = Nodes()
    await shown(nodes, query)
    assert nodes.asked == []


async def test_who_may_not_see_everything_gets_the_cause_without_others_names() -> None:
    nodes = Nodes([flow for each in (server_view(FAILED), upstream_query(FAILED, rcode=5)) for flow in each.flows()])
    (_, outcome), _ = await shown(nodes, FAILED, limited=True)
    assert (outcome.fate, outcome.fate_evidence) == (extension_pb2.UPSTREAM_FAILED, HIDDEN)
    (_, unknown), counts = await shown(Nodes(), LOST, limited=True)
    assert (unknown.fate, unknown.fate_evidence, counts) == (extension_pb2.FATE_UNKNOWN, "", {"FATE_UNKNOWN": 1})


async def test_nothing_follows_from_what_was_not_seen_where_there_was_too_much_to_look_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = Query("ok.example.com", at=-1.0, number=90, query_id=3)
    flows = ordered(both(known, server_view(known)) + LOST.flows())
    (_, outcome), _ = await shown(Nodes(flows), LOST)
    assert outcome.fate == extension_pb2.LOST_TO_SERVER
    monkeypatch.setattr(causes, "MOST_LOOKED_AT", len(flows))
    monkeypatch.setitem(globals(), "MOST_LOOKED_AT", len(flows))
    (_, outcome), _ = await shown(Nodes(flows), LOST)
    assert outcome.fate == extension_pb2.FATE_UNKNOWN
    assert "only the newest" in outcome.fate_evidence


@pytest.mark.parametrize("trouble", ["refused", "slow"])
async def test_a_look_that_cannot_be_had_leaves_the_flows_as_they_are(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(both(LOST, server_view(LOST)))
    nodes.refuse = trouble == "refused"
    if trouble == "slow":
        nodes.hold.clear()
        monkeypatch.setattr(causes, "LOOK_SECONDS", 0.05)
    (_, outcome), counts = await shown(nodes, LOST)
    assert (outcome.fate, outcome.fate_evidence) == (extension_pb2.FATE_UNKNOWN, "")
    assert counts == {"not looked into": 1}


async def test_after_a_look_that_took_too_long_nobody_waits_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "LOOK_SECONDS", 0.05)
    nodes, ((batch, ends),) = Nodes(), batches(ordered(LOST.flows()), 10)
    nodes.hold.clear()
    one = Causes(nodes, lambda *_: None, limited=lambda: False)
    for _ in range(2):
        await one.told(batch, ends)
    assert len(nodes.asked) == 1
    monkeypatch.setattr(causes, "REST_SECONDS", 0.0)
    one = Causes(nodes, lambda *_: None, limited=lambda: False)
    for _ in range(2):
        await one.told(batch, ends)
    assert len(nodes.asked) == 3


@pytest.mark.parametrize("name", ["a\u0007b.example.com", "x" * 500])
async def test_nothing_is_said_of_a_name_that_cannot_be_asked_for(name: str) -> None:
    nodes = Nodes(LOST.flows(), [connection(DNS_POD, B, at=-3, node="node-2")])
    odd = Query(name, took=None, gave_up=5.0)
    (_, outcome), _ = await shown(nodes, odd)
    assert (outcome.fate, outcome.fate_evidence, nodes.asked) == (extension_pb2.FATE_UNKNOWN, "", [])
    _, counts = await shown(nodes, odd, Query("lost.example.com", at=0.1, took=None, gave_up=5.0, number=7, port=41_000))
    assert counts == {"not looked into": 1, "LOST_TO_SERVER": 1}


async def test_nothing_follows_from_what_was_not_asked_for() -> None:
    """That no server was seen to get a query of a name that nobody can ask for: it says nothing of where the server runs."""
    odd = Query("a\u0007b.example.com", at=-1.0, rcode=2, number=7, port=41_000)
    known, later = (Query("ok.example.com", at=at, number=number, query_id=3) for at, number in ((-2.0, 90), (8.0, 91)))
    _, counts = await shown(
        Nodes(ordered([*both(known, server_view(known)), *LOST.flows(), *both(later, server_view(later))])), odd, LOST
    )
    assert counts == {"not looked into": 1, "LOST_TO_SERVER": 1}


async def test_troubles_far_apart_get_looks_of_their_own_the_newest_first() -> None:
    old = Query("lost.example.com", at=-600.0, took=None, gave_up=5.0, number=2, query_id=9, port=40_001)
    nodes = Nodes(both(LOST, server_view(LOST)), both(old, server_view(old)))
    said, counts = await shown(nodes, old, LOST)
    assert counts == {"SERVER_SILENT": 2}
    assert [each.fate for each in said].count(extension_pb2.SERVER_SILENT) == 2
    assert [(since - START) // 10**9 for _, since, _ in nodes.asked] == [-10, -610]


@pytest.mark.parametrize("raw", [b"", b"\x10\x04\x10\x0d", b"\x10\x04\x10\x0d\xff", b"\x10\x0d\x7a\x02\x10"])
def test_what_only_looks_like_an_outcome_or_cannot_be_read_is_none(raw: bytes) -> None:
    assert troubled_rows([raw]) == []


async def test_a_flow_that_cannot_be_read_is_left_as_it_is_and_counted() -> None:
    ((batch, ends),) = batches(ordered(LOST.flows()), 10)
    batch.flows[:] = objects([b"\xff"] * len(batch))
    counts: list[tuple[str, int]] = []
    nodes = Nodes()
    one = Causes(nodes, lambda word, flows: counts.append((word, flows)), limited=lambda: False)
    told = await one.told(concatenate([batch]), ends)
    assert told.connections.tolist() == batch.connections.tolist()
    assert (counts, nodes.asked) == ([("not looked into", 1)], [])


def test_all_answers_of_a_relay_together_look_only_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool:
        discovery_status = ""

        def peers(self) -> list[Any]:
            return [None] * 3

    one = looks.Looks(Pool())  # type: ignore[arg-type]
    assert [one.take() for _ in range(looks.AT_FIRST + 1)] == [True] * looks.AT_FIRST + [False]
    later = one._looks.at + 2 / looks.PER_SECOND
    monkeypatch.setattr("time.monotonic", lambda: later)
    assert [one.take(), one.take(), one.take()] == [True, True, False]


def test_causes_are_exported_by_their_names() -> None:
    metrics = Metrics()
    metrics.causes.labels("SERVER_SILENT").inc(2)
    assert b'flows_relay_dns_causes_total{cause="SERVER_SILENT"} 2.0' in generate_latest(metrics.registry)
