"""What happened: the TYPE and VERDICT columns, and a flow's summary, in Hubble's words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.print.escape import escape
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

    from flows.cli.print.style import Style
    from flows.proto.flow_pb2 import Flow, Policy

# cilium pkg/monitor/api/types.go: event_type.type of a flow
DROP, CAPTURE, TRACE, POLICY_VERDICT, TRACE_SOCK = 1, 3, 4, 5, 7

# cilium pkg/monitor/api/types.go, TraceObservationPoints, by event_type.sub_type
TRACE_POINTS = (
    "to-endpoint", "to-proxy", "to-host", "to-stack", "to-overlay", "from-endpoint", "from-proxy",
    "from-host", "from-stack", "from-overlay", "from-network", "to-network", "from-crypto", "to-crypto",
)  # fmt: skip
POLICY_MATCHES = ("none", "L3-Only", "L3-L4", "L4-Only", "all", "L3-Proto", "Proto-Only")
SOCKET_POINTS: Mapping[int, str] = {
    flow_pb2.SOCK_XLATE_POINT_PRE_DIRECTION_FWD: "pre-xlate-fwd",
    flow_pb2.SOCK_XLATE_POINT_POST_DIRECTION_FWD: "post-xlate-fwd",
    flow_pb2.SOCK_XLATE_POINT_PRE_DIRECTION_REV: "pre-xlate-rev",
    flow_pb2.SOCK_XLATE_POINT_POST_DIRECTION_REV: "post-xlate-rev",
}
_L7_NAMES = {"http": "http", "dns": "dns", "kafka": "kafka", None: "l7"}

# cilium pkg/monitor/api/drop.go; the numbers of flow.DropReason, and below 130 those of the datapath
DROP_REASONS: Mapping[int, str] = {
    0: "Success",
    2: "Invalid packet",
    3: "Interface",
    4: "Interface Decrypted",
    5: "LB, sock cgroup: No backend slot entry found",
    6: "LB, sock cgroup: No backend entry found",
    7: "LB, sock cgroup: Reverse entry update failed",
    8: "LB, sock cgroup: Reverse entry stale",
    9: "Fragmented packet",
    10: "Fragmented packet entry update failed",
    11: "Missed tail call to custom program",
    130: "Invalid source mac",
    131: "Invalid destination mac",
    132: "Invalid source ip",
    133: "Policy denied",
    134: "Invalid packet",
    135: "CT: Truncated or invalid header",
    136: "Fragmentation needed",
    137: "CT: Unknown L4 protocol",
    138: "CT: Can't create entry from packet",
    139: "Unsupported L3 protocol",
    140: "Missed tail call",
    141: "Error writing to packet",
    142: "Unknown L4 protocol",
    143: "Unknown ICMPv4 code",
    144: "Unknown ICMPv4 type",
    145: "Unknown ICMPv6 code",
    146: "Unknown ICMPv6 type",
    147: "Error retrieving tunnel key",
    148: "Error retrieving tunnel options",
    149: "Invalid Geneve option",
    150: "Unknown L3 target address",
    151: "Stale or unroutable IP",
    152: "No matching local container found",
    153: "Error while correcting L3 checksum",
    154: "Error while correcting L4 checksum",
    155: "CT: Map insertion failed",
    156: "Invalid IPv6 extension header",
    157: "IP fragmentation not supported",
    158: "Service backend not found",
    160: "No tunnel/encapsulation endpoint (datapath BUG!)",
    161: "NAT 46/64 not enabled",
    162: "Reached EDT rate-limiting drop horizon",
    163: "Unknown connection tracking state",
    164: "Local host is unreachable",
    165: "No configuration available to perform policy decision",
    166: "Unsupported L2 protocol",
    167: "No mapping for NAT masquerade",
    168: "Unsupported protocol for NAT masquerade",
    169: "FIB lookup failed",
    170: "Encapsulation traffic is prohibited",
    171: "Invalid identity",
    172: "Unknown sender",
    173: "NAT not needed",
    174: "Is a ClusterIP",
    175: "First logical datagram fragment not found",
    176: "Forbidden ICMPv6 message",
    177: "Denied by LB src range check",
    178: "Socket lookup failed",
    179: "Socket assign failed",
    180: "Proxy redirection not supported for protocol",
    181: "Policy denied by denylist",
    182: "VLAN traffic disallowed by VLAN filter",
    183: "Incorrect VNI from VTEP",
    184: "Failed to update or lookup TC buffer",
    185: "No SID was found for the IP address",
    186: "SRv6 state was removed during tail call",
    187: "L3 translation from IPv4 to IPv6 failed (NAT46)",
    188: "L3 translation from IPv6 to IPv4 failed (NAT64)",
    189: "Authentication required",
    190: "No conntrack map found",
    191: "No nat map found",
    192: "Invalid ClusterID",
    193: "Unsupported packet protocol for DSR encapsulation",
    194: "No egress gateway found",
    195: "Traffic is unencrypted",
    196: "TTL exceeded",
    197: "No node ID found",
    198: "Rate limited",
    199: "IGMP handled",
    200: "IGMP subscribed",
    201: "Multicast handled",
    202: "Host datapath not ready",
    203: "Endpoint policy program not available",
    204: "No Egress IP configured",
    205: "Punt to proxy",
}


def enum_name(enum: _EnumTypeWrapper[int], number: int) -> str:
    """The name of an enum's value; of a value that this version does not know the number (as Go's String)."""
    value = enum.DESCRIPTOR.values_by_number.get(number)
    return str(number) if value is None else value.name


def event_type(flow: Flow) -> str:
    """The TYPE column: `http-request`, `to-endpoint`, `Policy denied`, `policy-verdict:L3-Only INGRESS`..."""
    if flow.HasField("l7"):
        return _l7_type(flow)
    return _TYPES.get(flow.event_type.type, _unknown)(flow)


def _l7_type(flow: Flow) -> str:
    l7 = flow.l7
    record = l7.WhichOneof("record")
    kind = f"{_L7_NAMES[record]}-{enum_name(flow_pb2.L7FlowType, l7.type).lower()}"
    return f"{kind} {escape(l7.dns.observation_source)}" if record == "dns" else kind


def _trace(flow: Flow) -> str:
    point = flow.event_type.sub_type & 0xFF
    return TRACE_POINTS[point] if point < len(TRACE_POINTS) else str(point)


def _drop(flow: Flow) -> str:
    reason = flow.event_type.sub_type & 0xFF
    # Hubble appends the extended error to an unknown reason; a flow does not carry it, so it is always 0.
    return DROP_REASONS.get(reason) or f"{reason}, 0"


def _policy_verdict(flow: Flow) -> str:
    match = flow.policy_match_type
    name = POLICY_MATCHES[match] if match < len(POLICY_MATCHES) else "unknown"
    return f"policy-verdict:{name} {enum_name(flow_pb2.TrafficDirection, flow.traffic_direction)}"


def _capture(flow: Flow) -> str:
    return enum_name(flow_pb2.DebugCapturePoint, flow.debug_capture_point)


def _socket(flow: Flow) -> str:
    point = flow.sock_xlate_point
    return SOCKET_POINTS.get(point) or enum_name(flow_pb2.SocketTranslationPoint, point)


def _unknown(_flow: Flow) -> str:
    return "UNKNOWN"


_TYPES: Mapping[int, Callable[[Flow], str]] = {
    TRACE: _trace,
    DROP: _drop,
    POLICY_VERDICT: _policy_verdict,
    CAPTURE: _capture,
    TRACE_SOCK: _socket,
}

# Per verdict: the colour, the word in a policy verdict, and which of Flow's policy lists explain it.
_VERDICTS: Mapping[int, tuple[str, str, str]] = {
    flow_pb2.FORWARDED: ("good", "ALLOWED", "allowed_by"),
    flow_pb2.REDIRECTED: ("good", "ALLOWED", "allowed_by"),
    flow_pb2.DROPPED: ("bad", "DENIED", "denied_by"),
    flow_pb2.ERROR: ("bad", "DENIED", "denied_by"),
    flow_pb2.AUDIT: ("notice", "AUDITED", ""),
    flow_pb2.TRACED: ("notice", "", ""),
    flow_pb2.TRANSLATED: ("notice", "", ""),
}
_DIRECTIONS: Mapping[int, str] = {flow_pb2.INGRESS: "ingress", flow_pb2.EGRESS: "egress"}


def verdict(flow: Flow, style: Style) -> str:
    """The VERDICT column, painted: its name; for a policy verdict ALLOWED, DENIED or AUDITED, and by what."""
    word = enum_name(flow_pb2.Verdict, flow.verdict)
    if flow.verdict not in _VERDICTS:
        return word
    color, policy_word, policies = _VERDICTS[flow.verdict]
    if policy_word and flow.event_type.type == POLICY_VERDICT:
        word = policy_word
        direction = _DIRECTIONS.get(flow.traffic_direction)
        if style.policy_names and policies and direction:
            word += _policy_names(getattr(flow, f"{direction}_{policies}"))
    paint: Callable[[str], str] = getattr(style.palette, color)
    return paint(word)


def _policy_names(policies: Iterable[Policy]) -> str:
    named = [f"{escape(each.name)} ({escape(each.kind)})" for each in policies if each.name and each.kind]
    return f" BY {', '.join(named)}" if named else ""


def summary(flow: Flow, style: Style) -> str:
    """The SUMMARY column: Flow.Summary, after the IP trace id and before the authentication, if any."""
    text = escape(flow.Summary)
    if flow.ip_trace_id.trace_id:
        text = f"IP Trace ID: {flow.ip_trace_id.trace_id}; {text}"
    if flow.auth_type == flow_pb2.DISABLED:
        return text
    paint = style.palette.bad if flow.auth_type == flow_pb2.TEST_ALWAYS_FAIL else style.palette.good
    return f"{text}; Auth: {paint(enum_name(flow_pb2.AuthType, flow.auth_type))}"
