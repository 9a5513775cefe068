"""Keep: programs, tables and ring of the agent in a bpffs directory, so that the next agent goes on where this one ended.

What happens while no agent runs waits in the ring. Links keep their programs attached; the directory is emptied by removing it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import struct
import time
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Self

from flows.agent.probe import bpf
from flows.agent.probe.mounts import holding, mounts
from flows.agent.probe.record import RECORD, Counter
from flows.agent.probe.ring import count_unread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DIGEST = re.compile(r"[0-9a-f]{32}")
_KEY = (0).to_bytes(4, "little")
_HANDOVER = struct.Struct(f"<QQQQ{len(Counter)}Q")
_HANDOVER_PIN = "handover"


class KeepError(Exception):
    """The directory cannot be used; the text says why, and the cure."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What an agent notes for the next one each time before it frees the ring. Times: CLOCK_MONOTONIC, ns."""

    instance: int
    written: int  # flows that it had stored in its life
    drained_ns: int  # nothing that happened later has it taken
    attached_ns: int  # since then the programs watch
    counters: tuple[int, ...]  # values by Counter that it had told as losses

    def pack(self) -> bytes:
        """The map's value."""
        return _HANDOVER.pack(self.instance, self.written, self.drained_ns, self.attached_ns, *self.counters)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """From the map's value."""
        instance, written, drained, attached, *counters = _HANDOVER.unpack(raw)
        return cls(instance, written, drained, attached, tuple(counters))


def digest(constants: Mapping[str, int]) -> str:
    """32 hexadecimal digits, equal only for programs that are the same: sources, settings, record and kernel."""
    sources = resources.files("flows.bpf")
    texts = sorted(entry.read_text() for entry in sources.iterdir() if entry.name.endswith((".c", ".h")))
    told = json.dumps([texts, sorted(constants.items()), RECORD.descr, os.uname().release, os.uname().version])
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


class Keep:
    """A locked directory of a bpffs. Raises KeepError when it is none, or another agent uses it."""

    def __init__(self, path: Path, name: str) -> None:
        """name: digest() of the programs wanted."""
        mount = holding(path.resolve(), mounts())
        if mount is None or mount.type != "bpf":
            raise KeepError(
                f"keeping eBPF programs in {path}: not on a bpffs; mount -t bpf bpf /sys/fs/bpf "
                "(in a pod: mount the host's /sys/fs/bpf), and name a directory below it"
            )
        self._path, self._own = path, path / name
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise KeepError(f"keeping eBPF programs in {path}: {error.strerror}; run as root") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise KeepError(f"keeping eBPF programs in {path}: another agent does; stop it, or name another directory") from error
        self._map = -1
        self.predecessor: Handover | None = None
        self.left_behind = 0  # records of programs of another version that nobody will read

    def take(self, names: list[str]) -> dict[str, int] | None:
        """Descriptors of what the agent before left, by name; None if it left nothing, or not all of it."""
        taken: dict[str, int] = {}
        try:
            for name in [_HANDOVER_PIN, *names]:
                taken[name] = bpf.pinned(self._own / name)
        except OSError:
            for descriptor in taken.values():
                os.close(descriptor)
            return None
        self._map = taken.pop(_HANDOVER_PIN)
        self.predecessor = Handover.unpack(bpf.lookup(self._map, _KEY, _HANDOVER.size))
        return taken

    def put(self, descriptors: Mapping[str, int], attached_ns: int) -> None:
        """Leave these for the next agent, and remove what agents of other versions left. Raises OSError."""
        self._remove(self._own)
        self._own.mkdir(mode=0o700)
        self._map = bpf.create_array("flows_handover", _HANDOVER.size)
        for name, descriptor in [*descriptors.items(), (_HANDOVER_PIN, self._map)]:
            bpf.pin(descriptor, self._own / name)
        self.note(Handover(0, 0, attached_ns, attached_ns, (0,) * len(Counter)))
        for other in self._path.iterdir():
            if other != self._own and _DIGEST.fullmatch(other.name):
                self._leave_behind(other)
                self._remove(other)

    def _leave_behind(self, folder: Path) -> None:
        """Count what waits in the ring of programs that are about to go: their records may be of another form."""
        with contextlib.suppress(OSError):  # an agent that was killed while it pinned
            ring = bpf.pinned(folder / "records")
            try:
                self.left_behind += count_unread(ring)
            finally:
                os.close(ring)

    def note(self, handover: Handover) -> None:
        """Tell the next agent how far this one came."""
        bpf.update(self._map, _KEY, handover.pack())

    def close(self) -> None:
        """Let go of the directory; what is in it stays."""
        for descriptor in (self._map, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._map = self._lock = -1

    @staticmethod
    def _remove(folder: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            for entry in folder.iterdir():
                entry.unlink()
            folder.rmdir()


def now_ns() -> int:
    """The clock of records."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
