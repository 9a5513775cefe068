"""The flags of `flows observe` that are no filters: one row each, and how a text becomes a value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.cli.options import (
    DEFAULT_KUBE_NAMESPACE,
    DEFAULT_REQUEST_TIMEOUT_S,
    DEFAULT_TIMEOUT_S,
    Color,
    Format,
    TimeFormat,
)
from flows.flow.filter.errors import FilterError, nearest, one_of
from flows.flow.times import TimeError, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from enum import Enum

# Go's strconv.ParseBool.
TRUE = ("true", "1", "t", "T", "TRUE", "True")
FALSE = ("false", "0", "f", "F", "FALSE", "False")
# Hubble's: what `observe` shows if nothing says how much.
DEFAULT_LAST = 20
_U64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Option:
    """parse raises FilterError. switch: needs no value. bound: also from environment and file."""

    name: str
    group: str
    help: str
    default: Any = None
    parse: Callable[[str], Any] = str
    metavar: str = "VALUE"
    short: str = ""
    switch: bool = False
    many: bool = False
    bound: bool = False


def _boolean(text: str) -> bool:
    if text not in TRUE and text not in FALSE:
        raise FilterError("", text, "expected true or false", nearest(text, ("true", "false")))
    return text in TRUE


def _count(text: str) -> int:
    """A u64 as Go reads it with base 0: decimal, 0x, 0o, 0b, with underscores."""
    octal = re.sub(r"^0(?=[0-7])", "0o", text)
    try:
        number = int(octal, 0) if re.fullmatch(r"[0-9][0-9A-Za-z_]{0,80}", text) else -1
    except ValueError:
        number = -1
    if not 0 <= number <= _U64:
        digits = re.search(r"[0-9]{1,18}", text)
        raise FilterError("", text, "expected a number of flows, 0 or more", digits[0] if digits else "")
    return number


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:6]) < 1 << 16):
        raise FilterError("", text, "expected a port, or 0 for any that is free", "4245")
    return int(text)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text) / 1e9
    except TimeError as error:
        raise FilterError("", text, error.expected, error.nearest) from None


def _choice(choices: Mapping[str, Any], *, fold: bool = False) -> Callable[[str], Any]:
    known = {name.lower(): value for name, value in choices.items()} if fold else dict(choices)

    def parse(text: str) -> Any:
        key = text.lower() if fold else text
        if key not in known:
            raise one_of("", text, choices)
        return known[key]

    return parse


def _names(enum: Iterable[Enum]) -> dict[str, Any]:
    return {str(member.value): member for member in enum}


# `tab` and `JSON` are Hubble's other spellings.
OUTPUTS = {
    "compact": Format.COMPACT,
    "dict": Format.DICT,
    "json": Format.JSON,
    "jsonpb": Format.JSON,
    "table": Format.TABLE,
}
_SPELLINGS = {**OUTPUTS, "tab": Format.TABLE, "JSON": Format.JSON}


def _output(text: str) -> str:
    """The spelling as given: `json` and `jsonpb` differ under HUBBLE_COMPAT."""
    if text not in _SPELLINGS:
        raise one_of("", text, OUTPUTS)
    return text


def output_format(spelling: str, compat: Iterable[str]) -> Format:
    """The format of a spelling that `--output` accepted; compat is HUBBLE_COMPAT's list."""
    legacy = spelling in ("json", "JSON") and "legacy-json-output" in compat
    return Format.JSON_LEGACY if legacy else _SPELLINGS[spelling]


_SELECT = "How many, and when"
_OUTPUT = "Output"
_SERVER = "Server"
_OTHER = "Other"


def _switch(name: str, group: str, about: str, *, short: str = "", default: bool = False, bound: bool = False) -> Option:
    return Option(name, group, about, default, _boolean, short=short, switch=True, bound=bound)


