"""Kept programs: an agent that goes on where another ended misses nothing, tells nothing twice, and no two share a ring."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import traffic
from first_bytes import Listener, texts
from test_attachment import attached
from watching import QUICK, read

from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.probe import Probe, ProbeError
from flows.agent.probe.record import Counter, Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hosts import Host

NOTHING = dict.fromkeys(Counter, 0)
NUMBER = 23
DIE = """
import os, signal, sys
from pathlib import Path
from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.probe import Probe
from flows.agent.probe.record import Counter
from flows.agent.probe.settings import ProbeSettings
root, keep = map(Path, sys.argv[1:])
probe = Probe(ProbeSettings(ring_bytes=1 << 20), find_subtree(root), keep)
probe.peek()
probe.note(7, 12, dict.fromkeys(Counter, 3))
probe.release()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Path]:
    """A bpffs of its own: unmounting it removes all that was pinned."""
    mount = tmp_path / "bpf"
    mount.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", mount], check=True)
    yield mount / "flows"
    subprocess.run(["umount", mount], check=True)


def connect(client: Host, server: Host, number: int = NUMBER) -> None:
    """Connections that are closed when it returns."""
    with server.start(traffic.serve_ok, 4, number, 10) as serving:
        client.run(traffic.connect_ok, server.address(4), serving.heard(), number, 10)
        serving.heard()


def closed(probe: Probe) -> int:
    records = read(probe)
    return int(np.isin(records["event"], (Event.CLOSED, Event.RESET)).sum())


def test_what_happens_while_no_agent_runs_is_there_for_the_next(both_hosts: tuple[Path, Host, Host], keep: Path) -> None:
    root, client, server = both_hosts
    with Probe(QUICK, find_subtree(root), keep) as first:
        connect(client, server)
        assert closed(first) == 2 * NUMBER
    connect(client, server)
    assert attached(root) == [1, 1]
    with Probe(QUICK, find_subtree(root), keep) as second:
        assert second.attached_ns == first.attached_ns
        assert attached(root) == [1, 1]
        assert closed(second) == 2 * NUMBER
        connect(client, server)
        assert closed(second) == 2 * NUMBER


def test_first_bytes_that_come_while_no_agent_runs_are_there_for_the_next(
    both_hosts: tuple[Path, Host, Host], keep: Path
) -> None:
    root, client, server = both_hosts
    get, ok = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"
    with Probe(QUICK, find_subtree(root), keep) as first:
        first.sample(0.0)
        Listener(first, client, server).talk([(True, get), (False, ok)])
    with Probe(QUICK, find_subtree(root), keep) as second:  # which samples anew
        Listener(second, client, server).talk([(True, get), (False, ok)])
    Listener(second, client, server).talk([(True, get), (False, ok)])
    with Probe(QUICK, find_subtree(root), keep) as third:
        payloads = Listener(third, client, server).look()
    assert len(texts(payloads)) == 8
    assert np.unique(payloads["conn_id"]).size == 4


def test_a_connection_that_spans_two_agents_is_told_once_with_its_start(both_hosts: tuple[Path, Host, Host], keep: Path) -> None:
    root, client, server = both_hosts
    with server.start(traffic.serve_kept, 4, 1) as serving:
        address = server.address(4), serving.heard()
        first = Probe(QUICK, find_subtree(root), keep)
        with client.start(traffic.connect_kept, *address, 1, 0.5) as kept:
            kept.heard()
            opened = read(first)
            first.close()
            kept.heard()
            serving.heard()
        with Probe(QUICK, find_subtree(root), keep) as second:
            ended = read(second)
    assert set(ended["conn_id"]) == set(opened["conn_id"])
    assert set(ended["start_ns"]) == set(opened["start_ns"])
    assert (ended["event"] == Event.CLOSED).all()


def test_kill_9_hands_over_what_was_noted_last(both_hosts: tuple[Path, Host, Host], keep: Path) -> None:
    root = both_hosts[0]
    settings = dataclasses.replace(QUICK, active_interval_ns=5 * 10**9, unanswered_after_ns=3 * 10**9, idle_after_ns=30 * 10**9)
    died = subprocess.run([sys.executable, "-c", DIE, root, keep], check=False)
    assert died.returncode == -signal.SIGKILL
    with Probe(settings, find_subtree(root), keep) as probe:
        handover = probe.predecessor
        assert handover is not None
        assert (handover.instance, handover.written, set(handover.counters)) == (7, 12, {3})
        assert handover.attached_ns < handover.drained_ns < time.monotonic_ns()


def test_other_settings_begin_anew_and_remove_what_was_kept(both_hosts: tuple[Path, Host, Host], keep: Path) -> None:
    root, client, server = both_hosts
    with Probe(QUICK, find_subtree(root), keep):
        connect(client, server)
    with Probe(dataclasses.replace(QUICK, connection_entries=64), find_subtree(root), keep) as probe:
        assert probe.predecessor is None
        assert probe.left_behind == 2 * 2 * NUMBER
        assert len(list(keep.iterdir())) == 1
        for _ in range(100):  # links are released after a grace period
            if attached(root) == [1, 1]:
                break
            time.sleep(0.05)
        assert attached(root) == [1, 1]


def test_two_agents_cannot_share_a_ring(both_hosts: tuple[Path, Host, Host], keep: Path) -> None:
    root = both_hosts[0]
    with Probe(QUICK, find_subtree(root), keep), pytest.raises(ProbeError, match="another agent does; stop it"):
        Probe(QUICK, find_subtree(root), keep)


def test_a_directory_that_is_no_bpffs_is_refused_with_its_cure(both_hosts: tuple[Path, Host, Host], tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="mount -t bpf bpf /sys/fs/bpf"):
        Probe(QUICK, find_subtree(both_hosts[0]), tmp_path / "flows")
    assert list(tmp_path.iterdir()) == []
