"""The demo cluster for tests: brought up once, removed at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from demo_command import Demo

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """The cluster, with an agent on each node."""
    cluster = Demo()
    cluster.up()
    yield cluster
    cluster.ok("down")


@pytest.fixture
def without_node_2(demo: Demo) -> Iterator[Demo]:
    """The agent of node-2 stopped for a test, and started again for those that follow."""
    demo.ok("stop", "agent/node-2")
    yield demo
    demo.ok("start", "agent/node-2")
