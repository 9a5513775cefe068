"""From the filter flags, in their order, to the FlowFilters of a request: Hubble's --not and sides.

Source: hubble/cmd/observe/flows_filter.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.cli.flags_filter import CONFLICTS, FILTER_FLAGS, FilterFlag, Role, Side
from flows.cli.options import UsageError
from flows.cli.selectors import Meaning, expand
from flows.flow.filter.errors import FilterError, quote
from flows.flow.filter.fields import FIELDS
from flows.proto.flow_pb2 import FlowFilter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SIDES = ("source", "destination")


@dataclass(frozen=True, slots=True)
class RequestFilters:
    """The lists of a GetFlowsRequest, and what ambiguous words were taken for."""

    allow: tuple[FlowFilter, ...] = ()
    deny: tuple[FlowFilter, ...] = ()
    notes: tuple[str, ...] = ()


def request_filters(flags: Iterable[tuple[str, str]]) -> RequestFilters:
    """flags are (name, text) as on the command line. Raises UsageError.

    --not moves the next flag to deny; all negated flags share one FlowFilter there (or two, for either side).
    """
    allow, deny, negated = _FilterList(), _FilterList(), False
    for name, text in flags:
        row = FILTER_FLAGS[name]
        if row.role is Role.NOT:
            if negated:
                raise UsageError("--not: consecutive --not statements: write it once, before the filter to invert")
            negated = True
            continue
        (deny if negated else allow).add(row, text)
        negated = False
    if negated:
        raise UsageError("trailing --not found in the arguments: a filter flag must follow it")
    return RequestFilters(tuple(allow.filters()), tuple(deny.filters()), (*allow.notes, *deny.notes))


@dataclass(slots=True)
class _FilterList:
    """The flags on one side of --not. A request is `left or right`; they differ by flags for either side."""

    left: FlowFilter = field(default_factory=FlowFilter)
    right: FlowFilter = field(default_factory=FlowFilter)
    seen: list[FilterFlag] = field(default_factory=list)
    namespaces: dict[Side, list[str]] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, row: FilterFlag, text: str) -> None:
        if row not in self.seen:
            self.seen.append(row)
        self._check_conflicts(row, text)
        try:
            value = row.parse(text)
            match row.role:
                case Role.NAMESPACE:
                    self.namespaces.setdefault(row.side, []).append(value)
                case Role.WORD:
                    expand(text, row.side.value)
                    self.words.setdefault(row.side.value, []).append(text)
                case _:
                    self._set(row, value)
        except FilterError as error:
            raise UsageError(error.describe(f"--{row.name}")) from None
        self._check_namespaces(row, text)

    def filters(self) -> list[FlowFilter]:
        """No filter if there was no flag; equal ones once."""
        if not self.seen:
            return []
        left, right = FlowFilter(), FlowFilter()
        left.CopyFrom(self.left)
        right.CopyFrom(self.right)
        either = self.namespaces.get(Side.EITHER, [])
        for side, namespace_side in zip(_SIDES, (Side.FROM, Side.TO), strict=True):
            named = self.namespaces.get(namespace_side, [])
            if side not in self.words:
                _qualify(left, side, named)
                _qualify(right, side, named)
        _qualify(left, "source", either)
        _qualify(right, "destination", either)
        return _distinct(merged for base in _distinct((left, right)) for merged in self._with_words(base))

    def _set(self, row: FilterFlag, value: Any) -> None:
        """Add the value to the row's fields, once it is known that a filter can be built of it."""
        for message, name in zip((self.left, self.right), row.fields(), strict=True):
            FIELDS[name]([value], FlowFilter())
            getattr(message, name).append(value)

    def _with_words(self, base: FlowFilter) -> Iterable[FlowFilter]:
        """The base and, for each side that has words, one of the words' alternatives: all combinations."""
        combined = [base]
        for side in _SIDES:
            if side in self.words:
                alternatives = self._alternatives(side)
                combined = [_merge(one, other) for one in combined for other in alternatives]
        return combined

    def _alternatives(self, side: str) -> list[FlowFilter]:
        flag, namespaces = ("from", Side.FROM) if side == "source" else ("to", Side.TO)
        found: list[FlowFilter] = []
        for word in self.words[side]:
            try:
                meaning = expand(word, side, self.namespaces.get(namespaces, []))
            except FilterError as error:
                raise UsageError(error.describe(f"--{flag}")) from None
            self._check_overlap(flag, word, meaning)
            if meaning.note and (note := f"--{flag}: {meaning.note}.") not in self.notes:
                self.notes.append(note)
            found += meaning.alternatives
        return found

    def _check_overlap(self, flag: str, word: str, meaning: Meaning) -> None:
        """A FlowFilter holds one list of values per field, all alternatives: two flags cannot share it."""
        taken = {descriptor.name for one in meaning.alternatives for descriptor, _ in one.ListFields()}
        for row in self.seen:
            if row.role is Role.FIELD and taken.intersection(row.fields()):
                choice = row.field.replace("_", " ")
                raise UsageError(
                    f"--{flag} {quote(word)}: filters --{flag} and --{row.name} cannot be combined when both"
                    f" choose by {choice}: say it in one of them"
                )

    def _check_conflicts(self, row: FilterFlag, text: str) -> None:
        names = {seen.name for seen in self.seen}
        for group in CONFLICTS:
            both = [name for name in group if name in names]
            if len(both) > 1:
                given = f" {quote(text)}" if row.constant is None else ""
                raise UsageError(f"--{row.name}{given}: filters --{both[0]} and --{both[1]} cannot be combined")

    def _check_namespaces(self, row: FilterFlag, text: str) -> None:
        for message in (self.left, self.right):
            for side, own in zip(_SIDES, (Side.FROM, Side.TO), strict=True):
                pods, services = getattr(message, f"{side}_pod"), getattr(message, f"{side}_service")
                spaces = [*self.namespaces.get(Side.EITHER, []), *self.namespaces.get(own, [])]
                fault = _namespace_fault(spaces, [*pods, *services]) or _disagreement(pods, services)
                if fault:
                    raise UsageError(f"--{row.name} {quote(text)}: {fault}")


