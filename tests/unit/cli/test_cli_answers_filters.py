"""Filters that a request's question passes and its outcome does not: then nothing is said to have been without an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from answer_samples import Call, Query, ordered
from cli_answer_samples import Capture, found, written

from flows.cli.main import main
from flows.flow.answers.filters import part_requests
from flows.flow.answers.told import extension_of
from flows.proto import extension_pb2, flow_pb2
from flows.proto.flow_pb2 import Flow, FlowFilter

if TYPE_CHECKING:
    from pathlib import Path

CALLS = [Call("/ok", number=1), Call("/bad", number=2, at=1, status=503), Call("/none", number=3, at=2, took=None)]
LEFT_OUT = "requests are left out: no flow of what came of them passes the filters"


def calls(folder: Path) -> str:
    later = Call("/late", number=4, at=200)  # until then all answers have come
    return written(folder, ordered(flow for call in [*CALLS, later] for flow in call.flows()))


def queries(folder: Path) -> str:
    """One that was not answered, of which the agent says so with the verdict ERROR, and one that was."""
    lost, good = Query("lost.example.com", took=None, gave_up=5.0), Query("good.example.com", at=20, number=2, port=40_009)
    flows: list[Flow] = [*lost.flows(), *good.flows()]
    for flow in flows:
        if extension_of(flow).connection.event == extension_pb2.NO_RESPONSE:
            flow.verdict = flow_pb2.ERROR
    return written(folder, flows)


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        (["--not", "--http-status", "200"], {"/bad": 0}),
        (["--not", "--http-status", "5+"], {"/ok": 0, "/late": 0}),
        (["--http-status", "5+"], {"/bad": 0}),
        (["--not", "--http-method", "POST"], {"/ok": 0, "/bad": 0, "/none": 1, "/late": 0}),
    ],
    ids=" ".join,
)
def test_no_answer_is_missed_that_was_not_asked_for(
    tmp_path: Path, capsys: Capture, arguments: list[str], paths: dict[str, int]
) -> None:
    assert main(["http", "--input-file", calls(tmp_path), "-o", "json", *arguments]) == 0
    rows = found(capsys.readouterr().out)
    assert {row["path"]: row["no_answer_seen"] + row["waiting"] for row in rows} == paths


def test_what_is_left_out_is_told(tmp_path: Path, capsys: Capture) -> None:
    path = calls(tmp_path)
    assert main(["http", "--input-file", path, "--not", "--http-status", "200"]) == 0
    assert f"\n3 {LEFT_OUT}\n" in capsys.readouterr().out
    assert main(["http", "--input-file", path, "--not", "--http-status", "2+", "--not", "--http-status", "5+"]) == 0
    assert capsys.readouterr().out == f"no HTTP requests; 4 {LEFT_OUT}\n"


@pytest.mark.parametrize("arguments", [["--verdict", "FORWARDED"], ["--not", "--verdict", "ERROR"]], ids=" ".join)
def test_queries_without_their_outcome_are_not_unanswered(tmp_path: Path, capsys: Capture, arguments: list[str]) -> None:
    path = queries(tmp_path)
    assert main(["dns", "--input-file", path, "-o", "json", *arguments]) == 0
    out = capsys.readouterr().out
    assert [(row["name"], row["result"]) for row in found(out, "dns")] == [("good.example.com", "NOERROR")]
    assert found(out, "dns_total")[0]["unanswered"] == 0
    assert main(["dns", "names", "--input-file", path, *arguments]) == 0
    out = capsys.readouterr().out
    assert "lost.example.com" not in out
    assert f"\n1 {LEFT_OUT}\n" in out


def test_a_filter_for_the_outcome_finds_the_request(tmp_path: Path, capsys: Capture) -> None:
    assert main(["dns", "--input-file", queries(tmp_path), "-o", "json", "--verdict", "ERROR"]) == 0
    assert [(row["name"], row["result"]) for row in found(capsys.readouterr().out, "dns")] == [("lost.example.com", "unanswered")]


def test_filters_that_all_flows_of_a_request_pass_alike_part_none() -> None:
    alike = FlowFilter(source_pod=["a/b"], http_path=["/x"], dns_query=["x"], destination_port=["80"], node_name=["n"])
    status = FlowFilter(http_status_code=["5+"])
    assert not part_requests([alike], [alike])
    assert not part_requests([status], [])
    assert part_requests([], [alike, status])
    assert part_requests([alike, FlowFilter(verdict=[flow_pb2.FORWARDED])], [])
