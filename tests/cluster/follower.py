"""`flows observe --follow` while something else happens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]


class Follower:
    """`flows observe --follow` in the background; its output goes to a file."""

    def __init__(self, path: Path, *words: str) -> None:
        self.path = path
        argv = [sys.executable, "-m", "flows.cli.main", "observe", "-f", *words, "-o", "json"]
        with path.open("wb") as output, path.with_suffix(".err").open("wb") as errors:
            self.process = subprocess.Popen(argv, stdout=output, stderr=errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def flows(self) -> list[Json]:
        rows = [json.loads(line) for line in self.path.read_text().splitlines() if line.endswith("}")]
        return [row["flow"] for row in rows if "flow" in row]

    def end(self) -> list[Json]:
        """Ctrl-C, and what it had shown."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=20) in {0, 130}, self.path.with_suffix(".err").read_text()
        return self.flows()
