"""Latency: quantiles of durations from a sketch, whose relative error is bounded (DDSketch, VLDB 2019)."""

from __future__ import annotations

from ddsketch import DDSketch

# A quantile q is within 1 % of a value that has it; stated wherever quantiles are shown.
RELATIVE_ACCURACY = 0.01
ACCURACY_NOTE = "quantiles: within 1 % (DDSketch)"


class Latency:
    """Durations in ns. A sketch is made at the first one."""

    __slots__ = ("_least", "_sketch", "greatest")

    def __init__(self) -> None:
        self._sketch: DDSketch | None = None
        self.greatest: int | None = None
        self._least = 0

    def add(self, nanoseconds: int | None) -> None:
        """None: not known, so not counted."""
        if nanoseconds is None:
            return
        if self._sketch is None:
            self._sketch = DDSketch(RELATIVE_ACCURACY)
        self._sketch.add(float(nanoseconds))
        self._least = nanoseconds if self.greatest is None else min(self._least, nanoseconds)
        self.greatest = nanoseconds if self.greatest is None else max(self.greatest, nanoseconds)

    def merge(self, other: Latency) -> None:
        """Adds all of another's."""
        if other._sketch is None or other.greatest is None:
            return
        if self._sketch is None:
            self._sketch = DDSketch(RELATIVE_ACCURACY)
        self._sketch.merge(other._sketch)
        self._least = other._least if self.greatest is None else min(self._least, other._least)
        self.greatest = other.greatest if self.greatest is None else max(self.greatest, other.greatest)

    def quantile(self, q: float) -> int | None:
        """In ns, within what there was; None: no duration is known."""
        if self._sketch is None or self.greatest is None:
            return None
        value = self._sketch.get_quantile_value(q)
        return None if value is None else max(self._least, min(round(value), self.greatest))
