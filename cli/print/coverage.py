"""Coverage: how far an answer can be trusted, as one sentence or one line of JSON."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flows.cli.print.escape import escape
from flows.flow.protojson import quote, to_json
from flows.proto import flows_pb2, relay_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

    from flows.proto.flows_pb2 import Coverage, Gap, NodeCoverage

# Clocks that are nearer than this are in order: so are those whose flows the relay does not correct.
SKEW_NS = 10_000_000
# A window that ends this near to now is "the last 10m".
NOW_NS = 5_000_000_000
# What one line can hold: names of nodes with the same trouble, different troubles, characters of a cause.
MAX_NAMES, MAX_TROUBLES, MAX_CAUSE = 3, 4, 160

_FAILED = frozenset({relay_pb2.NODE_UNAVAILABLE, relay_pb2.NODE_ERROR, relay_pb2.NODE_GONE})


def conclusion(flows: int, coverage: Coverage | None, now_ns: int) -> str:
    """The line below an answer of so many flows; empty if there is nothing to add to them."""
    if coverage is None:
        return "" if flows else "no flows; the server does not tell whether all nodes answered"
    if coverage.complete:
        return "" if flows else f"no flows; {_all(coverage.nodes)} answered{_window(coverage, now_ns)}"
    troubles = _troubles(coverage, now_ns)
    if flows:
        return f"{_count(flows, 'flow')}; incomplete: {troubles}"
    return f"no flows, but {troubles}: unknown"


def skew(nodes: Iterable[NodeCoverage]) -> str:
    """How far clocks are off, of those nodes where it matters; empty if there are none."""
    told = [
        f"{escape(node.node)} is {_amount(abs(offset))} {'ahead' if offset > 0 else 'behind'}"
        f" (± {_amount(_ns(node.clock_error))})"
        for node in nodes
        if abs(offset := _ns(node.clock_offset)) > SKEW_NS
    ]
    more = len(told) - MAX_TROUBLES
    return ", ".join(told[:MAX_TROUBLES]) + (f" and {more} more" if more > 0 else "")


def coverage_json(coverage: Coverage, time: Timestamp) -> str:
    """A line like those of flows, with its newline. Of one node it has the node's name."""
    name = coverage.nodes[0].node if len(coverage.nodes) == 1 else "relay"
    return f'{{"coverage":{to_json(coverage)},"node_name":{quote(name)},"time":{to_json(time)}}}\n'


def _all(nodes: Sequence[NodeCoverage]) -> str:
    return escape(nodes[0].node) if len(nodes) == 1 else f"all {len(nodes)} nodes"


def _window(coverage: Coverage, now_ns: int) -> str:
    """The time for which they answered."""
    until = min(_ns(coverage.until), now_ns) if coverage.HasField("until") else now_ns
    if coverage.HasField("since"):
        since = _ns(coverage.since)
        if since > now_ns:
            return f" for {_clock(coverage.since, now_ns)} and later, which is yet to come"
        if now_ns - until < NOW_NS and since <= until:
            return f" for the last {_short(until - since)}"
        return f" for {_clock(coverage.since, now_ns)} to {_clock(coverage.until, now_ns)}"
    begins = [each for each in coverage.nodes if each.HasField("from")]
    if not begins or len(begins) < len(coverage.nodes):
        return ""
    # From then on each of them could.
    latest = max(begins, key=lambda each: _ns(getattr(each, "from")))
    return f", back to {_clock(getattr(latest, 'from'), now_ns)}"


def _troubles(coverage: Coverage, now_ns: int) -> str:
    """What is missing; nodes with the same trouble together. An entry without a name is about the list of nodes itself."""
    nodes: defaultdict[str, list[str]] = defaultdict(list)
    for node in coverage.nodes:
        for trouble in _of_node(node, now_ns) if node.node else ():
            nodes[trouble].append(node.node)
    told = [f"{_names(names)} {trouble}" for trouble, names in nodes.items()]
    told += [escape(_cut(node.message)) for node in coverage.nodes if node.message and not node.node]
    if not told:
        return "the server says that nodes are missing, but not which" if coverage.nodes else "no node could be asked"
    more = len(told) - MAX_TROUBLES
    return ", ".join(told[:MAX_TROUBLES]) + (f" and {more} more (-o json has all)" if more > 0 else "")


