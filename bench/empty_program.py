"""A program that does nothing, where the agent's are: what it takes is the kernel's own, whatever a program there does."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from flows.agent.probe import bpf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTHING: Final = bytes.fromhex("b7000000010000009500000000000000")  # r0 = 1 (pass); exit
INGRESS: Final = bpf.AttachType.CGROUP_INET_INGRESS
EGRESS: Final = bpf.AttachType.CGROUP_INET_EGRESS


@contextlib.contextmanager
def attached(cgroup: Path, attach: bpf.AttachType = INGRESS) -> Iterator[int]:
    """Run it for each packet that is received, or sent, below a cgroup; gives its descriptor."""
    program = bpf.load_program("bench_nothing", NOTHING, bpf.ProgramType.CGROUP_SKB, attach)
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    link = bpf.link_cgroup(program, directory, attach)
    try:
        yield program
    finally:
        for descriptor in (link, directory, program):
            os.close(descriptor)
