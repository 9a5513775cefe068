"""Encryption: `flows encryption`: which service-to-service traffic is still plain?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.answers import Question, grammar, run
from flows.flow.answers import filters
from flows.flow.answers.encryption import EncryptionAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT = """\
Which service-to-service traffic is still plain? Connections per pair of workloads: encrypted (TLS), plain (HTTP, DNS), or
unknown, as their first bytes showed; with TLS versions and the names that clients asked for."""
_EXAMPLES = """\
examples:
  flows encryption                               the last 5 minutes, plain first
  flows encryption --to shop/ --not --from shop/ who calls into shop from outside, and how?
  flows encryption -o json | jq 'select(.plain > 0)'"""

ENCRYPTION = Question(
    grammar("flows encryption", _ABOUT, _EXAMPLES),
    EncryptionAnswer.columns,
    lambda filtered, _: EncryptionAnswer(filtered=filtered),
    lambda given: filters.of_connections_like(given, EncryptionAnswer.protocols),
    tuple,
)


def encryption(arguments: Sequence[str]) -> int:
    """Runs `flows encryption`. Gives the exit status."""
    return run(ENCRYPTION, arguments)
