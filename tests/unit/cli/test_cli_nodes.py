"""`flows list nodes`, `flows watch peers`, and clocks in `flows status`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cli_samples import answered, covered
from cli_server import Batches, Observer, Peers, Serve

from flows.cli.main import main
from flows.proto.observer_pb2 import TLS, Node
from flows.proto.peer_pb2 import TLS as PEER_TLS
from flows.proto.peer_pb2 import ChangeNotification
from flows.proto.relay_pb2 import NODE_CONNECTED, NODE_UNAVAILABLE

if TYPE_CHECKING:
    from flows.proto import flows_pb2

Capture = pytest.CaptureFixture[str]
NODES = [
    Node(name="node-2\x1b", state=NODE_UNAVAILABLE, address="10.0.0.2:4244"),
    Node(
        name="node-1",
        version="v1",
        address="10.0.0.1:4244",
        state=NODE_CONNECTED,
        tls=TLS(enabled=True, server_name="n1.x"),
        uptime_ns=3_723_500_000_000,
        num_flows=4095,
        max_flows=4095,
        seen_flows=37_240,
    ),
]


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        (
            [],
            [
                "NAME       STATUS        AGE      FLOWS/S   CURRENT/MAX-FLOWS",
                "node-1     Connected     1h2m4s   10.00     4095/4095 (100.00%)",
                "node-2^[   Unavailable   N/A      N/A       N/A",
            ],
        ),
        (
            ["-o", "wide"],
            [
                "NAME       STATUS        AGE      FLOWS/S   CURRENT/MAX-FLOWS     VERSION   ADDRESS         TLS",
                "node-1     Connected     1h2m4s   10.00     4095/4095 (100.00%)   v1        10.0.0.1:4244   Enabled",
                "node-2^[   Unavailable   N/A      N/A       N/A                   N/A       10.0.0.2:4244   N/A",
            ],
        ),
    ],
)
def test_nodes_are_listed_as_hubble_does(serve: Serve, capsys: Capture, flags: list[str], lines: list[str]) -> None:
    assert main(["list", "nodes", "--server", serve(Observer(nodes=NODES)), *flags]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_nodes_as_json(serve: Serve, capsys: Capture) -> None:
    assert main(["list", "node", "-o", "json", "--server", serve(Observer(nodes=NODES))]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert list(first) == ["name", "version", "address", "state", "tls", "uptime_ns", "num_flows", "max_flows", "seen_flows"]
    assert (first["state"], first["tls"]) == ("NODE_CONNECTED", {"enabled": True, "server_name": "n1.x"})
    assert (first["uptime_ns"], first["num_flows"], first["max_flows"]) == ("3723500000000", "4095", "4095")
    assert second == {"name": "node-2\x1b", "address": "10.0.0.2:4244", "state": "NODE_UNAVAILABLE"}


def test_an_agent_knows_no_nodes(serve: Serve, capsys: Capture) -> None:
    assert main(["list", "nodes", "--server", serve(Observer())]) == 1
    assert capsys.readouterr().err.endswith("ask a relay; name one with --server, or use -P\n")


def test_peers_are_printed_as_hubble_does(serve: Serve, capsys: Capture) -> None:
    changes = [
        ChangeNotification(name="n1\r", address="10.0.0.1", type="PEER_ADDED", tls=PEER_TLS(server_name="n1.x")),
        ChangeNotification(name="n1", address="10.0.0.1", type="PEER_DELETED"),
    ]
    assert main(["watch", "peers", "--server", serve(Peers(changes))]) == 0
    assert capsys.readouterr().out.splitlines() == [
        r"PEER_ADDED   10.0.0.1 n1\r (TLS.ServerName: n1.x)",
        "PEER_DELETED 10.0.0.1 n1",
    ]


def test_a_server_without_peers_is_told(serve: Serve, capsys: Capture) -> None:
    assert main(["watch", "peer", "--server", serve(Observer())]) == 1
    assert "it does not tell of peers" in capsys.readouterr().err


def off(milliseconds: int) -> flows_pb2.NodeCoverage:
    node = answered("a")
    node.clock_offset.FromMilliseconds(milliseconds)
    node.clock_error.FromMilliseconds(1)
    return node


@pytest.mark.parametrize(
    ("server", "line"),
    [
        (Batches(answer=lambda _: [covered(off(-250))]), "Clocks: a is 250 ms behind (± 1.0 ms)"),
        (Batches(answer=lambda _: [covered(off(3))]), "Clocks: 1 measured, none is off by more than 10 ms"),
        (Batches(answer=lambda _: [covered(answered("a"))]), "Clocks: not measured"),
        (Observer(), "Clocks: not told by this server"),
    ],
)
def test_status_tells_of_clocks_with_debug(serve: Serve, capsys: Capture, server: Observer, line: str) -> None:
    address = serve(server)
    assert main(["status", "-D", "--server", address]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == line
    assert main(["status", "--server", address]) == 0
    assert "Clocks" not in capsys.readouterr().out
