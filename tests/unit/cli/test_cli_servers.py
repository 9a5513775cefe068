"""What --server may name, and the server that is found when nobody names one."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from flows.cli import servers
from flows.cli.options import UsageError
from flows.cli.servers import NoServerError, Server, find_servers, parse_servers

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
    (server,) = parse_servers(text)
    assert (server.target, server.tls) == (target, tls)


def test_a_list_of_addresses_and_tls_for_all() -> None:
    first, second = parse_servers("a:1, b:2", tls=True)
    assert (first, second) == (Server("a:1", tls=True), Server("b:2", tls=True))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "localhost:4245"),
        ("node-1", "e.g. node-1:4245"),
        ("http://node-1:80", "e.g. node-1:4245"),
        ("::1", r"e.g. \[::1\]:4245"),
        ("/run/flows.sock", "e.g. unix:///run/flows.sock"),
        ("unix://run/flows.sock", "the path must be absolute"),
        ("node:70000", "between 1 and 65535"),
        ("node:0", "between 1 and 65535"),
        ("node:http", "e.g. node:4245"),
        ("a:1,,b:2", "expected host:port"),
        ("a b:1", "localhost:4245"),
    ],
)
def test_malformed_addresses_are_refused_with_a_valid_one(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        parse_servers(text)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing listens."""
    monkeypatch.setattr(servers, "LOCAL_SOCKET", f"unix://{tmp_path}/flows.sock")
    monkeypatch.setattr(servers, "DEMO_AGENTS", tmp_path / "agents.json")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(servers, "DEFAULT_SERVER", f"127.0.0.1:{free.getsockname()[1]}")
    return tmp_path


def listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_no_server_says_what_was_tried_and_how_to_start_one(machine: Path) -> None:
    with pytest.raises(NoServerError) as caught:
        find_servers()
    message = str(caught.value)
    assert f"unix://{machine}/flows.sock (no such file or directory)" in message
    assert f"{machine}/agents.json (no such file or directory)" in message
    assert "(connection refused); start one with `flows local`, `flows demo up` or `flows agent`" in message
    assert "\n" not in message


def test_the_local_agent_comes_first_then_the_demo_cluster(machine: Path) -> None:
    agents = [f"unix://{machine}/a.sock", f"unix://{machine}/gone.sock", f"unix://{machine}/b.sock"]
    (machine / "agents.json").write_text(json.dumps(agents))
    with listen(machine / "a.sock"), listen(machine / "b.sock"):
        assert [each.address for each in find_servers()] == [agents[0], agents[2]]
        with listen(machine / "flows.sock"):
            assert [each.address for each in find_servers()] == [f"unix://{machine}/flows.sock"]


@pytest.mark.parametrize("content", ["", "{", "[1]", '["nonsense"]', "7", "null"])
def test_a_broken_list_of_demo_agents_is_told(machine: Path, content: str) -> None:
    (machine / "agents.json").write_text(content)
    with pytest.raises(NoServerError, match=r"agents\.json \(not a list of addresses"):
        find_servers()


def test_a_server_on_hubbles_port_is_found(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setattr(servers, "DEFAULT_SERVER", address)
        assert [each.address for each in find_servers()] == [address]
