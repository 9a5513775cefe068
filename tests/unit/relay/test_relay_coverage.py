import pytest

from flows.flow.losses import PAUSED, SAMPLED
from flows.proto import flows_pb2, relay_pb2
from flows.relay.clock import Clock
from flows.relay.coverage import MOST_GAPS, NO_NODES, OUT_OF_DATE, Asked, Gap, Node, Told, coverage

UP, DOWN = relay_pb2.NODE_CONNECTED, relay_pb2.NODE_UNAVAILABLE
S = 1_000_000_000


def node(name="node-1", *gaps, state=UP, since=0, to=100, **more):
    return Node(name, state, since * S, to * S, tuple(gaps), **more)


def gap(reason=flows_pb2.LOST, first=50, last=60, count=3, message="ring full"):
    return Gap(reason, None if first is None else first * S, None if last is None else last * S, count, message)


def asked(since=None, until=None, oldest=None):
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
def test_complete_is_every_node_for_all_of_the_time_without_a_gap(question, nodes, complete):
    told = coverage(question, nodes, 7)
    assert told.complete is complete
    assert told.flows == 7


def test_a_node_says_what_it_covers_in_order_of_time():
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


def test_before_what_a_node_keeps_is_a_gap_unless_one_is_told():
    told = coverage(asked(since=10), [node(since=20), node("node-2", gap(flows_pb2.LATE, 10, 20), since=20)], 0)
    assert [[each.reason for each in one.gaps] for one in told.nodes] == [[flows_pb2.GAP_REASON_UNKNOWN], [flows_pb2.LATE]]


def test_nodes_are_sorted_and_doubts_about_their_list_are_told():
    told = coverage(asked(), [node("b"), node("a")], 0, discovery="no answer from 10.0.0.1")
    assert [one.node for one in told.nodes] == ["a", "b", ""]
    assert told.nodes[2].message == f"{OUT_OF_DATE}: no answer from 10.0.0.1"
    assert not told.complete
    assert coverage(asked(), [], 0).nodes[0].message == NO_NODES


def test_who_is_limited_sees_states_and_times_and_nothing_of_others():
    nodes = [node("node-1", gap()), node("node-2", state=DOWN, message="10.0.0.2: refused")]
    told = coverage(asked(), nodes, 0, discovery="10.0.0.1", limited=True)
    assert [(one.node, one.message) for one in told.nodes] == [("node-1", ""), ("node-2", ""), ("", OUT_OF_DATE)]
    assert [(each.reason, each.count, each.message) for each in told.nodes[0].gaps] == [(flows_pb2.LOST, 0, "")]
    assert getattr(told.nodes[0].gaps[0], "from").seconds == 50


def test_many_gaps_are_told_as_fewer_without_losing_any():
    gaps = [gap(first=number, last=number + 1, count=2) for number in range(1000)]
    (one,) = coverage(asked(), [node("node-1", *gaps)], 0).nodes
    assert len(one.gaps) == MOST_GAPS
    assert sum(each.count for each in one.gaps) == 2000
    assert (getattr(one.gaps[0], "from").seconds, one.gaps[-1].to.seconds) == (0, 1000)


def said(first, last, *gaps):
    message = flows_pb2.NodeCoverage(node="node-1")
    getattr(message, "from").FromSeconds(first)
    message.to.FromSeconds(last)
    for begin, end, count in gaps:
        added = message.gaps.add(reason=flows_pb2.LOST, count=count)
        getattr(added, "from").FromSeconds(begin)
        added.to.FromSeconds(end)
    return message


def loss(first, last, count):
    message = flows_pb2.Loss(reason="ring full", count=count)
    message.first.FromSeconds(first)
    message.last.FromSeconds(last)
    return message


def spans(told):
    return [(each.from_ns // S, each.to_ns // S, each.count) for each in told.gaps]


def test_what_an_agent_says_is_corrected_by_its_clock_and_replaces_what_it_said():
    told = Told()
    told.begin()
    told.cover(said(100, 200, (110, 120, 3)), 50 * S)
    assert (told.from_ns, told.to_ns, spans(told)) == (50 * S, 150 * S, [(60, 70, 3)])
    told.cover(said(120, 300, (110, 120, 3), (200, 210, 1)), 50 * S)
    assert (told.from_ns, told.to_ns, spans(told)) == (50 * S, 250 * S, [(60, 70, 3), (150, 160, 1)])


def test_losses_count_until_coverage_has_them_and_adjoining_ones_are_one():
    told = Told()
    told.begin()
    told.lose([loss(10, 11, 2), loss(12, 13, 5)], 0)
    assert spans(told) == [(10, 13, 7)]
    told.cover(said(0, 20, (10, 13, 7)), 0)
    assert spans(told) == [(10, 13, 7)]


def test_what_was_left_out_on_purpose_is_no_loss():
    told = Told()
    told.begin()
    for reason in ("ring full", SAMPLED, PAUSED):
        each = loss(10, 11, 2)
        each.reason = reason
        told.lose([each], 0)
    assert [gap.reason for gap in told.gaps] == [flows_pb2.LOST, flows_pb2.SAMPLED, flows_pb2.SAMPLED]


def test_gaps_of_streams_that_ended_stay():
    told = Told()
    told.begin()
    told.cover(said(0, 20, (10, 13, 7)), 0)
    told.begin()
    assert not told.answered
    told.cover(said(15, 40, (30, 31, 1)), 0)
    assert told.answered
    assert (told.from_ns, spans(told)) == (0, [(10, 13, 7), (30, 31, 1)])
