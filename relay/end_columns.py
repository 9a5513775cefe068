"""What the join asks of ends, as columns by the ends' numbers: each end is looked into once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flows.proto import extension_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from flows.flow.ends import EndTable
    from flows.proto.flow_pb2 import Service
    from flows.proto.flows_pb2 import End

# Whose names rest on a socket that somebody saw: nothing that a join finds is better.
_OBSERVED = (extension_pb2.CGROUP, extension_pb2.CONNECTION, extension_pb2.PEER)
# A pod that more Services than this select says nothing about which of them was called: it counts as selected by none.
MOST_SERVICES = 32


class EndColumns:
    """Columns over an EndTable, (len(table),) as of the last update().

    service: int32, number of the Service whose address the end is, if it is no pod; -1 otherwise. observed: bool, whether
    a socket tells who it is. Services that select an end's pod are read with selecting().
    """

    def __init__(self, table: EndTable) -> None:
        """update() before reading."""
        self._table = table
        self._services: dict[tuple[str, str], int] = {}
        self.service = np.zeros(0, np.int32)
        self.observed = np.zeros(0, np.bool_)
        self._first = np.zeros(1, np.int64)  # where an end's Services begin in _selecting; one more than there are ends
        self._selecting = np.zeros(0, np.int32)

    def update(self) -> None:
        """Look into the ends that are new. Raises google.protobuf.message.DecodeError."""
        known, now = len(self.service), len(self._table)
        if known == now:
            return
        ends = [self._table[number].end for number in range(known, now)]
        selecting = [self._numbers(end.detail.services) for end in ends]
        counts = np.cumsum([len(each) for each in selecting]) + self._first[-1]
        self.service = np.concatenate((self.service, np.array([self._address_of(end) for end in ends], np.int32)))
        self.observed = np.concatenate((self.observed, np.array([end.detail.evidence in _OBSERVED for end in ends], np.bool_)))
        self._first = np.concatenate((self._first, counts))
        self._selecting = np.concatenate((self._selecting, np.array([one for each in selecting for one in each], np.int32)))

    def selecting(self, numbers: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Pairs of an index into numbers and a Service that selects that end: (m,) each."""
        first, last = self._first[numbers], self._first[numbers.astype(np.int64) + 1]
        counts = last - first
        index = np.repeat(np.arange(len(numbers)), counts)
        begun = np.repeat(np.cumsum(counts) - counts, counts)
        return index, self._selecting[np.repeat(first, counts) + np.arange(len(index)) - begun]

    def selected_by(self, service: int) -> NDArray[np.int64]:
        """Numbers of the ends whose pods a Service selects."""
        return np.searchsorted(self._first, np.flatnonzero(self._selecting == service), side="right") - 1

    def _address_of(self, end: End) -> int:
        if not end.HasField("service") or end.endpoint.pod_name:
            return -1
        return self._number(end.service)

    def _numbers(self, services: Iterable[Service]) -> list[int]:
        numbers = sorted({self._number(service) for service in services})
        return numbers if len(numbers) <= MOST_SERVICES else []

    def _number(self, service: Service) -> int:
        return self._services.setdefault((service.namespace, service.name), len(self._services))
