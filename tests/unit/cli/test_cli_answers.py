"""`flows dns`, `flows dns names`, `flows http`, `flows encryption`: from the command line to rows, against files and servers."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from cli_samples import answered, covered, refused
from cli_server import Batches, Observer, Serve

from flows.cli import answers, answers_stream, stream
from flows.cli.answers_options import ANSWER_OPTIONS, AnswerOptions, Form
from flows.cli.answers_source import Look, again
from flows.cli.commands import COMMANDS
from flows.cli.main import main
from flows.cli.options import Color, ObserveOptions, OutputOptions
from flows.cli.print.answer_cells import cell, duration, size
from flows.cli.print.answer_screen import JsonLines, Lines, screen_of
from flows.flow.answers.table import Column, Kind, Table
from flows.flow.batch import COLUMNS as BATCH_COLUMNS
from flows.flow.batch import Batch, BatchWriter, objects
from flows.flow.ends import EndTable
from flows.flow.filter.selection import ALL, Selection
from flows.flow.protojson import to_json
from flows.proto import relay_pb2
from flows.proto.flow_pb2 import FlowFilter
from flows.proto.observer_pb2 import GetFlowsResponse

sys.path.insert(0, str(Path(__file__).parents[1] / "answers"))
from answer_samples import START, A, B, Call, Query, connection, coverage, messages, ordered, server_view, upstream_query

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flows.proto.flow_pb2 import Flow
    from flows.proto.flows_pb2 import FlowsRequest

Capture = pytest.CaptureFixture[str]
COMMANDS_OF_ANSWERS = (["dns"], ["dns", "names"], ["http"], ["encryption"])
BAD = Query("bad.example.com", rcode=2)
EVIL = Query("x\x1b[2J\u202e.example.com", rcode=2, number=9, query_id=9)
DNS_FLOWS = ordered([*BAD.flows(), *server_view(BAD).flows(), *upstream_query(BAD, rcode=5, took=0.0002).flows()])
NEW = ["--since", "2020-01-01"]
S = 1_000_000_000


def response(flow: Flow) -> GetFlowsResponse:
    made = GetFlowsResponse(flow=flow, node_name=flow.node_name)
    made.time.CopyFrom(flow.time)
    return made


def written(folder: Path, flows: Iterable[Flow], *, told: bool = True) -> str:
    path = folder / "flows.json"
    lines = [to_json(response(flow)) for flow in flows]
    if told:
        lines.append(f'{{"coverage":{to_json(coverage())},"node_name":"relay"}}')
    path.write_text("\n".join(lines))
    return str(path)


def found(text: str, kind: str = "") -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in text.splitlines()]
    return [row for row in rows if "kind" in row and kind in {"", row["kind"]}]


def test_dns_of_a_file_as_json(tmp_path: Path, capsys: Capture) -> None:
    assert main(["dns", "--input-file", written(tmp_path, DNS_FLOWS), "-o", "json", "--from", "svc-a"]) == 0
    out = capsys.readouterr().out
    (row,) = found(out, "dns")
    assert {key: row[key] for key in ("client", "server", "name", "qtype", "result", "count", "cause")} == {
        "client": "demo/svc-a", "server": "kube-system/kube-dns", "name": "bad.example.com", "qtype": "A", "result": "SERVFAIL",
        "count": 1, "cause": "UPSTREAM_FAILED",
    }  # fmt: skip
    assert row["quantile_error"] == 0.01
    assert row["last_seen"].endswith("Z")
    assert found(out, "dns_total")[0]["failed"] == 1
    assert json.loads(out.splitlines()[-1])["coverage"]["complete"]


def test_dns_of_a_file_as_a_table(tmp_path: Path, capsys: Capture) -> None:
    assert main(["dns", "--input-file", written(tmp_path, DNS_FLOWS)]) == 0
    out, err = capsys.readouterr()
    header = out.splitlines()[0].split()
    assert header[:6] == ["CLIENT", "SERVER", "NAME", "TYPE", "RESULT", "COUNT"]
    assert "UPSTREAM_FAILED" in out
    assert "\ntotals\n" in out
    assert "quantiles: within 1 % (DDSketch)" in out
    assert err == ""


def test_standard_input_is_read_for_both_looks(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(written(tmp_path, DNS_FLOWS)).read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["dns", "--input-file", "-", "--from", "svc-a", "-o", "json"]) == 0
    assert found(capsys.readouterr().out, "dns")[0]["cause"] == "UPSTREAM_FAILED"


def test_names_and_connections_of_a_file(tmp_path: Path, capsys: Capture) -> None:
    query = Query("svc-b.demo", ips=(B.address,))
    path = written(tmp_path, ordered([*query.flows(), connection(A, B, at=1, port=80)]))
    assert main(["dns", "names", "--from", "svc-a", "--input-file", path, "-o", "json"]) == 0
    (row,) = found(capsys.readouterr().out, "dns_name")
    assert (row["name"], row["outcome"], row["connection"]) == ("svc-b.demo", "resolved", "10.0.2.1 TCP 80")


def test_http_of_a_file_sorted(tmp_path: Path, capsys: Capture) -> None:
    calls = [Call("/a", number=1), Call("/b", number=2, at=1, took=0.5), Call("/c", number=3, at=2, took=0.1, client=B, server=A)]
    path = written(tmp_path, ordered(flow for call in calls for flow in call.flows()))
    assert main(["http", "--from", "svc-a", "--to", "svc-b", "--input-file", path, "-o", "json", "--sort", "-p99"]) == 0
    assert [row["path"] for row in found(capsys.readouterr().out)] == ["/b", "/a"]


def test_encryption_of_a_file(tmp_path: Path, capsys: Capture) -> None:
    path = written(tmp_path, [connection(A, B, spoken=2), connection(B, A, spoken=4)])
    assert main(["encryption", "--input-file", path]) == 0
    out = capsys.readouterr().out
    assert out.index(" plain ") < out.index(" encrypted ")
    assert "1 encrypted, 1 plain, 0 unknown connections" in out


@pytest.mark.parametrize("command", COMMANDS_OF_ANSWERS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "nope"], '--sort "nope": expected one of client, server'),
        (["--sort", "cleint"], "did you mean client?"),
        (["-o", "compact"], '--output "compact": expected one of table, wide, json'),
        (["--form", "x"], "unknown flag: --form; did you mean --from?"),
        (["svc-a"], 'unexpected argument "svc-a"'),
        (["--from", "a/b/c"], "did you mean a/b?"),
        (["--since", "yesterdayish"], "--since"),
        (["-f", "--exit-code"], "--exit-code: --follow never ends"),
        (["--last", "3", "--first", "3"], "cannot set both --first and --last"),
        (["--field-mask", "time"], "unknown flag: --field-mask"),
        (["--sort"], "--sort: a value must follow: COLUMN"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_a_usage_error(capsys: Capture, command: list[str], arguments: list[str], message: str) -> None:
    assert main([*command, *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message.replace("client, server", "client") in err


@pytest.mark.parametrize("command", COMMANDS_OF_ANSWERS)
def test_help_has_all_filters_and_sort(capsys: Capture, command: list[str]) -> None:
    assert main([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: flows {' '.join(command)} [flags]" in out
    assert all(flag in out for flag in ("--from", "--http-status", "--server", "--port-forward", "--sort", "--since"))
    assert "--field-mask" not in out


@pytest.mark.parametrize("command", COMMANDS_OF_ANSWERS)
@pytest.mark.parametrize("form", ["table", "wide", "json"])
def test_nothing_is_said_to_be_nothing(tmp_path: Path, capsys: Capture, command: list[str], form: str) -> None:
    path = written(tmp_path, [])
    assert main([*command, "--input-file", path, "-o", form]) == 0
    assert main([*command, "--input-file", path, "--exit-code", "-o", form]) == 1


@pytest.mark.parametrize("form", ["table", "wide", "json"])
def test_what_comes_from_the_network_is_escaped(tmp_path: Path, capsys: Capture, form: str) -> None:
    path = written(tmp_path, EVIL.flows())
    for command in (["dns"], ["dns", "names"]):
        assert main([*command, "--input-file", path, "-o", form]) == 0
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        if form != "json":
            assert "x^[[2j\\u202e.example.com" in out


def test_colours_never_carry_what_the_network_says(tmp_path: Path, capsys: Capture) -> None:
    assert main(["dns", "--input-file", written(tmp_path, EVIL.flows()), "--color", "always"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[31m" in out
    assert "\x1b[2J" not in out


def test_the_filters_that_are_sent_go_both_ways(capsys: Capture) -> None:
    assert main(["dns", "--from-ip", "10.0.1.1", "--not", "--to-port", "5353", "--print-raw-filters"]) == 0
    assert capsys.readouterr().out == (
        "allowlist:\n"
        '    - \'{"source_ip":["10.0.1.1"],"protocol":["dns"],"reply":[false]}\'\n'
        '    - \'{"destination_ip":["10.0.1.1"],"protocol":["dns"],"reply":[true]}\'\n'
        "denylist:\n"
        '    - \'{"destination_port":["5353"],"reply":[false]}\'\n'
        '    - \'{"source_port":["5353"],"reply":[true]}\'\n'
    )


def batch(flows: list[Flow]) -> Any:
    """A stream's first batch of whole flows."""
    ends, n = EndTable(), len(flows)
    columns = Batch(
        flows=objects([flow.SerializeToString() for flow in flows]),
        connections=objects([b""] * n),
        **{name: np.zeros(n, dtype) for name, dtype in BATCH_COLUMNS.items()},  # type: ignore[arg-type]
    )
    ends.number(b"")
    return BatchWriter(ends, ["n"]).write(columns)


