"""Fixtures: hosts, and a probe that watches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hosts
import pytest
from first_bytes import SETTINGS, Listener
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


@pytest.fixture(scope="module")
def first_bytes_probe(both_hosts: tuple[Path, hosts.Host, hosts.Host]) -> Iterator[Probe]:
    """One for a whole module: what a test leaves behind is gone when the next one begins."""
    with Probe(SETTINGS, find_subtree(both_hosts[0])) as probe:
        yield probe


@pytest.fixture
def listener(first_bytes_probe: Probe, both_hosts: tuple[Path, hosts.Host, hosts.Host]) -> Listener:
    _, client, server = both_hosts
    made = Listener(first_bytes_probe, client, server)
    first_bytes_probe.sample(1.0)
    made.begin()
    return made
