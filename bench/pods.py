"""Two pods on one machine: a network namespace and a cgroup each, joined by a wire; and their removal.

+-- pods/client --+            +-- pods/server --+
|    10.98.0.1    | -- veth -- |    10.98.0.2    |     cgroup `pods` is what the agent observes
+-----------------+            +-----------------+
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flows.agent.probe.cgroup import find_subtree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NETNS: Final = Path("/run/netns")
PREFIX: Final = "flows-bench-"  # then the process id of the run, by which leftovers of dead runs are known
ADDRESSES: Final = {"client": "10.98.0.1", "server": "10.98.0.2"}
# The load opens 16,000 connections a second for 30 s: every port, also one that waits in TIME_WAIT, is needed.
SYSCTLS: Final = ("net.ipv4.ip_local_port_range=1024 65000", "net.ipv4.tcp_tw_reuse=1")
REMOVAL_SECONDS: Final = 5.0
# The shell puts itself into the cgroup and then becomes the command: no moment in which it runs elsewhere.
_ENTER: Final = 'echo $$ >"$0" && exec "$@"'


@dataclass(frozen=True, slots=True)
class Pod:
    """One end of the wire."""

    name: str
    netns: str
    cgroup: Path

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return ADDRESSES[self.name]

    def command(self, *words: str) -> list[str]:
        """A command line that runs the words in this pod."""
        return inside(self.cgroup, "ip", "netns", "exec", self.netns, *words)

    def run(self, *words: str, seconds: float = 10) -> str:
        """Run a command here and give what it prints. Raises CalledProcessError, TimeoutExpired."""
        done = subprocess.run(self.command(*words), check=True, capture_output=True, text=True, timeout=seconds)
        return done.stdout

    def tcp_counters(self) -> dict[str, int]:
        """This namespace's own TCP counters (RFC 4022 names, e.g. ActiveOpens), as the kernel keeps them."""
        table = self.run("grep", "^Tcp:", "/proc/net/snmp").splitlines()
        names, values = (line.split()[1:] for line in table)
        return dict(zip(names, map(int, values), strict=True))


@dataclass(frozen=True, slots=True)
class Pods:
    """Both ends; observed: the cgroup above both; apart: one beside it, for the agent."""

    observed: Path
    apart: Path
    client: Pod
    server: Pod


def inside(cgroup: Path, *words: str) -> list[str]:
    """A command line that runs the words in a cgroup."""
    return ["sh", "-c", _ENTER, f"{cgroup}/cgroup.procs", *words]


@contextlib.contextmanager
def two_pods() -> Iterator[Pods]:
    """Make both pods; at the end, whatever the end, everything in them is killed and they are removed."""
    name = f"{PREFIX}{os.getpid()}"
    root = find_subtree().path / name
    pods = {one: Pod(one, f"{name}-{one}", root / "pods" / one) for one in ADDRESSES}
    try:
        for cgroup in (root, root / "agent", root / "pods", *(pod.cgroup for pod in pods.values())):
            cgroup.mkdir()
        _join(*pods.values())
        yield Pods(root / "pods", root / "agent", pods["client"], pods["server"])
    finally:
        remove(name)


def _join(client: Pod, server: Pod) -> None:
    for pod in (client, server):
        _ip("netns", "add", pod.netns)
    _ip("link", "add", "wire", "netns", client.netns, "type", "veth", "peer", "name", "wire", "netns", server.netns)
    for pod in (client, server):
        _ip("-n", pod.netns, "addr", "add", f"{pod.address}/24", "dev", "wire")
        for device in ("lo", "wire"):
            _ip("-n", pod.netns, "link", "set", device, "up")
    client.run("sysctl", "-q", "-w", *SYSCTLS)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """One folder for all temporary files of this run and of the programs that it starts; removed at the end."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        yield


def remove_leftovers() -> None:
    """Remove what runs that were killed have left behind: processes, network namespaces, cgroups, files."""
    temporary = Path(tempfile.gettempdir())
    there = [path.name for folder in (NETNS, find_subtree().path, temporary) for path in folder.glob(f"{PREFIX}*")]
    numbers = {int(found[1]) for name in there if (found := re.match(rf"{PREFIX}(\d+)", name))}
    for number in sorted(numbers):
        if not Path(f"/proc/{number}").exists():
            remove(f"{PREFIX}{number}")
            for folder in temporary.glob(f"{PREFIX}{number}-*"):
                shutil.rmtree(folder)


def remove(name: str) -> None:
    """Kill what runs in a run's cgroups, then remove those and its network namespaces, as far as they are there."""
    root = find_subtree().path / name
    deadline = time.monotonic() + REMOVAL_SECONDS
    while _kill_all(root) and time.monotonic() < deadline:
        time.sleep(0.02)
    for netns in NETNS.glob(f"{name}-*"):
        _ip("netns", "del", netns.name)
    for cgroup in _tree(root):
        cgroup.rmdir()


def _tree(root: Path) -> Sequence[Path]:
    """All cgroups from the leaves to the root; none if that is not there."""
    below = [path.parent for path in root.glob("**/cgroup.procs")]
    return sorted(below, key=lambda path: len(path.parts), reverse=True)


def _kill_all(root: Path) -> bool:
    """Kill every process below; tells whether there was any."""
    processes = [int(line) for cgroup in _tree(root) for line in (cgroup / "cgroup.procs").read_text().split()]
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return bool(processes)
