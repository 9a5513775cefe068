"""`flows observe` against servers with the batched service: flows, losses, coverage, exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest
from cli_samples import answered, at, batch, covered, loss, refused, shown
from cli_server import Batches, Observer, Serve

from flows.cli.batches import BatchResponses
from flows.cli.main import main
from flows.flow.batch import BatchError
from flows.proto import flows_pb2, relay_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

Capture = pytest.CaptureFixture[str]
FLOWS = [sys.executable, "-m", "flows.cli.main"]


def of(*batches: flows_pb2.FlowBatch) -> Batches:
    return Batches(answer=lambda _: batches)


def test_batches_are_shown_like_an_observers_flows(serve: Serve, capsys: Capture) -> None:
    server = of(batch([1, 2]), covered(answered("n")))
    assert main(["observe", "--server", serve(server), "--to-port", "80", "--last", "7"]) == 0
    out, err = capsys.readouterr()
    assert shown(out) == ["n1", "n2"]
    assert "shop/n-client" in out
    assert err == ""
    (request,) = server.batch_requests
    assert (request.query.number, list(request.query.whitelist[0].destination_port)) == (7, ["80"])
    assert server.requests == []


def test_ends_and_extensions_are_put_back(serve: Serve, capsys: Capture) -> None:
    assert main(["observe", "-o", "json", "--server", serve(of(batch([1])))]) == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["flow"]["source"] == {"namespace": "shop", "pod_name": "n-client"}
    assert line["flow"]["extensions"]["connection"] == {"id": "1"}
    assert (line["node_name"], line["time"]) == ("n", "1970-01-01T00:00:01Z")


def test_a_field_mask_also_cuts_the_ends(serve: Serve, capsys: Capture) -> None:
    server = of(batch([1]))
    assert main(["observe", "-o", "json", "--field-mask", "time,source.pod_name", "--server", serve(server)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "flow": {"time": "1970-01-01T00:00:01Z", "source": {"pod_name": "n-client"}},
        "time": "1970-01-01T00:00:01Z",
    }
    assert list(server.batch_requests[0].query.field_mask.paths) == ["time", "source.pod_name"]


def test_losses_and_node_status_are_told(serve: Serve, capsys: Capture) -> None:
    message = batch([1])
    message.losses.add(node="n2", reason="ring full", count=1412, source="HUBBLE_RING_BUFFER").last.seconds = 5
    message.node_status.add(state_change=relay_pb2.NODE_UNAVAILABLE, node_names=["n\x1b3"])
    assert main(["observe", "--server", serve(of(message))]) == 0
    out, err = capsys.readouterr()
    assert shown(out) == ["n1", "1412"]
    assert "[relay]: 1 nodes are unavailable: n^[3\n" in err


def test_a_stream_may_begin_its_tables_anew(serve: Serve, capsys: Capture) -> None:
    assert main(["observe", "--server", serve(of(batch([1], "a"), batch([2], "b")))]) == 0
    out = capsys.readouterr().out
    assert "shop/a-client" in out.splitlines()[0]
    assert "shop/b-client" in out.splitlines()[1]


def test_a_flow_that_is_none_is_left_out_and_missed(serve: Serve, capsys: Capture) -> None:
    message = batch([1, 2, 3])
    message.flows[1] = b"\xff\xff"
    server = serve(of(message, covered(answered("n"))))
    assert main(["observe", "--exit-code", "--server", server]) == 3
    out, err = capsys.readouterr()
    assert shown(out) == ["n1", "n3"]
    assert err == f"flows: {server}: flows are left out whose bytes cannot be read\n"


def test_columns_that_do_not_fit_are_an_error(serve: Serve, capsys: Capture) -> None:
    message = batch([1])
    message.time_ns = b"short"
    with pytest.raises(BatchError):
        BatchResponses(flows_pb2.FlowsRequest().query.field_mask).read(message)
    assert main(["observe", "--server", serve(of(message))]) == 1
    assert "its batch cannot be read: column time_ns has 5 bytes for 1 flows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("batches", "line"),
    [
        ([covered(*map(answered, "abc"))], "no flows; all 3 nodes answered"),
        ([covered(answered("a"), refused("b"), complete=False)], "no flows, but b did not answer (connection refused): unknown"),
        ([batch([1]), covered(refused("b"), complete=False)], "1 flow; incomplete: b did not answer (connection refused)"),
        ([batch([1]), covered(answered("a"))], ""),
    ],
)
def test_people_get_a_line_when_nothing_was_found_or_something_is_missing(
    serve: Serve, capsys: Capture, batches: Sequence[flows_pb2.FlowBatch], line: str
) -> None:
    server = serve(of(*batches))
    assert main(["observe", "--server", server]) == 0
    assert capsys.readouterr().err.rstrip("\n") == line
    assert main(["observe", "-s", "-o", "dict", "--server", server]) == 0
    assert capsys.readouterr().err == ""


def test_a_plain_server_does_not_tell(serve: Serve, capsys: Capture) -> None:
    assert main(["observe", "--server", serve(Observer())]) == 0
    assert capsys.readouterr().err == "no flows; the server does not tell whether all nodes answered\n"
    assert main(["observe", "--server", serve(Observer([at(1)]))]) == 0
    assert capsys.readouterr().err == ""


def test_clock_skew_is_told_with_debug(serve: Serve, capsys: Capture) -> None:
    node = answered("a")
    node.clock_offset.FromMilliseconds(200)
    node.clock_error.FromMicroseconds(500)
    server = serve(of(batch([1]), covered(node)))
    assert main(["observe", "-D", "--server", server]) == 0
    assert capsys.readouterr().err == "clocks: a is 200 ms ahead (± 0.5 ms)\n"


@pytest.mark.parametrize("silent", [[], ["-s"]])
def test_json_carries_the_coverage_as_its_last_line(serve: Serve, capsys: Capture, silent: list[str]) -> None:
    server = serve(of(batch([1]), covered(answered("a"), refused("b\x1b<"), complete=False)))
    assert main(["observe", "-o", "json", *silent, "--server", server]) == 0
    out, err = capsys.readouterr()
    flow, last = map(json.loads, out.splitlines())
    assert flow["flow"]["Summary"] == "n1"
    assert last["coverage"]["nodes"][1] == {
        "node": "b\x1b<",
        "state": "NODE_UNAVAILABLE",
        "message": "connection refused",
    }
    assert (last["node_name"], "complete" in last["coverage"]) == ("relay", False)
    assert last["time"].endswith("Z")
    assert err == ""


def test_legacy_json_has_no_coverage(serve: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBLE_COMPAT", "legacy-json-output")
    assert main(["observe", "-o", "json", "--server", serve(of(batch([1]), covered(answered("a"))))]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["Summary"] == "n1"


BROKEN = covered(answered("a"), refused("b"), complete=False)
WHOLE = covered(answered("a"))
STATUS = [
    (of(batch([1]), WHOLE), [], 0),
    (of(batch([1]), BROKEN), ["--to-port", "80"], 0),
    (of(batch([1]), BROKEN), [], 3),
    (of(batch([1]), BROKEN), ["--last", "50"], 3),
    (of(WHOLE), [], 1),
    (of(WHOLE), ["--to-port", "80"], 1),
    (of(BROKEN), [], 3),
    (of(BROKEN), ["--to-port", "80"], 3),
    (Observer([at(1)]), [], 0),
    (Observer([at(1), loss(2)]), [], 3),
    (Observer([at(1), loss(2)]), ["--to-port", "80"], 0),
    (Observer(), [], 3),
    (Observer(failure=(grpc.StatusCode.PERMISSION_DENIED, "no")), [], 1),
]


@pytest.mark.parametrize(("server", "flags", "status"), STATUS)
def test_exit_code(serve: Serve, capsys: Capture, server: Observer, flags: list[str], status: int) -> None:
    assert main(["observe", "--server", serve(server), "--exit-code", *flags]) == status


def test_without_the_flag_the_exit_status_only_tells_that_it_worked(serve: Serve) -> None:
    command = [*FLOWS, "observe", "--last", "50", "--server", serve(of(batch([1]), BROKEN))]
    plain = subprocess.run(command, capture_output=True, check=False, timeout=30)
    asked = subprocess.run([*command, "--exit-code"], capture_output=True, check=False, timeout=30)
    assert (plain.returncode, asked.returncode) == (0, 3)
    assert plain.stdout == asked.stdout
    assert asked.stderr == b"1 flow; incomplete: b did not answer (connection refused)\n"
