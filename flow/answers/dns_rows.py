"""Rows of `flows dns`: their columns, what is counted for each, and the totals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flows.flow.answers.latency import Latency
from flows.flow.answers.table import OTHER, Column, Kind, Row
from flows.flow.answers.view import State, is_slow
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from flows.flow.answers.fate import Judgement
    from flows.flow.answers.requests import Request

UNANSWERED, NO_ANSWER_SEEN, SLOW, WAITING = "unanswered", "no answer seen", "slow", "waiting"
# Worst first; failures by rcode are after unanswered ones, except NXDOMAIN, which search lists cause by the dozen.
RANKS = {UNANSWERED: 0, NO_ANSWER_SEEN: 2, SLOW: 3, "NXDOMAIN": 4, "NOERROR": 6, WAITING: 5}
FAILURE_RANK = 1
_LATENCIES = (
    Column("p50_ns", Kind.DURATION, "p50"),
    Column("p99_ns", Kind.DURATION, "p99"),
    Column("max_ns", Kind.DURATION, "max"),
)
COLUMNS = (
    Column("client"),
    Column("server"),
    Column("server_pod", name="server-pod", wide=True),
    Column("name"),
    Column("qtype", name="type"),
    Column("result"),
    Column("count", Kind.COUNT),
    *_LATENCIES,
    Column("attempts", Kind.COUNT),
    Column("cause"),
    Column("evidence"),
    Column("causes", Kind.COUNTS, wide=True),
    Column("last_seen", Kind.TIME, "last-seen", wide=True),
)
TOTALS = (
    Column("client"),
    Column("server"),
    Column("queries", Kind.COUNT),
    Column("answered", Kind.COUNT),
    Column("failed", Kind.COUNT),
    Column("unanswered", Kind.COUNT),
    Column("slow", Kind.COUNT),
    *_LATENCIES,
)
# Pods of one Service that a row names.
MOST_PODS = 8
CAUSES = {number: name for name, number in extension_pb2.Fate.items() if number != extension_pb2.FATE_UNKNOWN}


class Key(NamedTuple):
    """What one row is about."""

    client: str
    server: str
    name: str
    qtype: str
    result: str


OTHER_KEY = Key(OTHER, OTHER, OTHER, "", "")


@dataclass(slots=True)
class Group:
    """Of one row."""

    count: int = 0
    latency: Latency = field(default_factory=Latency)
    attempts: int = 0
    last_seen: int = 0
    pods: set[str] = field(default_factory=set)
    causes: Counter[int] = field(default_factory=Counter)
    evidence: dict[int, str] = field(default_factory=dict)

    def add(self, request: Request) -> None:
        """One more query."""
        view = request.view
        assert view.dns is not None
        self.count += 1
        self.latency.add(view.latency)
        self.attempts = max(self.attempts, view.dns.attempt)
        self.last_seen = max(self.last_seen, view.time)
        pod = (request.at_server or view).server.pod or view.backend.pod
        if pod and len(self.pods) < MOST_PODS:
            self.pods.add(pod)

    def judge(self, judgement: Judgement) -> None:
        """The cause of one of them."""
        self.causes[judgement.fate] += 1
        self.evidence[judgement.fate] = judgement.evidence


@dataclass(slots=True)
class Total:
    """Of one client and server."""

    queries: int = 0
    answered: int = 0
    failed: int = 0
    unanswered: int = 0
    slow: int = 0
    latency: Latency = field(default_factory=Latency)

    def add(self, request: Request, result: str) -> None:
        """One more query."""
        view = request.view
        assert view.dns is not None
        self.queries += 1
        self.answered += view.state is State.ANSWERED
        self.failed += view.state is State.ANSWERED and bool(view.dns.rcode)
        self.unanswered += result in {UNANSWERED, NO_ANSWER_SEEN}
        self.slow += view.state is State.ANSWERED and is_slow(view)
        self.latency.add(view.latency)


def row(key: Key, group: Group, judged: Group | None) -> Row:
    """judged: causes of those that are still looked into."""
    causes = group.causes + (judged.causes if judged else Counter())
    evidence = group.evidence | (judged.evidence if judged else {})
    fate = max(causes, key=lambda each: (causes[each], each)) if causes else None
    return {
        **key._asdict(),
        "server_pod": ", ".join(sorted(group.pods)),
        "count": group.count,
        **_latencies(group.latency),
        "attempts": group.attempts or None,
        "cause": None if fate is None else CAUSES.get(fate, "unknown"),
        "evidence": None if fate is None else evidence[fate],
        "causes": {CAUSES.get(each, "unknown"): count for each, count in causes.most_common()} or None,
        "last_seen": group.last_seen or None,
    }


def total_row(key: tuple[str, str], total: Total) -> Row:
    """The same of a client and a server."""
    counts = {name: getattr(total, name) for name in ("queries", "answered", "failed", "unanswered", "slow")}
    return {"client": key[0], "server": key[1], **counts, **_latencies(total.latency)}


def _latencies(latency: Latency) -> Row:
    return {"p50_ns": latency.quantile(0.5), "p99_ns": latency.quantile(0.99), "max_ns": latency.greatest}
