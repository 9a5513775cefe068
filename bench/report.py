"""The report: which machine, a line for each figure, and the same as JSON."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.figures import GOALS

if TYPE_CHECKING:
    from bench.figures import Measured

HEADER: Final = f"{'what':53} {'median':>9} {'lowest':>9} {'highest':>9} {'unit':4} {'target':>9} {'holds':5} reference"
HOLDS: Final = {True: "yes", False: "NO", None: ""}
DIGITS: Final = {1_000: 0, 100: 1, 10: 1, 1: 2}  # from which size on how many after the point; 3 below


def machine() -> str:
    """Where and when: processor, CPUs, memory, kernel, how busy it was before."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    now = dt.datetime.now(dt.UTC)
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, {memory:.0f} GB, "
        f"Linux {platform.release()}, Python {platform.python_version()}, {now:%Y-%m-%d %H:%M} UTC, "
        f"load {os.getloadavg()[0]:.2f}"
    )


def number(value: float) -> str:
    """Three or four significant digits, more are noise; thousands grouped, no exponent."""
    digits = next((digits for limit, digits in DIGITS.items() if abs(value) >= limit), 3) if value else 0
    return f"{value:,.{digits}f}"


def line(measured: Measured) -> str:
    """One row of the table; what is to be said about it, below."""
    goal = GOALS[measured.name]
    figures = (measured.value, min(measured.values), max(measured.values))
    shown = " ".join(f"{number(value):>9}" for value in figures)
    holds = HOLDS[goal.holds(measured.value)]
    row = f"{goal.what:53} {shown} {goal.unit:4} {goal.target:>9} {holds:5} {goal.reference}".rstrip()
    return f"{row}\n    {measured.note}" if measured.note else row


def as_json(figures: list[Measured]) -> dict[str, dict[str, Any]]:
    """{name: {value, unit, target, reference, ...}}; holds is null where there is no target."""
    result = {}
    for measured in figures:
        goal = GOALS[measured.name]
        result[measured.name] = {
            "what": goal.what,
            "value": measured.value,
            "lowest": min(measured.values),
            "highest": max(measured.values),
            "repeated": len(measured.values),
            "unit": goal.unit,
            "target": goal.target,
            "holds": goal.holds(measured.value),
            "reference": goal.reference,
            "note": measured.note,
        }
    return result
