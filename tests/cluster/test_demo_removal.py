"""`flows demo down` leaves nothing, whatever happened before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from programs import programs

from flows.demo import layout, running
from flows.demo.node import cgroups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from demo_command import Demo


def lines(*argv: str) -> list[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()


def processes() -> set[str]:
    """Live processes as pid and start time, so that a pid used again is another process."""
    pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    return {f"{pid}@{began}" for pid in pids if (began := running.start_time(pid))}


def machine() -> dict[str, list[str]]:
    """Everything the demo could leave on a machine."""
    mount = cgroups.root().parent
    return {
        "namespaces": sorted(line for line in lines("ip", "netns") if line.startswith("flows-demo")),
        "links": [line.split("@")[0] for line in lines("ip", "-o", "link", "show")],
        "addresses": lines("ip", "-o", "addr", "show", "scope", "global"),
        "routes": lines("ip", "route") + lines("ip", "-6", "route"),
        "nft": lines("nft", "list", "tables"),
        "cgroups": sorted(str(p) for p in mount.rglob("flows-demo*")),
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if "flows-demo" in line],
        "programs": programs("flows_"),
        "state": sorted(str(p) for p in layout.STATE.rglob("*")) + [str(layout.STATE)] * layout.STATE.exists(),
    }


def settled() -> dict[str, list[str]]:
    """The machine once the kernel has freed the programs, which takes a grace period after their last descriptor closed.

    So before a comparison as well as after it: the programs of the cluster that was just taken down may still be there.
    """
    for _ in range(100):
        if not programs("flows_"):
            break
        time.sleep(0.05)
    return machine()


def kill_control_plane() -> None:
    pid = running.control_plane()
    assert pid
    os.kill(pid, signal.SIGKILL)
    while running.start_time(pid):
        time.sleep(0.01)


@pytest.fixture
def fresh(demo: Demo) -> Iterator[Demo]:
    """The cluster taken down for a test, and brought up again for those that follow."""
    demo.ok("down")
    yield demo
    demo.up()


def nothing() -> None:
    return


@pytest.mark.parametrize("accident", [nothing, kill_control_plane], ids=["in peace", "after kill -9"])
def test_down_leaves_the_machine_as_it_was(fresh: Demo, accident: Callable[[], None]) -> None:
    before, alive = settled(), processes()
    fresh.up()
    ours = set(cgroups.members(cgroups.root()))
    assert len(ours) > 8
    accident()
    fresh.ok("down")
    assert settled() == before
    left = {int(row.split("@")[0]) for row in processes() - alive}
    assert not left & ours


def test_up_repairs_what_a_killed_control_plane_left(fresh: Demo) -> None:
    fresh.up()
    kill_control_plane()
    assert fresh.run("status").returncode == 1
    fresh.up()
    assert fresh.status()["waiting"] == []


@pytest.mark.parametrize("seconds", [0.15, 0.35, 0.6])
def test_up_that_was_killed_half_way_is_removed(fresh: Demo, seconds: float) -> None:
    before = settled()
    up = subprocess.Popen(
        [sys.executable, "-m", "flows.demo.main", "up"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    up.kill()
    up.wait()
    fresh.ok("down")
    assert settled() == before


def test_up_twice_changes_nothing(demo: Demo) -> None:
    def pods() -> set[str]:  # but for those of the CronJob, which has a new one each minute
        return {pod["uid"] for pod in demo.status()["pods"] if not pod["name"].startswith("audit-")}

    before = pods()
    demo.up()
    assert pods() == before


def test_down_twice_is_no_error(fresh: Demo) -> None:
    assert fresh.run("down").stderr == "flows demo: nothing to remove\n"
    assert fresh.run("status").stderr == "flows: the demo is not up: start it with: flows demo up\n"


def test_run_shows_live_flows_and_ctrl_c_removes_everything(fresh: Demo) -> None:
    """What `make run` does."""
    before, alive = settled(), processes()
    argv = [sys.executable, "-m", "flows.demo.main", "run"]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running_demo:
        assert running_demo.stdout is not None
        shown = []
        for line in running_demo.stdout:
            shown.append(line)
            if "demo/svc-a-" in line and "-> demo/svc-b-" in line:
                break
        ours = {running_demo.pid, *cgroups.members(cgroups.root())}
        os.killpg(running_demo.pid, signal.SIGINT)
        running_demo.communicate(timeout=60)
    assert any("-> demo/svc-b:80" in line and "FORWARDED" in line for line in shown)
    assert settled() == before
    assert not {int(row.split("@")[0]) for row in processes() - alive} & ours
