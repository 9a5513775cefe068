"""`bench/run.py [NAME...] [--json FILE]`: run all or some benchmarks and print their figures as one table.

Exits 0 whatever the figures are, 1 if a benchmark could not be run, 2 for a wrong command line, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import (
    agent_cpu,
    answers,
    filter_scan,
    first_list,
    ingest,
    kernel_cost,
    l7_decode,
    l7_dns,
    l7_http,
    losses,
    observe_cold,
    pod_changes,
    relay,
    report,
    resident,
    stored_flow,
    throughput,
)
from bench.pods import remove_leftovers, scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from bench.figures import Measured

PROGRAMS: Final = ("ip", "nginx", "openssl", "wrk", "iperf3", "sysctl")
RESULTS: Final = Path(__file__).resolve().parent / "results.json"
FAILED, USAGE, INTERRUPTED = 1, 2, 130


@dataclass(frozen=True, slots=True)
class Benchmark:
    """measure gives the figures; after so many seconds, several times what it takes, it is given up."""

    measure: Callable[[], Iterator[Measured]]
    seconds: int


BENCHMARKS: Final = {
    "ingest": Benchmark(ingest.measure, 60),
    "l7_http": Benchmark(l7_http.measure, 60),
    "l7_dns": Benchmark(l7_dns.measure, 60),
    "l7_decode": Benchmark(l7_decode.measure, 60),
    "answers": Benchmark(answers.measure, 60),
    "stored_flow": Benchmark(stored_flow.measure, 30),
    "filter_scan": Benchmark(filter_scan.measure, 30),
    "kernel_cost": Benchmark(kernel_cost.measure, 180),
    "throughput": Benchmark(throughput.measure, 420),
    "losses": Benchmark(losses.measure, 90),
    "agent_cpu": Benchmark(agent_cpu.measure, 120),
    "resident": Benchmark(resident.measure, 120),
    "first_list": Benchmark(first_list.measure, 120),
    "pod_changes": Benchmark(pod_changes.measure, 120),
    "observe_cold": Benchmark(observe_cold.measure, 90),
    "relay": Benchmark(relay.measure, 240),
}


class OverTime(BaseException):
    """A benchmark took too long. Not an Exception: the code that is measured must not take it for one of its own."""


def main(argv: list[str]) -> int:
    """Run the command line; returns the exit status."""
    options = _parse(argv)
    missing = _missing()
    if missing:
        sys.stderr.write(f"bench: {missing}\n")
        return FAILED
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    signal.signal(signal.SIGALRM, _over_time)
    try:
        remove_leftovers()
        with scratch():
            figures, failed = run(options.names or list(BENCHMARKS))
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted; all that was started is removed\n")
        return INTERRUPTED
    if options.json:
        options.json.write_text(json.dumps(report.as_json(figures), indent=2) + "\n")
    return FAILED if failed else 0


def run(names: list[str]) -> tuple[list[Measured], list[str]]:
    """Run these benchmarks and print their rows as they come; figures, and names of those that failed."""
    figures: list[Measured] = []
    failed: list[str] = []
    print(report.machine(), report.HEADER, sep="\n", flush=True)
    for name in names:
        try:
            with _limit(BENCHMARKS[name].seconds):
                for measured in BENCHMARKS[name].measure():
                    figures.append(measured)
                    print(report.line(measured), flush=True)
        except (Exception, OverTime) as error:  # noqa: BLE001 - the other benchmarks can still be run
            failed.append(name)
            print(f"{name}: failed: {_explain(error)}", flush=True)
    return figures, failed


@contextlib.contextmanager
def _limit(seconds: int) -> Iterator[None]:
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _over_time(_number: int, _frame: FrameType | None) -> None:
    raise OverTime("took too long; is the machine busy?")


def _explain(error: BaseException) -> str:
    """What a child printed is part of it."""
    if isinstance(error, subprocess.CalledProcessError):
        printed = error.stderr or error.stdout or ""
        words = printed if isinstance(printed, str) else printed.decode(errors="replace")
        return f"{error}\n{words.strip()}".rstrip()
    return f"{type(error).__name__}: {error}"


def _missing() -> str:
    """What this machine lacks, with the cure; empty if it has all."""
    if os.geteuid():
        return "eBPF and network namespaces need root: run it with sudo"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}; `make venv` installs them" if absent else ""


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench/run.py", description="Run benchmarks and print their figures as one table.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(BENCHMARKS)}")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"write the figures there, too; default, if all are run: bench/{RESULTS.name}"
    )
    options = parser.parse_args(argv)
    if not options.names and options.json is None:
        options.json = RESULTS
    for name in options.names:
        if name not in BENCHMARKS:
            near = difflib.get_close_matches(name, BENCHMARKS, 1, 0.4)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(BENCHMARKS)}"
            sys.stderr.write(f"bench: no benchmark {name!a}; {hint}\n")
            sys.exit(USAGE)
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
