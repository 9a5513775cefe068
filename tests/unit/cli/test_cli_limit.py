"""The newest or oldest responses of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_samples import at, loss

from flows.cli.limit import limit
from flows.flow.filter.selection import ALL, Selection

if TYPE_CHECKING:
    from flows.proto.observer_pb2 import GetFlowsResponse


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["lost0", "n1", "lost2", "n3", "lost4"]),
        (Selection(number=ALL), ["lost0", "n1", "lost2", "n3", "lost4"]),
        (Selection(number=1), ["lost4"]),
        (Selection(number=2), ["n3", "lost4"]),
        (Selection(number=9), ["lost0", "n1", "lost2", "n3", "lost4"]),
        (Selection(number=1, first=True), ["lost0"]),
        (Selection(number=2, first=True), ["lost0", "n1"]),
    ],
)
def test_losses_count_as_flows_do(selection: Selection, expected: list[str]) -> None:
    bound = limit(selection)
    out: list[GetFlowsResponse] = []
    for response in [loss(0), at(1), loss(2), at(3), loss(4)]:
        out.extend(bound.push(response))
    out.extend(bound.end())
    assert [each.flow.Summary or f"lost{each.lost_events.num_events_lost}" for each in out] == expected
