"""What an answer says about the time that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from agent_streams import answered
from samples import WALL

from flows.agent.enrich.kube_source import SourceStatus
from flows.agent.observer.coverage import Asked, Known, Predecessor, Watch, coverage
from flows.agent.observer.positions import Reach, Resume
from flows.agent.store.store import Loss
from flows.proto import flows_pb2, relay_pb2

if TYPE_CHECKING:
    from agent_streams import Filler
    from samples import Names

    from flows.agent.observer.observer import Observer
    from flows.proto.flows_pb2_grpc import FlowsStub

S = 10**9
RING = "ring full"


def known(**fields: Any) -> Known:
    """An agent that has watched from second 10 on; it is second 100."""
    values: dict[str, Any] = {
        "watch": Watch(10 * S), "oldest_ns": None, "losses": (), "unnamed_ns": None, "unnamed_why": "", "to_ns": 100 * S,
    }  # fmt: skip
    return Known(**{**values, **fields})


def loss(reason: str, count: int, first: float, last: float) -> Loss:
    return Loss(0, reason, count, int(first * S), int(last * S))


def gaps(asked: Asked, state: Known) -> list[tuple[int, float, float, int]]:
    told = coverage("n", asked, state, 0)
    assert told.complete == (not told.nodes[0].gaps)
    return [
        (gap.reason, getattr(gap, "from").ToNanoseconds() / S, gap.to.ToNanoseconds() / S, gap.count)
        for gap in told.nodes[0].gaps
    ]


UNKNOWN = flows_pb2.GAP_REASON_UNKNOWN
LATE, LOST, OVERWRITTEN, UNNAMED, DOWN = (
    flows_pb2.LATE, flows_pb2.LOST, flows_pb2.OVERWRITTEN, flows_pb2.UNNAMED, flows_pb2.DOWN
)  # fmt: skip


@pytest.mark.parametrize(
    ("since", "until", "fields", "expected"),
    [
        (None, None, {}, []),
        (None, None, {"asked_ns": 100 * S + S // 20}, []),
        (None, None, {"asked_ns": 101 * S}, [(UNKNOWN, 100, 101, 0)]),
        (None, 99, {"asked_ns": 101 * S}, []),
        (None, 100.5, {"asked_ns": 101 * S}, [(UNKNOWN, 100, 100.5, 0)]),
        (20, 30, {}, []),
        (5, None, {}, [(LATE, 5, 10, 0)]),
        (5, 7, {}, [(LATE, 5, 7, 0)]),
        (None, None, {"oldest_ns": 40 * S}, []),
        (20, None, {"oldest_ns": 40 * S}, [(OVERWRITTEN, 20, 40, 0)]),
        (20, 30, {"oldest_ns": 40 * S}, [(OVERWRITTEN, 20, 30, 0)]),
        (5, 60, {"oldest_ns": 40 * S}, [(LATE, 5, 10, 0), (OVERWRITTEN, 10, 40, 0)]),
        (50, None, {"oldest_ns": 40 * S}, []),
        (None, None, {"losses": [loss(RING, 7, 20, 21)]}, [(LOST, 20, 21, 7)]),
        (30, None, {"losses": [loss(RING, 7, 20, 21)]}, []),
        (None, 15, {"losses": [loss(RING, 7, 20, 21)]}, []),
        (21, None, {"losses": [loss(RING, 7, 20, 21)]}, [(LOST, 20, 21, 7)]),
        (None, None, {"losses": [loss(RING, 7, 20, 21), loss(RING, 8, 21, 22)]}, [(LOST, 20, 22, 15)]),
        (None, None, {"losses": [loss(RING, 7, 20, 21), loss("x", 1, 20, 21), loss(RING, 8, 30, 31)]},
            [(LOST, 20, 21, 7), (LOST, 20, 21, 1), (LOST, 30, 31, 8)]),
        (None, None, {"unnamed_ns": 90 * S}, [(UNNAMED, 90, 100, 0)]),
        (95, None, {"unnamed_ns": 90 * S}, [(UNNAMED, 95, 100, 0)]),
        (None, 80, {"unnamed_ns": 90 * S}, []),
        (None, 200, {}, []),
    ],
)  # fmt: skip
def test_gaps(since: int | None, until: float | None, fields: dict[str, Any], expected: list[Any]) -> None:
    asked = Asked(None if since is None else since * S, None if until is None else int(until * S))
    assert gaps(asked, known(**fields)) == expected


@pytest.mark.parametrize(
    ("predecessor", "reach", "expected"),
    [
        (None, (3, 3), [(DOWN, 5, 10, 0)]),
        (Predecessor(2, 3), (3, 3), [(DOWN, 5, 10, 0)]),
        (Predecessor(1, 3), (3, 3), []),
        (Predecessor(1, 4), (3, 3), [(DOWN, 5, 10, 1)]),
        (Predecessor(1, 4), (2, 4), [(DOWN, 5, 10, 0)]),
    ],
)
def test_a_restart(predecessor: Predecessor | None, reach: tuple[int, int], expected: list[Any]) -> None:
    resumed = Resume(1, Reach(*reach, 5 * S))
    assert gaps(Asked(5 * S, None, resumed), known(watch=Watch(10 * S, predecessor))) == expected


def test_from_when_to_when_a_node_could_answer() -> None:
    told = coverage("n", Asked(None, None), known(oldest_ns=40 * S), 3)
    [node] = told.nodes
    assert (told.flows, told.complete, told.HasField("since")) == (3, True, False)
    assert (node.node, node.state) == ("n", relay_pb2.NODE_CONNECTED)
    assert (getattr(node, "from").seconds, node.to.seconds) == (40, 100)


async def test_an_answer_ends_with_its_coverage(flows: FlowsStub, observer: Observer, fill: Filler) -> None:
    observer.watch = Watch(WALL)
    fill.count(20)
    messages = await answered(flows, query={"since": {"seconds": WALL // S - 5}, "number": 3})
    told = messages[-1].coverage
    assert [(gap.reason, getattr(gap, "from").seconds - WALL // S, gap.to.seconds - WALL // S) for gap in told.nodes[0].gaps] == [
        (LATE, -5, 0), (OVERWRITTEN, 0, 4)
    ]  # fmt: skip
    assert (told.flows, told.complete) == (3, False)


async def test_names_that_are_not_up_to_date(flows: FlowsStub, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "source_status", lambda: SourceStatus(False, 1000.0, {"pods": "no route"}), raising=False)
    [message] = await answered(flows)
    [gap] = message.coverage.nodes[0].gaps
    assert (gap.reason, getattr(gap, "from").seconds, gap.message) == (UNNAMED, 1000, "names are not up to date: pods: no route")
