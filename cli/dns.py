"""DNS: `flows dns` ("is it DNS?") and `flows dns names` (which names are resolved, and at what cost)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.answers import Question, grammar, run
from flows.flow.answers import filters
from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.names import NamesAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.proto.flow_pb2 import FlowFilter

_ABOUT = """\
Is it DNS? Queries that failed, were slow or were not answered, with the cause as far as it was seen; then totals.
--from is who asks, --to the DNS server. `flows dns names` shows what was asked for and what came of it."""
_EXAMPLES = """\
examples:
  flows dns                                      the last 5 minutes, everything
  flows dns --from svc-a --since 15m             what svc-a asked for
  flows dns -f --from shop/ --sort -p99          go on, slowest first
  flows dns --from web -o json | jq 'select(.result == "unanswered") | .evidence'
  flows dns names --from svc-a                   names, tries, and the price of ndots"""
_ABOUT_NAMES = """\
Which names are resolved: A, AAAA, suffixes of the search list and repetitions of one question are one lookup. Shows what came of
it, the connection that followed, what search lists (ndots) cost each workload, and the cure."""
_EXAMPLES_NAMES = """\
examples:
  flows dns names --from svc-a                   the last 5 minutes
  flows dns names --since 1h --sort -wasted      what costs most
  flows dns names --from shop/ -o json | jq -r 'select(.did_you_mean) | "\\(.name) -> \\(.did_you_mean)"'"""


def _allow(given: Sequence[FlowFilter]) -> tuple[FlowFilter, ...]:
    wanted = filters.of_requests(given, ["dns"])
    return wanted if given else (*wanted, filters.of_drops())


DNS = Question(
    grammar("flows dns", _ABOUT, _EXAMPLES),
    DnsAnswer.columns,
    lambda filtered, parted: DnsAnswer(filtered=filtered, parted=parted),
    _allow,
    filters.of_denied,
)
NAMES = Question(
    grammar("flows dns names", _ABOUT_NAMES, _EXAMPLES_NAMES),
    NamesAnswer.columns,
    lambda filtered, parted: NamesAnswer(filtered=filtered, parted=parted),
    lambda given: filters.of_requests(given, ["dns"]),
    filters.of_denied,
)


def dns(arguments: Sequence[str]) -> int:
    """Runs `flows dns`, or `flows dns names`. Gives the exit status."""
    if arguments and arguments[0] in {"names", "name"}:
        return run(NAMES, arguments[1:])
    return run(DNS, arguments)
