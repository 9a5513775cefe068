"""The answer of `flows encryption`: which service-to-service traffic is encrypted, which is plain, and of which nobody knows."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flows.flow.answers.one_look import OneLook
from flows.flow.answers.party import LONGEST
from flows.flow.answers.table import OTHER, Column, Groups, Kind, Row, Table, overflow_note
from flows.flow.answers.told import told
from flows.flow.answers.view import is_reply, nanoseconds
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.answers.told import Told
    from flows.proto.extension_pb2 import Connection
    from flows.proto.flow_pb2 import Flow

# Both ends' times of when a connection began differ less than this; an address and port are not used again sooner.
SAME_NS = 5_000_000_000
# Connections that are remembered, so that each is counted once; and different names and versions of a row.
MOST_CONNECTIONS, MOST_NAMES = 100_000, 32
ENCRYPTED, PLAIN, UNKNOWN = "encrypted", "plain", "unknown"
_SPOKEN = {
    extension_pb2.SPOKEN_DNS: (PLAIN, "DNS"),
    extension_pb2.SPOKEN_HTTP1: (PLAIN, "HTTP/1"),
    extension_pb2.SPOKEN_HTTP2: (PLAIN, "HTTP/2"),
    extension_pb2.SPOKEN_TLS: (ENCRYPTED, "TLS"),
}
_L7 = {"dns": (PLAIN, "DNS"), "http": (PLAIN, "HTTP")}
COLUMNS = (
    Column("client"),
    Column("server"),
    Column("port", Kind.NUMBER),
    Column("transport"),
    Column("encryption"),
    Column("connections", Kind.COUNT),
    Column("encrypted", Kind.COUNT),
    Column("plain", Kind.COUNT),
    Column("unknown", Kind.COUNT),
    Column("spoken", Kind.LIST),
    Column("tls_versions", Kind.LIST, "tls"),
    Column("server_names", Kind.LIST, "sni"),
    Column("ciphers", Kind.LIST, wide=True),
    Column("last_seen", Kind.TIME, "last-seen", wide=True),
)
_RANKS = {PLAIN: 0, "mixed": 1, UNKNOWN: 2, ENCRYPTED: 3}


class Key(NamedTuple):
    """What one row is about."""

    client: str
    server: str
    port: int
    transport: str


@dataclass(slots=True)
class _Pair:
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((ENCRYPTED, PLAIN, UNKNOWN), 0))
    spoken: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)
    server_names: set[str] = field(default_factory=set)
    ciphers: set[str] = field(default_factory=set)
    last_seen: int = 0


@dataclass(slots=True)
class _Connection:
    key: Key
    state: str
    at_client: bool
    started: int  # ns since 1970; 0: not known


class EncryptionAnswer(OneLook):
    """Flows in, one table out. A connection is counted once, whoever saw it and however often."""

    columns: Sequence[Column] = COLUMNS
    protocols = ("tcp", "dns", "http")

    def __init__(self, *, filtered: bool = False) -> None:  # noqa: ARG002 - what was asked for is enough here
        self._pairs: Groups[_Pair] = Groups(lambda _: _Pair(), Key(OTHER, OTHER, 0, ""))
        self._connections: OrderedDict[tuple[str, str, int], _Connection] = OrderedDict()
        self._forgotten = 0

    def add(self, flow: Flow) -> None:
        """A flow that was asked for."""
        self.take(told(flow))

    def take(self, known: Told) -> None:
        """The same, of what it tells."""
        flow, connection, layer4, source, destination = (
            known.flow,
            known.connection,
            known.transport,
            known.source,
            known.destination,
        )
        if layer4 not in {"TCP", "UDP", "SCTP"} or not source.address:
            return
        reply = is_reply(flow, connection.event)
        client, server = (destination, source) if reply else (source, destination)
        state, spoken = _said(flow, connection)
        at_client = known.at_client(reply=reply)
        started = nanoseconds(connection.started) if connection.HasField("started") else 0
        new = _Connection(Key(client.name, server.name, server.port, layer4), state, at_client, started)
        pair = self._pair((layer4, client.address, client.port), new)
        pair.last_seen = max(pair.last_seen, nanoseconds(flow.time))
        if spoken:
            pair.spoken.add(spoken)
        tls = connection.request.tls
        for names, name in (
            (pair.versions, tls.version),
            (pair.server_names, tls.server_name),
            (pair.ciphers, tls.cipher),
        ):
            if name and len(names) < MOST_NAMES:
                names.add(name[:LONGEST])

    def advance(self, time_ns: int) -> None:
        """Nothing waits."""

    def end(self) -> None:
        """Nothing waits."""

    def tables(self) -> list[Table]:
        """Plain first."""
        rows = [_row(key, pair) for key, pair in self._pairs.items() if any(pair.counts.values())]
        rows.sort(key=lambda row: (_RANKS[row["encryption"]], -row["connections"]))
        totals = {each: sum(row[each] for row in rows) for each in (ENCRYPTED, PLAIN, UNKNOWN)}
        notes = [", ".join(f"{count:,} {each}" for each, count in totals.items()) + " connections"] if rows else []
        notes.append("unknown: its first bytes were not seen, or showed no protocol that is known here")
        notes += overflow_note(self._pairs)
        if self._forgotten:
            notes.append(f"{self._forgotten:,} connections were forgotten to make room: those that went on count twice")
        return [Table("encryption", COLUMNS, rows, notes=notes if rows else (), empty="no connections")]

    def _pair(self, identity: tuple[str, str, int], new: _Connection) -> _Pair:
        """The row of the connection, which is counted there as what is known of it by now."""
        known = self._connections.get(identity)
        if known is None or (known.started and new.started and abs(known.started - new.started) > SAME_NS):
            self._connections[identity] = new
            self._pairs[new.key].counts[new.state] += 1
            if len(self._connections) > MOST_CONNECTIONS:
                self._connections.popitem(last=False)
                self._forgotten += 1
            return self._pairs[new.key]
        self._connections.move_to_end(identity)
        self._pairs[known.key].counts[known.state] -= 1
        if known.state == UNKNOWN:
            known.state = new.state
        if new.at_client and not known.at_client:  # the client knows which Service it called
            self._pairs[new.key].spoken |= self._pairs[known.key].spoken
            known.key, known.at_client = new.key, True
        self._pairs[known.key].counts[known.state] += 1
        return self._pairs[known.key]


def _said(flow: Flow, connection: Connection) -> tuple[str, str]:
    """What is known of a connection by one of its flows, and what is spoken there."""
    if connection.spoken in _SPOKEN:
        return _SPOKEN[connection.spoken]
    request = connection.request
    if request.kind == extension_pb2.TLS or request.origin == extension_pb2.TLS_LIBRARY:
        return ENCRYPTED, "TLS"
    if flow.IP.encrypted:
        return ENCRYPTED, ""
    return _L7.get(flow.l7.WhichOneof("record") or "", (UNKNOWN, ""))


def _row(key: Key, pair: _Pair) -> Row:
    counts = {name: count for name, count in pair.counts.items() if count}
    whole = next(iter(counts)) if len(counts) == 1 else "mixed" if PLAIN in counts else ENCRYPTED
    if PLAIN not in counts and UNKNOWN in counts:
        whole = UNKNOWN
    return {
        **key._asdict(),
        "encryption": whole,
        "connections": sum(counts.values()),
        **pair.counts,
        "spoken": sorted(pair.spoken),
        "tls_versions": sorted(pair.versions),
        "server_names": sorted(pair.server_names),
        "ciphers": sorted(pair.ciphers),
        "last_seen": pair.last_seen or None,
    }
