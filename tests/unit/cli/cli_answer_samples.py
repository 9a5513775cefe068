"""What the tests of `flows dns`, `flows http` and the like share: flows in files and batches, and rows read back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from answer_feeds import coverage
from answer_samples import Query, ordered, server_view, upstream_query

from flows.flow.batch import COLUMNS, Batch, BatchWriter, objects
from flows.flow.ends import EndTable
from flows.flow.protojson import to_json
from flows.proto.observer_pb2 import GetFlowsResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from flows.proto.flow_pb2 import Flow
    from flows.proto.flows_pb2 import FlowBatch

Capture = pytest.CaptureFixture[str]
COMMANDS_OF_ANSWERS = (["dns"], ["dns", "names"], ["http"], ["encryption"])
BAD = Query("bad.example.com", rcode=2)
DNS_FLOWS = ordered([*BAD.flows(), *server_view(BAD).flows(), *upstream_query(BAD, rcode=5, took=0.0002).flows()])
NEW = ["--since", "2020-01-01"]


def response(flow: Flow) -> GetFlowsResponse:
    """The flow as Hubble's service sends it."""
    made = GetFlowsResponse(flow=flow, node_name=flow.node_name)
    made.time.CopyFrom(flow.time)
    return made


def written(folder: Path, flows: Iterable[Flow]) -> str:
    """A file of the flows, after which all nodes answered; gives its path."""
    path = folder / "flows.json"
    lines = [to_json(response(flow)) for flow in flows]
    lines.append(f'{{"coverage":{to_json(coverage())},"node_name":"relay"}}')
    path.write_text("\n".join(lines))
    return str(path)


def found(text: str, kind: str = "") -> list[dict[str, Any]]:
    """The rows, of that kind or of all, among lines of JSON."""
    rows = [json.loads(line) for line in text.splitlines()]
    return [row for row in rows if "kind" in row and kind in {"", row["kind"]}]


def batch(flows: Sequence[Flow]) -> FlowBatch:
    """A stream's first batch of whole flows."""
    ends, n = EndTable(), len(flows)
    columns = Batch(
        flows=objects([flow.SerializeToString() for flow in flows]),
        connections=objects([b""] * n),
        **{name: np.zeros(n, dtype) for name, dtype in COLUMNS.items()},
    )
    ends.number(b"")
    return BatchWriter(ends, ["n"]).write(columns)