def _names(names: Sequence[str]) -> str:
    shown = escape(", ".join(names[:MAX_NAMES]))
    return shown if len(names) <= MAX_NAMES else f"{shown} and {len(names) - MAX_NAMES} more"


def _of_node(node: NodeCoverage, now_ns: int) -> Iterable[str]:
    failed = node.state in _FAILED
    if failed:
        yield f"did not answer{_cause(node.message)}"
    gaps: defaultdict[tuple[int, str], list[Gap]] = defaultdict(list)
    for gap in node.gaps:
        if not (failed and gap.reason == flows_pb2.DOWN):
            gaps[gap.reason, gap.message].append(gap)
    for (reason, message), alike in gaps.items():
        yield f"{_gap(reason, alike, now_ns)}{_cause(message)}"


def _gap(reason: int, gaps: Sequence[Gap], now_ns: int) -> str:
    """What a node lacks for one reason, in one or several periods."""
    span = _span(gaps, now_ns)
    if reason == flows_pb2.LOST:
        count = sum(gap.count for gap in gaps)
        return f"lost {_count(count, 'event') if count else 'events'}{span}"
    if reason in {flows_pb2.OVERWRITTEN, flows_pb2.LATE} and gaps[-1].HasField("to"):
        verb = "no longer has what was" if reason == flows_pb2.OVERWRITTEN else "was not observed"
        return f"{verb} before {_clock(gaps[-1].to, now_ns)}"
    return f"{_VERBS.get(reason, 'has a gap')}{span}"


_VERBS: Mapping[int, str] = {
    flows_pb2.DOWN: "was down",
    flows_pb2.OVERWRITTEN: "no longer has all flows",
    flows_pb2.LATE: "was not observed from the beginning",
    flows_pb2.SAMPLED: "looked at samples only",
    flows_pb2.UNNAMED: "did not know all names",
}


def _span(gaps: Sequence[Gap], now_ns: int) -> str:
    begins = [getattr(gap, "from") for gap in gaps if gap.HasField("from")]
    ends = [gap.to for gap in gaps if gap.HasField("to")]
    if not begins or not ends:
        return f" since {_clock(min(begins, key=_ns), now_ns)}" if begins else ""
    first, last = _clock(min(begins, key=_ns), now_ns), _clock(max(ends, key=_ns), now_ns)
    return f" at {first}" if first == last else f" between {first} and {last}"


def _ns(time: Timestamp | Duration) -> int:
    """Also of one that protobuf's own conversion refuses."""
    return time.seconds * 1_000_000_000 + time.nanos


def _cause(message: str) -> str:
    return f" ({escape(_cut(message))})" if message else ""


def _cut(message: str) -> str:
    return message if len(message) <= MAX_CAUSE else f"{message[:MAX_CAUSE]}..."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _clock(moment: Timestamp, now_ns: int) -> str:
    """The time of day; with the day, if that is not today. In UTC, as flows are printed."""
    try:
        then = datetime.fromtimestamp(moment.seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return "N/A"
    today = datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).date()
    return f"{then:%H:%M:%S}" if then.date() == today else f"{then:%Y-%m-%d %H:%M:%S}"


def _short(nanoseconds: int) -> str:
    """A duration, which is not negative, as one would type it: 10m, 1h30m, 45s, 500ms."""
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds // 1_000_000}ms"
    minutes, seconds = divmod(round(nanoseconds / 1e9), 60)
    hours, minutes = divmod(minutes, 60)
    return "".join(f"{value}{unit}" for value, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if value)


def _amount(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:,.1f} ms" if nanoseconds < 10_000_000 else f"{nanoseconds / 1e6:,.0f} ms"
