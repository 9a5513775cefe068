"""Options: what `flows observe` was asked to do, as data.

`flags.parse_observe` makes an ObserveOptions; everything after the command line reads only this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from flows.flow.filter.selection import Selection
from flows.proto import flow_pb2, observer_pb2

# Hubble's: where its relay runs, and ours.
DEFAULT_KUBE_NAMESPACE = "kube-system"
# Hubble's: long enough for a cluster with slow nodes, short enough for a person to wait.
DEFAULT_TIMEOUT_S = 5.0
DEFAULT_REQUEST_TIMEOUT_S = 12.0


class UsageError(Exception):
    """The command line asks for what cannot be: one line, printed after `flows: `; exit status 2."""


class Format(Enum):
    """JSON is Hubble's jsonpb: one GetFlowsResponse per line; JSON_LEGACY prints the bare Flow."""

    COMPACT = "compact"
    DICT = "dict"
    TABLE = "table"
    JSON = "json"
    JSON_LEGACY = "json-legacy"


class TimeFormat(Enum):
    """How times are printed; json is not concerned. Go's layout is beside each."""

    STAMP_MILLI = "StampMilli"  # Jan _2 15:04:05.000
    YEAR_MONTH_DAY = "YearMonthDay"  # 2006-01-02
    YEAR_MONTH_DAY_HOUR = "YearMonthDayHour"  # 2006-01-02T15Z07:00
    YEAR_MONTH_DAY_HOUR_MINUTE = "YearMonthDayHourMinute"  # 2006-01-02T15:04Z07:00
    RFC3339 = "RFC3339"  # 2006-01-02T15:04:05Z07:00
    RFC3339_MILLI = "RFC3339Milli"  # 2006-01-02T15:04:05.999Z07:00
    RFC3339_MICRO = "RFC3339Micro"  # 2006-01-02T15:04:05.999999Z07:00
    RFC3339_NANO = "RFC3339Nano"  # 2006-01-02T15:04:05.999999999Z07:00
    RFC1123Z = "RFC1123Z"  # Mon, 02 Jan 2006 15:04:05 -0700


class Color(Enum):
    """AUTO: colours on a terminal, unless NO_COLOR is set."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What is printed, and how."""

    format: Format = Format.COMPACT
    time_format: TimeFormat = TimeFormat.STAMP_MILLI
    color: Color = Color.AUTO
    ip_translation: bool = True  # False (--numeric): addresses instead of names
    print_node_name: bool = False
    print_policy_names: bool = False
    field_mask: tuple[str, ...] = ()  # checked paths of flow.Flow; only with JSON
    debug: bool = False  # node-status events that are only informational, too
    silent_errors: bool = False  # no node status and no errors on stderr


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to reach the Observer. address: `host:port`, `tls://host:port`, `unix:///path`, or "" to look for one."""

    address: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    request_timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S  # unary requests only
    tls: bool = False
    tls_allow_insecure: bool = False
    tls_ca_cert_files: tuple[str, ...] = ()
    tls_client_cert_file: str = ""
    tls_client_key_file: str = ""
    tls_server_name: str = ""
    basic_auth_username: str = ""
    basic_auth_password: str = field(default="", repr=False)
    token_file: str = ""
    kubeconfig: str = ""  # whose user's token is shown to the server, and through whose cluster port_forward goes
    kube_context: str = ""
    kube_namespace: str = DEFAULT_KUBE_NAMESPACE
    port_forward: bool = False
    port_forward_port: int = 0  # on this machine; 0: any that is free
    debug: bool = False  # clock skew and the like, too


@dataclass(frozen=True, slots=True)
class ObserveOptions:
    """A whole `flows observe`.

    allow and deny: a flow is shown if it matches any of allow (or allow is empty) and none of deny.
    notes: sentences for stderr that say what an ambiguous word of the command line was taken for.
    input_file: read JSON lines from it instead of a server; `-` is standard input.
    exit_code: the exit status tells what was found (outcome.Outcome).
    """

    allow: tuple[flow_pb2.FlowFilter, ...] = ()
    deny: tuple[flow_pb2.FlowFilter, ...] = ()
    selection: Selection = field(default_factory=Selection)
    output: OutputOptions = field(default_factory=OutputOptions)
    server: ServerOptions = field(default_factory=ServerOptions)
    input_file: str | None = None
    print_raw_filters: bool = False
    exit_code: bool = False
    notes: tuple[str, ...] = ()

    @property
    def filtered(self) -> bool:
        """Whether only some of the flows are asked for."""
        return bool(self.allow or self.deny)

    def request(self) -> observer_pb2.GetFlowsRequest:
        """The request that asks a server for this."""
        request = observer_pb2.GetFlowsRequest(
            number=self.selection.number,
            first=self.selection.first,
            follow=self.selection.follow,
            whitelist=self.allow,
            blacklist=self.deny,
        )
        for bound, nanoseconds in (("since", self.selection.since), ("until", self.selection.until)):
            if nanoseconds is not None:
                getattr(request, bound).FromNanoseconds(nanoseconds)
        request.field_mask.paths.extend(self.output.field_mask)
        if not self.output.field_mask:
            request.ClearField("field_mask")
        return request
