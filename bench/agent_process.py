"""An agent as people run it, `flows agent` in a process of its own, looked at from outside."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from bench import processes
from bench.pods import inside
from flows.agent.probe import bpf
from flows.proto import observer_pb2, observer_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.pods import Pods

FLOWS: Final = Path(sys.executable).with_name("flows")
START_SECONDS: Final = 30.0  # compiling takes one second on an idle machine
BPF_STATS_RUN_TIME: Final = 0  # enum bpf_stats_type, include/uapi/linux/bpf.h


class AgentError(Exception):
    """The agent did not start or has ended; the text holds its last words."""


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """A running agent."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def cpu_seconds(self) -> float:
        """CPU time that it has used."""
        return processes.cpu_seconds(self.pid)

    def resident_mb(self) -> float:
        """Its resident memory, in 10^6 bytes."""
        return processes.resident_mb(self.pid)

    def bpf_runs(self) -> tuple[int, int]:
        """Time in all its eBPF programs since they were loaded, ns, while count_run_time() was open; and how often they ran."""
        by_program = {}
        for file in Path(f"/proc/{self.pid}/fdinfo").iterdir():
            try:
                fields = dict(re.findall(r"^(\w+):\s*(\S+)$", file.read_text(), re.MULTILINE))
            except FileNotFoundError:  # a descriptor that lives for a moment: a sweep's, a client's
                continue
            if "run_time_ns" in fields:
                by_program[fields["prog_id"]] = (int(fields["run_time_ns"]), int(fields["run_cnt"]))
        return sum(ns for ns, _ in by_program.values()), sum(runs for _, runs in by_program.values())

    def status(self) -> observer_pb2.ServerStatusResponse:
        """Its own account. Raises AgentError when it does not answer."""
        with grpc.insecure_channel(self.address) as channel:
            stub: Any = observer_pb2_grpc.ObserverStub(channel)  # type: ignore[no-untyped-call] # generated
            try:
                answer: observer_pb2.ServerStatusResponse = stub.ServerStatus(observer_pb2.ServerStatusRequest(), timeout=5)
            except grpc.RpcError as error:
                raise AgentError(f"asking the agent for its status: {error}\n{self._last_words()}") from error
        return answer

    def wait_until_ready(self) -> None:
        """Wait until it answers. Raises AgentError."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AgentError(f"the agent ended with status {self.process.returncode}\n{self._last_words()}")
            with contextlib.suppress(AgentError):
                self.status()
                return
            time.sleep(0.1)
        raise AgentError(f"the agent does not answer after {START_SECONDS:g} s\n{self._last_words()}")

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])


@contextlib.contextmanager
def agent(pods: Pods, kubeconfig: Path | None = None, *flags: str) -> Iterator[AgentProcess]:
    """Run an agent that watches both pods, with its defaults but for flags; names from the API of the kubeconfig, if given."""
    with tempfile.TemporaryDirectory() as name:
        address, log = f"unix://{name}/flows.sock", Path(name) / "log"
        names = ["--kubeconfig", str(kubeconfig)] if kubeconfig else ["--no-kubernetes"]
        words = ["agent", "--cgroup", str(pods.observed), "--listen", address, "--node", "bench", *names, *flags]
        with log.open("wb") as file:
            process = subprocess.Popen(inside(pods.apart, str(FLOWS), *words), stdout=file, stderr=file)
        started = AgentProcess(process, address, log)
        try:
            started.wait_until_ready()
            yield started
        finally:
            processes.end(process)


@contextlib.contextmanager
def count_run_time() -> Iterator[None]:
    """Have the kernel measure the run time of eBPF programs, which costs some: only while this is open."""
    descriptor = bpf.bpf(bpf.Command.ENABLE_STATS, struct.pack("<I", BPF_STATS_RUN_TIME))
    try:
        yield
    finally:
        os.close(descriptor)
