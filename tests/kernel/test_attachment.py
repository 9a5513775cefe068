"""Programs: nothing is left behind, however the process that attached them ends; losses in the kernel are counted."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import traffic
from watching import QUICK, last_records, read

from flows.agent.probe import bpf
from flows.agent.probe.cgroup import CgroupError, Subtree, find_subtree
from flows.agent.probe.probe import Probe
from flows.agent.probe.record import Counter, Event

if TYPE_CHECKING:
    from hosts import Host

PROG_QUERY = 16  # enum bpf_cmd
ATTACH = """
import sys, time
from pathlib import Path
from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.probe import Probe
from flows.agent.probe.settings import ProbeSettings
probe = Probe(ProbeSettings(ring_bytes=1 << 20), find_subtree(Path(sys.argv[1])))
print("attached", flush=True)
time.sleep(60)
"""


def programs(cgroup: Path, attach: bpf.AttachType) -> int:
    """How many programs are attached to a cgroup (BPF_PROG_QUERY)."""
    descriptor = os.open(cgroup, os.O_RDONLY)
    attributes = bytearray(struct.pack("<IIIIQI4x", descriptor, attach, 0, 0, 0, 0))
    try:
        buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
        assert ctypes.CDLL(None).syscall(bpf.SYSCALL["x86_64"], PROG_QUERY, buffer, len(attributes)) == 0
        return int(struct.unpack_from("<I", attributes, 24)[0])
    finally:
        os.close(descriptor)


def attached(cgroup: Path) -> list[int]:
    return [programs(cgroup, bpf.AttachType.CGROUP_INET_INGRESS), programs(cgroup, bpf.AttachType.CGROUP_INET_EGRESS)]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_program_is_left_when_the_process_ends(both_hosts: tuple[Path, Host, Host], end: signal.Signals) -> None:
    root = both_hosts[0]
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", ATTACH, str(root)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "attached\n"
            assert attached(root) == [1, 1]
            child.send_signal(end)
        assert settled(root) == [0, 0]


def settled(root: Path) -> list[int]:
    """What stays attached: links are released after a grace period."""
    for _ in range(100):
        if attached(root) == [0, 0]:
            break
        time.sleep(0.05)
    return attached(root)


def test_closing_detaches(both_hosts: tuple[Path, Host, Host]) -> None:
    root = both_hosts[0]
    probe = Probe(QUICK, find_subtree(root))
    assert attached(root) == [1, 1]
    probe.close()
    assert settled(root) == [0, 0]


@pytest.mark.parametrize("levels", [0, 1, 70])
def test_connections_of_the_subtree_are_told_and_no_others(both_hosts: tuple[Path, Host, Host], levels: int) -> None:
    """The server is beside the subtree; below the client are so many levels more."""
    _, client, server = both_hosts
    below = [client.cgroup.joinpath(*["n"] * level) for level in range(levels + 1)]
    with contextlib.ExitStack() as stack:
        for cgroup in below[1:]:
            cgroup.mkdir()
            stack.callback(cgroup.rmdir)
        deep = dataclasses.replace(client, cgroup=below[-1])
        with Probe(QUICK, find_subtree(client.cgroup)) as probe:
            with server.start(traffic.serve_ok, 4, 1, 10) as serving:
                deep.run(traffic.connect_ok, server.address(4), serving.heard(), 1, 10)
                serving.heard()
            records = read(probe)
        assert set(records["cgroup_id"].tolist()) == {deep.cgroup_id}


def test_a_full_ring_is_counted_and_nothing_else_is_lost(both_hosts: tuple[Path, Host, Host]) -> None:
    root, client, server = both_hosts
    number = 41
    with Probe(dataclasses.replace(QUICK, ring_bytes=4096), find_subtree(root)) as probe:
        with server.start(traffic.serve_ok, 4, number, 10) as serving:
            client.run(traffic.connect_ok, server.address(4), serving.heard(), number, 10)
            serving.heard()
        received = len(read(probe))
        lost = probe.counters()[Counter.LOST_RING_FULL]
    assert lost > 0
    assert received + lost == 2 * 2 * number


def test_a_full_table_is_counted(both_hosts: tuple[Path, Host, Host]) -> None:
    root, client, server = both_hosts
    number = 41
    with Probe(dataclasses.replace(QUICK, connection_entries=16), find_subtree(root)) as probe:
        with (
            server.start(traffic.serve_kept, 4, number) as serving,
            client.start(traffic.connect_kept, server.address(4), serving.heard(), number, 0.1) as kept,
        ):
            kept.heard()
            kept.heard()
            serving.heard()
        records = read(probe)
        lost = probe.counters()[Counter.LOST_CONNECTION]
    assert (records["event"] == Event.ESTABLISHED).sum() + lost == 2 * number
    assert (records["event"] == Event.CLOSED).sum() == len(last_records(records)) == 2 * number
    assert lost > 0


def test_packets_that_find_no_room_in_the_exchange_table_are_counted(both_hosts: tuple[Path, Host, Host]) -> None:
    root, client, server = both_hosts
    number = 41
    with Probe(dataclasses.replace(QUICK, exchange_entries=16), find_subtree(root)) as probe:
        with server.start(traffic.serve_udp, 4, number, 10) as serving:
            client.run(traffic.ask_udp, server.address(4), serving.heard(), number, 10)
            serving.heard()
        last = last_records(read(probe))
        lost = probe.counters()[Counter.LOST_EXCHANGE]
    seen = int(last["sent_packets"].sum() + last["received_packets"].sum())
    assert lost > 0
    assert seen + lost == 2 * 2 * number


@pytest.mark.parametrize(
    ("path", "message"),
    [("/sys/fs/cgroup/absent", "no such directory"), ("/tmp", "not on a cgroup v2 file system")],
)
def test_a_path_that_is_no_cgroup_is_explained(path: str, message: str) -> None:
    with pytest.raises(CgroupError, match=message) as caught:
        find_subtree(Path(path))
    assert "cgroup v2 is mounted at /" in str(caught.value)


def test_the_root_has_level_0_and_a_child_is_below(both_hosts: tuple[Path, Host, Host]) -> None:
    root: Subtree = find_subtree()
    child = find_subtree(both_hosts[1].cgroup)
    assert (root.level, root.path) == (0, root.mount)
    assert (child.level, child.mount) == (2, root.mount)
