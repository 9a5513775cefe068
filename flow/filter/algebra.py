"""The algebra of filters: fields AND, values OR, allow minus deny."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import Message

from flows.flow.filter import limits
from flows.flow.filter.fields import FIELDS
from flows.proto.flow_pb2 import FlowFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.flow.columns import FlowTable, Mask
    from flows.flow.filter.condition import Condition

Clause = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled request: a flow passes if any allow clause holds (or there is none) and no deny clause.

    A clause lists the conditions that must all hold. Clauses often share some (`--from a --to b` is a product
    of what a and b may stand for), so each condition is asked at most once per table.
    """

    conditions: tuple[Condition, ...] = ()
    allow: tuple[Clause, ...] = ()
    deny: tuple[Clause, ...] = ()

    def __call__(self, table: FlowTable) -> Mask:
        """True where the flow passes; bool (n,)."""
        answers: dict[int, Mask] = {}
        mask = self._any(self.allow, table, answers) if self.allow else np.ones(len(table), np.bool_)
        if self.deny and mask.any():
            mask &= ~self._any(self.deny, table, answers)
        return mask

    def _any(self, clauses: tuple[Clause, ...], table: FlowTable, answers: dict[int, Mask]) -> Mask:
        mask = np.zeros(len(table), np.bool_)
        for clause in clauses:
            mask |= self._all(clause, table, answers)
        return mask

    def _all(self, clause: Clause, table: FlowTable, answers: dict[int, Mask]) -> Mask:
        mask = np.ones(len(table), np.bool_)
        for number in clause:
            if number not in answers:
                answers[number] = self.conditions[number](table)
            mask &= answers[number]
            if not mask.any():
                break
        return mask


def compile_filters(allow: Sequence[FlowFilter] = (), deny: Sequence[FlowFilter] = ()) -> Filter:
    """Check and compile the white and black list of a GetFlowsRequest. Raises FilterError.

    The Filter remembers answers about values, so a follower keeps one for all its batches; it is not for two
    threads at once.
    """
    total = 0
    for name, filters in (("whitelist", allow), ("blacklist", deny)):
        limits.check_list(name, filters)
        total = limits.check_total(name, filters, total)
    conditions = _Conditions()
    allowed = tuple(conditions.clause(message) for message in allow)
    denied = tuple(conditions.clause(message) for message in deny)
    return Filter(tuple(conditions.made), allowed, denied)


class _Conditions:
    """The conditions of a request, equal ones once."""

    def __init__(self) -> None:
        self.made: list[Condition] = []
        self._numbers: dict[bytes, int] = {}
        self._tally = limits.Tally()

    def clause(self, message: FlowFilter) -> Clause:
        """The numbers of all conditions of one FlowFilter; none for an empty one, which holds for every flow."""
        present = {descriptor.name for descriptor, _ in message.ListFields()}
        return tuple(self._number(name, message) for name in FIELDS if name in present)

    def _number(self, name: str, message: FlowFilter) -> int:
        key = _key(message, name)
        condition = FIELDS[name](getattr(message, name), message)
        if key not in self._numbers:
            self._tally.add(name, getattr(message, name))
            self._numbers[key] = len(self.made)
            self.made.append(condition)
        return self._numbers[key]


def _key(message: FlowFilter, name: str) -> bytes:
    """Equal for equal values of the same field."""
    alone = FlowFilter()
    values = getattr(message, name)
    if isinstance(values, Message):
        getattr(alone, name).CopyFrom(values)
    else:
        getattr(alone, name).extend(values)
    return alone.SerializeToString(deterministic=True)
