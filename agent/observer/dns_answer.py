"""What a stored DNS request says as messages: Flow.l7.dns and Summary as Hubble makes them, and flows.v1.Dns."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flows.agent.l7.dns_wire import AAAA, ANSWER, CNAME, A, Message, parse
from flows.agent.probe.record import Event
from flows.agent.store.request_columns import Flag
from flows.flow.dns_words import rcode_name, type_name
from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

SECOND: Final = 1_000_000_000
NO_TTL: Final = 0xFFFFFFFF  # what Hubble shows of an answer without addresses and aliases: -1 as a number without sign
# Hubble says `Proxy` for what its DNS proxy saw, and `Query` for every other source: nobody stood between client and server here.
SOURCE: Final = "agent"


class DnsMessages(NamedTuple):
    """dns: for Flow.l7.dns; summary: for Flow.Summary; extension: for flows.v1.Request.dns."""

    dns: flow_pb2.DNS
    summary: str
    extension: extension_pb2.Dns


class Told(NamedTuple):
    """What an answer tells: of the answer section, as far as it is kept. ttl: the least of addresses and aliases, or NO_TTL."""

    message: Message
    ips: tuple[str, ...]
    cnames: tuple[str, ...]
    ttl: int
    rrtypes: tuple[str, ...]


def dns_messages(row: Mapping[str, Any], event: int, waited_ns: int = 0) -> DnsMessages:
    """Messages of the flow of one event: REQUEST, RESPONSE or NO_RESPONSE. Only that of a response tells the answer.

    row: values of text, qtype, query_id, attempt, first, flags, status, answer and answer_bytes, as in the RequestStore, text and
    answer as bytes or arrays. waited_ns: how long nobody had answered when the request was given up.
    """
    query, qtype = _query(row), type_name(int(row["qtype"]))
    dns = flow_pb2.DNS(query=query, observation_source=SOURCE, qtypes=[qtype])
    extension = extension_pb2.Dns(
        id=int(row["query_id"]), qtype=qtype, attempt=int(row["attempt"]), first=max(0, int(row["first"]))
    )
    if event != Event.RESPONSE:
        given_up = _given_up(row, waited_ns) if event == Event.NO_RESPONSE else ""
        return DnsMessages(dns, f"DNS Query {query} {qtype}{given_up}", extension)
    told = _told(bytes(row["answer"])[: int(row["answer_bytes"])])
    rcode = told.message.rcode | int(row["status"])
    dns.MergeFrom(flow_pb2.DNS(ips=told.ips, ttl=told.ttl, cnames=told.cnames, rcode=rcode, rrtypes=told.rrtypes))
    _extend(extension, told.message, rcode)
    return DnsMessages(dns, _answer(dns), extension)


def _query(row: Mapping[str, Any]) -> str:
    """The name, absolute; of one that is cut, what is kept of it, without the dot at its end."""
    text = bytes(row["text"]).rstrip(b"\0").decode("ascii", "backslashreplace")
    return text if int(row["flags"]) & Flag.CUT else f"{text}."


def _given_up(row: Mapping[str, Any], waited_ns: int) -> str:
    what = "connection ended without an answer" if int(row["flags"]) & Flag.CONNECTION_END else "no answer"
    attempt = int(row["attempt"])
    repeated = f", attempt {attempt}" if attempt > 1 else ""
    return f"; {what} after {waited_ns / SECOND:.3g}s{repeated}"


# Resolvers get the same answers again and again: all but the first two bytes, the id, are the same.
def _told(answer: bytes) -> Told:
    return _read(answer[2:])


@lru_cache(maxsize=1_024)
def _read(rest: bytes) -> Told:
    message = parse(b"\0\0" + rest)
    answers = [record for record in message.records if record.section == ANSWER]
    lived = [record.ttl for record in answers if record.type in (A, AAAA, CNAME)]
    return Told(
        message,
        tuple(record.data for record in answers if record.address),
        tuple(record.data for record in answers if record.type == CNAME),
        min(lived, default=NO_TTL),
        tuple(type_name(record.type) for record in answers),
    )


def _answer(dns: flow_pb2.DNS) -> str:
    """Summary of a response: Hubble's dnsSummary (pkg/hubble/parser/seven/dns.go)."""
    words = ["DNS Answer"]
    if dns.rcode:
        words.append(f"RCode: {rcode_name(dns.rcode)}")
    else:
        words += [_quoted(",".join(dns.ips))] if dns.ips else []
        words += [f"CNAMEs: {_quoted(','.join(dns.cnames))}"] if dns.cnames else []
    return " ".join([*words, f"TTL: {dns.ttl}", f"(Query {dns.query} {','.join(dns.qtypes)})"])


def _quoted(text: str) -> str:
    """As Go's %q: names are printable ASCII by now, so only these two need a backslash."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _extend(extension: extension_pb2.Dns, message: Message, rcode: int) -> None:
    extension.rcode, extension.rcode_name = rcode, rcode_name(rcode)
    extension.authoritative, extension.recursion_available = message.authoritative, message.recursion_available
    for record in message.records:
        if record.section == ANSWER:
            extension.answers.add(name=record.name, type=type_name(record.type), ttl=record.ttl, data=record.data)
