"""What the identity tests are made of: records, pods, a clock and a stand-in for a cgroup tree."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.enrich.enricher import Enricher
from flows.agent.enrich.kube_records import Owner, PodRecord
from flows.agent.probe.record import RECORD
from flows.kube.resource import Changes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from flows.agent.enrich.kube_records import Record
    from flows.flow.endpoint import Endpoint

Make = Callable[..., Enricher]

SECOND = 10**9
CONTAINER = "c" * 64
NODE = "192.168.0.1"  # the address of the enricher's own node


def packed(text: str) -> bytes:
    """16 bytes of an address, IPv4 as ::ffff:a.b.c.d."""
    address = ipaddress.ip_address(text)
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


def uid(number: int) -> str:
    """A pod's uid."""
    return f"00000000-0000-4000-8000-{number:012d}"


def pod(number: int, *addresses: str, **fields: Any) -> PodRecord:
    """A pod record with usual values where none are given."""
    values: dict[str, Any] = {
        "uid": uid(number),
        "namespace": "shop",
        "name": f"web-{number}",
        "labels": (("app", "web"),),
        "service_account": "default",
        "node": "node-1",
        "host_network": False,
        "addresses": tuple(packed(address) for address in addresses),
        "owner": Owner("StatefulSet", "web", "s"),
        "config_hash": "",
        "started_ns": 0,
        "containers": (),
    }
    return PodRecord(**{**values, **fields})


def records(*rows: dict[str, Any]) -> NDArray[Any]:
    """RECORDs with the given fields; local and remote are addresses as text."""
    made = np.zeros(len(rows), RECORD)
    for record, row in zip(made, rows, strict=True):
        for name, value in {"protocol": 6, "netns": 7, "time_ns": 1000 * SECOND, **row}.items():
            if name in ("local", "remote"):
                record[f"{name}_addr"] = np.frombuffer(packed(value), np.uint8)
            else:
                record[name] = value
    return made


def tell(enricher: Enricher, resource: str, *made: Record, deleted: tuple[str, ...] = ()) -> None:
    """Have the API say what is new and what is gone."""
    enricher._inbox.append(Changes(resource, made, deleted))


def ends(enricher: Enricher, *rows: dict[str, Any]) -> list[tuple[Endpoint, Endpoint]]:
    """Both ends' endpoints of each record."""
    local, remote = enricher.resolve(records(*rows))
    assert local.dtype == remote.dtype == np.dtype(np.uint32)
    return [(enricher.endpoint(a), enricher.endpoint(b)) for a, b in zip(local.tolist(), remote.tolist(), strict=True)]


class Clock:
    """Monotonic and wall clock that only move when told; monotonic is 1000 s when the wall says 5000 s."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return int(self.seconds * SECOND)

    def wall_ns(self) -> int:
        """Unix time."""
        return int((self.seconds + 4000) * SECOND)


class Tree:
    """A directory that stands in for a cgroup tree: ids are inodes there, too."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self, path: str) -> int:
        """Make a cgroup and give its id."""
        (self.root / path).mkdir(parents=True)
        return (self.root / path).stat().st_ino

    def pod(self, number: int, container: str = CONTAINER) -> int:
        """Make a container's cgroup of pod `number`."""
        return self.make(f"kubepods/pod{uid(number)}/{container}")
