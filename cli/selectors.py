"""Words: what a person may write after --from and --to, and the FlowFilters that each word stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flows.flow.filter import address, labels, patterns
from flows.flow.filter.errors import FilterError, nearest
from flows.flow.filter.identity import RESERVED
from flows.proto.flow_pb2 import FlowFilter, Workload

_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
# A pod's name may have dots, and a prefix may end at a hyphen.
_NAME_PREFIX = re.compile(r"[a-z0-9][-a-z0-9.]*")
_SERVICE_DNS = re.compile(rf"(?P<name>{_NAME})\.(?P<namespace>{_NAME})\.svc(\.[a-z0-9.-]+)?\.?")
# `svc.ns`, as a pod may call a service, looks like any DNS name of two parts.
_NAME_IN_NAMESPACE = re.compile(r"([a-z0-9][-a-z0-9]*)\.([a-z0-9][-a-z0-9]*)")
# Also what only looks like an address, so that the error is about addresses.
_ADDRESS_LIKE = re.compile(r"[0-9]+\.[0-9.]*(/.*)?|[0-9A-Fa-f]*:[0-9A-Za-z]*:[0-9A-Za-z:.%]*(/.*)?")
# Kubernetes' kinds begin with a capital, namespaces cannot.
_KIND = re.compile(r"[A-Z][A-Za-z]*/[-a-z0-9.]*")
_SELECTOR = re.compile(r"[=!(),<>:\s]")
_NAME_AND_PORT = re.compile(r"([^=!(),<>:\s]+):([0-9]{1,5})")
_WORLD = tuple(RESERVED[name] for name in ("world", "world-ipv4", "world-ipv6"))

_EXPECTED = (
    "expected [ns/]name of a service, workload or pod, ns/, a label selector (app=web), an IP or CIDR,"
    " a DNS name, or world, host, remote-node, kube-apiserver"
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """A flow is meant if any alternative matches. note, if any, says what an ambiguous word was taken for."""

    alternatives: tuple[FlowFilter, ...]
    note: str = ""


def expand(word: str, side: str, namespaces: Sequence[str] = ()) -> Meaning:
    """What word stands for at side (`source` or `destination`). Raises FilterError.

    namespaces (of --from-namespace, --to-namespace) qualify a name without one; an empty one is any.
    """
    means = next(means for takes, means in _KINDS if takes(word))
    return means(word, side, tuple(namespaces))


def _reserved(word: str, side: str, namespaces: tuple[str, ...]) -> Meaning:
    """`world`, `host`, `kube-apiserver`, ...: Hubble's reserved identities."""
    _refuse_namespaces(word, namespaces, "a reserved identity")
    identities = _WORLD if word == "world" else (RESERVED[word],)
    alternatives = [_filter(side, identity=identities)]
    if word == "kube-apiserver":
        # Cilium gives an API server outside the cluster a CIDR identity and only labels it so.
        alternatives.append(_filter(side, label=[f"reserved:{word}"]))
    note = f"{word!r} is taken for the reserved identity; write /{word} for a pod or service of that name"
    return Meaning(tuple(alternatives), note)


def _address(word: str, side: str, namespaces: tuple[str, ...]) -> Meaning:
    address.parse("ip", word)
    _refuse_namespaces(word, namespaces, "an address")
    return Meaning((_filter(side, ip=[word]),))


def _kind(word: str, side: str, namespaces: tuple[str, ...]) -> Meaning:
    """`Deployment/web`, `StatefulSet/`."""
    kind, name = word.split("/")
    workload = _filter(side, workload=[Workload(kind=kind, name=name)], **_inside(namespaces))
    note = f"{word!r} is taken for the workload {name or '*'} of kind {kind}, not for a namespace"
    return Meaning((workload,), note)


