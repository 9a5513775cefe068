from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from flow_agents import FlowAgent, asked, end, relay
from relay_readings import PlainReading
from stream_samples import batch

from flows.flow.batch import BatchReader, BatchWriter
from flows.flow.ends import EndTable
from flows.relay.merge import HIGHEST, Lane
from flows.relay.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


def numbered(table: EndTable, pods: Iterable[str]) -> list[int]:
    return [table.number(end("shop", pod).SerializeToString(deterministic=True)) for pod in pods]


def pods(table: EndTable, numbers: NDArray[np.uint32]) -> list[str]:
    return [table[number].end.endpoint.pod_name for number in numbers.tolist()]


def test_new_tables_have_what_streams_and_waiting_flows_refer_to_and_nothing_else() -> None:
    agents, tables, lane = EndTable(), Tables(most_ends=3), Lane()
    writer, reader = BatchWriter(agents, ["node-1"]), BatchReader(tables.ends, tables.nodes)
    numbered(tables.ends, ["of an agent that is gone"] * 2 + ["another"])
    assert not tables.full
    source, destination = numbered(agents, ["a", "b"])
    lane.add(reader.read(writer.write(batch([1, 2], source=source, destination=destination))), 0)
    assert tables.full
    before = tables.ends
    tables.renew([reader], [lane])
    assert tables.ends is not before
    assert len(tables.ends) == 2
    (waiting,) = lane.take(HIGHEST)
    assert pods(tables.ends, waiting.batch.source) == ["a", "a"]
    assert pods(tables.ends, waiting.batch.destination) == ["b", "b"]
    (more,) = numbered(agents, ["c"])
    again = reader.read(writer.write(batch([3], source=more, destination=source)))
    assert pods(tables.ends, again.source) + pods(tables.ends, again.destination) == ["c", "a"]
    assert tables.nodes == ["node-1"]


@pytest.mark.parametrize("foreign", [False, True])
async def test_a_follower_does_not_notice_new_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: bool) -> None:
    made: list[Tables] = []

    def small() -> Tables:
        made.append(Tables(most_ends=4))
        return made[-1]

    monkeypatch.setattr("flows.relay.answer.Tables", small)
    agents = [FlowAgent("node-1"), FlowAgent("node-2")]
    async with relay(tmp_path, *agents, foreign=foreign) as served:
        reading = PlainReading(served.flows(asked(follow=True).query))
        await reading.until(lambda reading: reading.messages)
        first = made[0].ends
        await asyncio.sleep(0.3)
        for number in range(40):
            for agent in agents:
                agent.happen(source=end("shop", f"{agent.node}-{number}"), destination=end("shop", "till"))
            await asyncio.sleep(0.02)
        await reading.until(lambda reading: sum(message.HasField("flow") for message in reading.messages) == 80)
        await reading.stop()
    shown = [message.flow for message in reading.messages if message.HasField("flow")]
    assert {flow.source.pod_name for flow in shown} == {f"{agent.node}-{number}" for agent in agents for number in range(40)}
    assert all(flow.uuid.replace("/", "-") == flow.source.pod_name for flow in shown)
    assert {flow.destination.pod_name for flow in shown} == {"till"}
    assert made[0].ends is not first
