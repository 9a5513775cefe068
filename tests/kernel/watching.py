"""What a probe sees of two hosts, and how to wait for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flows.agent.probe.record import RECORD, Event
from flows.agent.probe.settings import SECOND, ProbeSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    import hosts
    from numpy.typing import NDArray

    from flows.agent.probe.probe import Probe

# Short intervals, so that no test waits long; what they are by default changes nothing in what happens.
QUICK = ProbeSettings(
    ring_bytes=1 << 20,
    active_interval_ns=SECOND // 5,
    unanswered_after_ns=SECOND // 2,
    idle_after_ns=SECOND,
)


@dataclass
class Watch:
    """A probe, and all that it has seen."""

    probe: Probe
    client: hosts.Host
    server: hosts.Host
    seen: list[NDArray[np.void]] = field(default_factory=list)

    def records(self) -> NDArray[np.void]:
        """All records of the two hosts so far, in the order of the ring."""
        self.probe.sweep()
        self.seen.append(read(self.probe))
        return np.concatenate(self.seen)

    def of(self, host: hosts.Host, port: int) -> NDArray[np.void]:
        """Records of a host's sockets that have this port on either side."""
        self.records()
        return self.of_seen(host, port)

    def of_seen(self, host: hosts.Host, port: int) -> NDArray[np.void]:
        """The same of what was read so far."""
        records = np.concatenate(self.seen)
        ports = (records["local_port"] == port) | (records["remote_port"] == port)
        found: NDArray[np.void] = records[ports & (records["cgroup_id"] == host.cgroup_id)]
        return found

    def until(self, enough: Callable[[], bool], seconds: float = 10) -> None:
        """Wait for a condition, bounded."""
        end = time.monotonic() + seconds
        while not enough():
            assert time.monotonic() < end, f"not within {seconds} s; seen: {np.concatenate(self.seen)}"
            time.sleep(0.02)

    def until_told(self, host: hosts.Host, port: int, event: Event, count: int) -> None:
        """Wait for so many records of an event of a host's sockets on a port."""
        self.until(lambda: bool((self.of(host, port)["event"] == event).sum() == count))


def read(probe: Probe) -> NDArray[np.void]:
    """All records that wait."""
    records: NDArray[np.void] = probe.peek().copy()
    probe.release()
    return records


def last_records(records: NDArray[np.void]) -> NDArray[np.void]:
    """The last record of each connection."""
    last = {int(record["conn_id"]): record for record in records}
    return np.array(list(last.values()), RECORD)


def events(records: NDArray[np.void]) -> list[Event]:
    return [Event(number) for number in records["event"]]
