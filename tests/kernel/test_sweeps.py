"""Sweeps of tables with more entries than one run of the program looks at."""

from __future__ import annotations

import re
import resource
import struct
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import hosts
import numpy as np
import pytest
import traffic
from watching import last_records

from flows.agent.probe import bpf
from flows.agent.probe.record import Counter, Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watching import Watch

MAPS_H = (Path(str(resources.files("flows.bpf"))) / "maps.h").read_text()
SWEPT = {name: int(count) for name, count in re.findall(r"#define SWEPT_(\w+) (\d+)", MAPS_H)}
MANY = SWEPT["CONNECTIONS"] + 131


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """Each program holds one end of all connections."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, max(before, 4 * MANY)), most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_every_open_connection_is_told_of_while_it_is_active(watch: Watch) -> None:
    with watch.server.start(traffic.serve_kept, 4, MANY) as serving:
        port = serving.heard()
        with watch.client.start(traffic.connect_kept, watch.server.address(4), port, MANY, 1.0) as asking:
            assert asking.heard() == "open"
            for host in (watch.client, watch.server):
                watch.until(partial(all_are_active, watch, host, port))
            asking.heard()
        serving.heard()
    for host in (watch.client, watch.server):
        watch.until_told(host, port, Event.CLOSED, MANY)
        assert len(last_records(watch.of(host, port))) == MANY


def all_are_active(watch: Watch, host: hosts.Host, port: int) -> bool:
    records = watch.of(host, port)
    return np.unique(records["conn_id"][records["event"] == Event.ACTIVE]).size == MANY


def test_every_connection_that_nobody_answers_is_told_of_once(watch: Watch) -> None:
    nowhere = "10.99.0.77"  # no host has it, and a static neighbour keeps the kernel from finding out
    hosts.ip("-n", watch.client.netns, "neigh", "replace", nowhere, "lladdr", "02:00:00:00:00:77", "dev", "w")
    with watch.client.start(traffic.connect_unanswered, nowhere, 80, MANY, 4.0) as asking:
        watch.until(lambda: (watch.of(watch.client, 80)["event"] == Event.UNANSWERED).sum() >= MANY)
        assert asking.heard() == MANY
    records = watch.of(watch.client, 80)
    unanswered = records[records["event"] == Event.UNANSWERED]
    assert len(unanswered) == np.unique(unanswered["conn_id"]).size == MANY
    assert watch.probe.counters()[Counter.SYNS_PENDING] == 0


@pytest.mark.parametrize("many", [SWEPT["EXCHANGES"] - 1, SWEPT["EXCHANGES"] + 1, bpf.BATCH + 3 * SWEPT["EXCHANGES"] + 5])
def test_every_exchange_ends_by_silence(watch: Watch, many: int) -> None:
    """Of raw datagrams, for no socket is needed for each."""
    source, destination = watch.client.address(4), watch.server.address(4)
    datagrams = [(17, struct.pack("!HHHH", 20_000 + number, 6_000, 8, 0)) for number in range(many)]
    watch.client.run(traffic.send_raw, source, destination, datagrams)

    def ended() -> int:
        records = watch.of(watch.client, 6_000)
        return int((records["event"] == Event.IDLE).sum())

    watch.until(lambda: ended() >= many)
    records = watch.of(watch.client, 6_000)
    assert ended() == many
    assert sorted(records["local_port"][records["event"] == Event.IDLE].tolist()) == [20_000 + number for number in range(many)]
    assert (records["event"] == Event.OPENED).sum() == many


def test_an_empty_table_is_swept(watch: Watch) -> None:
    watch.probe.sweep()
    watch.probe.sweep_connections()
    assert len(watch.probe.peek()) == 0
