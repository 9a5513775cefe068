"""Filters: which flows a question needs, from the FlowFilters of whoever asked it.

A person says whom requests go from and to. A flow of an answer goes the other way, so each filter with ends is asked for twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flows.proto.flow_pb2 import DROPPED, ERROR, FlowFilter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SOURCE, _DESTINATION = "source_", "destination_"
# A field of one side that the other has not.
_ONE_SIDED = frozenset({"source_ip_xlated"})
# Fields in which the flows of one request differ: the question may pass a filter, and what came of it may not.
_APART = frozenset({"uuid", "verdict", "drop_reason_desc", "event_type", "reply", "source_ip_xlated", "http_header", "trace_id"})
_OF_ANSWERS = frozenset({"http_status_code"})  # of no question: what asks for them never brings one alone
# Values of one filter of a second look: far below what servers accept (flow/filter/limits.py).
MOST_ADDRESSES, MOST_NAMES, LONGEST_PATTERN, MOST_PATTERN_FILTERS = 2_000, 64, 800, 8


def of_requests(filters: Sequence[FlowFilter], protocols: Sequence[str]) -> tuple[FlowFilter, ...]:
    """FlowFilters for requests of these protocols and their answers. No filter: all of them.

    A filter that names protocols itself keeps them: whoever reads the flows leaves out what is of none.
    """
    wanted = filters or (FlowFilter(),)
    return tuple(each for one in wanted for each in _both_ways(with_protocols(one, protocols)))


def of_denied(filters: Sequence[FlowFilter]) -> tuple[FlowFilter, ...]:
    """The same of what is not wanted."""
    return tuple(each for one in filters for each in _both_ways(one))


def part_requests(allow: Sequence[FlowFilter], deny: Sequence[FlowFilter]) -> bool:
    """Whether these may bring a question without what came of it."""
    return _has(_APART, (*allow, *deny)) or _has(_OF_ANSWERS, deny)


def _has(names: frozenset[str], filters: Iterable[FlowFilter]) -> bool:
    return any(field.name in names for one in filters for field, _ in one.ListFields())


def with_protocols(one: FlowFilter, protocols: Sequence[str]) -> FlowFilter:
    """A copy that asks for these protocols, unless it names some."""
    copy = FlowFilter()
    copy.CopyFrom(one)
    if not copy.protocol:
        copy.protocol.extend(protocols)
    return copy


def _both_ways(one: FlowFilter) -> tuple[FlowFilter, ...]:
    if one.reply or not _sided(one):
        return (one,)
    back = _swapped(one)
    there = FlowFilter()
    there.CopyFrom(one)
    there.reply.append(False)
    back.reply.append(True)
    return there, back


def _sided(one: FlowFilter) -> bool:
    return any(field.name.startswith((_SOURCE, _DESTINATION)) for field, _ in one.ListFields())


def _swapped(one: FlowFilter) -> FlowFilter:
    other = FlowFilter()
    other.CopyFrom(one)
    sided = [(field, value) for field, value in one.ListFields() if field.name.startswith((_SOURCE, _DESTINATION))]
    for field, _ in sided:
        other.ClearField(field.name)
    for field, values in sided:
        getattr(other, _other_side(field.name)).extend(values)
    return other


def _other_side(name: str) -> Any:
    if name in _ONE_SIDED:
        return name
    if name.startswith(_SOURCE):
        return _DESTINATION + name.removeprefix(_SOURCE)
    return _SOURCE + name.removeprefix(_DESTINATION)


def of_drops() -> FlowFilter:
    """DNS packets that did not get further."""
    return FlowFilter(verdict=[DROPPED, ERROR], destination_port=["53"], protocol=["udp", "tcp"])


def of_names(names: Iterable[str]) -> tuple[tuple[FlowFilter, ...], list[str]]:
    """DNS flows about these names, whoever asked: what a DNS server saw of a question, and asked in turn.

    Gives the filters, and the names that they are for: the first MOST_NAMES that an expression can be written for.
    """
    fit = [name for name in names if name.isprintable() and len(_whole(name)) < LONGEST_PATTERN // 2][:MOST_NAMES]
    return _of_patterns({name: _whole(name) for name in fit})


def _whole(name: str) -> str:
    return f"^{re.escape(name)}[.]?$"


def _of_patterns(patterns: Mapping[str, str]) -> tuple[tuple[FlowFilter, ...], list[str]]:
    """patterns: expressions by name. As few filters as their lengths allow, and no more than MOST_PATTERN_FILTERS."""
    portions: list[list[str]] = []
    fit: list[str] = []
    length = LONGEST_PATTERN
    for name, pattern in patterns.items():
        if length + len(pattern) >= LONGEST_PATTERN:
            if len(portions) == MOST_PATTERN_FILTERS:
                break
            portions.append([])
            length = 0
        portions[-1].append(pattern)
        fit.append(name)
        length += len(pattern) + 1
    return tuple(FlowFilter(protocol=["dns"], dns_query=[f"(?i){'|'.join(some)}"]) for some in portions), fit


def of_connections(clients: Iterable[str], servers: Iterable[str]) -> tuple[FlowFilter, ...]:
    """Connections from any of these addresses to any of those."""
    source, destination = sorted(set(clients))[:MOST_ADDRESSES], sorted(set(servers))[:MOST_ADDRESSES]
    if not source or not destination:
        return ()
    return (FlowFilter(source_ip=source, destination_ip=destination, protocol=["tcp", "udp"]),)


def of_services(names: Iterable[str]) -> tuple[FlowFilter, ...]:
    """Flows to Services of these names, in any namespace."""
    wanted = [f"/{name}" for name in sorted(set(names))[:MOST_NAMES]]
    return (FlowFilter(destination_service=wanted),) if wanted else ()


def of_service_names(names: Iterable[str]) -> tuple[FlowFilter, ...]:
    """DNS flows about Services of these names, in any namespace, by their whole name."""
    fit = [name for name in sorted(set(names)) if name.isprintable() and len(name) < 64]
    return _of_patterns({name: f"^{re.escape(name)}[.][^.]+[.]svc[.]" for name in fit[:MOST_NAMES]})[0]


def of_connections_like(filters: Sequence[FlowFilter], protocols: Sequence[str]) -> tuple[FlowFilter, ...]:
    """FlowFilters for connections of these protocols; their flows have the opener as source."""
    return tuple(with_protocols(one, protocols) for one in filters or (FlowFilter(),))


def of_callers(services: Sequence[str]) -> tuple[FlowFilter, ...]:
    """What the pods of these Services (`namespace/name`) ask and open themselves: that tells where they run."""
    return (FlowFilter(source_service=services, reply=[False]),) if services else ()
