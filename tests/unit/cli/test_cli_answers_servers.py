"""`flows dns`, `flows http` and the like against servers: what is asked for, asked again, and not known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from answer_feeds import messages
from answer_samples import START, A, B, Call, Query, connection, ordered, server_view
from cli_answer_samples import BAD, COMMANDS_OF_ANSWERS, DNS_FLOWS, NEW, Capture, batch, found, response, written
from cli_samples import answered, covered, refused
from cli_server import Batches, Observer, Serve

from flows.cli import answers, answers_stream
from flows.cli.answers_source import Look, again
from flows.cli.main import main
from flows.cli.options import ObserveOptions
from flows.flow.filter.selection import ALL, Selection
from flows.proto import extension_pb2, relay_pb2
from flows.proto.flow_pb2 import FlowFilter

if TYPE_CHECKING:
    from pathlib import Path

    from flows.proto.flow_pb2 import Flow
    from flows.proto.flows_pb2 import FlowsRequest

S = 1_000_000_000


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


@pytest.mark.parametrize(
    ("most", "cause", "evidence"), [(100, "SERVER_REFUSED_IT", "asked nobody"), (1, "unknown", "the newest")]
)
def test_nothing_follows_from_what_a_second_look_lacks_that_brought_as_much_as_it_may(
    serve: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch, most: int, cause: str, evidence: str
) -> None:
    monkeypatch.setattr(answers, "MOST_LOOKED_AT", most)
    flows, end = ordered([*BAD.flows(), *server_view(BAD).flows()]), covered(answered("node-1"), answered("node-2"))
    service = Batches(answer=lambda _: [batch(flows), end], namespaces=[("", "kube-system"), ("", "demo")])
    assert main(["dns", "--from", "svc-a", *NEW, "-o", "json", "--server", serve(service)]) == 0
    (row,) = found(capsys.readouterr().out, "dns")
    assert row["cause"] == cause
    assert evidence in row["evidence"]


@pytest.mark.parametrize(
    ("bound", "cause", "evidence"),
    [
        ([], "unknown", "not seen at kube-system/kube-dns, but node-2 did not answer"),
        (["--last", "100"], "LOST_TO_SERVER", "though node-2 lost nothing"),  # then all is asked for again
    ],
)
def test_what_the_first_look_lacks_is_not_made_good_by_a_second_that_does_not_ask_for_it(
    serve: Serve, capsys: Capture, bound: list[str], cause: str, evidence: str
) -> None:
    lost, known = Query("lost.example.com", took=None, gave_up=5.0), Query("ok.example.com", at=-1.0, number=90, query_id=3)
    flows = ordered(flow for query in (lost, known, server_view(known)) for flow in query.flows())

    def answer(request: FlowsRequest) -> list[Any]:
        second = any(each.dns_query for each in request.query.whitelist)
        return [batch(flows), covered(answered("node-1"), answered("node-2") if second else refused("node-2"))]

    service = Batches(answer=answer, namespaces=[("", "kube-system"), ("", "demo")])
    assert main(["dns", "--from", "svc-a", *(bound or NEW), "-o", "json", "--server", serve(service)]) == 0
    row = next(row for row in found(capsys.readouterr().out, "dns") if row["name"] == "lost.example.com")
    assert row["cause"] == cause
    assert evidence in row["evidence"]


MIXED = ordered(
    [
        *DNS_FLOWS,
        *Call().flows(),
        *Call(number=2, at=0.5, took=None).flows(),
        connection(A, B, spoken=extension_pb2.SPOKEN_HTTP1),
        connection(B, A, spoken=extension_pb2.SPOKEN_TLS),
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
