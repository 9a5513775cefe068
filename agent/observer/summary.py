"""Flow.Summary: one line for people. Hubble's words first, then what happened to the connection."""

from __future__ import annotations

from flows.agent.probe.record import Event

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
