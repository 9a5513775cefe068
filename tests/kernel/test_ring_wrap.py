"""The ring over many rounds: nothing is lost, doubled or torn where it wraps."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import traffic
from watching import QUICK, Watch, last_records

from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.probe import Probe
from flows.agent.probe.record import Counter, Event

if TYPE_CHECKING:
    from pathlib import Path

    from hosts import Host

N = 2_003  # four records each: four rounds of a ring of 1,820 slots


def test_a_small_ring_that_is_read_in_time_gives_every_record_once(both_hosts: tuple[Path, Host, Host]) -> None:
    root, client, server = both_hosts
    with Probe(dataclasses.replace(QUICK, ring_bytes=1 << 18), find_subtree(root)) as probe:
        watch = Watch(probe, client, server)
        with (
            server.start(traffic.serve_ok, 4, N, 10) as serving,
            client.start(traffic.connect_ok, server.address(4), port := serving.heard(), N, 10) as asking,
        ):
            watch.until(lambda: (watch.of(client, port)["event"] == Event.CLOSED).sum() == N)
            asking.heard()
            serving.heard()
        watch.until(lambda: (watch.of(server, port)["event"] == Event.CLOSED).sum() == N)
        assert probe.counters()[Counter.LOST_RING_FULL] == 0
    for host in (client, server):
        records = watch.of_seen(host, port)
        assert len(last_records(records)) == N
        # a busy machine may add records of connections that took their time
        assert [(records["event"] == event).sum() for event in (Event.ESTABLISHED, Event.CLOSED)] == [N, N]
