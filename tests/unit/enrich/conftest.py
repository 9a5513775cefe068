"""Fixtures of the identity tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from enrich_samples import Clock, Tree

from flows.agent.enrich.enricher import Enricher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

sys.path.append(str(Path(__file__).parents[1] / "kube"))  # api_server


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
