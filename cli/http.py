"""HTTP: `flows http`: which endpoints are called, by whom, with what outcome and how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.answers import Question, grammar, run
from flows.flow.answers import filters
from flows.flow.answers.http import HttpAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT = """\
Which HTTP and gRPC endpoints are called: paths without their identifiers (/users/{id}), classes of status, rate, latency.
--from is who calls, --to who is called."""
_EXAMPLES = """\
examples:
  flows http --from web --to cart                the last 5 minutes
  flows http --to shop/ --sort -5xx              which endpoints fail?
  flows http -f --from web --sort -p99           go on, slowest first
  flows http --http-status 5+ --since 1h -o json"""

HTTP = Question(
    grammar("flows http", _ABOUT, _EXAMPLES),
    HttpAnswer.columns,
    lambda filtered, parted: HttpAnswer(filtered=filtered, parted=parted),
    lambda given: filters.of_requests(given, ["http"]),
    filters.of_denied,
)


def http(arguments: Sequence[str]) -> int:
    """Runs `flows http`. Gives the exit status."""
    return run(HTTP, arguments)
