"""Planted secrets: none leaves an agent. Looked through are the streams of agents and relay (batched and as JSON), and logs.

What an agent keeps in its memory is looked through by tests/unit/l7/test_privacy.py.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

import pytest
from l7_followed import Followed, agents
from l7_truth import one

from flows.demo import layout
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from demo_command import Demo

Json = dict[str, Any]
SETTLE_SECONDS = 3.0


def web_token() -> str:
    """A token as sites put them into paths: a header, a payload and a signature of random bytes."""
    parts = [b'{"alg":"HS256","typ":"JWT"}', secrets.token_bytes(24), secrets.token_bytes(32)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


class Planted:
    """Secrets of one run, by the place they are planted in; `marker` is none, and is to be found."""

    def __init__(self) -> None:
        self.marker = f"marker-{secrets.token_hex(6)}"
        self.password = secrets.token_hex(12)
        token = web_token()
        self.secrets = {
            "query string": secrets.token_urlsafe(24),
            "bearer token": secrets.token_urlsafe(24),
            "cookie": secrets.token_urlsafe(24),
            "path token": token.rpartition(".")[2],
            "user info": self.password,
            "basic authorization": base64.b64encode(f"user:{self.password}".encode()).decode(),
            "other header": secrets.token_urlsafe(24),
            "set cookie": secrets.token_urlsafe(24),
            "body": secrets.token_urlsafe(24),
        }
        self.token = token

    def commands(self, site: str) -> list[list[str]]:
        """Requests with all of them."""
        planted, curl = self.secrets, ["curl", "-sS", "-o", "/dev/null", "--cacert", "/ca.crt", "--http1.1"]
        headers = {
            "Authorization": f"Bearer {planted['bearer token']}",
            "Cookie": f"session={planted['cookie']}",
            "X-Api-Key": planted["other header"],
        }
        words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        query = f"token={planted['query string']}&page=1"
        return [
            [*curl, *words, f"{site}/s/{self.marker}/status/404?{query}"],
            [*curl, "--user", f"user:{self.password}", f"{site}/s/{self.marker}/status/404"],
            [*curl, "--request-target", f"http://user:{self.password}@cache/s/{self.marker}/status/404", f"{site}/"],
            [*curl, f"{site}/users/{self.token}"],
            [*curl, "-d", f"token={planted['body']}", f"{site}/s/{self.marker}/status/404"],
            [*curl, f"{site}/cookie?value={planted['set cookie']}"],
        ]


@pytest.fixture(scope="module")
def planted(demo: Demo) -> tuple[Planted, bytes, list[Json]]:
    """Secrets that were sent by HTTP and by HTTPS; what was streamed meanwhile; the agents."""
    found, player = Planted(), one(demo, "demo/player-")
    servers = [one(demo, f"demo/{name}-") for name in ("cache", "secure")]
    sockets = [*agents(demo, player, *servers), f"unix://{layout.RELAY_SOCKET}"]
    with Followed(sockets, [flow_pb2.FlowFilter()]) as followed:
        for site in ("http://cache", "https://secure.demo.svc.cluster.local"):
            for command in found.commands(site):
                demo.exec(f"demo/{player['name']}", *command)
        time.sleep(SETTLE_SECONDS)
    return found, followed.raw(), demo.status()["agents"]


def leaks(planted: Planted, text: bytes) -> list[str]:
    """Where the secrets that are in a text had been planted."""
    return [place for place, secret in planted.secrets.items() if secret.encode() in text]


def test_no_stream_has_a_secret(planted: tuple[Planted, bytes, list[Json]]) -> None:
    found, streamed, _ = planted
    assert found.marker.encode() in streamed, "nothing of the requests was streamed: this test shows nothing"
    assert leaks(found, streamed) == []


def test_no_answer_to_a_question_has_a_secret(demo: Demo, planted: tuple[Planted, bytes, list[Json]]) -> None:
    found, _, _ = planted
    text = json.dumps(demo.ask("--since", "2m", "--from-pod", "demo/player-").rows)
    text += json.dumps(demo.ask("--since", "2m", "--to-pod", "demo/player-").rows)
    assert found.marker in text
    assert leaks(found, text.encode()) == []


def test_no_log_has_a_secret(planted: tuple[Planted, bytes, list[Json]]) -> None:
    found, _, running = planted
    for agent in running:
        assert leaks(found, layout.agent_log(agent["node"]).read_bytes()) == []
