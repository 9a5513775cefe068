"""List a cluster's pods once as the agent does: `list_pods.py KUBECONFIG PODS` prints seconds and memory as JSON."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from flows.agent.enrich.enricher import Enricher
from flows.agent.enrich.kubernetes import connect

POLL_SECONDS = 0.01
DEADLINE_SECONDS = 50.0


class ListError(Exception):
    """Not all pods became known."""


def memory_mb(field: str) -> float:
    """VmRSS or VmHWM of this process (proc_pid_status(5)), in 10^6 bytes."""
    found = re.search(rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


async def listed(enricher: Enricher, pods: int) -> float:
    """Follow the API until so many addresses have a name; seconds. Raises ListError."""
    running = asyncio.create_task(enricher.run())
    start = time.monotonic()
    known = 0
    while known < pods:
        if time.monotonic() - start > DEADLINE_SECONDS:
            raise ListError(f"{known} of {pods} pods known after {DEADLINE_SECONDS:g} s: {enricher.source_status()}")
        await asyncio.sleep(POLL_SECONDS)
        enricher.apply_changes()
        known += sum(len(np.unique(late.numbers)) for late in enricher.late_names())
    took = time.monotonic() - start
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return took


def main() -> None:
    """Measure one list."""
    with tempfile.TemporaryDirectory() as root:
        enricher = Enricher(root, "node-0", source=connect("node-0", sys.argv[1]))
        before = memory_mb("VmRSS")
        seconds = asyncio.run(listed(enricher, int(sys.argv[2])))
        after, peak = memory_mb("VmRSS"), memory_mb("VmHWM")
        enricher.close()
    print(json.dumps({"seconds": seconds, "added_mb": after - before, "peak_mb": peak - before}))


if __name__ == "__main__":
    main()
