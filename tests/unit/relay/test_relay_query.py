from __future__ import annotations

from typing import Any

import pytest
from flow_agents import asked as request
from stream_samples import MS, S, position

from flows.flow.request import RequestError
from flows.proto import flow_pb2, flows_pb2, observer_pb2
from flows.relay import query as queries
from flows.relay.clock import Clock
from flows.relay.query import Start

NOW = 1_000 * S
FAST = Clock(7 * S, 2 * MS)  # a clock that is 7 s ahead


def query(**more: Any) -> queries.Query:
    return queries.parse_batched(request(**more), now_ns=NOW)


def asked(
    made: queries.Query,
    start: Start | None = None,
    clock: Clock | None = None,
    agents: int = 1,
    namespaces: frozenset[str] | None = None,
) -> flows_pb2.FlowsRequest:
    return queries.for_agent(made, start or Start(), clock, agents, namespaces)


@pytest.mark.parametrize(
    ("clock", "offset"),
    [
        (None, 0),
        (Clock(MS, MS), 0),
        (Clock(2 * MS, MS), 2 * MS),
        (Clock(-2 * MS, MS), -2 * MS),
        (Clock(50 * MS, 60 * MS), 0),
    ],
)
def test_clocks_are_corrected_by_more_than_the_measurements_error(clock: Clock | None, offset: int) -> None:
    assert queries.offset_ns(clock) == offset


def test_times_are_asked_by_the_nodes_clock() -> None:
    got = asked(query(since=NOW - 5 * S, until=NOW - S, number=3), clock=FAST).query
    assert (got.since.ToNanoseconds(), got.until.ToNanoseconds(), got.number) == (NOW + 2 * S, NOW + 6 * S, 3)


def test_an_answer_that_ends_is_of_one_moment() -> None:
    assert asked(query(), clock=FAST).query.until.ToNanoseconds() == NOW + 7 * S + 10 * MS
    assert not asked(query()).query.HasField("until"), "without a clock nobody knows when that is"
    assert not asked(query(follow=True), clock=FAST).query.HasField("until")


@pytest.mark.parametrize(
    ("agents", "wanted", "expected"),
    [(1, None, 100), (100, None, 100), (500, None, 500), (5000, None, 1000), (500, 50, 50), (1, 2000, 100), (1, 10, 10)],
)
def test_the_more_agents_the_longer_they_gather(agents: int, wanted: int | None, expected: int) -> None:
    made = request(follow=True)
    if wanted:
        made.max_delay.FromMilliseconds(wanted)
    got = asked(queries.parse_batched(made), agents=agents)
    assert got.max_delay.ToMilliseconds() == expected


def test_going_on_is_instead_of_number_and_since() -> None:
    got = asked(query(follow=True, number=5, since=NOW - S), Start(position("node-1", received=5)))
    assert [each.received for each in got.resume] == [5]
    assert (got.query.number, got.query.HasField("since"), got.query.follow) == (0, False, True)


@pytest.mark.parametrize(("more", "since"), [({}, NOW), ({"number": 9}, NOW), ({"since": NOW - S}, NOW - S)])
def test_who_comes_late_begins_where_the_query_does(more: dict[str, int], since: int) -> None:
    got = asked(query(follow=True, **more), Start(late=True), FAST).query
    assert (got.since.ToNanoseconds(), got.number) == (since + 7 * S, 0)


@pytest.mark.parametrize(
    ("own", "may_see", "expected"), [(None, None, None), (["a"], None, ["a"]), (["a"], {"c", "b"}, ["b", "c"])]
)
def test_agents_are_told_what_the_caller_may_see(
    own: list[str] | None, may_see: set[str] | None, expected: list[str] | None
) -> None:
    made = request()
    if own is not None:
        made.namespaces.names.extend(own)
    got = asked(queries.parse_batched(made), namespaces=None if may_see is None else frozenset(may_see))
    assert (list(got.namespaces.names) if got.HasField("namespaces") else None) == expected


def test_filters_go_down_as_they_are_and_masks_with_what_the_relay_needs() -> None:
    made = request()
    made.query.blacklist.add().verdict.append(flow_pb2.DROPPED)
    made.query.field_mask.paths.extend(["uuid", "source.pod_name"])
    parsed = queries.parse_batched(made)
    got = asked(parsed).query
    assert got.blacklist == made.query.blacklist
    assert {"uuid", "source", "destination", "l4"} <= set(got.field_mask.paths)
    assert list(made.query.field_mask.paths) == ["uuid", "source.pod_name"]
    assert not parsed.whole.HasField("field_mask")
    assert not parsed.extensions


def test_plain_agents_go_on_by_time() -> None:
    made = queries.parse(observer_pb2.GetFlowsRequest(number=3), now_ns=NOW)
    got = queries.for_observer(made, Start(position("node-1", watermark_ns=41)), None)
    assert (got.since.ToNanoseconds(), got.number) == (42, 0)


def test_the_time_asked_for() -> None:
    assert query().since_ns is None
    assert query(follow=True).since_ns == NOW
    assert query(follow=True, number=3).since_ns is None
    assert query(since=5).since_ns == 5
    made = request(follow=True)
    made.resume.append(position("a", watermark_ns=70))
    made.resume.append(position("b", watermark_ns=60))
    assert queries.parse_batched(made, now_ns=NOW).since_ns == 60


@pytest.mark.parametrize("paths", [["nothing"], ["source.pods"], ["uuid", "source..x"]])
def test_masks_of_no_flow_are_refused(paths: list[str]) -> None:
    made = observer_pb2.GetFlowsRequest()
    made.field_mask.paths.extend(paths)
    with pytest.raises(RequestError, match="field_mask: not all of"):
        queries.parse(made)


@pytest.mark.parametrize("first", [False, True])
def test_a_number_of_flows_that_memory_might_not_hold_is_refused(first: bool) -> None:
    for number in (queries.MOST_FLOWS + 1, queries.UNLIMITED - 1):
        with pytest.raises(
            RequestError, match=f"number: {number} flows are more than 1000000: ask for a time with since and until"
        ):
            query(number=number) if not first else queries.parse(observer_pb2.GetFlowsRequest(number=number, first=True))
    assert query(number=queries.MOST_FLOWS).limited
    assert not query(number=queries.UNLIMITED).limited, "all"
    assert not query(number=(1 << 64) - 1).limited, "all, as hubble says it"


def test_a_position_without_a_process_is_a_time() -> None:
    got = asked(query(follow=True, number=5), Start(position("node-1", instance=0, watermark_ns=41)))
    assert not got.resume
    assert (got.query.since.ToNanoseconds(), got.query.number) == (42, 0)


def test_an_agent_is_told_no_name_for_its_node() -> None:
    given = position("west/node-1", instance=7)
    assert [(one.node, one.instance) for one in asked(query(), Start(given)).resume] == [("", 7)]
    assert given.node == "west/node-1"
