"""`flows demo exec`: find a pod by a prefix of its name and become a process inside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flows.demo import layout
from flows.demo.errors import DemoError
from flows.demo.node import process

Json = dict[str, Any]


def find_pod(pods: list[Json], wanted: str) -> Json:
    """The pod that `[NAMESPACE/]PREFIX` means: an exact name before a prefix, namespace demo before others.

    Several pods of one kind (svc-a-...) are equally good: the first by name is taken. DemoError if none fits.
    """
    namespace, _, prefix = wanted.rpartition("/")
    fitting = [p for p in pods if p["name"].startswith(prefix) and namespace in {"", p["namespace"]}]
    if not fitting:
        there = ", ".join(sorted(f"{p['namespace']}/{p['name']}" for p in pods)) or "none"
        raise DemoError(f"no pod's name begins with {wanted!r}; pods: {there}")
    return min(
        fitting,
        key=lambda p: (
            p["name"] != prefix,
            p["namespace"] != "demo",
            not p["pid"],
            p["namespace"],
            p["name"],
        ),
    )


def environment(pid: int) -> dict[str, str]:
    """The environment a container was started with."""
    text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="surrogateescape")
    env = dict(row.split("=", 1) for row in text.split("\0") if "=" in row)
    return env | ({"TERM": os.environ["TERM"]} if "TERM" in os.environ else {})


def enter(pod: Json, container: str | None, argv: list[str]) -> None:
    """Replace this process by `argv` inside a pod's container, with our terminal and exit code. Never
    returns normally.
    """
    row = _container(pod, container)
    fd = os.memfd_create("flows-demo-exec", 0)
    os.set_inheritable(fd, True)
    spec = {
        "cgroup": row["cgroup"],
        "netns": os.fspath(layout.NETNS / pod["netns"]),
        "attach": row["pid"],
        "argv": argv,
        "env": environment(row["pid"]),
        "close": [fd],
    }
    os.write(fd, json.dumps(spec).encode())
    line = process.command(f"/proc/self/fd/{fd}")
    os.execv(line[0], line)  # noqa: S606  (that is its job)


def _container(pod: Json, name: str | None) -> Json:
    rows: list[Json] = [c for c in pod["containers"] if name in {None, c["name"]}]
    title = f"pod {pod['namespace']}/{pod['name']}"
    if name and not rows:
        there = [c["name"] for c in pod["containers"]]
        raise DemoError(f"{title} has no container {name!r}; expected one of {', '.join(there)}")
    running = [row for row in rows if row["pid"]]
    if not running:
        raise DemoError(f"{title} runs no process now ({pod['waiting'] or pod['phase']}): wait for it, or see its events")
    return running[0]
