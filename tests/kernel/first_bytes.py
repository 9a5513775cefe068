"""What a probe hands over of first bytes, and how to have two hosts talk."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import numpy as np
import talk
from watching import QUICK

from flows.agent.probe.payload import LONG_PAYLOAD, SHORT_PAYLOAD, PayloadKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import hosts
    from numpy.typing import NDArray

    from flows.agent.probe.probe import Probe

DNS_PORT = 5_454  # configured, beside 53
SETTINGS = dataclasses.replace(QUICK, dns_ports=(53, DNS_PORT), short_slots=1, long_slots=1)  # as few as there can be
NOTHING = np.zeros(0, LONG_PAYLOAD)


@dataclasses.dataclass
class Listener:
    """A probe, and the first bytes that it handed over."""

    probe: Probe
    client: hosts.Host
    server: hosts.Host
    seen: NDArray[np.void] = dataclasses.field(default_factory=lambda: NOTHING)
    records: int = 0  # of connections

    def begin(self) -> None:
        """Forget what was seen so far."""
        self.look()
        self.seen = NOTHING

    def look(self) -> NDArray[np.void]:
        """All first bytes since begin() as LONG_PAYLOAD, each CPU's in order."""
        self.records += len(self.probe.peek())
        parts = [widened(part) for part in self.probe.peek_payloads()]
        self.probe.release()
        self.seen = np.concatenate((self.seen, *parts))
        return self.seen

    def of(self, host: hosts.Host) -> NDArray[np.void]:
        """Those of a host's sockets, in the order of their time."""
        payloads = self.look()
        own: NDArray[np.void] = payloads[payloads["cgroup_id"] == host.cgroup_id]
        ordered: NDArray[np.void] = own[np.argsort(own["time_ns"], kind="stable")]
        return ordered

    def until(self, enough: Callable[[], bool], seconds: float = 10) -> None:
        """Wait for a condition, bounded."""
        end = time.monotonic() + seconds
        while not enough():
            assert time.monotonic() < end, f"not within {seconds} s; seen: {texts(self.seen)}"
            time.sleep(0.02)

    def talk(self, *scripts: talk.Script, version: int = 4, mss: int = 0, port: int = 0) -> tuple[list[int], list[int]]:
        """A TCP connection for each script; ids of the client's and the server's sockets."""
        with self.server.start(talk.serve, version, scripts, port) as serving:
            asked = self.client.run(talk.ask, self.server.address(version), serving.heard(), scripts, mss)
            return asked, serving.heard()

    def ask(self, questions: Sequence[bytes], answers: Sequence[bytes], *, version: int = 4, port: int = 0) -> None:
        """Datagrams from one socket to another and back."""
        with self.server.start(talk.serve_datagrams, version, answers, port) as serving:
            said = self.client.run(talk.ask_datagrams, self.server.address(version), serving.heard(), questions)
            serving.heard()
        assert said == list(answers)


def widened(payloads: NDArray[np.void]) -> NDArray[np.void]:
    wide = np.zeros(len(payloads), LONG_PAYLOAD)
    for name in SHORT_PAYLOAD.names or ():
        if name != "text":
            wide[name] = payloads[name]
    wide["text"][:, : payloads["text"].shape[1]] = payloads["text"]
    return wide


def texts(payloads: NDArray[np.void]) -> list[tuple[PayloadKind, bytes]]:
    """Kind and what was captured of each."""
    rows = zip(payloads["kind"].tolist(), payloads["captured"].tolist(), payloads["text"], strict=True)
    return [(PayloadKind(kind), text[:captured].tobytes()) for kind, captured, text in rows]