def test_a_server_is_asked_again_for_what_explains_a_failure(serve: Serve, capsys: Capture) -> None:
    def answer(request: FlowsRequest) -> list[Any]:
        second = any(each.dns_query for each in request.query.whitelist)
        flows = DNS_FLOWS if second else ordered([*BAD.flows(), *server_view(BAD).flows()])
        return [batch(flows), covered(answered("node-1"), answered("node-2"))]

    service = Batches(answer=answer, namespaces=[("", "kube-system"), ("", "demo")])
    assert main(["dns", "--from", "svc-a", *NEW, "-o", "json", "--server", serve(service)]) == 0
    (row,) = found(capsys.readouterr().out, "dns")
    assert row["cause"] == "UPSTREAM_FAILED"
    first, second = service.batch_requests
    assert all("dns" in each.protocol for each in first.query.whitelist)
    assert [each.dns_query for each in second.query.whitelist if each.dns_query] == [["(?i)^bad\\.example\\.com[.]?$"]]
    assert second.query.since.seconds == START // 10**9 - 5  # what is to be explained did not begin earlier
    assert list(second.query.blacklist) == list(first.query.whitelist)


MIXED = ordered(
    [
        *DNS_FLOWS,
        *Call().flows(),
        *Call(number=2, at=0.5, took=None).flows(),
        connection(A, B, spoken=2),
        connection(B, A, spoken=4),
    ]
)


