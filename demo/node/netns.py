"""Network namespaces by name: make, list, remove, and act inside one."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.demo import layout
from flows.demo.errors import DemoError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CLONE_NEWNET = 0x40000000
COMMAND_SECONDS = 20  # ip and nft take milliseconds; this only bounds a machine that hangs

_libc = ctypes.CDLL(None, use_errno=True)

# Forwarding, and no waiting: duplicate address detection would keep an address unusable for a second or two.
FORWARDING = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
    "net/ipv6/conf/default/accept_dad": "0",
    # A refused connection must be refused each time, not once a second.
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv6/icmp/ratelimit": "0",
}
LEAF = {"net/ipv6/conf/default/accept_dad": "0", "net/ipv6/conf/default/accept_ra": "0"}


def path(name: str) -> Path:
    return layout.NETNS / name


def names() -> list[str]:
    """The demo's namespaces that exist now."""
    if not layout.NETNS.is_dir():
        return []
    return sorted(p.name for p in layout.NETNS.iterdir() if p.name.startswith(layout.PREFIX))


def create(name: str, sysctls: dict[str, str]) -> None:
    """Make a namespace with lo up; kernel settings are made before any link exists, so that links inherit them."""
    run(["ip", "netns", "add", name])
    with inside(name):
        for key, value in sysctls.items():
            (Path("/proc/sys") / key).write_text(value)
    ip_batch(name, ["link set lo up"])


def remove(name: str) -> None:
    """Remove a namespace, and with it its links, routes and nftables; nothing if it is gone."""
    if path(name).exists():
        run(["ip", "netns", "del", name])


def run(argv: list[str], text: str | None = None) -> str:
    """Run a network tool to its end; DemoError with its own words if it fails."""
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except FileNotFoundError:
        raise DemoError(f"{argv[0]} is not installed: it is in the package iproute2 or nftables") from None
    except subprocess.TimeoutExpired:
        raise DemoError(f"{' '.join(argv)}: no end after {COMMAND_SECONDS} s") from None
    if done.returncode:
        raise DemoError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
    return done.stdout


def ip_batch(name: str | None, lines: Iterable[str]) -> None:
    """Run `ip` commands in one process, inside a namespace, or on the machine itself for None."""
    where = ["-n", name] if name else []
    run(["ip", *where, "-batch", "-"], "\n".join(lines) + "\n")


def nft(name: str, ruleset: str) -> None:
    """Load an nftables ruleset inside a namespace, all of it or nothing."""
    run(["nsenter", f"--net={path(name)}", "nft", "-f", "-"], ruleset)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Move the calling thread into a namespace for the time of a `with`; no await may happen within."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(path(name), os.O_RDONLY)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(here)
    finally:
        os.close(here)


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def stream_socket(name: str, family: socket.AddressFamily) -> socket.socket:
    """A non-blocking TCP socket that belongs to a namespace."""
    with inside(name):
        sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


async def connect(name: str, address: str, port: int) -> socket.socket:
    """A TCP connection made from a namespace; OSError when there is none to be had."""
    sock = stream_socket(name, socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
