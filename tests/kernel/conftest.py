"""Fixtures: hosts, and a probe that watches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hosts
import pytest
from watching import QUICK, Watch

from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.probe import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def both_hosts() -> Iterator[tuple[Path, hosts.Host, hosts.Host]]:
    with hosts.two_hosts() as made:
        yield made


@pytest.fixture
def watch(both_hosts: tuple[Path, hosts.Host, hosts.Host]) -> Iterator[Watch]:
    root, client, server = both_hosts
    with Probe(QUICK, find_subtree(root)) as probe:
        yield Watch(probe, client, server)
