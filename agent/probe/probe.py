"""The probe: one object that holds the attached programs, sweeps, and hands over records and counters."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Self

import numpy as np

from flows.agent.probe import bpf
from flows.agent.probe.preflight import explain
from flows.agent.probe.record import RECORD, Counter
from flows.agent.probe.ring import Ring

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from flows.agent.probe.cgroup import Subtree
    from flows.agent.probe.settings import ProbeSettings

COMPILE_SECONDS = 60  # 1 s on an idle machine; a node under pressure may take much longer
MAX_DESCRIPTORS = 32


class ProbeError(Exception):
    """The probe cannot start; the text says what was being done, and the cure."""


def constants(settings: ProbeSettings, subtree: Subtree) -> dict[str, int]:
    """What bpf/config.h wants."""
    return {
        "RING_PAGES": settings.ring_bytes // 4096,
        "CONNECTION_ENTRIES": settings.connection_entries,
        "LISTENER_ENTRIES": settings.listener_entries,
        "EXCHANGE_ENTRIES": settings.exchange_entries,
        "SUBTREE_LEVEL": subtree.level,
        "SUBTREE_ID": subtree.id,
        "ACTIVE_INTERVAL_NS": settings.active_interval_ns,
        "UNANSWERED_AFTER_NS": settings.unanswered_after_ns,
        "IDLE_AFTER_NS": settings.idle_after_ns,
    }


def load(wanted: dict[str, int]) -> dict[str, int]:
    """Have a child compile and load the programs. Returns descriptors by name. Raises ProbeError."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.agent.probe.compile", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        ours.settimeout(COMPILE_SECONDS)
        try:
            ours.sendall(json.dumps(wanted).encode())
            reply, descriptors, _, _ = socket.recv_fds(ours, 65536, MAX_DESCRIPTORS)
        except TimeoutError:
            raise ProbeError(f"compiling eBPF: no result after {COMPILE_SECONDS} s; is the node out of CPU?") from None
        finally:
            if child.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(5)
            child.kill()
            _, words = child.communicate()
    return _descriptors(reply, descriptors, words.decode(errors="replace"))


def _descriptors(reply: bytes, descriptors: list[int], words: str) -> dict[str, int]:
    if not reply:
        tail = "\n".join(words.strip().splitlines()[-8:])
        raise ProbeError(f"compiling eBPF: the compiler ended early (killed for memory? it needs 200 MB)\n{tail}")
    answer = json.loads(reply)
    if "error" in answer:
        detail = "" if answer["errno"] else "\n".join(["", *words.strip().splitlines()[-8:]])
        raise ProbeError(f"{answer['error']}{detail}{explain(answer['errno'])}")
    return dict(zip([*answer["maps"], *answer["programs"]], descriptors, strict=True))


class Probe:
    """Attached programs of one subtree. All is gone when the process is, however it ends: links live by their descriptors."""

    def __init__(self, settings: ProbeSettings, subtree: Subtree) -> None:
        """Load, adopt the sockets that exist, attach. Raises ProbeError."""
        self._descriptors = load(constants(settings, subtree))
        self._links: list[int] = []
        try:
            self._attach(subtree)
        except OSError as error:
            self._close_descriptors()
            raise ProbeError(f"attaching eBPF to {subtree.path}: {error.strerror}{explain(error.errno)}") from error
        self._ring = Ring(self._descriptors["records"], settings.ring_bytes, RECORD)

    def _attach(self, subtree: Subtree) -> None:
        own = self._descriptors
        cgroup = os.open(subtree.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name, attach in (
                ("ingress", bpf.AttachType.CGROUP_INET_INGRESS),
                ("egress", bpf.AttachType.CGROUP_INET_EGRESS),
            ):
                self._links.append(bpf.link_cgroup(own[name], cgroup, attach))
        finally:
            os.close(cgroup)
        for name in ("inet_sock_set_state", "inet_sk_error_report"):
            self._links.append(bpf.open_tracepoint(own[name]))
        self._sweeps = [
            bpf.link_iterator(own["sweep_connections"], own["connections"]),
            bpf.link_iterator(own["sweep_exchanges"], own["exchanges"]),
        ]
        self._links += self._sweeps
        adopt = bpf.link_iterator(own["adopt_sockets"], None)
        try:  # after the tracepoint, so that no connection falls between; what the tracepoint knows is left alone
            bpf.run_iterator(adopt)
        finally:
            os.close(adopt)

    def sweep(self) -> None:
        """Have the kernel look at quiet connections and exchanges; what it finds arrives in the ring."""
        for link in self._sweeps:
            bpf.run_iterator(link)

    def sweep_connections(self) -> None:
        """Look at TCP connections only."""
        bpf.run_iterator(self._sweeps[0])

    def wait(self, seconds: float) -> None:
        """Sleep until records wait, at most so long."""
        self._ring.wait(seconds)

    def wake(self) -> None:
        """End a wait() early; from any thread."""
        self._ring.wake()

    def peek(self) -> NDArray[np.void]:
        """All records that wait, shape (n,), dtype RECORD, as they lie in the ring: valid until release()."""
        return self._ring.peek()

    def release(self) -> None:
        """Give the ring the room of what was peeked at."""
        self._ring.release()

    def counters(self) -> dict[Counter, int]:
        """Kernel-side counters since the start, summed over CPUs."""
        cpus = os.sysconf("SC_NPROCESSORS_CONF")
        values = {}
        for counter in Counter:
            raw = bpf.lookup(self._descriptors["counters"], int(counter).to_bytes(4, "little"), 8 * cpus)
            values[counter] = int(np.frombuffer(raw, "<u8").sum())
        return values

    def close(self) -> None:
        """Detach and unload."""
        self._ring.close()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for descriptor in [*self._links, *self._descriptors.values()]:
            os.close(descriptor)
        self._links, self._descriptors = [], {}

    def __enter__(self) -> Self:
        """Use as a context: closed at its end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Detach and unload."""
        self.close()
