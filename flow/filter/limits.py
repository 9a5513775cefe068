"""Limits: how large a filter may be, so that no request holds up a server that everybody shares.

While a server filters, its thread does nothing else. One field at its limit takes a second for a store of 65,535 flows and
10,000 endpoints; what people and dashboards ask takes a thousandth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from flows.flow.filter.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.proto.flow_pb2 import FlowFilter

# FlowFilters in one list. `--from a --to b` makes about 20; ten words at either side up to 3,200.
MOST_FILTERS = 4_096
# Different conditions of one request: each looks at the whole store (0.1 ms) or at all endpoints (up to 10 ms).
MOST_CONDITIONS = 256
# Values of one field whose test does not grow with them. Larger than the address ranges that a cloud provider publishes.
MOST_VALUES = 16_384
# Values of one field that are tried one after the other, and those of all different conditions: 64 selectors take 1.2 s for
# 10,000 endpoints with 20 labels.
MOST_TRIED = 64
MOST_TRIED_IN_ALL = 128
TRIED = frozenset({"source_label", "destination_label", "node_labels", "event_type"})
# Values of one field that are patterns: more than their greatest program has room for.
MOST_PATTERNS = 1_024
# Values of all fields of all FlowFilters: what a request of 1 MB could carry.
MOST_VALUES_IN_ALL = 65_536
# A text value. A label selector with 60 values of the greatest length that Kubernetes allows.
LONGEST_TEXT = 4_096
# A regular expression as it is written.
LONGEST_PATTERN = 1_024
# All expressions of a field, compiled, in RE2's instructions: 200 globs, or 100 expressions for paths.
LARGEST_PROGRAM = 4_096
# What RE2 may allocate for them and for the states that it meets. With less, names and many globs have it fall back on trying
# all in turn, a hundred times slower.
PROGRAM_BYTES = 2 << 20
# Conditions that are expressions, for their memory: 32 MB in all if their author means it, some 100 KB else.
MOST_PROGRAMS = 16
PROGRAMS = frozenset({"source_fqdn", "destination_fqdn", "dns_query", "node_name", "http_path", "http_url"})


def has_patterns(filters: Sequence[FlowFilter]) -> bool:
    """Whether any has a field whose values are compiled to expressions, which keep up to PROGRAM_BYTES each."""
    return any(field.name in PROGRAMS for message in filters for field, _ in message.ListFields())


def check_list(name: str, filters: Sequence[FlowFilter]) -> None:
    """name: of the list, as GetFlowsRequest has it. Raises FilterError."""
    if len(filters) > MOST_FILTERS:
        raise FilterError(name, f"{len(filters)} filters", f"expected at most {MOST_FILTERS}")


def check_values(field: str, values: Any) -> None:
    """Of one field of one FlowFilter: how many there are and how long. Raises FilterError."""
    if isinstance(values, Message):
        return
    most = MOST_TRIED if field in TRIED else MOST_PATTERNS if field in PROGRAMS else MOST_VALUES
    if len(values) > most:
        raise FilterError(field, f"{len(values)} values", f"expected at most {most} in one filter")
    for value in values:
        check_text(field, value)


def check_text(field: str, value: Any) -> None:
    """Of a value that is text, or a message with text. Raises FilterError."""
    texts = [value] if not isinstance(value, Message) else [text for _, text in value.ListFields()]
    for text in texts:
        if isinstance(text, str) and len(text) > LONGEST_TEXT:
            raise FilterError(field, text, f"{len(text)} characters: expected at most {LONGEST_TEXT}")


def check_total(name: str, filters: Sequence[FlowFilter], before: int = 0) -> int:
    """How many values the FlowFilters have with those counted before. Raises FilterError."""
    total = before
    for message in filters:
        total += sum(1 if isinstance(values, Message) else len(values) for _, values in message.ListFields())
        if total > MOST_VALUES_IN_ALL:
            raise FilterError(name, "too many values", f"expected at most {MOST_VALUES_IN_ALL} in all fields of all filters")
    return total


@dataclass(slots=True)
class Tally:
    """Of the different conditions of one request."""

    conditions: int = 0
    programs: int = 0
    tried: int = 0

    def add(self, field: str, values: Any) -> None:
        """Count another one. Raises FilterError with the field at which it was too much."""
        self.conditions += 1
        self.programs += field in PROGRAMS
        self.tried += len(values) if field in TRIED else 0
        for count, what, most in (
            (self.conditions, "conditions", MOST_CONDITIONS),
            (self.programs, "conditions on patterns", MOST_PROGRAMS),
            (self.tried, "values in all", MOST_TRIED_IN_ALL),
        ):
            if count > most:
                raise FilterError(field, f"{count} {what}", f"expected at most {most} different ones in a request")
