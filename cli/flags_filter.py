"""The filter flags of `flows observe`: one row per flag, or per family of --from-X, --to-X and --X."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from flows.cli import flags_values as values
from flows.flow.filter.event_type import EVENT_TYPES, SUB_TYPES
from flows.flow.filter.identity import RESERVED
from flows.flow.filter.protocol import L4, L7
from flows.proto import flow_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Side(Enum):
    """Whom a flag speaks of. BOTH: the flow itself; EITHER: source or destination, hence two FlowFilters."""

    FROM = "source"
    TO = "destination"
    EITHER = "either"
    BOTH = ""


class Role(Enum):
    """What a flag sets: a field, the namespace of pod and service names, or a word of many meanings."""

    FIELD = "field"
    NAMESPACE = "namespace"
    WORD = "word"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class FilterFlag:
    """field is FlowFilter's, without source_ or destination_ if sided. constant: the flag takes no value."""

    name: str
    group: str
    help: str
    field: str = ""
    side: Side = Side.BOTH
    parse: Callable[[str], Any] = str
    metavar: str = "VALUE"
    short: str = ""
    constant: str | None = None
    role: Role = Role.FIELD

    def fields(self) -> tuple[str, str]:
        """The fields that the flag sets in the left and in the right FlowFilter."""
        if self.side is Side.EITHER:
            return f"source_{self.field}", f"destination_{self.field}"
        field = f"{self.side.value}_{self.field}".lstrip("_")
        return field, field


def _sides(name: str, group: str, about: str, **row: Any) -> Iterator[FilterFlag]:
    """The rows --from-NAME, --to-NAME and --NAME of one field; about completes "Flows from ..."."""
    short = row.pop("short", "")
    yield FilterFlag(f"from-{name}", group, f"flows from {about}", side=Side.FROM, **row)
    yield FilterFlag(f"to-{name}", group, f"flows to {about}", side=Side.TO, **row)
    yield FilterFlag(name, group, f"flows from or to {about}", side=Side.EITHER, short=short, **row)


_WHO = "Who (source, destination, either)"
_WHAT = "What"
_WHERE = "Where and which"
_HTTP = "HTTP"
_PREFIX = "; the namespace is default unless given (ns/ is all of it, /name any)"

