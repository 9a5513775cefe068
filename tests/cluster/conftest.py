"""The demo cluster for tests: brought up once, removed at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
COMMAND_SECONDS = 60


@dataclass(frozen=True)
class Demo:
    """`flows demo` as a person uses it: by its command line."""

    def run(self, *args: str, text: str = "") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "flows.demo.main", *args]
        return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)

    def ok(self, *args: str, text: str = "") -> str:
        """Standard output of a command that must succeed."""
        done = self.run(*args, text=text)
        assert done.returncode == 0, f"flows demo {' '.join(args)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def up(self) -> None:
        self.ok("up", "--no-agents")

    def exec(self, pod: str, *command: str) -> str:
        return self.ok("exec", pod, "--", *command)

    def status(self) -> Json:
        status: Json = json.loads(self.ok("status", "-o", "json"))
        return status

    def pods(self, prefix: str) -> list[Json]:
        return [pod for pod in self.status()["pods"] if f"{pod['namespace']}/{pod['name']}".startswith(prefix)]


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """A cluster without agents."""
    cluster = Demo()
    cluster.up()
    yield cluster
    cluster.ok("down")
