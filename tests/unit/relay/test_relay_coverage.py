from __future__ import annotations

from typing import Any

import pytest

from flows.flow.losses import PAUSED, SAMPLED
from flows.proto import flows_pb2, relay_pb2
from flows.relay.clock import Clock
from flows.relay.coverage import MOST_GAPS, NO_NODES, OUT_OF_DATE, Asked, Gap, Node, Told, coverage

UP, DOWN = relay_pb2.NODE_CONNECTED, relay_pb2.NODE_UNAVAILABLE
S = 1_000_000_000


def node(name: str = "node-1", *gaps: Gap, state: relay_pb2.NodeState = UP, since: int = 0, to: int = 100, **more: Any) -> Node:
    return Node(name, state, since * S, to * S, tuple(gaps), **more)


def gap(
    reason: flows_pb2.GapReason = flows_pb2.LOST,
    first: int | None = 50,
    last: int | None = 60,
    count: int = 3,
    message: str = "ring full",
) -> Gap:
    return Gap(reason, None if first is None else first * S, None if last is None else last * S, count, message)


def asked(since: int | None = None, until: int | None = None, oldest: int | None = None) -> Asked:
    return Asked(*(None if each is None else each * S for each in (since, until, oldest)))


@pytest.mark.parametrize(
    ("question", "nodes", "complete"),
    [
        (asked(), [node()], True),
        (asked(), [node(), node("node-2")], True),
        (asked(), [], False),
        (asked(), [node(state=DOWN)], False),
        (asked(), [node("node-1", gap())], False),
        (asked(since=70), [node("node-1", gap())], True),
        (asked(since=55), [node("node-1", gap())], False),
        (asked(since=10, until=40), [node("node-1", gap())], True),
        (asked(oldest=70), [node("node-1", gap())], True),
        (asked(oldest=40), [node("node-1", gap())], False),
        (asked(since=20, oldest=70), [node("node-1", gap())], True),
        (asked(since=10), [node(since=20)], False),
        (asked(oldest=10), [node(since=20)], False),
        (asked(), [node(since=20)], True),
        (asked(since=70), [node("node-1", gap(last=None))], False),
        (asked(since=70), [node("node-1", gap(first=None))], True),
    ],
)
def test_complete_is_every_node_for_all_of_the_time_without_a_gap(question: Asked, nodes: list[Node], complete: bool) -> None:
    told = coverage(question, nodes, 7)
    assert told.complete is complete
    assert told.flows == 7


def test_a_node_says_what_it_covers_in_order_of_time() -> None:
    first, second = gap(first=60, last=70), gap(flows_pb2.DOWN, 10, 20, 0, "gone")
    told = coverage(asked(since=0, until=90), [node("node-1", first, second, clock=Clock(-5 * S, 1000), message="why")], 0)
    assert told.since.seconds == 0
    assert told.until.seconds == 90
    (one,) = told.nodes
    assert (one.node, one.state, one.message, one.to.seconds) == ("node-1", UP, "why", 100)
    assert [(each.reason, getattr(each, "from").seconds, each.to.seconds, each.count) for each in one.gaps] == [
        (flows_pb2.DOWN, 10, 20, 0),
        (flows_pb2.LOST, 60, 70, 3),
    ]
    assert (one.clock_offset.ToNanoseconds(), one.clock_error.ToNanoseconds()) == (-5 * S, 1000)


def test_before_what_a_node_keeps_is_a_gap_unless_one_is_told() -> None:
    told = coverage(asked(since=10), [node(since=20), node("node-2", gap(flows_pb2.LATE, 10, 20), since=20)], 0)
    assert [[each.reason for each in one.gaps] for one in told.nodes] == [[flows_pb2.GAP_REASON_UNKNOWN], [flows_pb2.LATE]]


def test_nodes_are_sorted_and_doubts_about_their_list_are_told() -> None:
    told = coverage(asked(), [node("b"), node("a")], 0, discovery="no answer from 10.0.0.1")
    assert [one.node for one in told.nodes] == ["a", "b", ""]
    assert told.nodes[2].message == f"{OUT_OF_DATE}: no answer from 10.0.0.1"
    assert not told.complete
    assert coverage(asked(), [], 0).nodes[0].message == NO_NODES


