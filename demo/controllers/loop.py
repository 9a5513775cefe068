"""The control loop: after changes, run each controller whose resources changed, until nothing changes any more.

A controller looks at the whole cluster each time. A demo cluster has tens of objects, and what is derived from the
present state alone cannot drift from it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.demo.api.errors import StatusError
from flows.demo.controllers.cronjobs import reconcile_cron_jobs
from flows.demo.controllers.daemonsets import reconcile_daemon_sets
from flows.demo.controllers.deployments import reconcile_deployments
from flows.demo.controllers.endpoints import reconcile_endpoints
from flows.demo.controllers.events import expire_events
from flows.demo.controllers.garbage import collect_garbage
from flows.demo.controllers.jobs import reconcile_jobs
from flows.demo.controllers.namespaces import ClusterDefaults, reconcile_namespaces
from flows.demo.controllers.replicasets import reconcile_replica_sets
from flows.demo.controllers.scheduler import schedule_pods
from flows.demo.controllers.statefulsets import reconcile_stateful_sets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flows.demo.api.storage import Storage

log = logging.getLogger(__name__)
SETTLE_SECONDS = 0.02
"""How long changes are gathered before controllers run: a rollout of many pods is then a few rounds, not hundreds."""
TICK_SECONDS = 1.0
"""How often controllers that watch the clock (jobs, cron jobs, events) look at it."""
MAX_ROUNDS = 100
"""Rounds without a pause; more means that controllers disagree, and a pause keeps the server answering."""


@dataclass(frozen=True, slots=True)
class Controller:
    """A reconciler, the resources that concern it, and whether time alone does too."""

    reconcile: Callable[[Storage], None]
    resources: frozenset[str]
    timed: bool = False


def _on(reconcile: Callable[[Storage], None], *resources: str, timed: bool = False) -> Controller:
    return Controller(reconcile, frozenset(resources), timed)


def controllers(defaults: ClusterDefaults) -> list[Controller]:
    """All controllers, those that make objects first."""
    return [
        _on(defaults.reconcile, "namespaces", "serviceaccounts", "configmaps", "services", "endpointslices"),
        _on(reconcile_cron_jobs, "cronjobs", "jobs", timed=True),
        _on(reconcile_jobs, "jobs", "pods", timed=True),
        _on(reconcile_deployments, "deployments", "replicasets", "pods"),
        _on(reconcile_replica_sets, "replicasets", "pods"),
        _on(reconcile_stateful_sets, "statefulsets", "pods"),
        _on(reconcile_daemon_sets, "daemonsets", "pods", "nodes"),
        _on(schedule_pods, "pods", "nodes"),
        _on(reconcile_endpoints, "services", "pods", "nodes", "endpointslices", "endpoints"),
        _on(collect_garbage, *_ALL),
        _on(reconcile_namespaces, *_ALL),
        _on(expire_events, timed=True),
    ]


_ALL = ("*",)


class ControlLoop:
    """Runs controllers on what changed since they last ran."""

    def __init__(self, storage: Storage, defaults: ClusterDefaults) -> None:
        self._storage = storage
        self._controllers = controllers(defaults)
        self._changed: set[str] = set()
        self._wake = asyncio.Event()

    @contextmanager
    def subscribed(self) -> Iterator[None]:
        """Take notice of changes while inside."""
        unsubscribe = self._storage.subscribe(self._notice)
        try:
            yield
        finally:
            unsubscribe()

    def _notice(self, resource: str, _type: str, _obj: dict[str, Any]) -> None:
        if resource != "events":
            self._changed.add(resource)
            self._wake.set()

    def settle(self, *, everything: bool = False) -> None:
        """Run controllers until nothing changes (`everything`: start with all of them, changed or not)."""
        for number in range(MAX_ROUNDS):
            changed, self._changed = self._changed, set()
            self._wake.clear()
            everything_now = everything and number == 0
            if not changed and not everything_now:
                return
            for controller in self._controllers:
                if everything_now or "*" in controller.resources or changed & controller.resources:
                    self._run(controller)
        log.warning("controllers still make changes after %d rounds; they go on after a pause", MAX_ROUNDS)
        self._wake.set()

    def tick(self) -> None:
        """Run the controllers that watch the clock."""
        for controller in self._controllers:
            if controller.timed:
                self._run(controller)

    def _run(self, controller: Controller) -> None:
        try:
            controller.reconcile(self._storage)
        except StatusError as error:
            log.warning("controller %s: %s", controller.reconcile.__name__, error)
        except Exception:  # one object that a controller trips over must not stop all others
            log.exception("controller %s", controller.reconcile.__name__)

    async def wait(self) -> bool:
        """Wait for a change (True) or for the next look at the clock (False)."""
        try:
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with the result.
            async with asyncio.timeout(TICK_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True


async def run_controllers(storage: Storage, *, api_addresses: Sequence[tuple[str, int]] = (), ca_pem: bytes = b"") -> None:
    """Run all controllers until cancelled.

    `api_addresses` are the (address, port) pairs behind the `kubernetes` Service; `ca_pem` goes into each namespace's
    `kube-root-ca.crt`.
    """
    loop = ControlLoop(storage, ClusterDefaults(tuple(api_addresses), ca_pem.decode()))
    with loop.subscribed():
        loop.settle(everything=True)
        await _run_forever(loop)


async def _run_forever(loop: ControlLoop) -> None:
    while True:
        if await loop.wait():
            await asyncio.sleep(SETTLE_SECONDS)
        else:
            loop.tick()
        loop.settle()