_ROWS: tuple[FilterFlag, ...] = (
    FilterFlag("not", _WHO, "invert the next filter flag", constant="true", role=Role.NOT),
    FilterFlag(
        "from",
        _WHO,
        "flows from WHO: [ns/]name of a service, workload or pod, ns/, a label selector, an IP or CIDR,"
        " a DNS name, or world, host, remote-node, kube-apiserver",
        side=Side.FROM,
        metavar="WHO",
        role=Role.WORD,
    ),
    FilterFlag("to", _WHO, "flows to WHO, as above", side=Side.TO, metavar="WHO", role=Role.WORD),
    *_sides("pod", _WHO, f"pods whose name begins so{_PREFIX}", field="pod", metavar="[NS/]NAME"),
    *_sides(
        "service",
        _WHO,
        f"services whose name begins so: their address, or a pod that they select{_PREFIX}",
        field="service",
        metavar="[NS/]NAME",
    ),
    *_sides("workload", _WHO, "a workload", field="workload", metavar="[KIND/]NAME", parse=values.workload),
    *_sides(
        "namespace",
        _WHO,
        "a namespace",
        short="n",
        metavar="NS",
        parse=values.namespace,
        role=Role.NAMESPACE,
    ),
    *_sides(
        "all-namespaces",
        _WHO,
        "any namespace",
        short="A",
        constant="",
        role=Role.NAMESPACE,
    ),
    *_sides(
        "label",
        _WHO,
        "endpoints that a label selector selects (app=web,tier in (a,b),!c; reserved:world)",
        field="label",
        short="l",
        metavar="SELECTOR",
    ),
    *_sides("ip", _WHO, "an address or network", field="ip", metavar="IP|CIDR"),
    *_sides("fqdn", _WHO, "a DNS name, in which * stands for any part", field="fqdn", metavar="NAME"),
    *_sides("port", _WHO, "a TCP, UDP or SCTP port", field="port", metavar="PORT"),
    *_sides(
        "identity",
        _WHO,
        f"an identity: a number or {', '.join(RESERVED)}",
        field="identity",
        metavar="ID",
        parse=values.identity,
    ),
    *_sides("cluster", _WHO, "a cluster", field="cluster_name", metavar="NAME"),
    FilterFlag("snat-ip", _WHO, "flows whose source was translated to it", "source_ip_xlated", metavar="IP|CIDR"),
    FilterFlag("protocol", _WHAT, f"one of {', '.join([*L4, *L7])}", "protocol", metavar="NAME"),
    FilterFlag(
        "verdict",
        _WHAT,
        "one of FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED, TRACED, TRANSLATED",
        "verdict",
        parse=values.enum(flow_pb2.Verdict, "verdict"),
        metavar="VERDICT",
    ),
    FilterFlag(
        "drop-reason-desc",
        _WHAT,
        "why it was dropped, e.g. POLICY_DENIED",
        "drop_reason_desc",
        parse=values.enum(flow_pb2.DropReason, "drop_reason_desc"),
        metavar="REASON",
    ),
    FilterFlag(
        "tcp-flags",
        _WHAT,
        "all of these are set, e.g. SYN,ACK",
        "tcp_flags",
        parse=values.tcp_flags,
        metavar="FLAGS",
    ),
    FilterFlag(
        "traffic-direction",
        _WHAT,
        "ingress or egress, as the local endpoint sees it",
        "traffic_direction",
        parse=values.direction,
        metavar="DIR",
    ),
    FilterFlag(
        "type",
        _WHAT,
        f"event type: a number or {', '.join(EVENT_TYPES)}; trace has {', '.join(SUB_TYPES['trace'])}",
        "event_type",
        parse=values.event_type,
        metavar="TYPE[:SUB]",
        short="t",
    ),
    FilterFlag("ipv4", _WHAT, "only IPv4", "ip_version", parse=values.ip_version, short="4", constant="v4"),
    FilterFlag("ipv6", _WHAT, "only IPv6", "ip_version", parse=values.ip_version, short="6", constant="v6"),
    FilterFlag("ip-version", _WHAT, "v4, v6 or none", "ip_version", parse=values.ip_version, metavar="VERSION"),
    FilterFlag("encrypted", _WHAT, "only encrypted flows", "encrypted", parse=bool, constant="true"),
    FilterFlag("unencrypted", _WHAT, "only flows that are not encrypted", "encrypted", parse=bool, constant=""),
    FilterFlag("http-status", _HTTP, "status 404, or all that begin so: 5+, 40+", "http_status_code", metavar="CODE"),
    FilterFlag("http-method", _HTTP, "method, e.g. get", "http_method", metavar="METHOD"),
    FilterFlag("http-path", _HTTP, "regular expression (RE2) found in the path", "http_path", metavar="REGEX"),
    FilterFlag("http-url", _HTTP, "regular expression (RE2) found in the URL", "http_url", metavar="REGEX"),
    FilterFlag("http-header", _HTTP, "a header", "http_header", parse=values.header, metavar="NAME:VALUE"),
    FilterFlag("node-name", _WHERE, "seen on a node, e.g. node-*, west/node-1", "node_name", metavar="[CLUSTER/]NODE"),
    FilterFlag("node-label", _WHERE, "seen on nodes that a label selector selects", "node_labels", metavar="SELECTOR"),
    FilterFlag(
        "interface",
        _WHERE,
        "seen at a network interface",
        "interface",
        parse=values.interface,
        metavar="NAME",
    ),
    FilterFlag("uuid", _WHERE, "the one flow with this identifier", "uuid", metavar="UUID"),
    FilterFlag("trace-id", _WHERE, "part of a W3C trace", "trace_id", metavar="ID"),
    FilterFlag(
        "ip-trace-id",
        _WHERE,
        "carries this IP trace id",
        "ip_trace_id",
        parse=values.ip_trace_id,
        metavar="N",
    ),
    FilterFlag("cel-expression", _WHERE, "not supported yet", "experimental", parse=values.cel, metavar="EXPR"),
)

FILTER_FLAGS: Mapping[str, FilterFlag] = {row.name: row for row in _ROWS}

# Of each group one flag at most, negated or not. Hubble's (hubble/cmd/observe/flows_filter.go), then ours.
CONFLICTS: tuple[tuple[str, ...], ...] = (
    (
        "from-fqdn",
        "from-ip",
        "ip",
        "fqdn",
        "from-namespace",
        "namespace",
        "from-all-namespaces",
        "all-namespaces",
    ),
    ("from-fqdn", "from-ip", "ip", "fqdn", "from-pod", "pod"),
    ("to-fqdn", "to-ip", "ip", "fqdn", "to-namespace", "namespace", "to-all-namespaces", "all-namespaces"),
    ("to-fqdn", "to-ip", "ip", "fqdn", "to-pod", "pod"),
    ("to-pod", "namespace", "all-namespaces"),
    ("from-pod", "namespace", "all-namespaces"),
    ("to-service", "namespace", "all-namespaces"),
    ("from-service", "namespace", "all-namespaces"),
    ("label", "from-label"),
    ("label", "to-label"),
    ("service", "from-service"),
    ("service", "to-service"),
    ("port", "to-port"),
    ("port", "from-port"),
    ("identity", "to-identity"),
    ("identity", "from-identity"),
    ("workload", "to-workload"),
    ("workload", "from-workload"),
    ("encrypted", "unencrypted"),
    ("from", "namespace", "all-namespaces"),
    ("to", "namespace", "all-namespaces"),
)
