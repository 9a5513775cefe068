"""Mask: the field mask of a request, for flows in parts: agents are asked for more, as joins need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flows.proto.flow_pb2 import Flow
from flows.proto.flows_pb2 import End

if TYPE_CHECKING:
    from google.protobuf.field_mask_pb2 import FieldMask
    from numpy.typing import NDArray

    from flows.flow.ends import EndTable


class Mask:
    """What a field mask leaves of flows in parts. extensions: whether it leaves them: one field, whole or not at all."""

    def __init__(self, mask: FieldMask) -> None:
        """mask: of flow.Flow, valid."""
        self._mask = mask
        self.extensions = any(path.partition(".")[0] == "extensions" for path in mask.paths)

    def flow(self, raw: bytes) -> bytes:
        """A flow without its ends, serialized. Raises google.protobuf.message.DecodeError."""
        return self._merged(Flow.FromString(raw)).SerializeToString()

    def end(self, end: End, role: str) -> End:
        """An end in the role of `source` or `destination`."""
        flow = Flow()
        for name, value in ((role, "endpoint"), (f"{role}_service", "service")):
            if end.HasField(value):
                getattr(flow, name).CopyFrom(getattr(end, value))
        flow, masked = self._merged(flow), End()
        for name, value in ((role, "endpoint"), (f"{role}_service", "service")):
            if flow.HasField(name):
                getattr(masked, value).CopyFrom(getattr(flow, name))
        if self.extensions and end.HasField("detail"):
            masked.detail.CopyFrom(end.detail)
        return masked

    def _merged(self, flow: Flow) -> Flow:
        masked = Flow()
        self._mask.MergeMessage(flow, masked)
        return masked


class MaskedEnds:
    """Ends of one table as a mask leaves them, by number; each is masked once."""

    def __init__(self, mask: Mask, ends: EndTable) -> None:
        self._mask, self._ends = mask, ends
        self._numbers: dict[tuple[int, str], int] = {}

    def numbers(self, numbers: NDArray[np.uint32], role: str) -> NDArray[np.uint32]:
        """The numbers of the masked ends of ends (n,) in a role."""
        distinct, inverse = np.unique(numbers, return_inverse=True)
        return np.array([self._number(number, role) for number in distinct.tolist()], np.uint32)[inverse]

    def _number(self, number: int, role: str) -> int:
        if (number, role) not in self._numbers:
            end = self._mask.end(self._ends[number].end, role)
            self._numbers[number, role] = self._ends.number(end.SerializeToString(deterministic=True))
        return self._numbers[number, role]
