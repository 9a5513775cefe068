"""kill -9 of the relay, the agents and the API server at random, under traffic: nothing hangs, nothing is invented, and the
coverage tells which times are missing.

20 seconds of it, or as many as CHAOS_SECONDS says (`make chaos`: two minutes). CHAOS_SEED repeats a run's order of victims.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from application import PORTS, Application, Made, Seen, seen
from follower import Follower
from told import moment, nanoseconds, node_of
from waiting import eventually

from flows.demo import layout

if TYPE_CHECKING:
    from pathlib import Path

    from demo_command import Answer, Demo

Json = dict[str, Any]
SECONDS = float(os.environ.get("CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(10**6))))
BETWEEN_KILLS = (0.5, 4.0)
AFTER_SECONDS = 15.0  # the applications go on when the killing is over: what is seen then must be complete
RETURN_SECONDS = 90.0  # pauses before another attempt at an API server that was gone again and again: 30 s at most
ANSWER_SECONDS = 20  # an answer that takes longer hangs: a relay waits 2 s for a silent peer
EDGE_NS = 100 * 10**6  # around the end of a gap: the agent's times and the application's of one connection differ a little
UNREAD_NS = 2 * 10**9  # what an agent had read so long before it was killed is certainly not in the ring any more
pytestmark = pytest.mark.timeout(SECONDS + 180)


@dataclass
class Life:
    """One run of an agent's process: from when it served, to when it was killed (0: it lives)."""

    ready: int
    killed: int = 0


@dataclass
class Chaos:
    """Kills somebody now and then, and notes when agents serve and die: the truth that coverage is compared with."""

    random: random.Random
    kills: list[str] = field(default_factory=list)
    lives: dict[int, Life] = field(default_factory=dict)  # pid -> life
    nodes: dict[int, str] = field(default_factory=dict)  # pid -> node
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Note the agents that serve."""
        while not self.over.wait(0.02):
            for agent in status()["agents"]:
                if agent["ready"] and agent["pid"] not in self.lives:
                    self.lives[agent["pid"]] = Life(time.time_ns())
                    self.nodes[agent["pid"]] = f"demo/{agent['node']}"

    def kill(self, seconds: float) -> None:
        """Do harm for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.random.uniform(*BETWEEN_KILLS))
            name, pid = self.random.choice(victims())
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.kills.append(name)
            if pid in self.lives:
                self.lives[pid].killed = time.time_ns()

    def killed(self, node: str) -> list[int]:
        """When agents of a node were killed that had served for so long that they had read what was there before."""
        lives = (life for pid, life in self.lives.items() if self.nodes[pid] == node and life.killed)
        return [life.killed for life in lives if life.killed - life.ready > UNREAD_NS]


def status() -> Json:
    """As `flows demo status -o json`, without starting a program for it."""
    found: Json = json.loads(layout.STATUS.read_text())
    return found


def victims() -> list[tuple[str, int]]:
    """Names and pids of those that may be killed now."""
    now = status()
    relays = [(pod["name"], pod["pid"]) for pod in now["pods"] if pod["name"].startswith("flows-relay-")]
    units = [(unit["unit"], unit["pid"]) for unit in (*now["agents"], now["api"])]
    return [(name, pid) for name, pid in (*relays, *units) if pid] or [("nobody", 2**22 + 1)]


