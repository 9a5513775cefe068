"""What makes a DNS query fail: packets that are dropped on its way, name servers that hang, names that they cannot answer."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.demo import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo_command import Demo

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drop:
    """Packets that are dropped, `CLIENT` being the one who asks: where, and which."""

    where: str  # pod: the client's; nodes: all of them; server: the name servers' pods
    hook: str
    rule: str


@dataclass(frozen=True, slots=True)
class Case:
    """One query that fails: whose it is, how it is made to fail, what the client learns, and what is to be said of it."""

    client: str  # how its pod's name begins; each case has another one
    zone: str  # what the query's name ends with
    answer: str  # a code, or an error
    fate: str
    drop: Drop | None = None


LOST = "timed out"
NOT_PERMITTED = "[Errno 1] Operation not permitted"  # what netfilter tells who sends
FATES = {
    "dropped in the client's pod": Case(
        "demo/svc-a-", "any.test", NOT_PERMITTED, "NEVER_LEFT", Drop("pod", "output", "udp dport 53")
    ),
    "dropped at the server's egress": Case(
        "demo/grpc-server-",
        "any.test",
        LOST,
        "LOST_TO_CLIENT",
        Drop("server", "output", "ip daddr CLIENT udp sport 53"),
    ),
    "dropped at the server's ingress": Case(
        "demo/store-", "any.test", LOST, "LOST_TO_SERVER", Drop("server", "input", "ip saddr CLIENT udp dport 53")
    ),
    "dropped on the way to the server": Case(
        "demo/grpc-client-",
        "any.test",
        LOST,
        "LOST_TO_SERVER",
        Drop("nodes", "forward", "ip saddr CLIENT udp dport 53"),
    ),
    "dropped on the way back": Case(
        "demo/cache-", "any.test", LOST, "LOST_TO_CLIENT", Drop("nodes", "forward", "ip daddr CLIENT udp sport 53")
    ),
    "answered after 6 s": Case("demo/origin-", "slow6.example.test", "0", "UPSTREAM_SLOW"),
    "never answered upstream": Case("demo/secure-", "silent.example.test", LOST, "UPSTREAM_SLOW"),
    "SERVFAIL of the upstream": Case("demo/svc-b-", "servfail.example.test", "2", "UPSTREAM_FAILED"),
    "REFUSED by the upstream": Case("other/visitor", "refused.example.test", "5", "UPSTREAM_FAILED"),
}


def drops(demo: Demo, drop: Drop, client: Json) -> Iterator[tuple[str, str, str]]:
    """Network namespace, hook and rule of each place."""
    places = {
        "pod": [client["netns"]],
        "nodes": [node.netns for node in layout.NODES],
        "server": [server["netns"] for server in demo.pods("kube-system/kube-dns-")],
    }
    for netns in places[drop.where]:
        yield netns, drop.hook, drop.rule.replace("CLIENT", client["ip"])


@contextmanager
def dropping(netns: str, hook: str, rule: str) -> Iterator[None]:
    """Packets that fit a rule are dropped in a network namespace, for the time of a `with`."""
    table = f"flows_test_{secrets.token_hex(3)}"
    text = f"table inet {table} {{ chain dropping {{ type filter hook {hook} priority -400; {rule} drop; }}; }}"
    nft(netns, text)
    try:
        yield
    finally:
        nft(netns, f"delete table inet {table}")


def nft(netns: str, text: str) -> None:
    argv = ["ip", "netns", "exec", netns, "nft", "-f", "-"]
    subprocess.run(argv, input=text, text=True, check=True, capture_output=True, timeout=10)


@contextmanager
def hanging(*pods: Json) -> Iterator[None]:
    """Processes that are there, and do nothing."""
    for pod in pods:
        os.kill(pod["pid"], signal.SIGSTOP)
    try:
        yield
    finally:
        for pod in pods:
            os.kill(pod["pid"], signal.SIGCONT)
