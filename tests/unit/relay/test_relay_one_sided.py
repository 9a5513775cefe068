"""A connection is called one-sided only where the other end's node would know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from join_peers import NOW, Agent, Query, views
from join_samples import MS, WEB, Row, S, batch, end

from flows.proto import extension_pb2, flows_pb2, relay_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

SEEN, UNKNOWN, NOT_SEEN = extension_pb2.SEEN, extension_pb2.OTHER_VIEW_UNKNOWN, extension_pb2.NOT_SEEN
POD = end(pod="server", node="node-2")
AT = NOW - 100 * S


def source(**more: Any) -> Row:
    defaults: dict[str, Any] = {"start": AT, "destination": POD}
    return Row(0, True, AT + 10 * S, **defaults | more)


def target(**more: Any) -> Row:
    return Row(1, False, AT + 10 * S, AT, source=end(pod="client"), **more)


async def view(
    row: Row, *rows: Row, coverage: Callable[[flows_pb2.NodeCoverage], object] = lambda message: None, **agent: Any
) -> int:
    there = Agent("node-2", rows, **agent)
    coverage(there.coverage)
    query = Query(Agent("node-1"), there)
    (found,) = views(await query.window(row))
    assert query.counts.not_seen == (found == NOT_SEEN)
    return found


@pytest.mark.parametrize("event", [extension_pb2.UNANSWERED, extension_pb2.OPENED, extension_pb2.CLOSED, extension_pb2.IDLE])
async def test_nothing_of_it_there(event: extension_pb2.Event) -> None:
    assert await view(source(event=event)) == NOT_SEEN


@pytest.mark.parametrize(
    "event", [extension_pb2.REFUSED, extension_pb2.RESET, extension_pb2.UNREACHABLE, extension_pb2.EVENT_UNKNOWN]
)
async def test_what_a_kernel_without_a_socket_answers_tells_nothing(event: extension_pb2.Event) -> None:
    assert await view(source(event=event)) == UNKNOWN


async def test_another_connection_there_is_not_this_one() -> None:
    assert await view(source(), target(opener=8, tuple=80)) == NOT_SEEN


async def test_any_flow_of_the_opener_there_leaves_it_open() -> None:
    assert await view(source(), target(tuple=71)) == UNKNOWN


@pytest.mark.parametrize(
    "row",
    [
        source(destination=end(node="node-2", identity=6)),
        source(destination=WEB),
        source(destination=end(pod="server", node="node-9")),
        source(start=0),
        Row(1, False, AT, AT, source=end(pod="client", node="node-1")),
    ],
    ids=["a node: translated, maybe", "a Service", "no agent there", "began before the agent", "the acceptor's view"],
)
async def test_where_nothing_can_be_said(row: Row) -> None:
    assert await view(row) == UNKNOWN


def begins(message: flows_pb2.NodeCoverage, at: int) -> None:
    getattr(message, "from").FromNanoseconds(at)


def gap(message: flows_pb2.NodeCoverage, since: int, until: int, reason: flows_pb2.GapReason = flows_pb2.LOST) -> None:
    one = message.gaps.add(reason=reason)
    getattr(one, "from").FromNanoseconds(since)
    if until:
        one.to.FromNanoseconds(until)


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [
        (lambda message: None, NOT_SEEN),
        (lambda message: begins(message, AT), NOT_SEEN),
        (lambda message: begins(message, AT + 1), UNKNOWN),
        (lambda message: message.ClearField("from"), UNKNOWN),
        (lambda message: message.ClearField("to"), UNKNOWN),
        (lambda message: message.to.FromNanoseconds(AT + 10 * S), UNKNOWN),
        (lambda message: message.to.FromNanoseconds(AT + 11 * S), NOT_SEEN),
        (lambda message: setattr(message, "state", relay_pb2.NODE_UNAVAILABLE), UNKNOWN),
        (lambda message: gap(message, AT + S, AT + 2 * S), UNKNOWN),
        (lambda message: gap(message, AT + S, 0, flows_pb2.DOWN), UNKNOWN),
        (lambda message: gap(message, AT - 2 * S, AT - S), NOT_SEEN),
        (lambda message: gap(message, AT + 20 * S, AT + 30 * S), NOT_SEEN),
        (lambda message: gap(message, AT + S, AT + 2 * S, flows_pb2.UNNAMED), NOT_SEEN),
    ],
)
async def test_the_node_must_have_watched_all_the_time(
    coverage: Callable[[flows_pb2.NodeCoverage], object], expected: int
) -> None:
    assert await view(source(event=extension_pb2.CLOSED), coverage=coverage) == expected


async def test_what_the_opener_waited_for_needs_no_more_time() -> None:
    row = source(event=extension_pb2.UNANSWERED)
    assert await view(row, coverage=lambda message: message.to.FromNanoseconds(AT + 10 * S)) == NOT_SEEN


async def test_a_clock_s_error_counts_against_it() -> None:
    def close(message: flows_pb2.NodeCoverage) -> None:
        begins(message, AT - 5 * MS)

    assert await view(source(), coverage=close, error=5 * MS) == NOT_SEEN
    assert await view(source(), coverage=close, error=6 * MS) == UNKNOWN


async def test_a_clock_that_was_not_measured_tells_nothing() -> None:
    there = Agent("node-2")
    there.clock = None
    assert views(await Query(Agent("node-1"), there).window(source())) == [UNKNOWN]


async def test_what_an_answer_does_not_cover_is_not_taken_for_nothing() -> None:
    there = Agent("node-2")
    there.coverage.Clear()
    assert views(await Query(Agent("node-1"), there).window(source())) == [UNKNOWN]


async def test_an_answer_that_leaves_flows_out_is_not_taken_for_all() -> None:
    there = Agent("node-2")

    async def shortened(request: flows_pb2.ConnectionsRequest) -> flows_pb2.FlowBatch:
        message = await there.told(request)
        message.losses.add(reason="only the newest are told", count=3)
        return message

    there.answer = shortened
    query = Query(Agent("node-1"), there)
    assert views(await query.window(source())) == [UNKNOWN]
    assert query.counts.skipped == 3


async def test_a_damaged_connection_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    query = Query(Agent("node-1"), Agent("node-2"))
    row = source()
    monkeypatch.setattr(row, "connection", lambda: b"\xff")
    joined = await query.others.joined(batch([row], query.ends))
    assert joined.connections.tolist() == [b"\xff"]


async def test_a_damaged_flow_has_no_backend_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    query = Query()
    called, answered = source(destination=WEB), target(tuple=71)
    monkeypatch.setattr(answered, "flow", lambda: b"\xff")
    joined = await query.others.joined(batch([called, answered], query.ends))
    assert len(joined) == 2
    assert query.counts.damaged == 1
    assert extension_pb2.Connection.FromString(joined.connections[0]).other_view == SEEN