@pytest.mark.parametrize("command", COMMANDS_OF_ANSWERS)
def test_batches_give_what_a_file_of_the_same_flows_gives(
    tmp_path: Path, serve: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(answers_stream, "TURN", 2)
    end = covered(answered("node-1"), answered("node-2"))
    server = serve(Batches(answer=lambda _: [*messages(MIXED), end], namespaces=[("", "kube-system"), ("", "demo")]))
    times = ["--since", "2027-01-15T07:00:00Z", "--until", "2027-01-15T09:00:00Z", "-o", "json"]  # START is between
    assert main([*command, "--input-file", written(tmp_path, MIXED), *times]) == 0
    rows = found(capsys.readouterr().out)
    assert main([*command, "--server", server, *times]) == 0
    assert found(capsys.readouterr().out) == rows
    assert rows


def test_what_batches_tell_beside_flows_is_heard(serve: Serve, capsys: Capture) -> None:
    (broken,), (good,) = messages(Call().flows()[:1]), messages(Call().flows()[1:])
    broken.flows[0] = b"\xff"
    broken.node_status.add(state_change=relay_pb2.NODE_ERROR, node_names=["node-3"], message="it is away")
    broken.losses.add(node="node-3", reason="ring", count=3)
    good.fresh = True
    service = Batches(answer=lambda _: [broken, good, covered(answered("node-1"))])
    assert main(["http", *NEW, "--exit-code", "--server", serve(service)]) == 3
    out, err = capsys.readouterr()
    assert "/users/{id}" in out
    assert "node-3: it is away" in err
    assert "flows are left out whose bytes cannot be read" in err


def test_batches_that_do_not_fit_together_are_an_error(serve: Serve, capsys: Capture) -> None:
    (broken,) = messages(Call().flows()[:1])
    broken.source = b"\xff" * 4
    assert main(["http", *NEW, "--server", serve(Batches(answer=lambda _: [broken]))]) == 1
    assert "its batch cannot be read" in capsys.readouterr().err


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


ASKED = (FlowFilter(protocol=["dns"], source_ip=["10.0.1.1"]),)
WANTED = (FlowFilter(protocol=["dns"], dns_query=["x"]),)
UNWANTED = (FlowFilter(source_ip=["10.0.1.2"]),)


@pytest.mark.parametrize(
    ("selection", "deny", "look", "expected"),
    [
        pytest.param(Selection(since=100 * S), (), Look(WANTED, 150 * S, known=True), [(145, None, ASKED)], id="known"),
        pytest.param(Selection(since=100 * S), (), Look(WANTED, 150 * S), [(145, None, ())], id="not known"),
        pytest.param(Selection(since=100 * S), (), Look(WANTED), [(95, None, ())], id="at any time"),
        pytest.param(Selection(), (), Look(WANTED), [(None, None, ())], id="all"),
        pytest.param(Selection(number=ALL), (), Look(WANTED, 150 * S, known=True), [(145, None, ASKED)], id="all, known"),
        pytest.param(
            Selection(number=9), (), Look(WANTED, 150 * S, known=True), [(145, None, ())], id="only the last were known"
        ),
        pytest.param(
            Selection(since=100 * S),
            UNWANTED,
            Look(WANTED, 150 * S, known=True),
            [(145, None, ())],
            id="what was denied is not known",
        ),
        pytest.param(
            Selection(since=100 * S, until=200 * S),
            (),
            Look(WANTED, 102 * S, known=True),
            [(97, 100, ()), (97, 200, ASKED)],
            id="what was before the first look is not known",
        ),
    ],
)
def test_a_second_look_leaves_out_what_is_known(selection: Selection, deny: Any, look: Look, expected: list[Any]) -> None:
    options = ObserveOptions(allow=ASKED, deny=deny, selection=selection)
    asked = [(each.selection.since, each.selection.until, each.deny) for each in again(options, look)]
    assert asked == [(since and since * S, until and until * S, denied) for since, until, denied in expected]
    assert all(each.allow == WANTED for each in again(options, look))


@pytest.mark.parametrize(("namespaces", "cause"), [(["kube-system", "demo"], "SERVER_REFUSED_IT"), (["demo"], "unknown")])
def test_what_the_caller_may_not_see_is_not_taken_for_absent(
    serve: Serve, capsys: Capture, namespaces: list[str], cause: str
) -> None:
    flows = ordered([*BAD.flows(), *server_view(BAD).flows()])
    end = covered(answered("node-1"), answered("node-2"))
    service = Batches(answer=lambda _: [batch(flows), end], namespaces=[("", name) for name in namespaces])
    assert main(["dns", *NEW, "-o", "json", "--server", serve(service)]) == 0
    assert found(capsys.readouterr().out, "dns")[0]["cause"] == cause


@pytest.mark.parametrize(
    ("flows", "end", "status", "line"),
    [
        ([], covered(answered("node-1")), 1, "no flows; node-1 answered"),
        ([], covered(answered("node-1"), refused("node-2"), complete=False), 3, "no flows, but node-2 did not answer"),
        (
            DNS_FLOWS,
            covered(answered("node-1"), refused("node-2"), complete=False),
            3,
            "flows; incomplete: node-2 did not answer",
        ),
        (DNS_FLOWS, covered(answered("node-1")), 0, ""),
    ],
)
def test_none_differs_from_not_known(serve: Serve, capsys: Capture, flows: list[Flow], end: Any, status: int, line: str) -> None:
    service = Batches(answer=lambda _: [batch(flows), end] if flows else [end])
    assert main(["dns", "--exit-code", *NEW, "--server", serve(service)]) == status
    assert line in capsys.readouterr().err


def test_hubbles_service_does_as_well(serve: Serve, capsys: Capture) -> None:
    observer = Observer([response(flow) for flow in Call().flows()])
    assert main(["http", *NEW, "-o", "json", "--server", serve(observer)]) == 0
    (row,) = found(capsys.readouterr().out)
    assert (row["path"], row["count"]) == ("/users/{id}", 1)


def test_without_a_time_the_last_five_minutes_are_asked_for(serve: Serve, capsys: Capture) -> None:
    observer = Observer()
    server = serve(observer)
    for arguments in ([], ["--all"], ["--last", "7"]):
        assert main(["http", "--server", server, *arguments]) == 0
    first, everything, last = observer.requests
    assert first.HasField("since")
    assert (everything.HasField("since"), everything.number) == (False, (1 << 64) - 1)
    assert (last.HasField("since"), last.number) == (False, 7)


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


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (None, Kind.COUNT, "-"),
        (0, Kind.COUNT, "0"),
        (12345, Kind.COUNT, "12,345"),
        (8080, Kind.NUMBER, "8080"),
        (1_234_567, Kind.DURATION, "1.23ms"),
        (["a", "b", "c", "d"], Kind.LIST, "a, b, c and 1 more"),
        ({"x\n": 3}, Kind.COUNTS, "x\\n 3"),
        (0.012, Kind.RATE, "0.012"),
        (1 << 90, Kind.TIME, "N/A"),
        ("", Kind.TEXT, "-"),
    ],
)
def test_values_of_cells(value: object, kind: Kind, expected: str) -> None:
    assert cell(value, Column("x", kind)) == expected


def test_durations_and_sizes() -> None:
    assert [duration(each) for each in (5, 5_000, 123_400_000, 5_000_000_000)] == ["5ns", "5µs", "123ms", "5s"]
    assert [size(each) for each in (5, 2048, 5 << 30, 5 << 50)] == ["5 B", "2.0 KiB", "5.0 GiB", "5,120.0 TiB"]


def test_completion_knows_the_flags_of_answers(capsys: Capture) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert all(f"{'-l ' if shell == 'fish' else '--'}{name}" in script for name in ANSWER_OPTIONS)
    assert {"dns", "http", "encryption"} <= COMMANDS.keys()


def test_every_column_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "answers.md").read_text()
    from flows.flow.answers.dns import DnsAnswer  # noqa: PLC0415
    from flows.flow.answers.encryption import EncryptionAnswer  # noqa: PLC0415
    from flows.flow.answers.http import HttpAnswer  # noqa: PLC0415
    from flows.flow.answers.names import NamesAnswer  # noqa: PLC0415

    for answer in (DnsAnswer, NamesAnswer, HttpAnswer, EncryptionAnswer):
        missing = [column.key for column in answer.columns if f"`{column.key}`" not in text]
        assert missing == []
