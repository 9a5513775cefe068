"""Endpoint slices: agents as the endpoints of their headless Service in the Kubernetes API.

https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final

import msgspec

from flows.kube.resource import Changes, Relisted, Resource
from flows.kube.watch import Reflector
from flows.kube.wire import ObjectMeta, Wire
from flows.relay.discovery.found import Found, node_name
from flows.wire.addresses import join

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flows.kube.client import ApiClient

SERVICE_LABEL: Final = "kubernetes.io/service-name"
STATUS_SECONDS: Final = 1.0  # how often to look whether the API is still followed: a watch says nothing while it is well


class Conditions(Wire):
    """Of an endpoint. ready: null means yes; a pod that is about to end is not."""

    ready: bool | None = None


class Endpoint(Wire):
    """One pod."""

    addresses: list[str] | None = None
    conditions: Conditions | None = None
    node_name: str | None = None


class Port(Wire):
    """One of the ports that all endpoints of a slice have."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class EndpointSlice(Wire):
    """Some of a Service's endpoints, of one family of addresses."""

    metadata: ObjectMeta
    endpoints: list[Endpoint] | None = None
    ports: list[Port] | None = None


class Slice(msgspec.Struct, frozen=True):
    """What is kept of one."""

    uid: str
    found: tuple[Found, ...]


def slice_of(raw: EndpointSlice, cluster: str, port_name: str) -> Slice:
    """The agents of a slice. port_name: of the port that they serve on; "": the first of TCP."""
    tcp = [port for port in raw.ports or () if port.port and (port.protocol or "TCP") == "TCP"]
    fitting = [port.port for port in tcp if not port_name or port.name == port_name]
    if not fitting or fitting[0] is None:
        return Slice(raw.metadata.uid, ())
    number = fitting[0]
    return Slice(raw.metadata.uid, tuple(_found(one, number, cluster) for one in raw.endpoints or () if one.addresses))


def _found(one: Endpoint, port: int, cluster: str) -> Found:
    ready = (one.conditions or Conditions()).ready is not False
    endpoints = tuple(join(address, port) for address in one.addresses or ())
    return Found(node_name(cluster, one.node_name or ""), endpoints, ready)


class EndpointSlices:
    """The endpoints of one Service, watched."""

    def __init__(self, api: ApiClient, service: str, cluster: str) -> None:
        """service: `namespace/name` or `namespace/name:port-name`."""
        self.status = f"endpoints of {service}: not listed yet"
        self._api, self._service = api, service
        path, _, port = service.partition(":")
        namespace, _, name = path.partition("/")
        self._resource: Resource[Slice] = Resource(
            "endpointslices",
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
            EndpointSlice,
            lambda raw: slice_of(raw, cluster, port),
            (("labelSelector", f"{SERVICE_LABEL}={name}"),),
        )
        self._slices: dict[str, Slice] = {}

    async def follow(self, found: Callable[[Sequence[Found]], None]) -> None:
        """The watch blocks, so it has a thread; closes the API client at the end."""
        loop, stopping = asyncio.get_running_loop(), threading.Event()

        def take(batch: Changes[Slice] | Relisted) -> None:
            if not stopping.is_set():
                loop.call_soon_threadsafe(self._apply, batch, found)

        reflector = Reflector(self._resource, self._api, take, stopping)
        threading.Thread(target=reflector.run, name="watch-endpointslices", daemon=True).start()
        try:
            while True:
                error = reflector.state.error
                status = f"endpoints of {self._service}: {error}" if error else ""
                if status != self.status:
                    self.status = status
                    found(self._all())
                await asyncio.sleep(STATUS_SECONDS)
        finally:
            stopping.set()
            await asyncio.to_thread(self._api.close)

    def _apply(self, batch: Changes[Slice] | Relisted, found: Callable[[Sequence[Found]], None]) -> None:
        if isinstance(batch, Relisted):
            self._slices = {uid: one for uid, one in self._slices.items() if uid in batch.uids}
        else:
            self._slices.update((one.uid, one) for one in batch.records)
            for uid in batch.deleted:
                self._slices.pop(uid, None)
        found(self._all())

    def _all(self) -> list[Found]:
        return [one for piece in self._slices.values() for one in piece.found]