def _labels(word: str, side: str, namespaces: tuple[str, ...]) -> Meaning:
    port = _NAME_AND_PORT.fullmatch(word)
    if port:
        flag = "from" if side == "source" else "to"
        cure = f"--{flag} {port[1]} --{flag}-port {port[2]}"
        raise FilterError("word", word, f"a port is a flag of its own: write {cure}")
    labels.parse("label", word)
    return Meaning((_filter(side, label=[word], **_inside(namespaces)),))


def _service(word: str, side: str, namespaces: tuple[str, ...]) -> Meaning:
    """`svc.ns.svc[.cluster.local]`: the name under which a pod calls a service."""
    _refuse_namespaces(word, namespaces, "a service with its namespace")
    found = _SERVICE_DNS.fullmatch(word)
    assert found is not None
    service = f"{found['namespace']}/{found['name']}"
    note = f"{word!r} is taken for the service {service}, and for the DNS name"
    return Meaning((_filter(side, service=[service]), _filter(side, fqdn=[word])), note)


def _dns_name(word: str, side: str, namespaces: tuple[str, ...]) -> Meaning:
    patterns.fqdn("fqdn", [word])
    _refuse_namespaces(word, namespaces, "a DNS name")
    within = _NAME_IN_NAMESPACE.fullmatch(word)
    dns = _filter(side, fqdn=[word])
    if within is None:
        return Meaning((dns,))
    name = f"{within[2]}/{within[1]}"
    note = f"{word!r} is taken for a DNS name, and for the service, workload or pod {name}"
    return Meaning((dns, *_name(name, side, ()).alternatives), note)


def _name(word: str, side: str, namespaces: tuple[str, ...]) -> Meaning:
    """`[ns/]name` of a service, workload or pod, in any namespace if none is given; `ns/`: all of it."""
    namespace, slash, name = word.rpartition("/")
    _check_name(word, namespace, name)
    conflict = next((required for required in namespaces if namespace and required != namespace), None)
    if conflict is not None:
        raise FilterError("word", word, f"namespace conflict: {conflict!r} does not contain {word!r}")
    within = (namespace,) if slash else namespaces or ("",)
    named = [f"{each}/{name}" for each in within]
    alternatives = [_filter(side, service=named), _filter(side, pod=named)]
    if name:
        inside = _inside(within) if any(within) else {}
        alternatives.append(_filter(side, workload=[Workload(name=name)], **inside))
    return Meaning(tuple(alternatives))


_Means = Callable[[str, str, tuple[str, ...]], Meaning]
# The first that takes a word decides what it means.
_KINDS: tuple[tuple[Callable[[str], object], _Means], ...] = (
    (RESERVED.__contains__, _reserved),
    (_ADDRESS_LIKE.fullmatch, _address),
    (_KIND.fullmatch, _kind),
    (_SELECTOR.search, _labels),
    (_SERVICE_DNS.fullmatch, _service),
    (lambda word: ("." in word or "*" in word) and "/" not in word, _dns_name),
    (lambda _: True, _name),
)


def _filter(side: str, **fields: Any) -> FlowFilter:
    return FlowFilter(**{f"{side}_{name}": values for name, values in fields.items()})


def _inside(namespaces: Sequence[str]) -> dict[str, list[str]]:
    """What restricts a workload or labels, which have no namespace of their own, to pods of these."""
    return {"pod": [f"{namespace}/" for namespace in namespaces]} if namespaces else {}


def _refuse_namespaces(word: str, namespaces: tuple[str, ...], what: str) -> None:
    if namespaces:
        raise FilterError("word", word, f"{what} has no namespace: leave out the namespace flag")


def _check_name(word: str, namespace: str, name: str) -> None:
    legal = re.fullmatch(rf"({_NAME})?", namespace) and (not name or _NAME_PREFIX.fullmatch(name))
    if not legal or not word.strip("/"):
        clean = re.sub(r"[^-a-z0-9./]+", "-", word.lower()).strip("-./")
        raise FilterError("word", word, _EXPECTED, nearest(word, RESERVED) or "/".join(clean.split("/")[:2]))
