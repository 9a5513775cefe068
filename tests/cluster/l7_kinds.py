"""All that HTTP/1.1 can do, on a connection each: `l7_kinds.py ADDRESS TAG`, run inside a pod against the demo's cache."""

from __future__ import annotations

import socket
import sys
import time

PORT = 8080
SEGMENT = "/media/seg-00001.ts"


class Client:
    """Sends, and reads answers as RFC 9112 section 6 says where they end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.create_connection((address, PORT), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, *lines: str, body: bytes = b"") -> None:
        """Head and body in one packet, if they fit."""
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def ask(self, line: str, *fields: str, body: bytes = b"") -> int:
        """A request, and the status of its answer."""
        self.send(f"{line} HTTP/1.1", "Host: cache", *fields, body=body)
        return self.answer(line.partition(" ")[0])

    def answer(self, method: str = "GET") -> int:
        """Read an answer to its end; its status."""
        status = int(self.file.readline().split()[1])
        fields = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(":")
            fields[name.lower()] = value.strip()
        if method == "HEAD" or status in {204, 304} or status < 200:
            return status
        if fields.get("transfer-encoding") == "chunked":
            while size := int(self.file.readline(), 16):
                self.file.read(size + 2)
            self.file.readline()
        else:
            self.file.read(int(fields["content-length"]))
        return status


def simple(client: Client, tag: str) -> None:
    """One after the other; some of several packets."""
    client.ask(f"GET /s/{tag}.whole{SEGMENT}")
    client.ask(f"GET /s/{tag}.range{SEGMENT}", "Range: bytes=5-99")
    client.ask(f"GET /s/{tag}.same{SEGMENT}", 'If-None-Match: "00001-1"')
    client.ask(f"HEAD /s/{tag}.head{SEGMENT}")
    client.ask(f"GET /chunked?parts=20&tag={tag}")
    client.ask(f"GET /slow?ms=300&tag={tag}")
    client.ask(f"GET /s/{tag}.cookies{SEGMENT}", "Cookie: " + "c" * 6000)
    client.socket.sendall(f"GET /s/{tag}.halves/status/404 HTTP/1.1\r\nHost: ca".encode())
    time.sleep(0.05)
    client.socket.sendall(b"che\r\n\r\n")
    client.answer()
    client.ask(f"PUT /s/{tag}.put/status/503", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n")
    upload(client, tag, b"u" * 300_000)
    client.ask(f"GET /s/{tag}.last/status/500")


def upload(client: Client, tag: str, body: bytes) -> None:
    """A body that waits for 100 Continue."""
    client.send(f"POST /upload?tag={tag} HTTP/1.1", "Host: cache", "Expect: 100-continue", f"Content-Length: {len(body)}")
    assert client.answer() == 100
    client.socket.sendall(body)
    client.answer("POST")


def pipelined(client: Client, tag: str) -> None:
    """Three requests in packets of their own before the first answer; four in one packet; then one alone."""
    for path in ("/slow?ms=100", f"/s/{tag}.burst/status/404", f"/s/{tag}.burst/status/503"):
        client.send(f"GET {path} HTTP/1.1", "Host: cache")
    for _ in range(3):
        client.answer()
    requests = [f"GET /s/{tag}.pipe{status}/status/{status} HTTP/1.1\r\nHost: cache\r\n\r\n" for status in (200, 404, 503, 201)]
    client.socket.sendall("".join(requests).encode())
    for _ in requests:
        client.answer()
    client.ask(f"GET /s/{tag}.after-pipe/status/500")


def alike(client: Client, tag: str) -> None:
    """A body whose every packet may begin like a request."""
    client.ask(f"GET /s/{tag}.before-alike/status/404")
    upload(client, tag, b"GET /x HTTP/1.1\r\n\r\n12345" * 12_000)
    client.ask(f"GET /s/{tag}.after-alike/status/503")


def upgraded(client: Client, tag: str) -> None:
    """To something that is no HTTP, though it may look so."""
    client.send(f"GET /socket?tag={tag} HTTP/1.1", "Host: cache", "Upgrade: echo", "Connection: upgrade")
    assert client.answer() == 101
    client.socket.sendall(b"GET /after-the-upgrade HTTP/1.1\r\n")
    client.file.readline()


def main() -> None:
    for part in (simple, pipelined, alike, upgraded):
        client = Client(sys.argv[1])
        part(client, sys.argv[2])
        client.socket.close()


if __name__ == "__main__":
    main()
