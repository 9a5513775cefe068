"""The algebra of filters: fields AND, values OR, allow minus deny."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
    conditions: dict[bytes, tuple[int, Condition]] = {}
    allowed = tuple(_clause(message, conditions) for message in allow)
    denied = tuple(_clause(message, conditions) for message in deny)
    return Filter(tuple(condition for _, condition in conditions.values()), allowed, denied)


def _clause(message: FlowFilter, conditions: dict[bytes, tuple[int, Condition]]) -> Clause:
    """The numbers of all conditions of one FlowFilter; none for an empty one, which holds for every flow."""
    present = {descriptor.name for descriptor, _ in message.ListFields()}
    numbers = []
    for name, build in FIELDS.items():
        if name in present:
            condition = build(getattr(message, name), message)
            number, _ = conditions.setdefault(_key(message, name), (len(conditions), condition))
            numbers.append(number)
    return tuple(numbers)


def _key(message: FlowFilter, name: str) -> bytes:
    """Equal for equal values of the same field."""
    alone = FlowFilter()
    alone.CopyFrom(message)
    for descriptor, _ in message.ListFields():
        if descriptor.name != name:
            alone.ClearField(descriptor.name)
    return alone.SerializeToString(deterministic=True)
