"""`flows relay` as a process: from agents to clients, over listeners of both kinds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from flow_agents import FlowAgent, Served, asked
from relay_agents import Agent, List, agents, connected, found, pool
from relay_readings import Reading
from wire_certificates import issue

from flows.relay import main
from flows.relay.access import accesses
from flows.relay.metrics import Metrics
from flows.relay.options import parse
from flows.relay.quota import Quota

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from flows.proto import flows_pb2

FLOWS = str(Path(sys.executable).parent / "flows")
PIPE = asyncio.subprocess.PIPE


async def run(*words: str) -> tuple[int, str, str]:
    """A whole run of `flows`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KUBERNETES_", "GRPC_", "FLOWS_"))}
    process = await asyncio.create_subprocess_exec(FLOWS, *words, stdout=PIPE, stderr=PIPE, env=environment)
    out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()


@asynccontextmanager
async def relay(*words: str) -> AsyncIterator[list[str]]:
    """A relay that serves; gives its log, whole at the end."""
    said: list[str] = []
    process = await asyncio.create_subprocess_exec(FLOWS, "relay", "--metrics-listen", "off", *words, stderr=PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while not said or "INFO serving on" not in said[-1]:
                line = await process.stderr.readline()
                assert line, said
                said.append(line.decode())
        yield said
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        said += (await process.stderr.read()).decode().splitlines()
        assert await process.wait() == 0, said


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as freed:
        return int(freed.getsockname()[1])


def handshake(port: int, ca: Path, version: ssl.TLSVersion) -> str:
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        try:
            with context.wrap_socket(plain) as secure:
                return secure.version() or ""
        except (ssl.SSLError, OSError):
            return "refused"


async def until_healthy(server: str, *words: str) -> dict[str, object]:
    """What `flows status` says once the relay is well."""
    async with asyncio.timeout(20):
        while True:
            code, out, _ = await run("status", "--server", server, "-o", "json", *words)
            if code == 0:
                status: dict[str, object] = json.loads(out)
                return status
            await asyncio.sleep(0.1)


async def test_a_relay_from_start_to_end(tmp_path: Path) -> None:
    path = f"unix://{tmp_path}/deep/relay.sock"
    async with agents(Agent("a"), Agent("b")) as (one, other):
        async with relay("--peers", f"a={one.address},{other.address}", "--listen", path) as said:
            status = await until_healthy(path)
            while status["num_connected_nodes"] != 2:
                status = await until_healthy(path)
            assert (status["num_flows"], str(status["version"]).split()[0]) == ("20", "flows-relay")
            code, out, _ = await run("list", "namespaces", "--server", path, "-o", "json")
            assert (code, [one["namespace"] for one in json.loads(out)]) == (0, ["shop"])
            code, _, error = await run("relay", "--peers", one.address, "--listen", path, "--metrics-listen", "off")
            assert (code, "another process serves it" in error) == (1, True)
        assert not any("Traceback" in line for line in said)


@dataclass
class Beholder(FlowAgent):
    """An agent that saw one end of a connection."""

    at_source: bool = False

    async def _batches(self, request: flows_pb2.FlowsRequest) -> AsyncIterator[flows_pb2.FlowBatch]:
        async for message in super()._batches(request):
            message.opener = message.tuple = np.full(len(message.flows), 7, "<u8").tobytes()
            message.at_source = bytes([self.at_source]) * len(message.flows)
            yield message


def view(node: str, *, at_source: bool) -> FlowAgent:
    agent = Beholder(node, at_source=at_source)
    agent.happen(5_000)
    return agent


async def test_listeners_of_all_kinds_share_limits_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "Quota", lambda: Quota(1))
    listen = [f"unix://{tmp_path}/relay.sock", f"127.0.0.1:{free_port()}"]
    options, metrics = parse(["--peers", "a:1", *(word for address in listen for word in ("--listen", address))]), Metrics()
    admission = accesses(None, options.remote, client_certificates=False, allow_unauthenticated=False)
    views = view("node-1", at_source=True), view("node-2", at_source=False)
    async with agents(*views) as running, pool(List(*map(found, running))) as pooled:
        await connected(pooled, 2)
        async with main.serving(options, pooled, admission, metrics) as healths:
            assert len(healths) == 2
            one, other = (Served(pooled, List(), grpc.aio.insecure_channel(address), metrics) for address in listen)
            for served in (one, other):
                assert sum([len(batch.flows) async for batch in served.batches(asked())]) == 2
            assert metrics.registry.get_sample_value("flows_relay_joins_total", {"result": "joined"}) == 4
            reading = Reading(one.batches(asked(follow=True)))
            await reading.until(lambda reading: reading.messages)
            with pytest.raises(grpc.aio.AioRpcError, match="this relay serves 1 streams already"):
                await other.batches(asked()).read()
            await reading.stop()
            await asyncio.gather(one.channel.close(), other.channel.close())
    admission.close()


async def test_listeners_that_others_reach_speak_tls_1_3_only(tmp_path: Path) -> None:
    ca = issue(tmp_path, "CA")
    own, client, port = issue(tmp_path, "s", ca, ("relay.test",)), issue(tmp_path, "c", ca), free_port()
    words = ["--listen", f"0.0.0.0:{port}", "--tls-cert-file", str(own.cert_file), "--tls-key-file", str(own.key_file)]
    words += ["--tls-client-ca-file", str(ca.cert_file)]
    async with agents(Agent("a")) as (one,), relay("--peers", one.address, *words):
        assert await asyncio.to_thread(handshake, port, ca.cert_file, ssl.TLSVersion.TLSv1_2) == "refused"
        assert await asyncio.to_thread(handshake, port, ca.cert_file, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        shown = ["--tls-client-cert-file", str(client.cert_file), "--tls-client-key-file", str(client.key_file)]
        named = ["--tls-ca-cert-files", str(ca.cert_file), "--tls-server-name", "relay.test"]
        assert (await until_healthy(f"tls://127.0.0.1:{port}", *named, *shown))["num_connected_nodes"] == 1


async def test_with_kubernetes_only_a_unix_socket_needs_no_token(tmp_path: Path) -> None:
    config, port, path = tmp_path / "kubeconfig", free_port(), f"unix://{tmp_path}/relay.sock"
    entries = {"clusters": {"cluster": {"server": "https://127.0.0.1:1"}}, "users": {"user": {"token": "t"}}}
    entries["contexts"] = {"context": {"cluster": "x", "user": "x"}}
    named = {kind: [{"name": "x"} | entry] for kind, entry in entries.items()}
    config.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "x"} | named))
    async with agents(Agent("a")) as (one,):
        words = ["--peers", one.address, "--kubeconfig", str(config), "--listen", f"127.0.0.1:{port}", "--listen", path]
        async with relay(*words):
            assert (await until_healthy(path))["num_connected_nodes"] == 1
            code, _, error = await run("status", "--server", f"127.0.0.1:{port}")
            assert (code != 0, "give a token" in error) == (True, True), error


async def test_callers_that_could_not_be_told_apart_are_not_served(tmp_path: Path) -> None:
    ca = issue(tmp_path, "CA")
    own = issue(tmp_path, "s", ca)
    words = ["--listen", "0.0.0.0:1", "--tls-cert-file", str(own.cert_file), "--tls-key-file", str(own.key_file)]
    code, _, error = await run("relay", "--peers", "a:1", *words)
    assert code == 1
    assert "callers could not be told apart" in error
    assert "Traceback" not in error
