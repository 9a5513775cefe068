"""Fixtures of the identity tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "kube"))  # api_server, kube_samples

from api_server import ApiServer, serving
from enrich_samples import Clock, Tree
from kube_source_samples import Followed

from flows.agent.enrich.enricher import Enricher
from flows.agent.enrich.kube_source import KubernetesSource
from flows.kube import backoff
from flows.kube.client import ApiClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def clock() -> Clock:
    """A clock at 1000 s monotonic."""
    return Clock()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty cgroup tree."""
    return Tree(tmp_path)


@pytest.fixture
def make_enricher(tree: Tree, clock: Clock) -> Iterator[Callable[..., Enricher]]:
    """Make an enricher of node-1 (192.168.0.1) on the tree as it is then."""
    made: list[Enricher] = []

    def make(**arguments: Any) -> Enricher:
        values = {"node_addresses": ["192.168.0.1"], **arguments}
        made.append(Enricher(tree.root, "node-1", monotonic_ns=clock.monotonic_ns, wall_ns=clock.wall_ns, **values))
        return made[-1]

    yield make
    for enricher in made:
        enricher.close()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again almost at once after failures."""
    monkeypatch.setattr(backoff, "SECONDS", (0.01, 0.05))


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """A server that knows nothing yet."""
    with serving() as server:
        yield server


@pytest.fixture
def follow(api: ApiServer, tmp_path: Path) -> Iterator[Callable[[], Followed]]:
    """Follow the pods of the server."""
    made: list[Followed] = []

    def make() -> Followed:
        transport = ApiClient(api.kubeconfig(tmp_path))
        made.append(Followed(KubernetesSource(transport, "node-0", ("pods",))))
        return made[-1]

    yield make
    for one in made:
        one.source.stop()
