"""Plaintext of OpenSSL and GnuTLS: what processes below a cgroup write before it is encrypted and read after it is decrypted.

The kernel hands over first bytes of requests and answers (bpf/openssl.c); libraries are found and attached to from here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
from typing import TYPE_CHECKING, Self

import numpy as np

from flows.agent.probe import bpf
from flows.agent.probe.counters import counted
from flows.agent.probe.lanes import left_out
from flows.agent.probe.openssl_attach import Uprobes, can_link_many
from flows.agent.probe.openssl_decisions import Decisions
from flows.agent.probe.openssl_discovery import Discovery
from flows.agent.probe.openssl_files import Files
from flows.agent.probe.openssl_processes import processes
from flows.agent.probe.openssl_source import PlaintextCounter, constants
from flows.agent.probe.payload import LONG_PAYLOAD, SHORT_PAYLOAD
from flows.agent.probe.probe import ProbeError, load
from flows.agent.probe.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from numpy.typing import NDArray

    from flows.agent.probe.cgroup import Subtree
    from flows.agent.probe.openssl_discovery import UnseenProcess
    from flows.agent.probe.openssl_source import OpenSslSettings

RULES = struct.Struct("<QQ")  # struct plaintext_rules
MAX_UNSEEN = 1_024  # processes of which it is told why their TLS is not seen


class OpenSslError(ProbeError):
    """Plaintext of TLS libraries cannot be had; the text says why, and the cure. Everything else works without."""


class OpenSslProbe:
    """Probes on every OpenSSL and GnuTLS that processes of one subtree have. All is gone when this process is, however it ends.

    rescan(), exclude(), pause() and resume() are for one thread; peek(), release() and sample() for one, which may be another.
    """

    def __init__(self, settings: OpenSslSettings, subtree: Subtree, excluded: Callable[[int], bool | None] | None = None) -> None:
        """Load the programs, find libraries, attach. Raises OpenSslError.

        excluded tells of a cgroup id whether its plaintext is off limits; None: not known yet, then nothing of it is looked at
        until it is. It is asked once for each cgroup with processes, and again at each rescan while it does not know.
        """
        self._subtree = subtree
        try:
            many = settings.link_many and can_link_many()
            self._own = load(constants(settings, subtree, hold=excluded is not None, many=many))
        except ProbeError as error:
            raise OpenSslError(f"reading plaintext of OpenSSL: {error}") from error
        self._files = Files(self._uprobes(many), settings.files)
        self._discovery = Discovery(self._files)
        self._decisions = Decisions(self._own["decisions"], excluded)
        self._short = Ring(self._own["plaintext"], settings.ring_bytes, SHORT_PAYLOAD)
        self._long = Ring(self._own["long_plaintext"], settings.long_ring_bytes, LONG_PAYLOAD)
        self._ruling, self._left_out = threading.Lock(), 0
        self.slice = 0  # which time without a pause this is: as in payloads, but for what is carried over from 64 to 0
        self.rescan()

    def _uprobes(self, many: bool) -> Uprobes:
        try:
            return Uprobes(self._own, many=many)
        except OSError as error:
            self._close_own()
            raise OpenSslError(f"reading plaintext of OpenSSL: {_why_no_uprobes(error)}") from error

    def peek(self) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """All payloads that wait, shapes (n,) and (m,), dtypes SHORT_PAYLOAD and LONG_PAYLOAD, as they lie in the rings.

        Valid until release(). HTTP/2 is in the second only, in its order.
        """
        return self._short.peek(), self._long.peek()

    @property
    def filled(self) -> float:
        """How much of the fuller ring waits, 0 to 1."""
        return max(self._short.filled, self._long.filled)

    def release(self) -> None:
        """Give the rings the room of what was peeked at."""
        self._short.release()
        self._long.release()

    def sample(self, share: float) -> None:
        """Let only this share (0 to 1) of HTTP/1's requests leave, each with its answer; what is left out is counted."""
        self._rule(left_out=left_out(share))

    def pause(self) -> None:
        """Stop at no call that reads or writes any more. When this returns, all that there will be of before is in the rings."""
        self._files.pause()
        self._rule(slice_=self.slice + 1)

    def resume(self) -> None:
        """Go on. Raises OpenSslError, and may be called again."""
        try:
            self._files.resume()
        except OSError as error:
            raise OpenSslError(f"attaching to OpenSSL again: {error.strerror}") from error

    def _rule(self, left_out: int | None = None, slice_: int | None = None) -> None:
        with self._ruling:  # from two threads
            self._left_out = self._left_out if left_out is None else left_out
            self.slice = self.slice if slice_ is None else slice_
            bpf.update(self._own["plaintext_rules"], bytes(4), RULES.pack(self._left_out, self.slice))

    def counters(self) -> dict[PlaintextCounter, int]:
        """Kernel-side counters since the start, summed over CPUs."""
        return {counter: self.count(counter) for counter in PlaintextCounter}

    def count(self, counter: PlaintextCounter) -> int:
        """One of them."""
        return counted(self._own["plaintext_counters"], counter)

    @property
    def calls(self) -> int:
        """Descriptor of the table of calls: for Probe.show_calls()."""
        return self._own["calls"]

    def files(self) -> int:
        """How many libraries and executables are attached to."""
        return len(self._files)

    def unseen(self) -> list[UnseenProcess]:
        """Processes whose TLS is not seen, as of the last rescan; MAX_UNSEEN of them."""
        return self._discovery.unseen()[:MAX_UNSEEN]

    def exclude(self, cgroup_ids: Iterable[int]) -> None:
        """These cgroups are off limits at once, whatever `excluded` says, until the next call, which names all anew.

        Raises OpenSslError.
        """
        try:
            self._decisions.exclude(cgroup_ids)
        except OSError as error:
            raise OpenSslError(f"excluding cgroups from reading plaintext: {error.strerror}; raise decision_entries") from error

    def rescan(self) -> None:
        """Look for new processes and libraries, and detach from what nobody has any more. 20 us of CPU for each process."""
        found = dict(processes(str(self._subtree.path)))
        self._decisions.follow(set(found.values()))  # before anything is attached to
        gone = self._discovery.follow(set(found))
        if gone:
            self._forget_sessions(gone)

    def _forget_sessions(self, pids: set[int]) -> None:
        """Processes that ended without SSL_free() leave theirs behind."""
        table = self._own["sessions"]
        key_bytes, value_bytes, _ = bpf.map_sizes(table)
        gone = np.array(sorted(pids), "<u8")
        for batch in bpf.batches(table, key_bytes, value_bytes):
            keys = np.frombuffer(batch, "<u8").reshape(-1, key_bytes // 8)
            for key in keys[np.isin(keys[:, 0], gone)]:
                with contextlib.suppress(FileNotFoundError):
                    bpf.delete(table, key.tobytes())

    def close(self) -> None:
        """Detach from everything and unload."""
        self._files.close()
        self._short.close()
        self._long.close()
        self._close_own()

    def _close_own(self) -> None:
        for descriptor in self._own.values():
            os.close(descriptor)
        self._own = {}

    def __enter__(self) -> Self:
        """Use as a context: closed at its end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Detach and unload."""
        self.close()


def _why_no_uprobes(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "the kernel has no perf uprobes: it was built without CONFIG_UPROBE_EVENTS=y; or sysfs is not mounted on /sys"
    return f"opening a perf uprobe: {error.strerror}; grant CAP_PERFMON, and allow perf_event_open(2) in the seccomp profile"
