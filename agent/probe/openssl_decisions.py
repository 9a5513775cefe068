"""Whose plaintext may be read: decisions on cgroups, kept where the kernel looks before it reads anything."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from flows.agent.probe import bpf
from flows.agent.probe.openssl_source import Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Decisions:
    """One for each cgroup in which there are processes."""

    def __init__(self, table: int, excluded: Callable[[int], bool | None] | None) -> None:
        """table: descriptor of the map. excluded: see OpenSslProbe; None: all that exclude() does not name may be read."""
        self._table = table
        self._excluded = excluded
        self._made: dict[int, Decision] = {}
        self._off_limits: frozenset[int] = frozenset()

    def exclude(self, cgroup_ids: Iterable[int]) -> None:
        """These are off limits until the next call, which names all anew. Raises OSError if the table is full."""
        former, self._off_limits = self._off_limits, frozenset(cgroup_ids)
        for cgroup_id in self._off_limits:
            self._put(cgroup_id, Decision.EXCLUDED)
        self._drop(former - self._off_limits)

    def follow(self, cgroup_ids: set[int]) -> None:
        """There are processes in these: ask about new ones, forget the others. What finds no room stays undecided."""
        self._drop(self._made.keys() - cgroup_ids - self._off_limits)
        if self._excluded is None:
            return
        for cgroup_id in cgroup_ids - self._made.keys():
            answer = self._excluded(cgroup_id)
            try:
                if answer is not None:
                    self._put(cgroup_id, Decision.EXCLUDED if answer else Decision.OBSERVED)
            except OSError as error:
                if error.errno != errno.E2BIG:
                    raise

    def _put(self, cgroup_id: int, decision: Decision) -> None:
        bpf.update(self._table, cgroup_id.to_bytes(8, "little"), int(decision).to_bytes(4, "little"))
        self._made[cgroup_id] = decision

    def _drop(self, cgroup_ids: set[int] | frozenset[int]) -> None:
        for cgroup_id in cgroup_ids & self._made.keys():
            del self._made[cgroup_id]
            bpf.delete(self._table, cgroup_id.to_bytes(8, "little"))
