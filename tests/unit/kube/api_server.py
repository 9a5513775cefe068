"""A small real HTTP server that answers as recorded, in order, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import yaml

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message
    from pathlib import Path


LIST, WATCH, STREAM = "list", "watch", "stream"
REFUSED = b'{"code":422,"message":"sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"}'


@dataclass(frozen=True)
class Answer:
    """pieces are sent chunked, one by one; None among them holds the connection open until stop()."""

    pieces: tuple[bytes | None, ...]
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class ApiServer:
    """Serves, per path, a queue of answers each to lists, watches and streamed lists; the last answer of each stays.

    Without an answer: an empty list, a silent watch, and the refusal of a server that does not stream lists.
    """

    def __init__(
        self, port: int = 0, tls: ssl.SSLContext | None = None, prepare: Callable[[ApiServer], None] = lambda _: None
    ) -> None:
        """prepare: says the first answers, before anybody can ask."""
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.answers: dict[tuple[str, str], list[Answer]] = defaultdict(list)
        self.admits: Callable[[Message], bool] = lambda _: True
        self.stopping = threading.Event()
        prepare(self)
        handler = type("Handler", (_Handler,), {"api": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.server.server_address[1])

    def on_list(self, path: str, *bodies: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer lists of path with these bodies, in order; dicts are sent as JSON."""
        self.answers[path, LIST] += [Answer((_bytes(body),), status, tuple((headers or {}).items())) for body in bodies]

    def on_watch(self, path: str, *pieces: bytes | None, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer one watch of path with these pieces."""
        self.answers[path, WATCH].append(Answer(pieces, status, tuple((headers or {}).items())))

    def on_stream(self, path: str, *pieces: bytes | None, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer one streamed list of path with these pieces."""
        self.answers[path, STREAM].append(Answer(pieces, status, tuple((headers or {}).items())))

    def queries(self, path: str, kind: str) -> list[dict[str, str]]:
        """The queries that path was asked with, of one kind."""
        return [query for asked, query, _ in self.asked if asked == path and kind_of(query) == kind]

    def stop(self) -> None:
        """End the server and all connections it holds."""
        self.stopping.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def kubeconfig(self, folder: Path) -> str:
        """Write a kubeconfig for this server."""
        config = {
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "u", "user": {"tokenFile": str(folder / "token")}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (folder / "token").write_text("first-token", "ascii")
        (folder / "config").write_text(yaml.safe_dump(config), "ascii")
        return str(folder / "config")


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self._answer(url.path, query, kind_of(query))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(urlsplit(self.path).path, {}, LIST)

    def _answer(self, path: str, query: dict[str, str], kind: str) -> None:
        self.api.asked.append((path, query, dict(self.headers)))
        queue = self.api.answers[path, kind]
        answer = (queue.pop(0) if len(queue) > 1 else queue[0]) if queue else DEFAULTS[kind]
        if not self.api.admits(self.headers):
            answer = Answer((b'{"code":401,"message":"Unauthorized"}',), 401)
        self.send_response(answer.status)
        for name, value in (("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"), *answer.headers):
            self.send_header(name, value)
        self.end_headers()
        for piece in answer.pieces:
            if piece is None:
                self.api.stopping.wait()
                self.close_connection = True
                return
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@contextmanager
def serving() -> Iterator[ApiServer]:
    """A server that knows nothing yet, stopped at the end unless that was done."""
    server = ApiServer()
    yield server
    if not server.stopping.is_set():
        server.stop()


def kind_of(query: Mapping[str, str]) -> str:
    """What a GET asks for."""
    if "watch" not in query:
        return LIST
    return STREAM if "sendInitialEvents" in query else WATCH


DEFAULTS = {
    LIST: Answer((_bytes({"metadata": {"resourceVersion": "1"}}),)),
    WATCH: Answer((None,)),
    STREAM: Answer((REFUSED,), 422),
}
