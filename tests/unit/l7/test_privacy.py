"""Planted secrets: whatever an agent keeps of requests, none is in it."""

from __future__ import annotations

import base64
import gc
import secrets
import types
from typing import Any

import http1_samples
import numpy as np
import pytest

from flows.agent.l7.redact import Redaction
from flows.agent.l7.requests import Requests
from flows.agent.probe.record import RECORD
from flows.agent.store.requests import RequestStore

SECOND = 10**9
MARKER = "marker-6a1c"


def planted() -> dict[str, str]:
    """A secret by the place that it is put into."""
    places = ("query", "fragment", "user", "bearer", "cookie", "header", "set-cookie", "body")
    return {**{place: secrets.token_urlsafe(24) for place in places}, "segment": web_token()}


def web_token() -> str:
    parts = (b'{"alg":"HS256","typ":"JWT"}', secrets.token_bytes(24), secrets.token_bytes(32))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def request(secret: dict[str, str], target: str) -> bytes:
    """With all that a request may carry."""
    return (
        f"POST {target} HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {secret['bearer']}\r\n"
        f"Cookie: s={secret['cookie']}\r\nX-Api-Key: {secret['header']}\r\nContent-Length: 32\r\n\r\n{secret['body']}"
    ).encode()


def reachable(*roots: Any) -> list[Any]:
    """All that these objects keep alive, but for code."""
    found: dict[int, Any] = {}
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) in found or isinstance(one, type | types.ModuleType):
            continue
        found[id(one)] = one
        if isinstance(one, types.FunctionType):
            waiting += [cell.cell_contents for cell in one.__closure__ or ()]
        else:
            waiting += gc.get_referents(one)
    return list(found.values())


def text_of(one: Any) -> bytes:
    if isinstance(one, np.ndarray) and not one.dtype.hasobject:
        return one.tobytes()
    return one.encode(errors="replace") if isinstance(one, str) else bytes(one) if isinstance(one, bytes | bytearray) else b""


RULES = {"default": Redaction(), "headers": Redaction.of({"headers_allow": ["user-agent", "referer"]})}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_nothing_that_is_kept_has_a_secret(rules: Redaction) -> None:
    store = RequestStore(64)
    requests = Requests(store, rules, 5 * SECOND, 60 * SECOND)
    secret = planted()
    targets = [
        f"/{MARKER}?token={secret['query']}#{secret['fragment']}",
        f"http://user:{secret['user']}@shop/{MARKER}",
        f"/users/{secret['segment']}",
    ]
    for number, target in enumerate(targets):
        stream = http1_samples.Stream(conn_id=number + 1)
        asked = stream.ask(request(secret, target))
        told = stream.answer(f"HTTP/1.1 200 OK\r\nSet-Cookie: a={secret['set-cookie']}\r\nContent-Length: 0\r\n\r\n".encode())
        requests.read(np.zeros(0, RECORD), [asked], 0)
        requests.read(np.zeros(0, RECORD), [told], 0)
        del asked, told, stream
    kept = b"\0".join(map(text_of, reachable(requests, store)))
    assert MARKER.encode() in kept, "nothing was stored: this shows nothing"
    parts = {place: value.rpartition(".")[2] for place, value in secret.items()}
    assert [place for place, value in parts.items() if value.encode() in kept] == []
