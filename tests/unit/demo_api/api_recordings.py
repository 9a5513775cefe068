"""The recorded answers of a real API server, and what of an answer is comparable."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "data" / "kubernetes-api"
VOLATILE = {"uid", "resourceVersion", "creationTimestamp", "time", "generation", "continue"}
SERVICE_ACCOUNT = {"serviceAccountName", "serviceAccount"}
"""The recording server ran without the ServiceAccount admission plugin; ours names the default account."""


@dataclass
class Recording:
    """A recorded response."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines() if line]


def recording(name: str) -> Recording:
    head, _, body = (DATA / f"{name}.http").read_text("utf-8").partition("\n\n")
    first, *lines = head.splitlines()
    headers = {name.rstrip(":"): value for name, _, value in (line.partition(": ") for line in lines)}
    return Recording(int(first.split()[1]), headers, body)


def comparable(value: Any) -> Any:
    """A body without what differs from run to run."""
    if isinstance(value, dict):
        return {
            ('k:{"uid"}' if key.startswith('k:{"uid"') else key): comparable(item)
            for key, item in value.items()
            if key not in VOLATILE | SERVICE_ACCOUNT
        }
    return [comparable(item) for item in value] if isinstance(value, list) else value
