"""The answer of `flows http`: which endpoints are called, by whom, how often, with what outcome and how fast."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flows.flow.answers.latency import ACCURACY_NOTE, Latency
from flows.flow.answers.one_look import OneLook
from flows.flow.answers.parted import Parted
from flows.flow.answers.requests import Requests
from flows.flow.answers.table import OTHER, Column, Groups, Kind, Row, Table, most_common, overflow_note
from flows.flow.answers.told import told
from flows.flow.answers.view import State, view_told
from flows.flow.paths import Templates
from flows.proto.extension_pb2 import MIDDLE, PIPELINED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.answers.requests import Request
    from flows.flow.answers.told import Told
    from flows.flow.answers.view import HttpPart
    from flows.proto.flow_pb2 import Flow

# Servers whose paths are bounded each by themselves; those beyond share one tree of templates.
MOST_TREES = 256
# Agents wait for an answer this long (60 s) before they say that there is none.
PATIENCE_NS = 61_000_000_000
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
COLUMNS = (
    Column("client"),
    Column("server"),
    Column("host"),
    Column("method"),
    Column("path"),
    Column("count", Kind.COUNT),
    Column("rate_per_s", Kind.RATE, "rate"),
    *(Column(f"status_{each}", Kind.COUNT, each, wide=each == "1xx") for each in CLASSES),
    Column("unanswered", Kind.COUNT),
    Column("grpc_status", Kind.COUNTS, "grpc-status"),
    Column("p50_ns", Kind.DURATION, "p50"),
    Column("p90_ns", Kind.DURATION, "p90"),
    Column("p99_ns", Kind.DURATION, "p99"),
    Column("max_ns", Kind.DURATION, "max", wide=True),
    Column("response_bytes", Kind.BYTES, "bytes"),
    Column("request_bytes", Kind.BYTES, "request-bytes", wide=True),
    Column("no_answer_seen", Kind.COUNT, "no-answer-seen", wide=True),
    Column("waiting", Kind.COUNT, wide=True),
    Column("protocol", wide=True),
    Column("grpc_service", name="grpc-service", wide=True),
    Column("grpc_method", name="grpc-method", wide=True),
    Column("server_pods", Kind.LIST, "server-pods", wide=True),
    Column("last_seen", Kind.TIME, "last-seen", wide=True),
)


class Key(NamedTuple):
    """What one row is about."""

    client: str
    server: str
    host: str
    method: str
    path: str


@dataclass(slots=True)
class _Endpoint:
    count: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    grpc: Counter[str] = field(default_factory=Counter)
    latency: Latency = field(default_factory=Latency)
    request_bytes: int = 0
    response_bytes: int = 0
    protocol: str = ""
    service: str = ""
    call: str = ""
    pods: set[str] = field(default_factory=set)
    last_seen: int = 0

    def merge(self, other: _Endpoint) -> None:
        """Adds what was counted under another template of the same endpoint."""
        self.count += other.count
        self.statuses += other.statuses
        self.grpc += other.grpc
        self.latency.merge(other.latency)
        self.request_bytes += other.request_bytes
        self.response_bytes += other.response_bytes
        self.protocol, self.service, self.call = (
            self.protocol or other.protocol,
            self.service or other.service,
            self.call or other.call,
        )
        self.pods = set(sorted(self.pods | other.pods)[:16])
        self.last_seen = max(self.last_seen, other.last_seen)


class HttpAnswer(OneLook):
    """Flows in, one table out."""

    columns: Sequence[Column] = COLUMNS

    def __init__(self, *, filtered: bool = False, parted: bool = False) -> None:  # noqa: ARG002 - what was asked for is enough here
        """parted: of a request only some flows may come."""
        self._parted = Parted(parted=parted)
        self._requests = Requests()
        self._groups: Groups[_Endpoint] = Groups(lambda _: _Endpoint(), Key(OTHER, OTHER, OTHER, "", OTHER))
        self._templates: Groups[Templates] = Groups(lambda _: Templates(), OTHER, MOST_TREES)
        self._first = self._last = 0
        self._since: int | None = None
        self._pipelined = self._middle = 0

    def within(self, since: int | None, until: int | None) -> None:
        """The time that was asked for, ns since 1970: what rates are taken over. None: from the first flow, to the last."""
        self._since, self._last = since, until or 0

    def add(self, flow: Flow) -> None:
        """A flow that was asked for."""
        self.take(told(flow))

    def take(self, known: Told) -> None:
        """The same, of what it tells."""
        view = view_told(known)
        if view is None or view.http is None:
            return
        self._first = min(self._first or view.changed, view.changed)
        self._last = max(self._last, view.changed)
        self._requests.add(view)
        self._settle()

    def _settle(self) -> None:
        for request in self._requests.settled():
            self._count(request)

    def advance(self, time_ns: int) -> None:
        """Flows up to this time have come, if any did."""
        self._last = max(self._last, time_ns)
        self._requests.advance(time_ns)
        self._settle()

    def end(self) -> None:
        """Nothing else comes."""
        for request in self._requests.end():
            self._count(request)

    def tables(self) -> list[Table]:
        """Most called first."""
        begin = self._since if self._since is not None else self._first
        seconds = max((self._last - begin) / 1e9, 1.0)
        rows = [_row(key, endpoint, seconds) for key, endpoint in self._merged().items()]
        rows.sort(key=lambda row: -row["count"])
        notes = [f"{ACCURACY_NOTE}; latency is to the first byte; rate over {seconds:,.0f} s", *overflow_note(self._groups)]
        if self._pipelined:
            notes.append(f"{self._pipelined:,} requests were pipelined: their answers cannot be told apart")
        if self._middle:
            notes.append(f"{self._middle:,} requests are of connections that were joined in the middle: headers may be missing")
        if self._requests.cut_short:
            notes.append(f"{self._requests.cut_short:,} requests were counted before their outcome: too many at once")
        notes += self._parted.notes
        return [Table("http", COLUMNS, rows, notes=notes, empty=self._parted.none("no HTTP requests"))]

    def _merged(self) -> dict[Key, _Endpoint]:
        """By the templates as they are now: those of a place with too many different names have become one."""
        merged: dict[Key, _Endpoint] = {}
        for key, endpoint in self._groups.items():
            if not endpoint.service and key.path != OTHER:
                key = key._replace(path=self._templates[key.server, key.host].of(key.path))  # noqa: PLW2901
            merged.setdefault(key, _Endpoint()).merge(endpoint)
        return merged

    def _count(self, request: Request) -> None:
        if self._parted.leaves_out(request):
            return
        view = request.view
        http = view.http
        assert http is not None
        endpoint = self._groups[Key(view.client.name, view.server.name, http.host, *self._called(view.server.name, http))]
        endpoint.count += 1
        endpoint.statuses[self._status(request)] += 1
        if http.grpc_status is not None and len(endpoint.grpc) < 32:
            endpoint.grpc[http.grpc_status] += 1
        endpoint.latency.add(view.latency)
        endpoint.request_bytes += http.request_bytes
        endpoint.response_bytes += http.response_bytes
        endpoint.protocol, endpoint.service, endpoint.call = http.protocol or endpoint.protocol, http.service, http.call
        endpoint.last_seen = max(endpoint.last_seen, view.time)
        pod = (request.at_server or view).server.pod or view.backend.pod
        if pod and len(endpoint.pods) < 16:
            endpoint.pods.add(pod)
        self._pipelined += PIPELINED in view.marks
        self._middle += MIDDLE in view.marks

    def _called(self, server: str, http: HttpPart) -> tuple[str, str]:
        """Method and path of the row: gRPC's are its service and method, as they stand.

        A place of paths that has become one is one already here: its names would fill the rows for others.
        """
        if http.service:
            return http.method or "POST", f"/{http.service}/{http.call}"
        return http.method, self._templates[server, http.host].add(http.path)

    def _status(self, request: Request) -> str:
        view = request.view
        assert view.http is not None
        if view.state is State.GIVEN_UP:
            return "unanswered"
        if view.state is State.ASKED:
            return "no_answer_seen" if self._requests.watermark - view.time > PATIENCE_NS else "waiting"
        hundreds = view.http.status // 100
        return f"{hundreds}xx" if 1 <= hundreds <= 5 else "other"


def _row(key: Key, endpoint: _Endpoint, seconds: float) -> Row:
    counts = endpoint.statuses
    return {
        **key._asdict(),
        "count": endpoint.count,
        "rate_per_s": round(endpoint.count / seconds, 3),
        **{f"status_{each}": counts[each] for each in CLASSES},
        **{each: counts[each] for each in ("unanswered", "no_answer_seen", "waiting")},
        "grpc_status": most_common(endpoint.grpc) or None,
        "p50_ns": endpoint.latency.quantile(0.5),
        "p90_ns": endpoint.latency.quantile(0.9),
        "p99_ns": endpoint.latency.quantile(0.99),
        "max_ns": endpoint.latency.greatest,
        "request_bytes": endpoint.request_bytes or None,
        "response_bytes": endpoint.response_bytes or None,
        "protocol": endpoint.protocol or None,
        "grpc_service": endpoint.service or None,
        "grpc_method": endpoint.call or None,
        "server_pods": sorted(endpoint.pods),
        "last_seen": endpoint.last_seen or None,
    }
