"""Names from an API with real semantics (selectors, history, compaction, throttling), over TLS."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from enrich_samples import packed

from flows.agent.enrich.directory import Directory
from flows.agent.enrich.kube_source import Batch, KubernetesSource
from flows.demo.api.pki import Pki, write_kubeconfig
from flows.demo.api.server import bind, start_api
from flows.demo.api.storage import Storage
from flows.kube import backoff
from flows.kube.client import ApiClient
from flows.kube.resource import Relisted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from flows.demo.api.server import RunningServer

ROLE = {
    "metadata": {"name": "flows-agent"},
    "rules": [
        {"verbs": ["list", "watch"], "apiGroups": [""], "resources": ["nodes", "namespaces", "services", "pods"]},
        {"verbs": ["list", "watch"], "apiGroups": ["apps"], "resources": ["replicasets"]},
        {"verbs": ["list", "watch"], "apiGroups": ["batch"], "resources": ["jobs"]},
        {"verbs": ["list", "watch"], "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"]},
    ],
}
"""As docs/kubernetes.md has it."""


class Cluster:
    """An API, an agent's source of node-1, and the directory that follows it."""

    def __init__(self, storage: Storage, server: RunningServer, kubeconfig: str) -> None:
        self.storage, self.server = storage, server
        self.known = Directory("node-1", "default")
        self.source = KubernetesSource(ApiClient(kubeconfig, program="flows-agent"), "node-1")

    def take(self, batch: Batch) -> None:
        self.known.relisted(batch) if isinstance(batch, Relisted) else self.known.apply(batch)

    def pod(self, name: str, node: str, address: str = "", phase: str = "Pending") -> None:
        """Make a pod or change it."""
        old = self.storage.get("pods", "shop", name)
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
        made = old or self.storage.create("pods", {"metadata": {"name": name, "namespace": "shop"}, "spec": spec})
        ips = {"podIP": address, "podIPs": [{"ip": address}]} if address else {}
        self.storage.update_status("pods", {**made, "status": {**made.get("status", {}), "phase": phase, **ips}})

    def owner(self, address: str) -> str:
        entity = self.known.owner(packed(address))
        return self.known.describe(entity).pod if entity else ""

    def asked(self, moment: float, verb: str, resource: str) -> list[dict[str, Any]]:
        return [
            one
            for one in self.server.api.journal.since(moment)
            if (one["agent"], one["verb"], one["resource"]) == ("flows-agent", verb, resource)
        ]


async def eventually(condition: Callable[[], Any]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come about within 10 s")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("enrich-pki"))


@pytest_asyncio.fixture
async def cluster(pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setattr(backoff, "SECONDS", (0.02, 0.1))
    storage = Storage(("10.96.0.0/12",))
    with bind("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    server = await start_api(storage, ["127.0.0.1"], port, pki)
    for namespace in ("shop", "flows-system"):
        storage.create("namespaces", {"metadata": {"name": namespace}})
    account = storage.create("serviceaccounts", {"metadata": {"name": "flows-agent", "namespace": "flows-system"}})
    storage.create("clusterroles", ROLE)
    subject = {"kind": "ServiceAccount", "namespace": "flows-system", "name": "flows-agent"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flows-agent"}
    storage.create("clusterrolebindings", {"metadata": {"name": "a"}, "roleRef": reference, "subjects": [subject]})
    token = pki.service_account_token("flows-system", "flows-agent", account["metadata"]["uid"], 3600)
    write_kubeconfig(tmp_path / "kubeconfig", server.url, pki, token=token)
    made = Cluster(storage, server, str(tmp_path / "kubeconfig"))
    made.source.start(made.take)
    await eventually(lambda: made.source.status().in_sync)
    yield made
    await asyncio.to_thread(made.source.stop)
    await server.close()
    for transport in list(asyncio.get_running_loop()._transports.values()):  # type: ignore[attr-defined]
        transport.abort()
    await asyncio.sleep(0)


async def test_a_pod_elsewhere_is_known_while_it_has_an_address(cluster: Cluster) -> None:
    cluster.pod("far", "node-2")
    cluster.pod("near", "node-1")
    await eventually(lambda: len(cluster.known.pods) == 1)
    assert [pod.name for pod in cluster.known.pods.values()] == ["near"]  # known by its cgroup before it has an address
    cluster.pod("far", "node-2", "10.0.0.2", "Running")
    await eventually(lambda: cluster.owner("10.0.0.2") == "far")
    cluster.pod("far", "node-2", "10.0.0.2", "Succeeded")
    await eventually(lambda: cluster.owner("10.0.0.2") == "")
    assert [pod.name for pod in cluster.known.former.values()] == ["far"]


async def test_an_outage_without_forgetting_costs_a_watch_for_each_resource_and_no_list(cluster: Cluster) -> None:
    cluster.pod("stays", "node-2", "10.0.0.2", "Running")
    cluster.pod("goes", "node-2", "10.0.0.3", "Running")
    await eventually(lambda: cluster.owner("10.0.0.3") == "goes")
    await cluster.server.stop_listening()
    await eventually(lambda: not cluster.source.status().in_sync)
    cluster.storage.delete("pods", "shop", "goes")
    cluster.pod("comes", "node-2", "10.0.0.3", "Running")
    await asyncio.sleep(0.5)
    assert (cluster.owner("10.0.0.2"), cluster.owner("10.0.0.3")) == ("stays", "goes")
    back = time.time()
    await cluster.server.listen()
    await eventually(lambda: cluster.source.status().in_sync and cluster.owner("10.0.0.3") == "comes")
    assert cluster.asked(back, "list", "pods") == []
    assert not any("sendInitialEvents" in one["query"] for one in cluster.asked(back, "watch", "pods"))


async def test_an_outage_with_a_compacted_history_costs_one_list_no_older_than_what_is_known(cluster: Cluster) -> None:
    cluster.pod("goes", "node-2", "10.0.0.3", "Running")
    await eventually(lambda: cluster.owner("10.0.0.3") == "goes")
    await cluster.server.stop_listening()
    cluster.storage.delete("pods", "shop", "goes")
    cluster.pod("comes", "node-2", "10.0.0.4", "Running")
    cluster.storage.compact()
    back = time.time()
    await cluster.server.listen()
    await eventually(lambda: cluster.source.status().in_sync and cluster.owner("10.0.0.4") == "comes")
    assert cluster.owner("10.0.0.3") == ""
    lists = cluster.asked(back, "list", "pods")
    assert len(lists) == 2  # one of this node's pods, one of the others
    assert all("resourceVersionMatch=NotOlderThan" in one["query"] for one in lists)


async def test_a_throttled_source_waits_as_long_as_it_is_told_and_gets_there(cluster: Cluster) -> None:
    await cluster.server.stop_listening()
    await eventually(lambda: not cluster.source.status().in_sync)
    cluster.server.api.fairness.limit(1, 2.5)
    back = time.time()
    await cluster.server.listen()
    await eventually(lambda: cluster.source.status().in_sync)
    refused = [one for one in cluster.server.api.journal.since(back) if one["code"] == 429]
    assert refused
    assert len(refused) <= 8 * 3  # eight watches, and each asks once in a second or two
