"""Flow.Summary: one line for people. Hubble's words first, then what happened to the connection."""

from __future__ import annotations

import errno
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.agent.observer.fields import Fields, chosen, texts
from flows.agent.probe.drop_reasons import reason_names
from flows.agent.probe.record import Event
from flows.agent.store.table import SCTP, TCP, UDP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SECOND = 1_000_000_000
ICMP, ICMPV6 = 1, 58
TIMED = (Event.UNANSWERED, Event.OPENED)  # events whose summary says how long it took

FLAG_BITS = {
    "SYN": 2,
    "ACK": 16,
    "RST": 4,
    "FIN": 1,
    "PSH": 8,
    "URG": 32,
    "ECE": 64,
    "CWR": 128,
}  # Hubble's order

# RFC 792, RFC 4443: names as Hubble (gopacket) writes them
ICMPV4_TYPES = {
    0: "EchoReply", 3: "DestinationUnreachable", 4: "SourceQuench", 5: "Redirect", 8: "EchoRequest",
    11: "TimeExceeded", 12: "ParameterProblem", 13: "TimestampRequest", 14: "TimestampReply",
}  # fmt: skip
ICMPV6_TYPES = {
    1: "DestinationUnreachable", 2: "PacketTooBig", 3: "TimeExceeded", 4: "ParameterProblem",
    128: "EchoRequest", 129: "EchoReply",
}  # fmt: skip
ICMPV4_UNREACHABLE = {
    0: "Net", 1: "Host", 2: "Protocol", 3: "Port", 4: "FragmentationNeeded", 5: "SourceRoutingFailed",
    9: "NetAdminProhibited", 10: "HostAdminProhibited", 13: "CommAdminProhibited",
}  # fmt: skip
ICMPV6_UNREACHABLE = {
    0: "NoRouteToDst", 1: "AdminProhibited", 2: "BeyondScopeOfSrc", 3: "Address", 4: "Port",
    5: "SrcAddressFailedPolicy", 6: "RejectRouteToDst",
}  # fmt: skip


def tcp(flags: int) -> str:
    """Summary of a TCP flow's flags."""
    return "TCP Flags: " + ", ".join(name for name, bit in FLAG_BITS.items() if flags & bit)


def icmp(version: int, type_: int, code: int) -> str:
    """Summary of an ICMP flow, e.g. `ICMPv4 DestinationUnreachable(Port)`."""
    types, codes = (ICMPV4_TYPES, ICMPV4_UNREACHABLE) if version == 4 else (ICMPV6_TYPES, ICMPV6_UNREACHABLE)
    name = types.get(type_, f"{type_}({code})")
    detail = f"({codes.get(code, code)})" if name == "DestinationUnreachable" else ""
    return f"ICMPv{version} {name}{detail}"


def outcome(event: int, seconds: float | None, retransmits: int, error: str) -> str:
    """What happened, for the events that a user must not overlook; empty for the ordinary ones."""
    after = f" after {seconds:.3g}s" if seconds is not None else ""
    if event == Event.UNANSWERED:
        return f"; unanswered{after}, {retransmits + 1} SYNs"
    if event == Event.OPENED and seconds:
        return f"; no answer{after}"
    words = {
        Event.REFUSED: "refused",
        Event.RESET: "reset",
        Event.TIMED_OUT: "timed out",
        Event.UNREACHABLE: "unreachable",
    }
    if event in words:
        cause = f" ({error})" if error and event == Event.UNREACHABLE else ""
        return f"; {words[Event(event)]}{cause}"
    return ""


def summaries(columns: Mapping[str, NDArray[Any]]) -> Fields:
    """Summaries of n < 65,535 flows; columns as in agent/store/columns.py. Equal ones are made once."""
    flags = columns["flags_sent"] | columns["flags_received"]
    kinds = (columns["protocol"], columns["event"], flags, columns["error"], columns["icmp_type"], columns["icmp_code"])
    timed = np.isin(columns["event"], TIMED)
    keys = np.where(timed, np.arange(1, len(flags) + 1, dtype=np.uint64), np.uint64(0))
    for kind in kinds:
        keys = keys << np.uint64(8) | kind
    _, examples, codes = np.unique(keys, return_index=True, return_inverse=True)
    rows = zip(*(kind[examples].tolist() for kind in kinds), strict=True)
    times = zip(*(np.where(timed, columns[name], 0)[examples].tolist() for name in _TIMES), strict=True)
    return chosen(codes, texts([_summary(kind, *time) for kind, time in zip(rows, times, strict=True)]))


_TIMES = ("start", "time", "retransmits")  # what only summaries of TIMED events say


@lru_cache(maxsize=4_096)
def _summary(kind: tuple[int, ...], start: int, time: int, retransmits: int) -> bytes:
    protocol, event, flags, error, icmp_type, icmp_code = kind
    if protocol == TCP:
        seconds = (time - start) / SECOND if start else None
        return (tcp(flags) + outcome(event, seconds, retransmits, errno.errorcode.get(error, ""))).encode()
    if protocol in (ICMP, ICMPV6):
        return icmp(4 if protocol == ICMP else 6, icmp_type, icmp_code).encode()
    name = {UDP: "UDP", SCTP: "SCTP"}.get(protocol, "")
    if event == Event.DROPPED:
        name += f"; dropped by the kernel: {reason_names().get(error, error)}"
    return name.encode()
