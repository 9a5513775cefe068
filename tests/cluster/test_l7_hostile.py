"""Hostile bytes on the real wire: agents go on, say so, and what they show is fit for a terminal."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from l7_truth import one, script

from flows.demo import layout

if TYPE_CHECKING:
    from demo_command import Demo

Json = dict[str, Any]
SEED = os.environ.get("HOSTILE_SEED", "1")
MOST_GROWTH_BYTES = 64 << 20  # of an agent's memory; what is bounded by tables and caches fills up once


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def attacked(demo: Demo) -> tuple[list[Json], list[int], list[Json]]:
    """Agents before, their memory then, agents afterwards."""
    pods = [one(demo, f"demo/{name}-") for name in ("cache", "secure", "grpc-server")]
    server = one(demo, "kube-system/kube-dns-")
    before = demo.status()["agents"]
    sizes = [resident(agent["pid"]) for agent in before]
    argv = ["python3", "-c", script("l7_hostile.py"), *(pod["ip"] for pod in pods), server["ip"], SEED]
    done = demo.run("exec", "demo/player", "--", *argv)
    assert done.returncode == 0, done.stderr
    return before, sizes, demo.status()["agents"]


@pytest.mark.timeout(180)
def test_agents_go_on(demo: Demo, attacked: tuple[list[Json], list[int], list[Json]]) -> None:
    before, _, after = attacked
    assert [(agent["pid"], agent["restarts"]) for agent in after] == [(agent["pid"], agent["restarts"]) for agent in before]
    tag = secrets.token_hex(4)
    demo.exec("player", "curl", "-s", "-o", "/dev/null", f"http://cache/s/{tag}/status/404")
    flow = demo.observed(lambda flow: flow.get("is_reply") is True, "--http-path", f"^/s/{tag}/", "--last", "4")
    assert flow["l7"]["http"]["code"] == 404


def test_memory_is_bounded(attacked: tuple[list[Json], list[int], list[Json]]) -> None:
    before, sizes, _ = attacked
    grown = {agent["node"]: resident(agent["pid"]) - size for agent, size in zip(before, sizes, strict=True)}
    assert all(growth < MOST_GROWTH_BYTES for growth in grown.values()), grown


def test_no_agent_has_anything_to_complain_of(attacked: tuple[list[Json], list[int], list[Json]]) -> None:
    for agent in attacked[2]:
        assert "Traceback" not in layout.agent_log(agent["node"]).read_text(errors="replace")


@pytest.mark.parametrize("form", ["compact", "dict", "json", "table"])
def test_what_is_shown_has_no_control_characters(attacked: tuple[list[Json], list[int], list[Json]], form: str) -> None:
    argv = [sys.executable, "-m", "flows.cli.main", "observe", "--since", "2m", "--from-pod", "demo/player-", "-o", form]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    lines = done.stdout.decode("utf-8", "strict").split("\n")
    assert len(lines) > 10
    bad = [line for line in lines if any((ord(letter) < 32 and letter != "\t") or 127 <= ord(letter) < 160 for letter in line)]
    assert bad == []
