"""TLS: what ClientHello and ServerHello say, and what is seen of OpenSSL's plain text."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from l7_followed import Followed, Told, agents, only
from l7_truth import Log, one, served

from flows.agent.plaintext import RESCAN_SECONDS
from flows.demo import layout
from flows.flow.losses import PAUSED
from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo_command import Demo

NAME = "secure.demo.svc.cluster.local"
# Asks with Python's ssl module: SSL_write_ex and SSL_read_ex, where curl has SSL_write and SSL_read.
PYTHON = """
import socket, ssl, sys
context = ssl.create_default_context(cafile="/ca.crt")
context.set_alpn_protocols(["http/1.1"])
with context.wrap_socket(socket.create_connection((sys.argv[1], 443), 10), server_hostname=sys.argv[1]) as secure:
    for status in (404, 503):
        secure.sendall(f"GET /s/{sys.argv[2]}/status/{status} HTTP/1.1\\r\\nHost: {sys.argv[1]}\\r\\n\\r\\n".encode())
        assert secure.recv(4096).startswith(f"HTTP/1.1 {status}".encode())
"""


def requests(demo: Demo, *commands: list[str]) -> tuple[list[Told], Log]:
    """Flows of what the player does, as both ends saw it; the server's log of it."""
    player, secure = one(demo, "demo/player-"), one(demo, "demo/secure-")
    log = Log(secure, "nginx")
    filters = [flow_pb2.FlowFilter(source_pod=["demo/player-"]), flow_pb2.FlowFilter(destination_pod=["demo/player-"])]
    with Followed(agents(demo, player, secure), filters) as followed:
        for command in commands:
            demo.exec(f"demo/{player['name']}", *command)
        followed.settle()
    return followed.told(), log


def curl(tag: str, *words: str) -> list[str]:
    """The command line of a request that is answered 404."""
    return ["curl", "-sS", "-o", "/dev/null", "--cacert", "/ca.crt", *words, f"https://{NAME}/s/{tag}/status/404?token=secret"]


@pytest.fixture(scope="module", autouse=True)
def attached(demo: Demo) -> None:
    """Compiling the programs that read plain text takes an agent some seconds, on a busy machine many."""
    deadline = time.monotonic() + 60
    waiting = [agent["node"] for agent in demo.status()["agents"]]
    while waiting and time.monotonic() < deadline:
        waiting = [node for node in waiting if "reading plaintext" not in layout.agent_log(node).read_text()]
        time.sleep(0.5)
    assert not waiting, waiting


@pytest.mark.parametrize(("words", "protocol"), [(("--http1.1",), "HTTP/1.1"), ((), "HTTP/2"), (("--tls-max", "1.2"), "HTTP/2")])
def test_https_by_curl_shows_method_path_and_status(demo: Demo, words: tuple[str, ...], protocol: str) -> None:
    tag = secrets.token_hex(4)
    told, log = requests(demo, curl(tag, *words))
    (row,) = [row for row in served(log) if tag in row.uri]
    answers = [one for one in told if one.path == row.path and one.connection.event == extension_pb2.RESPONSE]
    assert {one.by_client for one in answers} == {True, False}, "one of the ends was not seen"
    assert len(answers) == 2
    for answer in answers:
        http = answer.flow.l7.http
        assert (http.method, http.code, http.protocol) == (row.method, row.status, protocol)
        assert answer.request.origin == extension_pb2.TLS_LIBRARY
        assert answer.flow.l7.latency_ns > 0


def test_https_by_python_shows_method_path_and_status(demo: Demo) -> None:
    tag = secrets.token_hex(4)
    told, log = requests(demo, ["python3", "-c", PYTHON, NAME, tag])
    rows = {row.path: row.status for row in served(log) if tag in row.uri}
    assert len(rows) == 2
    for by_client in (True, False):
        answers = [one for one in told if one.connection.event == extension_pb2.RESPONSE and one.by_client == by_client]
        assert {one.path: one.flow.l7.http.code for one in answers if tag in one.path} == rows


@pytest.mark.parametrize(
    ("words", "version", "alpn", "ports"),
    [
        (("--http1.1",), "TLSv1.3", ["http/1.1"], "61100-61199"),
        (("--tls-max", "1.2"), "TLSv1.2", ["h2", "http/1.1"], "61200-61299"),
    ],
)
def test_a_hello_names_the_server_and_what_was_agreed(
    demo: Demo, words: tuple[str, ...], version: str, alpn: list[str], ports: str
) -> None:
    first, last = map(int, ports.split("-"))
    told, _ = requests(demo, curl(secrets.token_hex(4), *words, "--local-port", ports))
    sent = [one for one in told if first <= one.flow.l4.TCP.source_port <= last]
    hellos = [one for one in sent if one.connection.event == extension_pb2.HELLO]
    assert {one.by_client for one in hellos} == {True, False}
    for hello in hellos:
        tls = hello.request.tls
        assert (tls.server_name, list(tls.alpn)) == (NAME, alpn)
        assert tls.version.replace(" ", "v").lower() == version.lower()
    assert any(hello.request.tls.cipher.startswith("TLS_") for hello in hellos)


