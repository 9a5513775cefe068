"""Plaintext of OpenSSL in tests: whoever reads it, and what they read."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING

import hosts
import numpy as np

from flows.agent.probe.openssl_source import OpenSslSettings, PlaintextCounter
from flows.agent.probe.payload import LONG_PAYLOAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flows.agent.probe.openssl import OpenSslProbe

    Losses = Callable[[], dict[PlaintextCounter, int]]

Hosts = tuple[Path, hosts.Host, hosts.Host]
SETTINGS = OpenSslSettings(ring_bytes=1 << 20)
SHARED = "/lib/x86_64-linux-gnu/libssl.so.3"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def wait(say: Callable[[object], None]) -> None:
    say("here")
    time.sleep(hosts.SECONDS)


def read(probe: OpenSslProbe) -> NDArray[np.void]:
    """All payloads that wait, in the order of their times."""
    found: list[NDArray[np.void]] = []
    for payloads in probe.peek():
        found.append(np.zeros(len(payloads), LONG_PAYLOAD))
        for name in LONG_PAYLOAD.names or ():
            target = found[-1][name][:, : payloads["text"].shape[1]] if name == "text" else found[-1][name]
            target[...] = payloads[name]
    probe.release()
    joined = np.concatenate(found)
    return joined[np.argsort(joined["time_ns"], kind="stable")]


def text(payload: np.void) -> bytes:
    return bytes(payload["text"][: payload["captured"]])


def of(payloads: NDArray[np.void], host: hosts.Host, *, sent: bool) -> NDArray[np.void]:
    found: NDArray[np.void] = payloads[(payloads["cgroup_id"] == host.cgroup_id) & (payloads["sent"] == sent)]
    return found


def at(host: hosts.Host, version: int) -> ipaddress.IPv6Address:
    """As records have it: IPv4 addresses mapped into IPv6."""
    return ipaddress.IPv6Address(host.address(6) if version == 6 else f"::ffff:{host.address(4)}")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
