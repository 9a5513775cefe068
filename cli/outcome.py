"""Outcome: what an observation found, and how far that can be trusted: the exit status under `--exit-code`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.cli.print.nodes import FAULTS

if TYPE_CHECKING:
    from flows.proto.flows_pb2 import Coverage
    from flows.proto.observer_pb2 import GetFlowsResponse

FOUND, NONE, UNKNOWN = 0, 1, 3


@dataclass(slots=True)
class Outcome:
    """flows: how many were shown. coverage: what the server says at the end; None: it has no way to say."""

    flows: int = 0
    faulty: bool = False  # the stream itself told of a node that failed, or of lost events
    coverage: Coverage | None = None
    unreadable: bool = False  # flows came that could not be shown

    def count(self, response: GetFlowsResponse) -> None:
        """A response was shown, or is of the stream and no flow."""
        if response.HasField("flow"):
            self.flows += 1
            return
        failed = response.HasField("node_status") and response.node_status.state_change in FAULTS
        self.faulty |= failed or response.HasField("lost_events")

    @property
    def complete(self) -> bool | None:
        """Whether nothing is missing; None: nobody tells."""
        if self.coverage is not None:
            return self.coverage.complete and not self.unreadable
        return False if self.faulty or self.unreadable else None

    def status(self, *, filtered: bool) -> int:
        """FOUND, NONE (and nothing is missing), or UNKNOWN.

        Without a filter all flows are the answer, so what is missing of them is missing of it.
        """
        if not self.flows:
            return NONE if self.complete else UNKNOWN
        return UNKNOWN if self.complete is False and not filtered else FOUND