_ROWS = (
    Option("last", _SELECT, f"the newest N (default {DEFAULT_LAST})", 0, _count, "N"),
    Option("first", _SELECT, "the oldest N", 0, _count, "N"),
    _switch("all", _SELECT, "all that are kept"),
    _switch("follow", _SELECT, "go on with new flows as they come", short="f"),
    Option(
        "since",
        _SELECT,
        "not before TIME: a duration ago (5m) or a date and time (2026-11-22T10:01Z)",
        "",
        metavar="TIME",
    ),
    Option("until", _SELECT, "not after TIME", "", metavar="TIME"),
    Option("output", _OUTPUT, f"one of {', '.join(OUTPUTS)}", "compact", _output, "FORMAT", "o"),
    Option("color", _OUTPUT, "auto, always or never", Color.AUTO, _choice(_names(Color), fold=True), "WHEN"),
    Option(
        "time-format",
        _OUTPUT,
        f"one of {', '.join(_names(TimeFormat))}",
        TimeFormat.STAMP_MILLI,
        _choice(_names(TimeFormat), fold=True),
        "NAME",
    ),
    _switch("ip-translation", _OUTPUT, "names instead of addresses (default; =false turns it off)", default=True),
    _switch("numeric", _OUTPUT, "addresses instead of names"),
    _switch("print-node-name", _OUTPUT, "show the node that saw the flow"),
    _switch("print-policy-names", _OUTPUT, "show the policies that decided"),
    Option(
        "field-mask",
        _OUTPUT,
        "only these fields, e.g. time,source.pod_name; with json only",
        (),
        metavar="A,B.C",
        many=True,
    ),
    _switch("use-default-field-masks", _OUTPUT, "accepted as in Hubble; whole flows are requested", default=True),
    Option(
        "server",
        _SERVER,
        "host:port, tls://host:port or unix:///path (default: this machine's relay or agent, else localhost:4245)",
        "",
        metavar="ADDRESS",
        bound=True,
    ),
    Option("timeout", _SERVER, "time to connect", DEFAULT_TIMEOUT_S, _seconds, "DURATION", bound=True),
    Option(
        "request-timeout",
        _SERVER,
        "time for a short answer",
        DEFAULT_REQUEST_TIMEOUT_S,
        _seconds,
        "DURATION",
        bound=True,
    ),
    _switch("tls", _SERVER, "connect with TLS", bound=True),
    _switch("tls-allow-insecure", _SERVER, "do not check the server's certificate", bound=True),
    Option("tls-ca-cert-files", _SERVER, "trust these authorities", (), metavar="FILES", many=True, bound=True),
    Option("tls-client-cert-file", _SERVER, "own certificate", "", metavar="FILE", bound=True),
    Option("tls-client-key-file", _SERVER, "its key", "", metavar="FILE", bound=True),
    Option(
        "tls-server-name",
        _SERVER,
        "name that the server's certificate must have",
        "",
        metavar="NAME",
        bound=True,
    ),
    Option("basic-auth-username", _SERVER, "user name", "", metavar="NAME", bound=True),
    Option(
        "basic-auth-password",
        _SERVER,
        "password; better in FLOWS_BASIC_AUTH_PASSWORD",
        "",
        metavar="WORD",
        bound=True,
    ),
    Option(
        "token-file",
        _SERVER,
        "show the server the token in FILE (over TLS or on this machine only)",
        "",
        metavar="FILE",
        bound=True,
    ),
    Option("kubeconfig", _SERVER, "show the server the token of this kubeconfig's user", "", metavar="FILE", bound=True),
    Option("kube-context", _SERVER, "context in the kubeconfig (default: its current one)", "", metavar="NAME", bound=True),
    _switch(
        "port-forward",
        _SERVER,
        "ask the cluster's relay, through the Kubernetes API, as the kubeconfig's user",
        short="P",
        bound=True,
    ),
    Option("port-forward-port", _SERVER, "port of this machine for -P (default: any that is free)", 0, _port, "N", bound=True),
    Option(
        "kube-namespace",
        _SERVER,
        f"namespace of the relay's Service, for -P (default {DEFAULT_KUBE_NAMESPACE})",
        DEFAULT_KUBE_NAMESPACE,
        metavar="NAME",
        bound=True,
    ),
    Option(
        "input-file",
        _OTHER,
        "read flows as JSON lines from FILE (- is standard input), not from a server",
        "",
        metavar="FILE",
    ),
    Option(
        "allowlist",
        _OTHER,
        "FlowFilters as JSON: show what matches any",
        (),
        metavar="JSON",
        many=True,
        bound=True,
    ),
    Option(
        "denylist",
        _OTHER,
        "FlowFilters as JSON: hide what matches any",
        (),
        metavar="JSON",
        many=True,
        bound=True,
    ),
    _switch("exit-code", _OTHER, "exit with 0 if flows were found, 1 if none, 3 if that is not known: something is missing"),
    _switch("print-raw-filters", _OTHER, "print the filters as YAML for --config, and exit"),
    Option(
        "config",
        _OTHER,
        "file of settings (default ~/.config/flows/config.yaml, then Hubble's)",
        "",
        metavar="FILE",
    ),
    _switch("debug", _OTHER, "show informational node status and clock skew, too", short="D", bound=True),
    _switch("silent-errors", _OTHER, "no node status, coverage and errors on standard error", short="s"),
)

OPTIONS: Mapping[str, Option] = {row.name: row for row in _ROWS}
