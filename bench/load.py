"""The load: nginx and iperf3 in the server pod, wrk, iperf3 and paced connections from the client pod."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.pods import Pod, Pods

HTTP_PORT: Final = 8088
HTTPS_PORT: Final = 8443
WRK_CONNECTIONS: Final = 32  # enough to keep one nginx worker busy, few enough that none waits
START_SECONDS: Final = 5.0
SLACK_SECONDS: Final = 20.0  # what a load may take beyond its time before it is given up
PACED: Final = Path(__file__).with_name("paced.py")
PACED_REQUESTS: Final = Path(__file__).with_name("paced.lua")
LISTENING: Final = re.compile(r"^\s*\d+: \S+:([0-9A-F]{4}) \S+ 0A ", re.MULTILINE)  # /proc/net/tcp, state LISTEN

NGINX: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 100000000;
    server {{
        listen {address}:{port} backlog=4096; listen unix:{folder}/nginx.sock;
        listen {address}:{https_port} ssl; ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
        location / {{ return 200 "hello\\n"; }}
        location /status {{ stub_status; }}
    }}
}}
"""


class LoadError(Exception):
    """A load did not run as it must; the text says which, and what it printed."""


@dataclass(frozen=True, slots=True)
class Served:
    """Connections that nginx accepted, and requests that it answered."""

    accepts: int
    requests: int


@dataclass(frozen=True, slots=True)
class Load:
    """Loads between two pods; the servers run."""

    pods: Pods
    folder: Path

    def wrk(self, seconds: int, *, close: bool) -> int:
        """Requests answered by nginx in so many seconds, at full speed; close: a connection for each."""
        done = subprocess.run(
            self.wrk_command(seconds, close=close), capture_output=True, text=True, timeout=seconds + SLACK_SECONDS,
            check=False,
        )  # fmt: skip
        return requests(done.stdout + done.stderr)

    def wrk_command(self, seconds: int, *, close: bool) -> list[str]:
        """The command line of wrk, in the client pod."""
        header = ["-H", "Connection: close"] if close else []
        url = f"http://{self.pods.server.address}:{HTTP_PORT}/"
        words = ["wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{seconds}s", *header, url]
        return self.pods.client.command(*words)

    def https(self, seconds: int) -> int:
        """The same over TLS, on connections that stay open."""
        return self._requests(seconds, f"https://{self.pods.server.address}:{HTTPS_PORT}/")

    def paced_requests(self, rate: int, seconds: int) -> int:
        """Requests answered at a steady rate on connections that stay open."""
        pace = ("-s", str(PACED_REQUESTS), "--", str(rate), str(WRK_CONNECTIONS))
        return self._requests(seconds, f"http://{self.pods.server.address}:{HTTP_PORT}/", *pace)

    def _requests(self, seconds: int, url: str, *script: str) -> int:
        options = script[:2]
        words = ["wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{seconds}s", *options, url, *script[2:]]
        done = subprocess.run(
            self.pods.client.command(*words), capture_output=True, text=True, timeout=seconds + SLACK_SECONDS, check=False
        )
        return requests(done.stdout + done.stderr)

    def iperf3(self, seconds: int) -> float:
        """Bits per second received over one TCP connection."""
        words = ("iperf3", "-c", self.pods.server.address, "-t", str(seconds), "-J")
        answer = json.loads(self.pods.client.run(*words, seconds=seconds + SLACK_SECONDS))
        return float(answer["end"]["sum_received"]["bits_per_second"])

    def paced(self, rate: int, seconds: float) -> None:
        """That many connections a second, one request each. Raises LoadError when it could not keep the pace."""
        address = (self.pods.server.address, str(HTTP_PORT))
        words = (sys.executable, str(PACED), *address, str(rate), str(seconds))
        made = int(self.pods.client.run(*words, seconds=seconds + SLACK_SECONDS))
        if made < 0.97 * rate * seconds:
            raise LoadError(f"paced connections: {made} made in {seconds:g} s instead of {rate * seconds:g}")

    def served(self) -> Served:
        """What nginx has done so far, by its own count, this question itself not included."""
        answer = self._ask(b"GET /status HTTP/1.0\r\n\r\n").decode()
        accepts, _, requests = map(int, re.findall(r"\d+", answer.partition("handled requests\n")[2])[:3])
        return Served(accepts - 1, requests - 1)

    @property
    def request_bytes(self) -> int:
        """Length of what wrk sends on a connection of its own."""
        return len(self._request)

    def reply_bytes(self) -> int:
        """Length of nginx's answer to that."""
        return len(self._ask(self._request))

    @property
    def _request(self) -> bytes:
        host = f"{self.pods.server.address}:{HTTP_PORT}"
        return f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()

    def _ask(self, request: bytes) -> bytes:
        """Ask nginx on its unix socket: no agent sees that."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(START_SECONDS)
            channel.connect(str(self.folder / "nginx.sock"))
            channel.sendall(request)
            return channel.makefile("rb").read()


def requests(printed: str) -> int:
    """What wrk says that it did. Raises LoadError if it did nothing or had errors."""
    found = re.search(r"(\d+) requests in", printed)
    errors = re.search(r"Socket errors:.*|Non-2xx.*", printed)
    if found is None or errors or not int(found[1]):
        raise LoadError(f"wrk: {errors[0] if errors else printed.strip() or 'no answer'}")
    return int(found[1])


@contextlib.contextmanager
def servers(pods: Pods) -> Iterator[Load]:
    """Start nginx and iperf3 in the server pod; they are ended with this context."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        address = pods.server.address
        make_certificate(folder)
        ports = {"port": HTTP_PORT, "https_port": HTTPS_PORT}
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, address=address, **ports))
        for words in (("nginx", "-c", f"{folder}/nginx.conf"), ("iperf3", "-s")):
            stack.enter_context(running(pods.server.command(*words)))
        wait_for_listeners(pods.server, {HTTP_PORT, HTTPS_PORT, 5201})
        yield Load(pods, folder)


def make_certificate(folder: Path) -> None:
    """server.key and server.pem, self-signed."""
    words = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=bench", "-days", "2")
    files = ("-keyout", str(folder / "server.key"), "-out", str(folder / "server.pem"))
    subprocess.run(["openssl", "req", "-x509", *words, *files], check=True, capture_output=True)


@contextlib.contextmanager
def running(command: list[str], output: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """A process that is told to end with this context, then made to."""
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
        process.kill()
        process.wait()


def wait_for_listeners(pod: Pod, ports: set[int]) -> None:
    """Wait until all ports are listened on. Raises LoadError."""
    deadline = time.monotonic() + START_SECONDS
    missing = ports
    while missing and time.monotonic() < deadline:
        tables = pod.run("cat", "/proc/net/tcp", "/proc/net/tcp6")
        missing = ports - {int(port, 16) for port in LISTENING.findall(tables)}
        time.sleep(0.05)
    if missing:
        raise LoadError(f"nothing listens on {sorted(missing)} in pod {pod.name} after {START_SECONDS:g} s")
