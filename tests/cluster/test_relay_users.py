"""Who sees what of the relay: users of namespaces, administrators, who has nothing, and who asks agents themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from told import NODES
from waiting import eventually

from flows.demo import layout

if TYPE_CHECKING:
    from pathlib import Path

    from demo_command import Demo

Json = dict[str, Any]


@pytest.fixture(scope="module")
def relay_server(demo: Demo) -> tuple[str, ...]:
    """Flags of a user who is not root of this machine: TLS to a node port."""
    address = f"tls://{layout.NODES[0].address}:31245"
    return ("--server", address, "--tls-ca-cert-files", str(layout.FLOWS_CA))


def token_file(demo: Demo, account: str, folder: Path) -> str:
    path = folder / account.replace("/", "-")
    path.write_text(demo.ok("token", account))
    return str(path)


def namespaces(flow: Json) -> set[str]:
    return {flow.get(end, {}).get("namespace", "") for end in ("source", "destination")} | {
        flow.get(f"{end}_service", {}).get("namespace", "") for end in ("source", "destination")
    }


@pytest.mark.parametrize("namespace", ["demo", "other"])
def test_a_user_sees_flows_with_an_end_in_his_namespace_only(
    demo: Demo, relay_server: tuple[str, ...], tmp_path: Path, namespace: str
) -> None:
    token = token_file(demo, f"{namespace}/viewer", tmp_path)

    def found() -> list[Json]:
        return demo.observe(*relay_server, "--token-file", token, "--last", "100")

    def others() -> list[Json]:
        return [flow for flow in demo.observe("--last", "1000") if namespace not in namespaces(flow)]

    flows = eventually("some flows", found)
    assert all(namespace in namespaces(flow) for flow in flows)
    eventually("flows of others", others)


def test_an_administrator_sees_all(demo: Demo, relay_server: tuple[str, ...], tmp_path: Path) -> None:
    token = token_file(demo, "demo/admin", tmp_path)
    flows = demo.observe(*relay_server, "--token-file", token, "--last", "200")
    assert {flow["node_name"] for flow in flows} == NODES
    assert any(namespaces(flow).isdisjoint({"demo"}) for flow in flows)


def test_who_has_no_binding_is_told_what_to_grant(demo: Demo, relay_server: tuple[str, ...], tmp_path: Path) -> None:
    answer = demo.ask(*relay_server, "--token-file", token_file(demo, "demo/nobody", tmp_path), "--last", "1")
    assert (answer.rows, answer.code) == ([], 1)
    assert all(word in answer.errors for word in ("get", "flows", "flows.dev", "system:serviceaccount:demo:nobody")), answer


def test_who_has_no_token_and_who_has_a_bad_one_are_refused(demo: Demo, relay_server: tuple[str, ...], tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("eyJhbGciOiJSUzI1NiJ9.e30.AAAA")
    for words in ((), ("--token-file", str(bad))):
        answer = demo.ask(*relay_server, *words, "--last", "1")
        assert (answer.rows, answer.code) == ([], 1)
        assert "token" in answer.errors


def test_a_user_is_forwarded_to_the_relay_by_the_api(demo: Demo, relay_server: tuple[str, ...], tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(demo.ok("token", "--kubeconfig", "demo/viewer"))
    flows = demo.observe("-P", "--tls", "--kubeconfig", str(kubeconfig), *relay_server[2:], "--last", "20")
    assert flows
    assert all("demo" in namespaces(flow) for flow in flows)


def test_agents_are_direct_servers_for_who_has_the_relays_certificate(demo: Demo) -> None:
    agent = demo.status()["agents"][0]
    files = ["--tls-ca-cert-files", str(layout.FLOWS_CA), "--tls-server-name", "node-1.demo.hubble-grpc.cilium.io"]
    pair = ["--tls-client-cert-file", f"{layout.RELAY_PKI}/client.crt", "--tls-client-key-file", f"{layout.RELAY_PKI}/client.key"]
    server = ["--server", f"tls://{agent['address']}"]
    assert {flow["node_name"] for flow in demo.observe(*server, *files, *pair, "--last", "5")} == {"demo/node-1"}
    answer = demo.ask(*server, *files, "--last", "5")
    assert (answer.rows, answer.code) == ([], 1)
    assert re.search("certificate|handshake", answer.errors, re.IGNORECASE), answer
