"""Answers that their flows give by themselves: nothing is asked for twice, and causes do not follow from what was not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.flow.answers.told import Told
    from flows.proto.flow_pb2 import Flow, FlowFilter
    from flows.proto.flows_pb2 import Coverage


class OneLook:
    """What such an answer has to say to who asks for second looks: nothing."""

    explains = remembers = False

    def within(self, since: int | None, until: int | None) -> None:
        """The time that was asked for, ns since 1970: of interest to who tells rates."""

    def context(self, flow: Flow) -> None:
        """There is no second look."""

    def take_context(self, known: Told) -> None:
        """The same."""

    def cover(self, coverage: Coverage) -> None:
        """The line below the rows says what is missing."""

    def see(self, namespaces: frozenset[str] | None) -> None:
        """The same."""

    def began(self) -> int | None:
        """Nothing is looked into."""
        return None

    def more(self) -> tuple[FlowFilter, ...]:
        """Nothing is wanted."""
        return ()

    def looked(self, doubt: str = "") -> None:
        """There was no second look."""
