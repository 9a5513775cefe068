"""The demo cluster as a person uses it: `flows demo`, and what `flows observe` prints of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Json = dict[str, Any]
COMMAND_SECONDS = 60
OBSERVED_SECONDS = 10


@dataclass(frozen=True)
class Answer:
    """What `flows observe -o json` printed and how it ended."""

    rows: list[Json]
    code: int
    errors: str

    @property
    def flows(self) -> list[Json]:
        return [row["flow"] for row in self.rows if "flow" in row]

    @property
    def coverage(self) -> Json:
        """The last line: how far the answer can be trusted."""
        found: Json = self.rows[-1]["coverage"]
        return found

    def gaps(self, node: str) -> list[str]:
        """Why a node's part of it is not complete."""
        row = next(row for row in self.coverage["nodes"] if row["node"] == node)
        return [gap["reason"] for gap in row.get("gaps", [])]


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
        self.ok("up")

    @contextmanager
    def applied(self, manifest: str) -> Iterator[None]:
        """A manifest for the time of a `with`."""
        self.ok("apply", "-f", "-", text=manifest)
        try:
            yield
        finally:
            self.ok("delete", "-f", "-", text=manifest)

    def exec(self, pod: str, *command: str) -> str:
        return self.ok("exec", pod, "--", *command)

    def status(self) -> Json:
        status: Json = json.loads(self.ok("status", "-o", "json"))
        return status

    def pods(self, prefix: str) -> list[Json]:
        return [pod for pod in self.status()["pods"] if f"{pod['namespace']}/{pod['name']}".startswith(prefix)]

    def ask(self, *args: str) -> Answer:
        """What `flows observe` prints, from the relay that it finds by itself unless `args` name a server."""
        argv = [sys.executable, "-m", "flows.cli.main", "observe", *args, "-o", "json"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return Answer(rows, done.returncode, done.stderr)

    def observe(self, *args: str) -> list[Json]:
        """Flows that `flows observe` prints."""
        answer = self.ask(*args)
        assert answer.code == 0, answer
        return answer.flows

    def observed(self, wanted: Callable[[Json], bool], *args: str) -> Json:
        """The first flow of that kind, waited for: agents hand flows over in batches."""
        end = time.monotonic() + OBSERVED_SECONDS
        while time.monotonic() < end:
            flows = self.observe(*args)
            for flow in flows:
                if wanted(flow):
                    return flow
            time.sleep(0.2)
        raise AssertionError(f"no such flow within {OBSERVED_SECONDS} s among {json.dumps(flows[-5:], indent=1)}")
