"""`flows observe` against real servers on unix sockets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest
from cli_samples import at, loss, shown
from cli_server import Observer, Serve

from flows.cli import servers
from flows.cli.main import main
from flows.proto import extension_pb2, relay_pb2
from flows.proto.observer_pb2 import GetFlowsResponse

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]


def node_status(second: int) -> GetFlowsResponse:
    status = relay_pb2.NodeStatusEvent(state_change=relay_pb2.NODE_UNAVAILABLE, node_names=["n1", "n2"])
    response = GetFlowsResponse(node_status=status, node_name="relay")
    response.time.seconds = second
    return response


def test_the_request_carries_what_was_asked(serve: Serve, capsys: Capture) -> None:
    observer = Observer()
    server = serve(observer)
    assert (
        main(
            [
                "observe",
                "--server",
                server,
                "--to-port",
                "80",
                "--not",
                "--verdict",
                "DROPPED",
                "--first",
                "7",
            ]
        )
        == 0
    )
    (request,) = observer.requests
    assert (request.number, request.first, request.follow) == (7, True, False)
    assert list(request.whitelist[0].destination_port) == ["80"]
    assert list(request.blacklist[0].verdict) == [2]
    assert any(value.startswith("flows-cli") for key, value in observer.metadata if key == "user-agent")


def test_flows_losses_and_node_status_are_printed_as_they_come(serve: Serve, capsys: Capture) -> None:
    server = serve(Observer([at(1), loss(2), node_status(3), at(4)]))
    assert main(["observe", "--server", server]) == 0
    out, err = capsys.readouterr()
    assert shown(out) == ["n1", "2", "n4"]
    assert err == "Jan  1 00:00:03.000 [relay]: 2 nodes are unavailable: n1, n2\n"


def test_json_of_private_data_is_expanded(serve: Serve, capsys: Capture) -> None:
    response = at(1)
    response.flow.extensions.Pack(extension_pb2.FlowExtension(connection=extension_pb2.Connection(id=1 << 40)))
    assert main(["observe", "-o", "json", "--server", serve(Observer([response]))]) == 0
    shown_extension = json.loads(capsys.readouterr().out)["flow"]["extensions"]
    assert shown_extension == {
        "@type": "type.googleapis.com/flows.v1.FlowExtension",
        "connection": {"id": str(1 << 40)},
    }


@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        (
            (grpc.StatusCode.INVALID_ARGUMENT, "not supported yet: http_path"),
            2,
            "not supported yet: http_path",
        ),
        ((grpc.StatusCode.UNKNOWN, "plain"), 1, "plain"),
        ((grpc.StatusCode.PERMISSION_DENIED, "no\nway\x1b"), 1, r"permission denied: no\nway^["),
    ],
)
def test_a_refusal_is_one_line(
    serve: Serve, capsys: Capture, failure: tuple[grpc.StatusCode, str], status: int, message: str
) -> None:
    server = serve(Observer([at(1)], failure=failure))
    assert main(["observe", "--server", server]) == status
    out, err = capsys.readouterr()
    assert shown(out) == ["n1"]
    assert err == f"flows: {server}: {message}\n"


@pytest.mark.parametrize("command", [["observe"], ["observe", "-f"], ["status"], ["list", "namespaces"]])
def test_an_absent_server_is_one_line_with_a_cure(capsys: Capture, tmp_path: Path, command: list[str]) -> None:
    assert main([*command, "--server", f"unix://{tmp_path}/none"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "cannot reach it: No such file or directory; start one with `flows local`" in err


@pytest.fixture
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RELAY_SOCKET", "LOCAL_SOCKET", "DEMO_SOCKET"):
        monkeypatch.setattr(servers, name, f"unix://{tmp_path}/{name}")
    return tmp_path


def test_without_a_name_this_machines_relay_is_asked(serve: Serve, capsys: Capture, empty_machine: Path) -> None:
    serve(Observer([at(1, "agent")]), address=servers.LOCAL_SOCKET)
    serve(Observer([at(1, "relay")]), address=servers.RELAY_SOCKET)
    assert main(["observe"]) == 0
    assert shown(capsys.readouterr().out) == ["relay1"]


@pytest.mark.parametrize("variable", ["FLOWS_SERVER", "HUBBLE_SERVER"])
def test_the_environment_names_a_server(
    serve: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch, empty_machine: Path, variable: str
) -> None:
    serve(Observer([at(1, "relay")]), address=servers.RELAY_SOCKET)
    monkeypatch.setenv(variable, serve(Observer([at(1, "named")])))
    assert main(["observe"]) == 0
    assert shown(capsys.readouterr().out) == ["named1"]


def test_a_malformed_server_is_a_usage_error(capsys: Capture) -> None:
    assert main(["observe", "--server", "/run/x.sock"]) == 2
    assert 'flows: --server "/run/x.sock": expected host:port' in capsys.readouterr().err


def test_what_an_ambiguous_word_was_taken_for_is_said(serve: Serve, capsys: Capture) -> None:
    assert main(["observe", "--server", serve(Observer()), "--from", "svc-a"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    *notes, last = err.splitlines()
    assert all(line.startswith("flows: ") for line in notes)
    assert last == "no flows; the server does not tell whether all nodes answered"
