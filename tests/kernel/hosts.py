"""Two hosts on one machine: a network namespace and a cgroup each, joined by a wire.

+--------- client ---------+            +--------- server ---------+
| 10.99.0.1  fd00:99::1    | -- veth -- | 10.99.0.2  fd00:99::2    |
+--------------------------+            +--------------------------+
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from flows.agent.probe.cgroup import find_subtree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CLONE_NEWNET = 0x40000000
ADDRESSES = {"client": ("10.99.0.1", "fd00:99::1"), "server": ("10.99.0.2", "fd00:99::2")}
SECONDS = 30  # no step of a test takes as long

_fork = multiprocessing.get_context("fork")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Host:
    """One end of the wire."""

    name: str
    netns: str
    cgroup: Path

    @property
    def cgroup_id(self) -> int:
        return self.cgroup.stat().st_ino

    def address(self, version: int) -> str:
        return ADDRESSES[self.name][0 if version == 4 else 1]

    def enter(self) -> None:
        """Move the calling process here, for good."""
        (self.cgroup / "cgroup.procs").write_text(str(os.getpid()))
        descriptor = os.open(f"/run/netns/{self.netns}", os.O_RDONLY)
        if _libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"entering {self.netns}")
        os.close(descriptor)

    def start(self, act: Callable[..., Any], *arguments: Any) -> Running:
        """Run act(say, *arguments) as a process of this host; what it says or returns can be waited for."""
        ours, theirs = _fork.Pipe()
        process = _fork.Process(target=_serve, args=(self, theirs, act, arguments), daemon=True)
        process.start()
        theirs.close()
        return Running(process, ours)

    def run(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """Run act here to its end, and give what it returns."""
        with self.start(act, *arguments) as running:
            return running.heard()


def _serve(host: Host, channel: Any, act: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    host.enter()
    try:
        channel.send(act(channel.send, *arguments))
    except OSError as error:
        channel.send(error)


@dataclass
class Running:
    """A process of a host."""

    process: Any
    channel: Any

    def heard(self) -> Any:
        """The next thing it says; its return value comes last."""
        assert self.channel.poll(SECONDS), f"nothing heard within {SECONDS} s"
        value = self.channel.recv()
        if isinstance(value, OSError):
            raise value
        return value

    def tell(self, value: Any = None) -> None:
        self.channel.send(value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.channel.close()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Path, Host, Host]]:
    """Make both hosts; yields (the cgroup above both, client, server), and removes everything."""
    root = find_subtree().path / f"flows-test-{os.getpid()}"
    hosts = {name: Host(name, f"flows-test-{os.getpid()}-{name}", root / name) for name in ADDRESSES}
    with contextlib.ExitStack() as stack:
        for cgroup in (root, *(host.cgroup for host in hosts.values())):
            cgroup.mkdir()
            stack.callback(cgroup.rmdir)
        for host in hosts.values():
            ip("netns", "add", host.netns)
            stack.callback(ip, "netns", "del", host.netns)
        ends = [host.netns for host in hosts.values()]
        ip("link", "add", "w", "netns", ends[0], "type", "veth", "peer", "name", "w", "netns", ends[1])
        for host in hosts.values():
            _configure(host)
        yield root, hosts["client"], hosts["server"]


def _configure(host: Host) -> None:
    ipv4, ipv6 = ADDRESSES[host.name]
    ip("-n", host.netns, "addr", "add", f"{ipv4}/24", "dev", "w")
    ip("-n", host.netns, "addr", "add", f"{ipv6}/64", "dev", "w", "nodad")
    for device in ("lo", "w"):
        ip("-n", host.netns, "link", "set", device, "up")
