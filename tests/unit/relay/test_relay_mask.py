"""A field mask leaves of a flow in parts what it leaves of a whole one."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from join_samples import CLIENT, Row, S, batch, end

from flows.flow.batch import compose
from flows.flow.ends import EndTable
from flows.proto.flow_pb2 import Flow
from flows.relay.mask import Mask, MaskedEnds

BOTH = end(pod="server", service="web", services=("web",))
PATHS = [["uuid"], ["source.pod_name"], ["destination", "IP.source"], ["destination_service", "source"], ["extensions"]]


@pytest.mark.parametrize("paths", PATHS)
def test_parts_are_masked_as_the_whole_is(paths: list[str]) -> None:
    ends, mask = EndTable(), Mask(FieldMask(paths=paths))
    parts = batch([Row(0, True, 2 * S, source=CLIENT, destination=BOTH, uuid="u")], ends)
    expected = Flow()
    FieldMask(paths=paths).MergeMessage(Flow.FromString(compose(parts, ends)[0]), expected)
    masked = MaskedEnds(mask, ends)
    parts.source, parts.destination = masked.numbers(parts.source, "source"), masked.numbers(parts.destination, "destination")
    parts.flows[0] = mask.flow(parts.flows[0])
    if not mask.extensions:
        parts.connections[0] = b""
    assert Flow.FromString(compose(parts, ends)[0]) == expected


def test_an_end_is_masked_by_its_role_and_once() -> None:
    ends = EndTable()
    numbers = np.array([ends.number(BOTH.SerializeToString())] * 3, np.uint32)
    masked = MaskedEnds(Mask(FieldMask(paths=["source.namespace", "destination_service"])), ends)
    sources, destinations = masked.numbers(numbers, "source"), masked.numbers(numbers, "destination")
    assert len(ends) == 3
    assert ends[int(sources[0])].end.endpoint.namespace == "shop"
    assert not ends[int(sources[0])].end.endpoint.pod_name
    assert not ends[int(sources[0])].end.HasField("detail")
    assert ends[int(destinations[2])].end.service.name == "web"
