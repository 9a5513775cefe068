"""Entities: what a number can stand for. Their names are the directory's business."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from flows.flow.endpoint import Evidence, Reserved


@dataclass(frozen=True, slots=True)
class PodEntity:
    """A pod, known by its address."""

    uid: str


@dataclass(frozen=True, slots=True)
class CgroupEntity:
    """What runs in a cgroup; evidence tells whether its socket was seen, or the other end of its
    connection.
    """

    path: str
    evidence: Evidence = Evidence.CGROUP


@dataclass(frozen=True, slots=True)
class ServiceEntity:
    """A Service, known by one of its addresses."""

    namespace: str
    name: str
    api_server: bool = False


@dataclass(frozen=True, slots=True)
class NodeEntity:
    """A node, known by its address. host: this one. api_server: an API server is reached at this address."""

    name: str
    host: bool = False
    api_server: bool = False


@dataclass(frozen=True, slots=True)
class RangeEntity:
    """All that is known is the address' range: loopback (host) or anywhere else (world, kube-apiserver)."""

    reserved: Reserved
    evidence: Evidence = Evidence.RANGE


Entity: TypeAlias = PodEntity | CgroupEntity | ServiceEntity | NodeEntity | RangeEntity

WORLD: Final = RangeEntity(Reserved.WORLD)
LOOPBACK: Final = RangeEntity(Reserved.HOST)
API_SERVER: Final = RangeEntity(Reserved.KUBE_APISERVER, Evidence.ADDRESS)


@dataclass(slots=True)
class Effect:
    """What applying changes did. addresses: those whose owner may have changed, with the wall clock time in
    ns since when (0: unknown). pods: uids whose names changed. everything: names that any endpoint may carry
    changed.
    """

    addresses: dict[bytes, int] = field(default_factory=dict)
    pods: set[str] = field(default_factory=set)
    everything: bool = False
