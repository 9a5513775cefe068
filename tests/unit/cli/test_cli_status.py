"""`flows status` and `flows list namespaces` against a real server."""

from __future__ import annotations

import json

import pytest
from cli_server import Observer, Serve

from flows.cli.main import main
from flows.proto.observer_pb2 import ServerStatusResponse

Capture = pytest.CaptureFixture[str]
STATUS = ServerStatusResponse(num_flows=3, max_flows=4, seen_flows=5, uptime_ns=10**9, version="v1")


def test_status_says_that_the_server_is_well(serve: Serve, capsys: Capture) -> None:
    server = serve(Observer(status=STATUS))
    assert main(["status", "--server", server]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"Healthcheck (via {server}): Ok",
        "Current/Max Flows: 3/4 (75.00%)",
        "Flows/s: 5.00",
    ]


@pytest.mark.parametrize(
    ("output", "first"),
    [("dict", "          NUM FLOWS: 3"), ("table", "NUM FLOWS   MAX FLOWS   SEEN FLOWS   ")],
)
def test_status_formats(serve: Serve, capsys: Capture, output: str, first: str) -> None:
    assert main(["status", "-o", output, f"--server={serve(Observer(status=STATUS))}"]) == 0
    assert capsys.readouterr().out.startswith(first)


def test_status_as_json(serve: Serve, capsys: Capture) -> None:
    assert main(["status", "--output=json", "--server", serve(Observer(status=STATUS))]) == 0
    expected = '{"num_flows":"3","max_flows":"4","seen_flows":"5","uptime_ns":"1000000000","version":"v1"}\n'
    assert capsys.readouterr().out == expected


def test_a_server_that_is_ill_is_a_failure(serve: Serve, capsys: Capture) -> None:
    server = serve(Observer(serving=False))
    assert main(["status", "--server", server]) == 1
    assert capsys.readouterr().err == f"flows: {server}: not healthy\n"


def test_namespaces(serve: Serve, capsys: Capture) -> None:
    server = serve(Observer(namespaces=[("", "shop"), ("west", "a"), ("", "shop")]))
    for output in ("table", "wide", "json"):
        assert main(["list", "namespaces", "--server", server, "-o", output]) == 0
    table, wide, listed = capsys.readouterr().out.partition("NAMESPACE   ")
    assert table.splitlines() == ["NAMESPACE", "shop", "a"]
    assert listed.splitlines()[:3] == ["CLUSTER", "shop", "a           west"]
    assert json.loads(listed[listed.index("[") :]) == [
        {"namespace": "shop"},
        {"cluster": "west", "namespace": "a"},
    ]
    assert wide


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["status", "-o", "jsn"],
            'flows: --output "jsn": expected one of compact, dict, json, table; did you mean json?',
        ),
        (["status", "--sever", "x"], 'flows: flows status: unexpected "--sever"; did you mean --server?'),
        (["status", "--from", "x"], 'flows: flows status: unexpected "--from"'),
        (["list", "pods"], 'flows: flows list "pods": expected namespaces or nodes, e.g. `flows list namespaces`'),
        (["list"], 'flows: flows list "": expected namespaces or nodes'),
        (["watch", "nodes"], 'flows: flows watch "nodes": expected peers, e.g. `flows watch peers`'),
        (["watch", "peers", "-o", "json"], 'flows: flows watch peers: unexpected "-o"'),
        (["status", "--server", "x:y"], 'flows: --server "x:y": expected host:port'),
    ],
)
def test_what_is_not_understood_is_one_line(capsys: Capture, arguments: list[str], message: str) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(message)