@contextlib.contextmanager
def another_agent(demo: Demo, node: str, folder: Path, *flags: str) -> Iterator[str]:
    """A second agent on a node, beside the demo's; yields its address."""
    cgroup = next(row["cgroup"] for row in demo.status()["nodes"] if row["name"] == node)
    address = f"unix://{folder}/flows.sock"
    words = ["agent", "--cgroup", cgroup, "--listen", address, "--node", node, "--no-kubernetes", *flags]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([Path(sys.executable).with_name("flows"), *words], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while "serving on" not in (folder / "log").read_text():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "it has not started"
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def test_with_plaintext_off_a_hello_is_all_that_is_seen(demo: Demo, tmp_path: Path) -> None:
    """Of the same requests at the same time the other agent on the node tells method, path and status."""
    player, tag = one(demo, "demo/player-"), secrets.token_hex(4)
    with (
        another_agent(demo, player["node"], tmp_path, "--no-plaintext") as blind,
        Followed([blind], []) as followed,
        Followed(agents(demo, player), only(source_pod=["demo/player-"])) as whole,
    ):
        demo.exec(f"demo/{player['name']}", *curl(tag, "--http1.1", "--local-port", "61300-61399"))
        followed.settle()
        whole.settle()
    assert any(one.path == f"/s/{tag}/status/404" for one in whole.told())
    sent = [one for one in followed.told() if 61300 <= one.flow.l4.TCP.source_port <= 61399]
    assert {one.connection.event for one in sent} == {extension_pb2.HELLO}
    assert {one.request.tls.server_name for one in sent} == {NAME}
    assert tag.encode() not in followed.raw()


def test_beyond_its_budget_plaintext_pauses_and_the_coverage_says_so(demo: Demo, tmp_path: Path) -> None:
    """Of all CPUs' time a thousandth of a percent is a few calls a second: one curl takes more."""
    player = one(demo, "demo/player-")
    with another_agent(demo, player["node"], tmp_path, "--plaintext-budget", "0.001") as frugal:
        log, deadline = tmp_path / "log", time.monotonic() + 60
        while "reading plaintext" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        while PAUSED not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            demo.exec(f"demo/{player['name']}", *curl(secrets.token_hex(4), "--http1.1"))
        unseen = secrets.token_hex(4)
        with Followed([frugal], []) as followed:
            demo.exec(f"demo/{player['name']}", *curl(unseen, "--http1.1", "--local-port", "61400-61499"))
            time.sleep(RESCAN_SECONDS)  # after which a pause is told
            followed.settle()
        words = ["observe", "--server", frugal, "--last", "100"]
        printed = subprocess.run([Path(sys.executable).with_name("flows"), *words], capture_output=True, text=True, check=False)
    assert NAME in {one.request.tls.server_name for one in followed.told() if 61400 <= one.flow.l4.TCP.source_port <= 61499}
    assert unseen.encode() not in followed.raw()
    assert "looked at samples only between" in printed.stderr
    assert f"({PAUSED})" in printed.stderr


def test_encrypted_and_plain_traffic_are_told_apart(demo: Demo) -> None:
    tag = secrets.token_hex(4)
    demo.exec("player", *curl(tag, "--http1.1"))
    demo.exec("player", "curl", "-sS", "-o", "/dev/null", f"http://cache/s/{tag}/status/404")
    encrypted = ("--from", "demo/player", "--to", "demo/secure", "--encrypted", "--last", "5")
    assert demo.observed(lambda _: True, *encrypted)
    plain = ("--from", "demo/player", "--to", "demo/cache", "--unencrypted", "--last", "5")
    assert demo.observed(lambda _: True, *plain)
    assert not demo.observe("--from", "demo/player", "--to", "demo/cache", "--encrypted", "--last", "5")


def test_a_name_in_a_hello_selects_flows(demo: Demo) -> None:
    tag = secrets.token_hex(4)
    demo.exec("player", *curl(tag, "--http1.1"))
    flow = demo.observed(lambda _: True, "--to-fqdn", NAME, "--last", "5")
    assert NAME in flow["destination_names"]
