"""A relay as people run it, over many simulated agents, looked at from outside."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from bench import processes
from flows.proto import observer_pb2, observer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOWS: Final = Path(sys.executable).with_name("flows")
AGENTS: Final = Path(__file__).with_name("relay_agents.py")
PROCESSES: Final = 4
START_SECONDS: Final = 60.0


class RelayError(Exception):
    """The relay or its agents did not start, or have ended; the text holds the last words."""


@dataclass(frozen=True, slots=True)
class RelayProcess:
    """A running relay. connected_seconds: from its start until all agents were connected."""

    process: subprocess.Popen[bytes]
    address: str
    connected_seconds: float

    def resident_mb(self) -> float:
        """Its resident memory, in 10^6 bytes."""
        return processes.resident_mb(self.process.pid)

    def cpu_seconds(self) -> float:
        """CPU time that it has used."""
        return processes.cpu_seconds(self.process.pid)


@contextlib.contextmanager
def agents(number: int, rate: float, skew_ms: int) -> Iterator[dict[str, str]]:
    """Simulated agents in several processes: addresses by node. rate: flows a second of each, while followed."""
    with tempfile.TemporaryDirectory() as folder:
        share = -(-number // PROCESSES)
        words = [
            [str(AGENTS), folder, str(first), str(min(share, number - first)), str(rate), str(skew_ms)]
            for first in range(0, number, share)
        ]
        started = [subprocess.Popen([sys.executable, *each], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for each in words]
        try:
            for process in started:
                assert process.stdout is not None
                if process.stdout.readline() != b"ready\n":
                    raise RelayError("simulated agents did not start")
            yield {f"node-{node}": f"unix://{folder}/{node}" for node in range(number)}
        finally:
            for process in started:
                process.kill()
                process.communicate()


@contextlib.contextmanager
def relay(peers: dict[str, str]) -> Iterator[RelayProcess]:
    """Run a relay over these agents until all are connected."""
    with tempfile.TemporaryDirectory() as folder:
        address, log = f"unix://{folder}/relay.sock", Path(folder) / "log"
        named = ",".join(f"{name}={where}" for name, where in peers.items())
        words = [str(FLOWS), "relay", "--listen", address, "--peers", named, "--metrics-listen", "127.0.0.1:19966"]
        began = time.monotonic()
        with log.open("wb") as file:
            process = subprocess.Popen(words, stdout=file, stderr=file)
        try:
            _wait(process, address, len(peers), log)
            yield RelayProcess(process, address, time.monotonic() - began)
        finally:
            processes.end(process)


def _wait(process: subprocess.Popen[bytes], address: str, number: int, log: Path) -> None:
    deadline, connected = time.monotonic() + START_SECONDS, -1
    with grpc.insecure_channel(address) as channel:
        stub: Any = observer_pb2_grpc.ObserverStub(channel)  # type: ignore[no-untyped-call] # generated
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(grpc.RpcError):
                status = stub.ServerStatus(observer_pb2.ServerStatusRequest(), timeout=10)
                connected = status.num_connected_nodes.value
                if connected == number:
                    return
            time.sleep(0.1)
    words = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
    raise RelayError(f"relay: {connected} of {number} agents connected after {START_SECONDS:g} s\n{words}")
