"""`flows agent` and `flows local`: put the stations together, run until told to stop, leave nothing behind."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

from flows.agent import node_addresses
from flows.agent.enrich.enricher import Enricher
from flows.agent.l7.requests import Requests
from flows.agent.observer.coverage import Predecessor, Watch
from flows.agent.observer.observer import Observer, new_instance
from flows.agent.observer.peers import Addressing
from flows.agent.observer.server import serve
from flows.agent.options import AgentOptions, parse
from flows.agent.plaintext import Plaintext
from flows.agent.probe.cgroup import CgroupError, Subtree, find_subtree
from flows.agent.probe.preflight import problems
from flows.agent.probe.probe import Probe, ProbeError
from flows.agent.probe.record import Counter
from flows.agent.reader import Reader, to_wall_ns
from flows.agent.store.requests import RequestStore
from flows.agent.store.store import FlowStore
from flows.kube.errors import ConfigurationError
from flows.wire.addresses import AddressError, prepare_sockets
from flows.wire.environment import prepare_grpc
from flows.wire.process import limit_arenas, until_signal
from flows.wire.tls import ServerTls, TlsError

if TYPE_CHECKING:
    from flows.agent.enrich.kube_source import Source

log = logging.getLogger("flows.agent")

ADDRESSES_SECONDS = 30.0  # nodes rarely change their addresses
NAMES_SECONDS = 5.0  # how often to look whether the Kubernetes API is still followed
GRACE_SECONDS = 1.0  # for clients that follow, when the agent stops

ARENAS = 1  # the agent's threads mostly sleep


class StartError(Exception):
    """The agent cannot start; the text says why, and the cure."""


def main(argv: list[str]) -> int:
    """Run `agent ...` or `local ...` until SIGINT or SIGTERM. Returns the exit status."""
    options = parse(argv[0], argv[1:])
    limit_arenas(ARENAS)
    prepared = prepare_grpc()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        check_tls(options, prepared=prepared)
        asyncio.run(run(options))
    except (StartError, CgroupError, ProbeError, AddressError, TlsError) as error:
        sys.stderr.write(f"flows {argv[0]}: {error}\n")
        return 1
    return 0


def check_tls(options: AgentOptions, *, prepared: bool) -> None:
    """Raises StartError if TLS is to be spoken and older versions of it could not be ruled out."""
    if options.tls is not None and not prepared:
        raise StartError("gRPC was loaded before it was told to speak nothing below TLS 1.3; start it as `flows agent`")


def kubernetes_source(options: AgentOptions) -> Source | None:
    """The cluster's API, if it is to be asked. Raises StartError."""
    if not options.kubernetes:
        return None
    from flows.agent.enrich.kubernetes import connect  # noqa: PLC0415 - 18 MB, often for nothing

    try:
        return connect(options.node, options.kubeconfig, options.context)
    except ConfigurationError as error:
        raise StartError(f"{error}; or say --no-kubernetes") from error


def check_node() -> None:
    """Raises StartError with everything that the node or this process lacks."""
    found = problems()
    if found:
        raise StartError("this node cannot run the agent:\n  " + "\n  ".join(found))


def start_probe(options: AgentOptions) -> tuple[Probe, Subtree]:
    """Load and attach. Raises CgroupError, ProbeError."""
    subtree = find_subtree(options.cgroup)
    return Probe(options.probe, subtree, options.keep), subtree


def start_requests(options: AgentOptions) -> tuple[RequestStore | None, Requests | None]:
    """The store of requests and what fills it; nothing if nobody is to look at first bytes."""
    if not options.probe.requests:
        return None, None
    kept = RequestStore(options.requests)
    return kept, Requests(kept, options.redaction, options.dns_timeout_ns, options.http_timeout_ns)


def watched(probe: Probe) -> Watch:
    """Since when this process has, or will have, every event."""
    before = probe.predecessor
    if before is None:
        return Watch(probe.attached_ns + to_wall_ns())
    return Watch(before.drained_ns + to_wall_ns(), Predecessor(before.instance, before.written))


async def follow_addresses(enricher: Enricher) -> None:
    """Keep the enricher's idea of the node's own addresses fresh."""
    while True:
        enricher.set_node_addresses(node_addresses.read())
        await asyncio.sleep(ADDRESSES_SECONDS)


async def report_names(enricher: Enricher) -> None:
    """Log when names stop being up to date, and why, and when they are again."""
    said: tuple[bool, dict[str, str]] = (True, {})
    while (status := enricher.source_status()) is not None:
        if (status.in_sync, status.errors) != said and (status.errors or status.in_sync):
            said = (status.in_sync, dict(status.errors))
            why = "; ".join(f"{resource}: {cause}" for resource, cause in status.errors.items())
            if status.in_sync:
                log.info("names are up to date with the Kubernetes API")
            else:
                log.warning("names are not up to date, flows go on without new ones: %s", why)
        await asyncio.sleep(NAMES_SECONDS)


async def run(options: AgentOptions) -> None:
    """Start everything, wait for the end, stop everything in reverse order."""
    check_node()
    prepare_sockets(options.listen)
    source = kubernetes_source(options)
    probe, subtree = start_probe(options)
    with probe:
        enricher = Enricher(subtree.path, options.node, options.cluster, node_addresses.read(), source)
        store = FlowStore(options.flows)
        addressing = Addressing(options.node, options.cluster, options.listen, tls=options.tls is not None)
        name, instance, watch = addressing.name(options.node), new_instance(), watched(probe)
        if probe.left_behind:
            store.lose("left by another version", probe.left_behind, watch.began_ns, time.time_ns())
        told = dict(zip(Counter, probe.predecessor.counters, strict=True)) if probe.predecessor else None
        kept, requests = start_requests(options)
        plaintext = Plaintext(probe, subtree, enricher, options.plaintext, store.lose) if requests and options.plaintext else None
        reader = Reader(probe, enricher, store, options.probe, instance, told, requests, plaintext)
        for thread in filter(None, (plaintext, reader)):
            thread.start()
        names = requests.names.names if requests is not None else None
        observer = Observer(store, enricher, name, version("flows"), watch, instance, kept, names)
        tls = ServerTls(options.tls) if options.tls is not None else None
        server = await serve(observer, addressing, enricher.nodes, tls, reader.freshen)
        background = (enricher.run(), follow_addresses(enricher), report_names(enricher))
        tasks = [asyncio.create_task(work) for work in background]
        log.info("watching %s as node %s, serving on %s", subtree.path, name, ", ".join(options.listen))
        await until_signal()
        await asyncio.to_thread(reader.stop)  # first, so that followers get all that was read; the rest stays in a kept ring
        observer.ended.set()
        await server.stop(GRACE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        enricher.close()