@dataclass
class Asker:
    """Asks for the last flows again and again; each answer must come, whatever it is."""

    over: threading.Event
    codes: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # of those that ended with exit 1: what they said
    wrong: list[str] = field(default_factory=list)

    def run(self) -> None:
        argv = [sys.executable, "-m", "flows.cli.main", "observe", "--last", "20", "--exit-code"]
        while not self.over.wait(0.3):
            try:
                done = subprocess.run(argv, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                self.wrong.append(f"no answer after {ANSWER_SECONDS} s")
                continue
            self.codes[done.returncode] += 1
            if done.returncode == 1:
                self.errors[done.stderr.strip()] += 1
            if done.returncode not in {0, 1, 3} or "Traceback" in done.stderr or "fault of flows" in done.stderr:
                self.wrong.append(f"exit {done.returncode}: {done.stderr[-500:]}")


def all_is_well() -> bool:
    now = status()
    units = [*now["agents"], now["api"]]
    relays = [pod for pod in now["pods"] if pod["name"].startswith("flows-relay-")]
    return all(unit["ready"] for unit in units) and bool(relays) and all(pod["ready"] for pod in relays)


@dataclass(frozen=True)
class Told:
    """What coverage says of one node."""

    since: int
    until: int
    gaps: tuple[tuple[int, int, str], ...]

    def covers(self, begin: int, end: int) -> bool:
        """Whether all of a time is said to be known, if perhaps without names."""
        inside = self.since <= begin and end <= self.until
        return inside and not any(first < end and begin < last for first, last, reason in self.gaps if reason != "UNNAMED")


def told(answer: Answer) -> dict[str, Told]:
    """Per node, what the coverage says; a node that could not answer at all covers nothing."""
    found = {}
    for node in answer.coverage["nodes"]:
        if "node" not in node:  # the list of nodes may be out of date
            continue
        rows = [(*(nanoseconds(gap[key]) for key in ("from", "to")), gap["reason"]) for gap in node.get("gaps", [])]
        times = [nanoseconds(node[key]) if key in node else 0 for key in ("from", "to")]
        found[node["node"]] = Told(times[0], times[1], tuple(rows))
    return found


def test_whatever_is_killed_the_view_is_true(demo: Demo, tmp_path: Path) -> None:
    eventually("all is well", all_is_well)
    chaos = Chaos(random.Random(SEED))
    asker = Asker(chaos.over)
    clients = demo.pods("demo/svc-a-")
    addresses = [word for pod in clients for word in ("--from-ip", pod["ip"])]
    threads = [threading.Thread(target=target, daemon=True) for target in (chaos.watch, asker.run)]
    for thread in threads:
        thread.start()
    began = time.time_ns()
    with Follower(tmp_path / "flows", *addresses, "--protocol", "tcp") as follower:
        eventually("the follower shows flows", follower.flows)
        made = traffic(demo, clients, chaos)
        chaos.over.set()
        for thread in threads:
            thread.join(ANSWER_SECONDS + 5)
        answer = demo.ask(*addresses, "--protocol", "tcp", "--since", moment(began), "--until", moment(time.time_ns()))
        tell(chaos, asker, answer, began)
        assert asker.wrong == []
        assert len(chaos.kills) >= SECONDS / BETWEEN_KILLS[1] / 2
        assert sum(asker.codes.values()) >= SECONDS / 10
        check_history(answer, made, chaos)
        check_names(answer, {pod["ip"]: pod["name"] for pod in clients})
        check_follower(follower, [one for rows in made.values() for one in rows], set(seen(answer.flows)))


def traffic(demo: Demo, clients: list[Json], chaos: Chaos) -> dict[str, list[Made]]:
    """What the applications made, by node, while everybody was killed now and then; the relay has all agents again."""
    applications = {
        node_of(pod): Application(demo, f"demo/{pod['name']}", "svc-b", 80, seconds=SECONDS + AFTER_SECONDS, first=first)
        for pod, first in zip(clients, (0, len(PORTS) // 2), strict=True)
    }
    chaos.kill(SECONDS)
    eventually("all is well again", all_is_well)
    made = {node: application.made() for node, application in applications.items()}
    complete = ("--since", "1s", "--exit-code")
    eventually("the relay has all agents again", lambda: demo.ask(*complete).code == 0, seconds=RETURN_SECONDS)
    return made


def tell(chaos: Chaos, asker: Asker, answer: Answer, began: int) -> None:
    """For who looks at it."""
    sys.stderr.write(f"\nseed {SEED}: killed {dict(Counter(chaos.kills))}, exit codes {dict(asker.codes)}\n")
    for node, saying in sorted(told(answer).items()):
        gaps = [f"{(first - began) / 1e9:.3f} to {(last - began) / 1e9:.3f} s {reason}" for first, last, reason in saying.gaps]
        sys.stderr.write(f"{node}: {', '.join(gaps)}\n")
    for text, count in asker.errors.most_common():
        sys.stderr.write(f"{count} x {text}\n")


def check_history(answer: Answer, made: dict[str, list[Made]], chaos: Chaos) -> None:
    """Nothing but what happened, once, and all of it where the coverage has no gap; a gap where what was seen is gone."""
    shown = Counter(seen(answer.flows))
    real = {(one.address, one.port) for rows in made.values() for one in rows}
    assert {(one.address, one.port) for one in shown} <= real
    assert repeated(answer.flows) == []
    coverage = told(answer)
    outside = 0
    for node, rows in made.items():
        known = [one for one in rows if coverage[node].covers(one.began - EDGE_NS, one.ended + EDGE_NS)]
        wanted = {(one.address, one.port) for one in known}
        outside += len(wanted)
        missing = wanted - {(one.address, one.port) for one in shown if one.node == node and one.at_source}
        sys.stderr.write(f"{node}: {len(wanted)} of {len(rows)} connections are outside of gaps, {len(missing)} missing\n")
        assert missing == set(), ([one for one in known if (one.address, one.port) in missing], coverage[node])
    assert outside > 20
    for node, saying in coverage.items():
        for killed in chaos.killed(node):
            assert not saying.covers(killed - UNREAD_NS - 1, killed - UNREAD_NS), (node, killed, saying)


def check_names(answer: Answer, names: dict[str, str]) -> None:
    """A client's name is its own, or none at all."""
    for flow in answer.flows:
        name = flow["source"].get("pod_name", "")
        assert name in {"", names[flow["IP"]["source"]]}, flow


def repeated(flows: list[Json]) -> list[Json]:
    """Ends of connections that are there more than once."""
    counts: Counter[Seen] = Counter(seen(flows))
    return [flow for flow in flows if any(counts[one] > 1 for one in seen([flow]))]


def check_follower(follower: Follower, made: list[Made], history: set[Seen]) -> None:
    """Nothing but what happened, once; it lived through it all, and has no less than one who asks afterwards gets."""
    ended = follower.process.poll
    eventually("the follower has caught up", lambda: ended() is not None or history <= set(seen(follower.flows())))
    assert ended() is None, follower.path.with_suffix(".err").read_text()
    flows = follower.end()
    shown = set(seen(flows))
    sys.stderr.write(f"follower: {len(shown)} ends of {len(made)} connections, {len(history)} in the history\n")
    assert {(one.address, one.port) for one in shown} <= {(one.address, one.port) for one in made}
    assert repeated(flows) == []