def _namespace_fault(namespaces: Sequence[str], names: Sequence[str]) -> str:
    for namespace in namespaces:
        for name in names:
            if _namespace_of(name) not in ("", namespace):
                return f'namespace conflict: "{namespace}" does not contain "{name}"'
    return ""


def _disagreement(pods: Sequence[str], services: Sequence[str]) -> str:
    """A pod and a service at one end must be of one namespace."""
    for pod in pods:
        for service in services:
            if _namespace_of(pod) not in ("", _namespace_of(service)):
                return f'namespace of service "{service}" conflicts with pod "{pod}"'
    return ""


def _namespace_of(name: str) -> str:
    namespace, slash, _ = name.partition("/")
    return namespace if slash else ""


def _qualify(message: FlowFilter, side: str, namespaces: Sequence[str]) -> None:
    """Put the namespaces before names that have none; without any name, ask for all of their pods."""
    if not namespaces:
        return
    pods, services = getattr(message, f"{side}_pod"), getattr(message, f"{side}_service")
    if not pods and not services:
        pods.append("")
    for names in (pods, services):
        names[:] = [full for name in names for full in _full_names(name, namespaces)]


def _full_names(name: str, namespaces: Sequence[str]) -> list[str]:
    return [name] if "/" in name else [f"{namespace}/{name}" for namespace in namespaces]


def _merge(one: FlowFilter, other: FlowFilter) -> FlowFilter:
    merged = FlowFilter()
    merged.CopyFrom(one)
    merged.MergeFrom(other)
    return merged


def _distinct(messages: Iterable[FlowFilter]) -> list[FlowFilter]:
    found: list[FlowFilter] = []
    for message in messages:
        if message not in found:
            found.append(message)
    return found
