"""Where the reader's records come from: a probe in the kernel, or what stands in for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from flows.agent.probe.record import Counter


class Source(Protocol):
    """All of it is for the reader's thread, but wake()."""

    def wait(self, seconds: float) -> None:
        """Sleep until there are records, at most so long."""

    def wake(self) -> None:
        """End a wait() early; from any thread."""

    def peek(self) -> NDArray[np.void]:
        """All records that wait, valid until release()."""

    @property
    def filled(self) -> float:
        """How much of the fullest ring waits, 0 to 1."""

    @property
    def handed_over(self) -> int:
        """First bytes that have left the kernel since the lanes were made, read or not."""

    @property
    def complete(self) -> bool:
        """Whether the last peek() gave all, and not only what lies before a record that is still being written."""

    def note(self, instance: int, written: int, told: Mapping[Counter, int]) -> None:
        """Tell the next agent how far this one came: before release()."""

    def peek_payloads(self) -> tuple[NDArray[np.void], ...]:
        """Copies of all first bytes that wait, arrays of one dtype each, in the order in which they are to be looked at."""

    def sample(self, share: float) -> None:
        """Let only this share of requests leave the kernel from now on."""

    def release(self) -> None:
        """Give their room back."""

    def sweep(self) -> None:
        """Have all that is quiet looked at."""

    def sweep_connections(self) -> None:
        """Have quiet TCP connections looked at."""

    def counters(self) -> dict[Counter, int]:
        """Kernel-side counters."""
