"""What the tests of the Kubernetes source share: the path of what it lists, and somebody who follows it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from flows.agent.enrich.directory import Directory
from flows.kube.resource import Relisted

if TYPE_CHECKING:
    from flows.agent.enrich.kube_records import Record
    from flows.agent.enrich.kube_source import KubernetesSource
    from flows.kube.resource import Changes

PODS = "/api/v1/pods"


class Followed:
    """A directory that follows a source as the enricher does."""

    def __init__(self, source: KubernetesSource) -> None:
        self.source = source
        self.batches: deque[Changes[Record] | Relisted] = deque()
        self.known = Directory("node-0", "blue")
        source.start(self.batches.append)

    def names(self) -> list[str]:
        while self.batches:
            batch = self.batches.popleft()
            self.known.relisted(batch) if isinstance(batch, Relisted) else self.known.apply(batch)
        return sorted(pod.name for pod in self.known.pods.values())
