"""The probe: one object that holds the attached programs, sweeps, and hands over records and counters."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Self

from flows.agent.probe import bpf
from flows.agent.probe.compile import MAPS, PROGRAMS
from flows.agent.probe.counters import counted
from flows.agent.probe.keep import Handover, Keep, KeepError, digest, now_ns
from flows.agent.probe.lanes import Lanes, cpus, slots_of_cpu
from flows.agent.probe.payload import LONG_PAYLOAD, SHORT_PAYLOAD, whole
from flows.agent.probe.preflight import explain
from flows.agent.probe.record import RECORD, Counter
from flows.agent.probe.ring import Ring
from flows.agent.probe.settings import MAX_DNS_PORTS
from flows.agent.probe.sweep import sweeps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from flows.agent.probe.cgroup import Subtree
    from flows.agent.probe.settings import ProbeSettings

COMPILE_SECONDS = 60  # 1 s on an idle machine; a node under pressure may take much longer
MAX_DESCRIPTORS = 32
TRACEPOINTS = ("inet_sock_set_state", "inet_sk_error_report", "kfree_skb")
LINKS = ("ingress_link", "egress_link", *(f"{name}_link" for name in TRACEPOINTS))


class ProbeError(Exception):
    """The probe cannot start; the text says what was being done, and the cure."""


def constants(settings: ProbeSettings, subtree: Subtree) -> dict[str, int]:
    """What bpf/config.h wants."""
    return {
        "RING_PAGES": settings.ring_bytes // 4096,
        "REQUESTS": int(settings.requests),
        "CPUS": cpus(),
        "SHORT_SLOTS": slots_of_cpu(settings.short_slots if settings.requests else 0),
        "LONG_SLOTS": slots_of_cpu(settings.long_slots if settings.requests else 0),
        **{f"DNS_PORT_{at}": port for at, port in enumerate((*settings.dns_ports, 0, 0, 0, 0)[:MAX_DNS_PORTS])},
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


def _open_keep(keep: Path, wanted: dict[str, int]) -> Keep:
    try:
        return Keep(keep, digest(wanted))
    except KeepError as error:
        raise ProbeError(str(error)) from error


def _attach(own: dict[str, int], subtree: Subtree, opened: dict[str, int]) -> None:
    """Put links beside the programs and maps that are open, each as soon as it is there."""

    def keep(name: str, descriptor: int) -> None:
        opened[f"{name}_link"] = descriptor

    cgroup = os.open(subtree.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        keep("ingress", bpf.link_cgroup(own["ingress"], cgroup, bpf.AttachType.CGROUP_INET_INGRESS))
        keep("egress", bpf.link_cgroup(own["egress"], cgroup, bpf.AttachType.CGROUP_INET_EGRESS))
    finally:
        os.close(cgroup)
    for name in TRACEPOINTS:
        keep(name, bpf.open_tracepoint(own[name]))
    _adopt(own)  # after the tracepoint, so that no connection falls between


def _adopt(own: dict[str, int]) -> None:
    """Look at the sockets of all processes; what is known of them already is left alone."""
    adopt = bpf.link_iterator(own["adopt_sockets"])
    try:
        bpf.run_iterator(adopt)
    finally:
        os.close(adopt)


class Probe:
    """Attached programs of one subtree.

    Without `keep` all is gone when the process is, however it ends: links live by their descriptors. With it, all stays in that
    bpffs directory, and predecessor tells what the agent before noted last; None if there was none.
    """

    def __init__(self, settings: ProbeSettings, subtree: Subtree, keep: Path | None = None) -> None:
        """Take over what was kept, else load, adopt the sockets that exist, attach. Raises ProbeError."""
        wanted = constants(settings, subtree)
        self._keep = _open_keep(keep, wanted) if keep is not None else None
        self.predecessor: Handover | None = None
        self.attached_ns = 0  # CLOCK_MONOTONIC: since then the programs watch
        self._own = (self._keep.take([*MAPS, *PROGRAMS, *LINKS]) if self._keep else None) or self._begin(wanted, subtree)
        if self._keep is not None and self._keep.predecessor is not None:
            self.predecessor = self._keep.predecessor
            self.attached_ns = self.predecessor.attached_ns
        self.left_behind = self._keep.left_behind if self._keep is not None else 0
        self._ring = Ring(self._own["records"], settings.ring_bytes, RECORD)
        self._short = Lanes(self._own["short_lanes"], self._own["short_slots"], SHORT_PAYLOAD)
        self._long = Lanes(self._own["long_lanes"], self._own["long_slots"], LONG_PAYLOAD)
        self._sweep_connections, self._sweep_exchanges = sweeps(self._own)
        self._passed = 0  # changes of state that no program was told of, when sockets were last looked for
        self.sample(1.0)
        self.hide_calls()  # of the agent before this one

    def _begin(self, wanted: dict[str, int], subtree: Subtree) -> dict[str, int]:
        """Descriptors of maps, programs and links, just loaded and attached."""
        try:
            own = load(wanted)
        except BaseException:
            self._close_keep()
            raise
        opened = dict(own)
        try:
            _attach(own, subtree, opened)
            self.attached_ns = now_ns()
            if self._keep is not None:
                self._keep.put(opened, self.attached_ns)
        except OSError as error:
            for descriptor in opened.values():
                os.close(descriptor)
            self._close_keep()
            raise ProbeError(f"attaching eBPF to {subtree.path}: {error.strerror}{explain(error.errno)}") from error
        return opened

    def note(self, instance: int, written: int, told: Mapping[Counter, int]) -> None:
        """Before release(): this agent has stored so many flows, those of the last peek() included, and told these losses."""
        if self._keep is not None:
            counters = tuple(told[counter] for counter in Counter)
            self._keep.note(Handover(instance, written, self._peeked_ns, self.attached_ns, counters))

    def sweep(self) -> None:
        """Have the kernel look at quiet connections and exchanges; what it finds arrives in the ring."""
        self._sweep_connections.run()
        self._sweep_exchanges.run()
        self._find_unseen()

    def _find_unseen(self) -> None:
        """Where a change of state passed unseen, a whole connection may have: only who holds its socket tells of it."""
        passed = counted(self._own["counters"], Counter.FOUND_LATE) + bpf.missed_runs(self._own["inet_sock_set_state"])
        if passed != self._passed:
            self._passed = passed
            _adopt(self._own)

    def sweep_connections(self) -> None:
        """Look at TCP connections only."""
        self._sweep_connections.run()

    def wait(self, seconds: float) -> None:
        """Sleep until records wait, at most so long."""
        self._ring.wait(seconds)

    @property
    def filled(self) -> float:
        """How much of the fullest ring or lane waits, 0 to 1."""
        return max(each.filled for each in (self._ring, self._short, self._long))

    @property
    def handed_over(self) -> int:
        """First bytes that have left the kernel since the lanes were made, read or not: kept ones are older than the agent."""
        return self._short.written + self._long.written

    def wake(self) -> None:
        """End a wait() early; from any thread."""
        self._ring.wake()

    def peek(self) -> NDArray[np.void]:
        """All records that wait, shape (n,), dtype RECORD, as they lie in the ring: valid until release()."""
        records = self._ring.peek()
        self._peeked_ns = now_ns()  # afterwards: nothing that was taken is later
        return records

    def peek_payloads(self) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """All first bytes that wait, LONG_PAYLOAD (n,) and SHORT_PAYLOAD (m,): copies, zero behind what was captured.

        Long ones are looked for last and read first: of an answer among the short ones the request is there.
        """
        short = whole(self._short.peek())
        return whole(self._long.peek()), short

    def sample(self, share: float) -> None:
        """Let only this share (0 to 1) of requests leave the kernel, each with its answer; what is left out is counted."""
        self._short.sample(share)

    def show_calls(self, calls: int) -> None:
        """Tell calls of OpenSSL, a table's descriptor, which socket their thread sends on. From any thread. Raises OSError."""
        bpf.update(self._own["openssl_calls"], bytes(4), calls.to_bytes(4, "little"))

    def hide_calls(self) -> None:
        """There are no calls of OpenSSL to tell of."""
        with contextlib.suppress(FileNotFoundError):
            bpf.delete(self._own["openssl_calls"], bytes(4))

    @property
    def complete(self) -> bool:
        """Whether the last peek() gave all that was in the ring, and not only what lies before a record being written."""
        return self._ring.complete

    def release(self) -> None:
        """Give the rings the room of what was peeked at."""
        self._ring.release()
        self._short.release()
        self._long.release()

    def counters(self) -> dict[Counter, int]:
        """Kernel-side counters since the start, summed over CPUs."""
        return {
            **{counter: counted(self._own["counters"], counter) for counter in Counter},
            Counter.NOT_RUN: sum(bpf.missed_runs(self._own[name]) for name in TRACEPOINTS),
        }

    def close(self) -> None:
        """Let go: programs are detached and unloaded, unless they are kept."""
        self.hide_calls()
        for ring in (self._ring, self._short, self._long):
            ring.close()
        for descriptor in self._own.values():
            os.close(descriptor)
        self._own = {}
        self._close_keep()

    def _close_keep(self) -> None:
        if self._keep is not None:
            self._keep.close()

    def __enter__(self) -> Self:
        """Use as a context: closed at its end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Detach and unload."""
        self.close()
