"""TLS through memory BIOs, as asyncio has it: OpenSSL never sees a socket, programs send what it leaves in memory."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import tls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Node.js. Arguments of the server: port, file with key and certificate; of the client: host, port, connections, requests on each.
NODE_SERVER = """
const [port, pem] = process.argv.slice(1), text = require("fs").readFileSync(pem);
require("https").createServer({key: text, cert: text}, (_, answer) => answer.end("hello")).listen(port);
"""
NODE_CLIENT = """
const [host, port, connections, requests] = process.argv.slice(1), https = require("https"), asked = {};
async function ask(agent, path, left = 100) {
  return new Promise((resolve, reject) => {
    https.get({host, port, path, agent, rejectUnauthorized: false}, answer => {
      asked[path] = answer.socket.localPort;
      answer.resume().on("end", resolve);
    }).on("error", error => left ? setTimeout(() => ask(agent, path, left - 1).then(resolve, reject), 50) : reject(error));
  });
}
async function client(number) {
  const agent = new https.Agent({keepAlive: true, maxSockets: 1});
  for (let turn = 0; turn < requests; turn++) await ask(agent, `/${number}/${turn}`);
  agent.destroy();
}
Promise.all([...Array(+connections).keys()].map(client)).then(() => console.log(JSON.stringify(asked)));
"""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


class Session:
    """A client's, whose ciphertext waits until it is flushed."""

    def __init__(self, host: str, port: int) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.client_context().wrap_bio(self._incoming, self._outgoing)
        self.socket = socket.create_connection((host, port), 20)
        self.cookie = tls.cookie(self.socket)
        self.finish(self._tls.do_handshake)

    def write(self, data: bytes) -> None:
        self._tls.write(data)

    def flush(self) -> None:
        self.socket.sendall(self._outgoing.read())

    def read(self) -> bytes:
        return bytes(self.finish(lambda: self._tls.read(65_536)))

    def finish(self, act: Callable[[], Any]) -> Any:
        """Again and again, until the other side has sent what it takes."""
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                self.flush()
                self._incoming.write(self.socket.recv(65_536))
            else:
                self.flush()
                return result


def serve(say: Callable[[Any], None], pem: Path, connections: int) -> dict[str, int]:
    """asyncio's server: serves so many connections, and gives the socket's cookie for each path that was asked for."""
    return asyncio.run(_serve(say, pem, connections))


async def _serve(say: Callable[[Any], None], pem: Path, connections: int) -> dict[str, int]:
    asked, left, over = dict[str, int](), connections, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        while line := await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            asked[line.split()[1].decode()] = tls.cookie(writer.get_extra_info("socket"))
            writer.write(ANSWER)
            await writer.drain()
        writer.close()
        left -= 1
        if not left:
            over.set()

    async with await asyncio.start_server(answer, "0.0.0.0", 0, ssl=tls.server_context(pem)) as server:
        say(server.sockets[0].getsockname()[1])
        async with asyncio.timeout(20):
            await over.wait()
    return asked


def ask_side_by_side(_: Callable[[Any], None], host: str, port: int, connections: int, requests: int) -> dict[str, int]:
    """asyncio's client: requests on many connections at once; gives the socket's cookie for each path."""
    return asyncio.run(_ask_side_by_side(host, port, connections, requests))


async def _ask_side_by_side(host: str, port: int, connections: int, requests: int) -> dict[str, int]:
    async def ask(number: int) -> dict[str, int]:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls.client_context())
        asked = {}
        for turn in range(requests):
            path = f"/{number}/{turn}"
            asked[path] = tls.cookie(writer.get_extra_info("socket"))
            writer.write(request(path))
            await reader.readuntil(b"hello")
        writer.close()
        return asked

    async with asyncio.timeout(20):
        found = await asyncio.gather(*map(ask, range(connections)))
    return {path: cookie for each in found for path, cookie in each.items()}


def ask_in_other_orders(say: Callable[[Any], None], host: str, port: int, orders: list[list[int]]) -> dict[str, int]:
    """Sessions encrypt one after the other, and are flushed in each of these orders; gives the cookie for each path.

    Says when they are there, and then waits a little.
    """
    asked = {}
    with ExitStack() as stack:
        sessions = [Session(host, port) for _ in orders[0]]
        for session in sessions:
            stack.callback(session.socket.close)
        say("there")
        time.sleep(0.5)
        for turn, order in enumerate(orders):
            for number, session in enumerate(sessions):
                path = f"/{number}/{turn}"
                session.write(request(path))
                asked[path] = session.cookie
            for number in order:
                sessions[number].flush()
            for session in sessions:
                session.read()
    return asked


def serve_node(_: Callable[[Any], None], port: int, pem: Path) -> None:
    """Becomes Node.js as a server, until it is killed."""
    os.execvp("node", ["node", "-e", NODE_SERVER, str(port), str(pem)])


def ask_by_node(_: Callable[[Any], None], host: str, port: int, connections: int, requests: int) -> dict[str, int]:
    """Node.js as a client: requests on many connections at once; gives the local port for each path."""
    argv = ["node", "-e", NODE_CLIENT, host, str(port), str(connections), str(requests)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    return dict(json.loads(done.stdout))


def ask_through_a_thread(_: Callable[[Any], None], host: str, port: int) -> None:
    """Another thread sends than the one that encrypts, in the handshake, too."""
    session = Session.__new__(Session)
    flush = Session.flush

    def elsewhere(self: Session) -> None:
        sender = threading.Thread(target=flush, args=(self,))
        sender.start()
        sender.join()

    Session.flush = elsewhere  # type: ignore[method-assign]
    session.__init__(host, port)  # type: ignore[misc]
    session.write(request("/thread"))
    session.flush()
    session.read()
    session.socket.close()
