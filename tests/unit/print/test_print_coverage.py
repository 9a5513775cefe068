"""The sentence about how far an answer can be trusted."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from flows.cli.print.coverage import conclusion, skew
from flows.proto.flows_pb2 import Coverage

NOW = 1_795_356_000_000_000_000  # 2026-11-22T14:00:00Z


def coverage(**fields: object) -> Coverage:
    return json_format.ParseDict(fields, Coverage())


def node(name: str = "node-1", **fields: object) -> dict[str, object]:
    return {"node": name, "state": "NODE_CONNECTED"} | fields


def gap(reason: str, since: str = "", until: str = "", **fields: object) -> dict[str, object]:
    times = {name: f"2026-11-22T{value}Z" for name, value in (("from", since), ("to", until)) if value}
    return {"reason": reason} | times | fields


THREE = [node(f"node-{n}") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"since": "2026-11-22T13:50:00Z"}, "all 3 nodes answered for the last 10m"),
        (
            {"since": "2026-11-22T13:50:00Z", "until": "2026-11-22T13:59:59.9Z"},
            "all 3 nodes answered for the last 10m",
        ),
        ({"since": "2026-11-22T12:29:15Z"}, "all 3 nodes answered for the last 1h30m45s"),
        (
            {"since": "2026-11-21T10:00:00Z", "until": "2026-11-22T10:05:00Z"},
            "all 3 nodes answered for 2026-11-21 10:00:00 to 10:05:00",
        ),
        ({"since": "2026-11-22T14:05:00Z"}, "all 3 nodes answered for 14:05:00 and later, which is yet to come"),
        (
            {"since": "2026-11-22T14:05:00Z", "until": "2026-11-22T14:10:00Z"},
            "all 3 nodes answered for 14:05:00 and later, which is yet to come",
        ),
        (
            {"since": "2026-11-22T13:50:00Z", "until": "2026-11-22T15:00:00Z"},
            "all 3 nodes answered for the last 10m",
        ),
        (
            {"since": "2026-11-22T13:59:59Z", "until": "2026-11-22T13:59:57Z"},
            "all 3 nodes answered for 13:59:59 to 13:59:57",
        ),
        ({}, "all 3 nodes answered"),
        ({"nodes": [node()]}, "node-1 answered"),
        (
            {"nodes": [node("a", **{"from": "2026-11-22T13:00:00Z"}), node("b", **{"from": "2026-11-22T13:30:00Z"})]},
            "all 2 nodes answered, back to 13:30:00",
        ),
    ],
)
def test_nothing_found_and_nothing_missing(fields: dict[str, object], expected: str) -> None:
    assert conclusion(0, coverage(**{"nodes": THREE, "complete": True} | fields), NOW) == f"no flows; {expected}"


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (
            [node("node-3", state="NODE_UNAVAILABLE", message="connection refused", gaps=[gap("DOWN")])],
            "node-3 did not answer (connection refused)",
        ),
        (
            [node("node-2", gaps=[gap("LOST", "10:02:11", "10:02:13", count=1412, message="ring full")])],
            "node-2 lost 1,412 events between 10:02:11 and 10:02:13 (ring full)",
        ),
        (
            [node(gaps=[gap("LOST", "10:02:11", "10:02:11", count=1), gap("LOST", "10:03:00", "10:04:00", count=2)])],
            "node-1 lost 3 events between 10:02:11 and 10:04:00",
        ),
        ([node(gaps=[gap("LOST", "10:02:11.1", "10:02:11.9", count=1)])], "node-1 lost 1 event at 10:02:11"),
        ([node(gaps=[gap("DOWN", "10:02:11")])], "node-1 was down since 10:02:11"),
        ([node(gaps=[gap("OVERWRITTEN", "10:00:00", "10:02:11")])], "node-1 no longer has what was before 10:02:11"),
        ([node(gaps=[gap("LATE", until="10:02:11")])], "node-1 was not observed before 10:02:11"),
        ([node(gaps=[gap("SAMPLED", message="1 in 10")])], "node-1 looked at samples only (1 in 10)"),
        ([node(gaps=[gap("UNNAMED", "10:00:00", "10:02:11")])], "node-1 did not know all names between 10:00:00 and 10:02:11"),
        ([node(gaps=[gap("GAP_REASON_UNKNOWN")])], "node-1 has a gap"),
        ([node()], "the server says that nodes are missing, but not which"),
        ([], "no node could be asked"),
        ([{"message": "no agents are known"}], "no agents are known"),
        ([node(), {"message": "the list of nodes may be old\n"}], r"the list of nodes may be old\n"),
        ([node(state="NODE_ERROR", message="x" * 500)], f"node-1 did not answer ({'x' * 160}...)"),
        (
            [node(f"n{n}", state="NODE_ERROR", message="x\x1b") for n in range(5)],
            "n0, n1, n2 and 2 more did not answer (x^[)",
        ),
        (
            [node(f"n{n}\n", gaps=[gap("LOST", count=n)]) for n in range(1, 7)],
            r"n1\n lost 1 event, n2\n lost 2 events, n3\n lost 3 events, n4\n lost 4 events and 2 more (-o json has all)",
        ),
    ],
)
def test_what_is_missing_is_named(nodes: list[dict[str, object]], expected: str) -> None:
    told = coverage(nodes=nodes)
    assert conclusion(0, told, NOW) == f"no flows, but {expected}: unknown"
    assert conclusion(1020, told, NOW) == f"1,020 flows; incomplete: {expected}"


def test_nothing_is_said_of_a_whole_answer() -> None:
    assert conclusion(1, coverage(nodes=THREE, complete=True), NOW) == ""
    assert conclusion(1, None, NOW) == ""


def test_times_that_cannot_be_are_harmless() -> None:
    told = coverage(nodes=[node()])
    told.nodes[0].gaps.add(reason="DOWN").__getattribute__("from").seconds = 1 << 62
    assert conclusion(0, told, NOW) == "no flows, but node-1 was down since N/A: unknown"


def test_only_skew_that_matters_is_told() -> None:
    nodes = coverage(
        nodes=[
            node("a", clock_offset="0.2s", clock_error="0.0005s"),
            node("b", clock_offset="-0.011s"),
            node("c", clock_offset="0.009s"),
            node("d"),
        ]
    ).nodes
    assert skew(nodes) == "a is 200 ms ahead (± 0.5 ms), b is 11 ms behind (± 0.0 ms)"
    assert skew(nodes[2:]) == ""
