"""Answers while they change: `flows dns -f` and the like from servers to pipes and terminals."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import grpc
from answer_feeds import messages
from answer_samples import Call, ordered, server_view
from cli_answer_samples import BAD, DNS_FLOWS, NEW, Capture, batch, found, response
from cli_samples import answered, covered
from cli_server import Batches, Observer, Serve

from flows.cli import answers, stream
from flows.cli.answers_options import AnswerOptions, Form
from flows.cli.main import main
from flows.cli.options import Color, ObserveOptions, OutputOptions
from flows.cli.print.answer_screen import JsonLines, Lines, screen_of
from flows.flow.answers.table import Column, Kind, Table
from flows.flow.filter.selection import Selection

if TYPE_CHECKING:
    import pytest

    from flows.proto.flows_pb2 import FlowsRequest


def test_following_shows_rows_as_they_change(serve: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "REDRAW_S", 0.02)
    monkeypatch.setattr(answers, "LOOK_S", 0.0)
    observer = Observer([response(flow) for flow in DNS_FLOWS], failure=None)
    assert main(["dns", "-f", *NEW, "-o", "json", "--server", serve(observer)]) == 0
    assert [row["name"] for row in found(capsys.readouterr().out, "dns")][:1] == ["bad.example.com"]


def test_following_asks_how_far_it_sees_everything(serve: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "REDRAW_S", 0.02)
    monkeypatch.setattr(answers, "LOOK_S", 0.0)
    flows = ordered([*BAD.flows(), *server_view(BAD).flows()])

    def answer(request: FlowsRequest) -> list[Any]:
        return [batch(flows)] if request.query.follow else [covered(answered("node-1"), answered("node-2"))]

    service = Batches(answer=answer, namespaces=[("", "kube-system")])
    assert main(["dns", "-f", *NEW, "-o", "json", "--server", serve(service)]) == 0
    assert found(capsys.readouterr().out, "dns")[-1]["cause"] == "SERVER_REFUSED_IT"


def test_following_goes_on_where_batches_ended(serve: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server went away and came back as one without batches: it is asked for what came after the last flow."""
    monkeypatch.setattr(answers, "REDRAW_S", 0.02)
    monkeypatch.setattr(stream, "BACKOFF_S", (0.01, 0.01))
    times: list[Any] = []

    def answer(request: FlowsRequest) -> list[Any]:
        if times:
            return [(grpc.StatusCode.UNIMPLEMENTED, "no such service")]
        times.append(request.query.since)
        return [*messages(Call().flows()), (grpc.StatusCode.UNAVAILABLE, "gone")]

    service = Batches(answer=answer, responses=[])
    assert main(["http", "-f", *NEW, "-o", "json", "--server", serve(service)]) == 0
    assert [row["path"] for row in found(capsys.readouterr().out)][:1] == ["/users/{id}"]
    assert service.requests[-1].since.ToNanoseconds() == Call().flows()[-1].time.ToNanoseconds() + 1


TABLE = Table("k", (Column("name"), Column("count", Kind.COUNT)), [{"name": "a", "count": 1}, {"name": "b", "count": 1}])
CHANGED = Table("k", TABLE.columns, [{"name": "a", "count": 2}, {"name": "b", "count": 1}])


def test_a_pipe_gets_rows_that_have_changed() -> None:
    out = io.StringIO()
    lines = JsonLines(out, "")
    for table in (TABLE, TABLE, CHANGED):
        lines.show([table], last=False)
    assert [(row["name"], row["count"]) for row in found(out.getvalue())] == [("a", 1), ("b", 1), ("a", 2)]


def test_a_pipe_gets_whole_tables_now_and_then() -> None:
    out = io.StringIO()
    lines = Lines(out, "-count", wide=False)
    lines.show([TABLE], last=False)
    lines.show([CHANGED], last=False)  # too soon
    assert out.getvalue().count("NAME") == 1
    lines.show([CHANGED], last=True)
    assert out.getvalue().splitlines()[-2:] == ["a      2", "b      1"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_drawn_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    options = AnswerOptions(
        ObserveOptions(selection=Selection(follow=True), output=OutputOptions(color=Color.ALWAYS)), Form.TABLE
    )
    with screen_of(options, out) as screen:
        screen.show([TABLE], last=False)
        screen.show([CHANGED], last=True)
    assert out.getvalue().count("NAME") >= 2
    assert "\x1b[1A" in out.getvalue()
