"""What --server may name, and the server that is found when nobody names one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from flows.cli import servers
from flows.cli.servers import NoServerError, Server, find_server, parse_server
from flows.flow.filter import FilterError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "target", "tls"),
    [
        ("localhost:4245", "dns:///localhost:4245", False),
        ("[::1]:4245", "dns:///[::1]:4245", False),
        ("tls://relay.example:443", "dns:///relay.example:443", True),
        ("unix:///run/flows/flows.sock", "unix:///run/flows/flows.sock", False),
        ("unix:/run/x.sock", "unix:///run/x.sock", False),
    ],
)
def test_addresses(text: str, target: str, tls: bool) -> None:
    server = parse_server(text)
    assert (server.target, server.tls) == (target, tls)


def test_tls_may_be_asked_for_apart() -> None:
    assert parse_server("a:1", tls=True) == Server("a:1", tls=True)
    assert not parse_server("unix:///x", tls=True).tls


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "localhost:4245"),
        ("node-1", "did you mean node-1:4245"),
        ("http://node-1:80", "did you mean node-1:4245"),
        ("::1", r"did you mean \[::1\]:4245"),
        ("/run/flows.sock", "did you mean unix:///run/flows.sock"),
        ("unix://run/flows.sock", "the path must be absolute"),
        ("node:70000", "between 1 and 65535"),
        ("node:" + "9" * 5000, "between 1 and 65535"),
        ("node:0", "between 1 and 65535"),
        ("node:http", "did you mean node:4245"),
        ("a:1,b:2", "expected host:port"),
        ("a b:1", "localhost:4245"),
    ],
)
def test_malformed_addresses_are_refused_with_a_valid_one(text: str, hint: str) -> None:
    with pytest.raises(FilterError, match=hint):
        parse_server(text)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing listens."""
    for name in ("RELAY_SOCKET", "LOCAL_SOCKET", "DEMO_SOCKET"):
        monkeypatch.setattr(servers, name, f"unix://{tmp_path}/{name}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(servers, "HUBBLE_PORT", f"127.0.0.1:{free.getsockname()[1]}")
    return tmp_path


def listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address.removeprefix("unix://"))
    listener.listen()
    return listener


def test_no_server_says_what_was_tried_and_how_to_start_one(machine: Path) -> None:
    with pytest.raises(NoServerError) as caught:
        find_server()
    message = str(caught.value)
    for name in ("RELAY_SOCKET", "LOCAL_SOCKET", "DEMO_SOCKET"):
        assert f"unix://{machine}/{name} (no such file or directory)" in message
    assert "(connection refused); start one with `flows local`, `flows demo up`, `flows agent` or `flows relay`" in message
    assert "\n" not in message


def test_the_relay_comes_first_then_the_agent_the_demo_and_hubbles_port(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(servers, "HUBBLE_PORT", f"127.0.0.1:{listener.getsockname()[1]}")
        assert find_server().address == servers.HUBBLE_PORT
        with listen(servers.DEMO_SOCKET):
            assert find_server().address == servers.DEMO_SOCKET
            with listen(servers.LOCAL_SOCKET):
                assert find_server().address == servers.LOCAL_SOCKET
                with listen(servers.RELAY_SOCKET):
                    assert find_server().address == servers.RELAY_SOCKET
