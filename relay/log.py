"""Log: what the relay says to its operator, on stderr, whatever names the network brings."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final

from flows.proto import relay_pb2
from flows.relay.keeper import NOT_TRIED

if TYPE_CHECKING:
    from flows.relay.pool import Pool

log = logging.getLogger("flows.relay")

NAMES_SHOWN: Final = 5  # a rolling update of 1,000 agents is a line now and then, not 2,000


class PrintableFormatter(logging.Formatter):
    """Escapes what could forge lines or colour a terminal; tracebacks stay as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line without what could do harm."""
        return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in super().formatMessage(record))


def begin() -> None:
    """Log to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


async def report(pool: Pool) -> None:
    """Tell which agents are lost, why, and how many there are, as it changes; until cancelled."""
    said: dict[str, str] = {}
    counted, discovery = (-1, -1), ""
    changes = pool.changes()
    while True:
        if pool.discovery_status != discovery:
            discovery = pool.discovery_status
            log.log(logging.WARNING if discovery else logging.INFO, "%s", discovery or "the list of agents is up to date")
        missing = {peer.name: peer.message for peer in pool.peers() if peer.state != relay_pb2.NODE_CONNECTED}
        _report_new({name: why for name, why in missing.items() if said.get(name) != why and why != NOT_TRIED})
        said = missing
        count = (len(pool.peers()) - len(missing), len(pool.peers()))
        if count[1] and count != counted and (count[0] == count[1] or counted[0] <= 0 < count[0]):
            log.info("%d of %d agents connected", *count)
        counted = count
        await anext(changes)


def _report_new(missing: dict[str, str]) -> None:
    for name, why in list(missing.items())[:NAMES_SHOWN]:
        log.warning("agent %s is unavailable: %s", name, why)
    if len(missing) > NAMES_SHOWN:
        log.warning("and %d more agents are unavailable", len(missing) - NAMES_SHOWN)
