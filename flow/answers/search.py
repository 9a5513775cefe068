"""Search: how resolvers turn one name into several queries (resolv.conf(5), `search` and `ndots`).

glibc and musl ask for A and AAAA at once, wait for both, and go on with the next suffix after a failure. glibc asks for a name
with fewer dots than ndots with each suffix first and as it is last; with as many, as it is first (and musl then ends there).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def stem(names: Sequence[str]) -> str:
    """What all names begin with, in whole labels; "" if they have nothing in common."""
    labels = [name.split(".") for name in names if name]
    if not labels:
        return ""
    same = 0
    for column in zip(*labels, strict=False):
        if len(set(column)) > 1:
            break
        same += 1
    return ".".join(labels[0][:same])


def intended(names: Sequence[str]) -> str:
    """What was probably asked for: the shortest common stem of the names of one lookup, in the order of their queries."""
    return stem(names) or (names[0] if names else "")


def continues(names: Sequence[str], name: str) -> bool:
    """Whether a resolver that asked for `names` and failed might ask for `name` next, for the same question.

    x.ns.svc.cluster.local -> x.svc.cluster.local -> x.cluster.local -> x.corp.example -> x, or x -> x.ns.svc.cluster.local.
    """
    if not names or name in names:
        return name in names
    whole = stem([*names, name])
    if not whole:
        return False
    return name == whole or _next_suffix(names, whole, name)  # as it is, after suffixes; or the next of them


def _next_suffix(names: Sequence[str], whole: str, name: str) -> bool:
    """Whether `name` is `whole` with another suffix of the list that `names` went through."""
    rest = name.removeprefix(f"{whole}.")
    before = [each.removeprefix(f"{whole}.") if each != whole else "" for each in names]
    if before == [""]:  # as it is, before suffixes: only a list in the usual form, for api.x may follow x for any reason
        return _is_cluster_suffix(rest)
    if "" in before or any(each.endswith(f".{rest}") for each in before):
        return True
    return len(names) > 1 and stem(names) == whole  # the list's further suffixes may be any


def _is_cluster_suffix(suffix: str) -> bool:
    """Whether it begins as those that Kubernetes writes: NS.svc.DOMAIN, svc.DOMAIN."""
    labels = suffix.split(".")
    return "svc" in labels[:2]


def dots(name: str) -> int:
    """What ndots is compared with."""
    return name.count(".")


def service_of(name: str) -> tuple[str, str] | None:
    """(service, namespace) of a name as the cluster's DNS has it: svc.ns.svc.DOMAIN; None for any other."""
    labels = name.split(".")
    if len(labels) >= 3 and labels[2] == "svc" and labels[0] and labels[1]:
        return labels[0], labels[1]
    return None
