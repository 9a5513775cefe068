"""Fixtures: hosts, and a probe that watches them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import hosts
import plaintext_reading
import pytest
import tls
from first_bytes import SETTINGS, Listener
from watching import QUICK, Watch

from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.openssl import OpenSslProbe
from flows.agent.probe.openssl_source import PlaintextCounter
from flows.agent.probe.probe import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plaintext_reading import Hosts, Losses


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


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tls.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def idle(both_hosts: Hosts) -> Iterator[Hosts]:
    """Somebody who has the library, as any container's first process: so that it is found before the test's processes start."""
    _, client, server = both_hosts
    with client.start(plaintext_reading.wait) as one, server.start(plaintext_reading.wait) as other:
        for running in (one, other):
            running.heard()
        yield both_hosts
        for running in (one, other):
            running.process.kill()


@pytest.fixture(scope="module")
def packets(both_hosts: Hosts) -> Iterator[Probe]:
    """Beside every agent's probe on OpenSSL is one on packets."""
    with Probe(QUICK, find_subtree(both_hosts[0])) as probe:
        yield probe


@pytest.fixture(scope="module")
def lasting(both_hosts: Hosts) -> Iterator[OpenSslProbe]:
    with OpenSslProbe(plaintext_reading.SETTINGS, find_subtree(both_hosts[0])) as probe:
        yield probe


@pytest.fixture
def probe(packets: Probe, lasting: OpenSslProbe, idle: Hosts) -> Iterator[OpenSslProbe]:
    """One for all tests that want nothing special of it: making one takes seconds."""
    packets.show_calls(lasting.calls)
    lasting.rescan()
    plaintext_reading.read(lasting)
    yield lasting
    lasting.exclude(())


@pytest.fixture
def losses(probe: OpenSslProbe) -> Losses:
    """What was counted since the test began."""
    before = probe.counters() | {PlaintextCounter.CALLS: sys.maxsize}  # of these there are always some
    return lambda: {counter: count - before[counter] for counter, count in probe.counters().items() if count > before[counter]}