def test_who_is_limited_sees_states_and_times_and_nothing_of_others() -> None:
    nodes = [node("node-1", gap()), node("node-2", state=DOWN, message="10.0.0.2: refused")]
    told = coverage(asked(), nodes, 0, discovery="10.0.0.1", limited=True)
    assert [(one.node, one.message) for one in told.nodes] == [("node-1", ""), ("node-2", ""), ("", OUT_OF_DATE)]
    assert [(each.reason, each.count, each.message) for each in told.nodes[0].gaps] == [(flows_pb2.LOST, 0, "")]
    assert getattr(told.nodes[0].gaps[0], "from").seconds == 50


def test_many_gaps_are_told_as_fewer_without_losing_any() -> None:
    gaps = [gap(first=number, last=number + 1, count=2) for number in range(1000)]
    (one,) = coverage(asked(), [node("node-1", *gaps)], 0).nodes
    assert len(one.gaps) == MOST_GAPS
    assert sum(each.count for each in one.gaps) == 2000
    assert (getattr(one.gaps[0], "from").seconds, one.gaps[-1].to.seconds) == (0, 1000)


def said(first: int, last: int, *gaps: tuple[int, int, int]) -> flows_pb2.NodeCoverage:
    message = flows_pb2.NodeCoverage(node="node-1")
    getattr(message, "from").FromSeconds(first)
    message.to.FromSeconds(last)
    for begin, end, count in gaps:
        added = message.gaps.add(reason=flows_pb2.LOST, count=count)
        getattr(added, "from").FromSeconds(begin)
        added.to.FromSeconds(end)
    return message


def loss(first: int, last: int, count: int) -> flows_pb2.Loss:
    message = flows_pb2.Loss(reason="ring full", count=count)
    message.first.FromSeconds(first)
    message.last.FromSeconds(last)
    return message


def spans(told: Told) -> list[tuple[int, int, int]]:
    found = []
    for each in told.gaps:
        assert each.from_ns is not None
        assert each.to_ns is not None
        found.append((each.from_ns // S, each.to_ns // S, each.count))
    return found


def test_what_an_agent_says_is_corrected_by_its_clock_and_replaces_what_it_said() -> None:
    told = Told()
    told.begin()
    told.cover(said(100, 200, (110, 120, 3)), 50 * S)
    assert (told.from_ns, told.to_ns, spans(told)) == (50 * S, 150 * S, [(60, 70, 3)])
    told.cover(said(120, 300, (110, 120, 3), (200, 210, 1)), 50 * S)
    assert (told.from_ns, told.to_ns, spans(told)) == (50 * S, 250 * S, [(60, 70, 3), (150, 160, 1)])


def test_losses_count_until_coverage_has_them_and_adjoining_ones_are_one() -> None:
    told = Told()
    told.begin()
    told.lose([loss(10, 11, 2), loss(12, 13, 5)], 0)
    assert spans(told) == [(10, 13, 7)]
    told.cover(said(0, 20, (10, 13, 7)), 0)
    assert spans(told) == [(10, 13, 7)]


def test_what_was_left_out_on_purpose_is_no_loss() -> None:
    told = Told()
    told.begin()
    for reason in ("ring full", SAMPLED, PAUSED):
        each = loss(10, 11, 2)
        each.reason = reason
        told.lose([each], 0)
    assert [gap.reason for gap in told.gaps] == [flows_pb2.LOST, flows_pb2.SAMPLED, flows_pb2.SAMPLED]


def test_gaps_of_streams_that_ended_stay() -> None:
    told = Told()
    told.begin()
    told.cover(said(0, 20, (10, 13, 7)), 0)
    told.begin()
    assert not told.answered
    told.cover(said(15, 40, (30, 31, 1)), 0)
    assert told.answered
    assert (told.from_ns, spans(told)) == (0, [(10, 13, 7), (30, 31, 1)])
