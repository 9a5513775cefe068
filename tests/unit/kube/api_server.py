"""A small real HTTP server that answers as recorded, in order, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import yaml

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


class ApiServer:
    """Serves, per path, a list of answers: lists and watches each have a queue whose last answer stays.

    An answer is (status, pieces): pieces are sent chunked, one by one; None among them holds the connection
    open until stop().
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.answers: dict[tuple[str, bool], list[tuple[int, list[bytes | None]]]] = defaultdict(list)
        self.stopping = threading.Event()
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

    def on_list(self, path: str, *bodies: Any, status: int = 200) -> None:
        """Answer lists of path with these bodies, in order; dicts are sent as JSON."""
        self.answers[path, False] += [(status, [_bytes(body)]) for body in bodies]

    def on_watch(self, path: str, *pieces: bytes | None, status: int = 200) -> None:
        """Answer one watch of path with these pieces."""
        self.answers[path, True].append((status, list(pieces)))

    def queries(self, path: str, watch: bool) -> list[dict[str, str]]:
        """The queries that path was asked with."""
        return [query for asked, query, _ in self.asked if asked == path and ("watch" in query) == watch]

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
        self.api.asked.append((url.path, query, dict(self.headers)))
        queue = self.api.answers[url.path, "watch" in query]
        empty = (200, [None]) if "watch" in query else (200, [_bytes({"metadata": {"resourceVersion": "1"}})])
        status, pieces = (queue.pop(0) if len(queue) > 1 else queue[0]) if queue else empty
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
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
