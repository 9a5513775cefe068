"""The first list of 10,000 pods: time until all their addresses have names, and the memory that it adds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import Measured
from bench.kubernetes_api import kubernetes_api
from bench.kubernetes_server import PODS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS: Final = 3
WHOLE: Final = ("first_list_whole", "first_list_whole_memory")
SECONDS: Final = 60.0
LIST_PODS: Final = Path(__file__).with_name("list_pods.py")


def measure() -> Iterator[Measured]:
    """Each time in a fresh process: memory that one list has freed is there for the next."""
    for streams, time, memory in ((True, "first_list_time", "first_list_memory"), (False, *WHOLE)):
        with kubernetes_api(streams=streams) as api:
            rounds = [_list(api.kubeconfig) for _ in range(ROUNDS)]
            size = sum(api.list_bytes().values()) / ROUNDS
        peak = max(one["peak_mb"] for one in rounds)
        note = f"{PODS:,} pods, {size / 1e6:.1f} MB, API and agent on one machine"
        yield Measured(time, [one["seconds"] for one in rounds], note)
        yield Measured(memory, [one["added_mb"] for one in rounds], f"while it lasts, up to {peak:.1f}")


def _list(kubeconfig: Path) -> dict[str, float]:
    words = [sys.executable, str(LIST_PODS), str(kubeconfig), str(PODS)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, timeout=SECONDS)
    result: dict[str, float] = json.loads(done.stdout)
    return result
