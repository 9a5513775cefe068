"""The relay's log: what is told, what is not, and nothing that forges lines."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from relay_agents import Agent, List, agents, connected, found, pool, until

from flows.relay.discovery.found import Found
from flows.relay.health import Diary
from flows.relay.log import NAMES_SHOWN, PrintableFormatter, report

if TYPE_CHECKING:
    import pytest

NOBODY = "127.0.0.1:1"  # tcpmux: refuses


def test_names_of_the_network_do_not_forge_lines() -> None:
    record = logging.LogRecord("n", logging.INFO, "f", 1, "agent %s", ("a\n2026 INFO all is well\x1b[31m",), None)
    assert PrintableFormatter("%(message)s").format(record) == r"agent a\n2026 INFO all is well\x1b[31m"


async def test_losses_are_told_with_their_reason_and_many_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    missing = [Found(f"n-{number}", (NOBODY,)) for number in range(NAMES_SHOWN + 2)]
    discovery = List()
    async with agents(Agent("a")) as (one,), pool(discovery) as pooled:
        reporting = asyncio.create_task(report(pooled))
        await asyncio.sleep(0)
        discovery.set(found(one))
        await connected(pooled)
        await asyncio.sleep(0.05)
        assert "1 of 1 agents connected" in caplog.messages
        assert not any("unavailable" in line for line in caplog.messages), "before the first attempt there is no news"
        discovery.set(found(one), *missing, status="the API is away")
        await until(lambda: all("refused" in peer.message for peer in pooled.peers()[1:]), pooled)
        await asyncio.sleep(0.05)
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
    assert "the API is away" in caplog.messages
    told = [line for line in caplog.messages if "is unavailable: connecting to" in line]
    more = [int(line.split()[1]) for line in caplog.messages if "more agents" in line]
    assert len(told) + sum(more) == len(missing)


def test_trouble_is_told_when_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    quick, patient = Diary(0), Diary(60)
    for diary in (quick, patient):
        for trouble in ("a", "b", "", "", "c", ""):
            diary.note(trouble)
    assert caplog.messages == ["not serving: a", "serving", "not serving: c", "serving", "serving"]
