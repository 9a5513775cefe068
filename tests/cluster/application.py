"""An application in a pod that makes connections one after the other and keeps its own count: what flows are compared with.

Each connection has a source port of a range that nothing else in the cluster uses.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from demo_command import Demo

Json = dict[str, Any]
PORTS = range(20_000, 30_000)  # below the kernel's own choice (32768 on)
TIMEOUT_SECONDS = 10

# Runs inside the pod. A line per connection when it has ended: [address, port, began, ended] with times in ns since 1970.
PROGRAM = """
import json, socket, sys, time
target, port, first, seconds, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])
address = socket.getaddrinfo(target, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
end, number = time.monotonic() + seconds, first
while time.monotonic() < end:
    began = time.time_ns()
    with socket.socket() as sock:
        sock.settimeout(5)
        sock.bind(("", number))
        sock.connect(address)
        sock.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        while sock.recv(4096):
            pass
        name = sock.getsockname()[0]
    print(json.dumps([name, number, began, time.time_ns()]), flush=True)
    number += 1
    time.sleep(pause)
"""


@dataclass(frozen=True, slots=True)
class Made:
    """One connection as the application saw it."""

    address: str
    port: int
    began: int
    ended: int


class Application:
    """The program, running in a pod; `ports` says which range of PORTS is its own."""

    def __init__(
        self, demo: Demo, pod: str, target: str, port: int, *, seconds: float, pause: float = 0.03, first: int = 0
    ) -> None:
        words = [target, str(port), str(PORTS[first]), str(seconds), str(pause)]
        argv = [sys.executable, "-m", "flows.demo.main", "exec", pod, "--", "python3", "-c", PROGRAM, *words]
        self.seconds = seconds
        self._out, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - a pipe fills up, and it waits
        self.process = subprocess.Popen(argv, stdout=self._out, stderr=self._errors)

    def made(self) -> list[Made]:
        """All connections, once it has ended."""
        code = self.process.wait(timeout=self.seconds + TIMEOUT_SECONDS)
        out, errors = (self._read(stream) for stream in (self._out, self._errors))
        assert code == 0, errors
        rows = [Made(*json.loads(line)) for line in out.splitlines()]
        assert rows
        return rows

    @staticmethod
    def _read(stream: IO[bytes]) -> str:
        with stream:
            stream.seek(0)
            return stream.read().decode()


@dataclass(frozen=True, slots=True)
class Seen:
    """The end of a connection in one flow: whose it was, and which node saw it."""

    address: str
    port: int
    node: str
    at_source: bool


def seen(flows: list[Json]) -> list[Seen]:
    """The ends (CLOSED) of the application's connections among flows."""
    found = []
    for flow in flows:
        port = int(flow.get("l4", {}).get("TCP", {}).get("source_port", 0))
        connection = flow.get("extensions", {}).get("connection", {})
        if port in PORTS and connection.get("event") == "CLOSED":
            found.append(Seen(flow["IP"]["source"], port, flow["node_name"], bool(connection.get("observed_at_source"))))
    return found
