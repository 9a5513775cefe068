"""The Kubernetes source: all resources listed and watched, one thread each, and how up to date they are.

Threads, because the client's urllib3 transport blocks: its aiohttp twin keeps 12 MB more resident (55 instead
of 43 MB, measured on import) out of the 120 MB that an agent may have, and eight threads that sleep in recv()
cost less.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from flows.agent.enrich.addresses import parse_address
from flows.agent.enrich.kube_objects import resources
from flows.agent.enrich.kube_records import API_URL, ApiServerRecord, Record
from flows.kube.resource import Changes, Relisted
from flows.kube.watch import Reflector, Transport

if TYPE_CHECKING:
    from collections.abc import Callable

# When API servers start anew, they have forgotten every agent's version at once, and each lists everything: the time for
# that is shared. An object of 5 kB takes a core 40 us to encode, and a cluster's API servers have 8 cores or more.
SPREAD_SECONDS: Final = 5e-6  # per object and node
SPREAD_LIMIT_SECONDS: Final = 60.0  # 1,000 nodes with 12,000 pods; beyond, the server's own queues make agents wait
Batch: TypeAlias = Changes[Record] | Relisted


class ClosableTransport(Transport, Protocol):
    """A transport whose blocked calls close() ends."""

    def address(self) -> str | None:
        """The API server's IP address as its URL has it; None when the URL has a name."""

    def close(self) -> None:
        """End all requests under way; their callers get ApiError."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """in_sync: all resources are. since: wall clock seconds of the last change of that. errors: resource ->
    why not.
    """

    in_sync: bool
    since: float
    errors: dict[str, str]


class Source(Protocol):
    """Where names come from."""

    def start(self, sink: Callable[[Batch], None]) -> None:
        """Begin; sink is called from other threads, in order per resource."""

    def stop(self) -> None:
        """End; afterwards sink is not called any more."""

    def status(self) -> SourceStatus:
        """Tell how up to date the names are."""


class KubernetesSource:
    """Watches the cluster through a transport. start() and stop() once each; status() from any thread, at any time.

    only: names of the resources to watch, all if None.
    """

    def __init__(self, transport: ClosableTransport, node_name: str, only: tuple[str, ...] | None = None) -> None:
        self._transport = transport
        self._stopping = threading.Event()
        self._sink: Callable[[Batch], None] = lambda _: None
        self._reflectors = {
            one.name: Reflector(one, transport, self._deliver, self._stopping, self._spread)
            for one in resources(node_name)
            if only is None or one.name in only
        }
        self._threads = [
            threading.Thread(target=reflector.run, name=f"watch-{name}", daemon=True)
            for name, reflector in self._reflectors.items()
        ]

    def start(self, sink: Callable[[Batch], None]) -> None:
        """Begin to list and watch; sink gets the changes, from the watching threads."""
        self._sink = sink
        address = parse_address(self._transport.address() or "")
        if address is not None:
            sink(Changes(API_URL, (ApiServerRecord(API_URL, (address,)),)))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all watches; waits up to 2 s for what is under way. The threads are daemons: none outlives the
        process.
        """
        self._stopping.set()
        self._transport.close()
        deadline = time.monotonic() + 2.0
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def status(self) -> SourceStatus:
        """Tell whether all resources are in sync, and since when it is so."""
        states = {name: reflector.state for name, reflector in self._reflectors.items()}
        errors = {name: state.error for name, state in states.items() if not state.in_sync}
        if errors:
            return SourceStatus(False, min(states[name].since for name in errors), errors)
        return SourceStatus(True, max((state.since for state in states.values()), default=0.0), {})

    def _spread(self, objects: int) -> float:
        nodes = self._reflectors.get("nodes")
        return min(SPREAD_LIMIT_SECONDS, SPREAD_SECONDS * objects * (nodes.count if nodes else 1))

    def _deliver(self, batch: Batch) -> None:
        if not self._stopping.is_set():
            self._sink(batch)
