"""Answers on their way through a relay: who opened stays the batch's source, and becomes the flow's destination."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from join_samples import CLIENT, SERVER, Row, batch, join

from flows.flow.batch import Batch, BatchError, BatchReader, BatchWriter, compose, concatenate
from flows.flow.ends import EndTable
from flows.proto import flow_pb2, flows_pb2
from flows.relay.merge import _sliced


def answering(*replies: int) -> tuple[Batch, EndTable]:
    """A batch of the same client and server whose rows are answers where told, with its ends."""
    ends = EndTable()
    made = batch([Row(0, True, time) for time in range(len(replies))], ends)
    return dataclasses.replace(made, reply=np.array(replies, np.uint8)), ends


def pods(made: Batch, ends: EndTable) -> list[tuple[str, str]]:
    flows = [flow_pb2.Flow.FromString(raw) for raw in compose(made, ends)]
    return [(flow.source.pod_name, flow.destination.pod_name) for flow in flows]


ASKED = (CLIENT.endpoint.pod_name, SERVER.endpoint.pod_name)
ANSWERED = ASKED[::-1]


@pytest.mark.parametrize("replies", [(0,), (1,), (0, 1, 1, 0)])
def test_source_and_destination_change_places_in_answers_only(replies: tuple[int, ...]) -> None:
    made, ends = answering(*replies)
    assert pods(made, ends) == [ANSWERED if reply else ASKED for reply in replies]


def test_answers_stay_answers_on_the_wire_and_in_parts() -> None:
    made, ends = answering(0, 1, 0)
    message = flows_pb2.FlowBatch.FromString(BatchWriter(ends, ["node-1"]).write(made).SerializeToString())
    table = EndTable()
    read = BatchReader(table, []).read(message)
    assert read.reply.tolist() == [0, 1, 0]
    assert pods(read, table) == [ASKED, ANSWERED, ASKED]
    assert _sliced(read, slice(1, 3)).reply.tolist() == [1, 0]
    assert read.take(np.array([1, 0])).reply.tolist() == [1, 0]
    assert concatenate([read, read]).reply.tolist() == [0, 1, 0] * 2


def test_an_agent_that_knows_no_answers_sends_none() -> None:
    made, ends = answering(1, 1)
    message = BatchWriter(ends, ["node-1"]).write(made)
    message.reply = b""
    assert BatchReader(EndTable(), []).read(message).reply.tolist() == [0, 0]


@pytest.mark.parametrize("raw", [b"\0", b"\0\0\0", bytes(8)])
def test_a_column_of_another_length_is_refused(raw: bytes) -> None:
    made, ends = answering(0, 0)
    message = BatchWriter(ends, ["node-1"]).write(made)
    message.reply = raw
    with pytest.raises(BatchError, match="column reply"):
        BatchReader(EndTable(), []).read(message)


def test_both_views_of_a_connection_meet_whether_or_not_they_are_answers() -> None:
    rows = [Row(0, True, 10, start=5), Row(1, False, 11, start=5)]
    assert join(rows)[0] == 1
