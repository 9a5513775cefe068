"""The installed kubectl, unmodified, against the stand-in API."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from api_cluster import Cluster, eventually, set_running

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "nginx:1", ports: [{containerPort: 80, name: http}], resources: {requests: {cpu: 1}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"""
KINDS = {
    "configmap": "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {a: b}}",
    "secret": "{apiVersion: v1, kind: Secret, metadata: {name: x}, data: {a: Yg==}}",
    "serviceaccount": "{apiVersion: v1, kind: ServiceAccount, metadata: {name: x}}",
    "pod": "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: c, image: i}]}}",
    "service": "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: 80}]}}",
    "statefulset": """{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: x}, spec: {serviceName: x, selector:
      {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}""",
    "daemonset": """{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: x}, spec: {selector:
      {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}""",
    "job": """{apiVersion: batch/v1, kind: Job, metadata: {name: x}, spec: {template: {spec: {restartPolicy: Never,
      containers: [{name: c, image: i}]}}}}""",
    "cronjob": """{apiVersion: batch/v1, kind: CronJob, metadata: {name: x}, spec: {schedule: "0 0 1 1 *", jobTemplate:
      {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}}""",
    "networkpolicy": """{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x}, spec:
      {podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80, protocol: TCP}]}]}}""",
    "endpointslice": """{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: x}, addressType: IPv4,
      endpoints: [{addresses: [10.1.2.3]}], ports: [{name: "", port: 80, protocol: TCP}]}""",
    "role": "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: x}, rules: []}",
    "rolebinding": """{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: x}, subjects: [],
      roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: x}}""",
    "lease": "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: x}, spec: {holderIdentity: me}}",
    "namespace": "{apiVersion: v1, kind: Namespace, metadata: {name: x}}",
}


# kubectl takes what begins with a brace for JSON.
MANIFESTS = {kind: f"---\n{text}\n" for kind, text in KINDS.items()}


async def kubelets(cluster: Cluster) -> None:
    """Run and remove pods as kubelets would."""
    count = 0
    while True:
        for pod in cluster.storage.list("pods"):
            if "deletionTimestamp" in pod["metadata"]:
                cluster.storage.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
            elif pod["status"]["phase"] == "Pending" and pod["spec"].get("nodeName"):
                count += 1
                set_running(cluster.storage, pod, f"10.244.0.{count}")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_is_applied_shown_described_and_deleted(controlled: Cluster, kind: str) -> None:
    running = asyncio.create_task(kubelets(controlled))
    assert "created" in await controlled.kubectl("apply", "-f", "-", stdin=MANIFESTS[kind])
    assert "unchanged" in await controlled.kubectl("apply", "-f", "-", stdin=MANIFESTS[kind])
    assert (await controlled.kubectl("get", kind, "x", "-o", "name")).strip().endswith("/x")
    table = (await controlled.kubectl("get", kind)).splitlines()
    assert table[0].startswith("NAME")
    assert any(line.startswith("x ") for line in table)
    assert "Name:" in await controlled.kubectl("describe", kind, "x")
    assert "deleted" in await controlled.kubectl("delete", "-f", "-", stdin=MANIFESTS[kind])
    await eventually(lambda: not [n for n in controlled.storage.list("namespaces") if n["metadata"]["name"] == "x"])
    running.cancel()


async def test_a_deployment_comes_up_is_changed_and_goes(controlled: Cluster) -> None:
    running = asyncio.create_task(kubelets(controlled))
    await controlled.kubectl("apply", "-f", "-", stdin=MANIFEST)
    await controlled.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    wide = (await controlled.kubectl("get", "pods", "-o", "wide")).splitlines()
    assert wide[0].split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [line.split()[1:3] for line in wide[1:]] == [["1/1", "Running"]] * 2
    assert {line.split()[6] for line in wide[1:]} == {"node-0", "node-1"}
    assert "10.244.0.1:80,10.244.0.2:80" in (await controlled.kubectl("describe", "service", "web"))
    await controlled.kubectl("apply", "-f", "-", stdin=MANIFEST.replace("nginx:1", "nginx:2"))
    await controlled.kubectl("scale", "deployment/web", "--replicas=3")
    await controlled.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    images = await controlled.kubectl("get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}")
    assert images.split() == ["nginx:2"] * 3
    described = await controlled.kubectl("describe", "deployment", "web")
    assert "3 desired | 3 updated | 3 total | 3 available | 0 unavailable" in described
    assert "ScalingReplicaSet" in described
    await controlled.kubectl("delete", "-f", "-", stdin=MANIFEST)
    await eventually(lambda: not controlled.storage.list("pods"))
    running.cancel()


async def test_watch_prints_changes_as_they_come(controlled: Cluster) -> None:
    environment = {**os.environ, "KUBECONFIG": str(controlled.kubeconfig), "HOME": str(controlled.kubeconfig.parent)}
    command = ("kubectl", "get", "pods", "-w", "--no-headers")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        await eventually(lambda: len(controlled.storage._subscribers) > 1)
        await controlled.kubectl("apply", "-f", "-", stdin=MANIFESTS["pod"])
        assert process.stdout is not None
        seen = await statuses(controlled, process.stdout)
    finally:
        process.terminate()
        await process.communicate()
    assert seen[0] == "Pending"
    assert seen[-2:] == ["Running", "Terminating"]


async def statuses(cluster: Cluster, output: asyncio.StreamReader) -> list[str]:
    """The STATUS column while the pod of the test starts, runs and is deleted."""
    seen: list[str] = []
    while "Terminating" not in seen:
        seen.append((await output.readline()).decode().split()[2])
        pod = cluster.storage.get("pods", "default", "x")
        assert pod is not None
        if pod["spec"].get("nodeName") and pod["status"]["phase"] == "Pending":
            set_running(cluster.storage, pod, "10.244.0.1")
        elif seen[-1] == "Running":
            cluster.storage.request_deletion("pods", "default", "x")
    return seen


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("replicas: 2", "replicas: 2\n  nonsense: 1"), 'unknown field "spec.nonsense"'),
        (("replicas: 2", "replicas: many"), "cannot unmarshal string"),
        (("labels: {app: web}", "labels: {app: other}"), "`selector` does not match template `labels`"),
        (("name: web", "name: Web_"), "a lowercase RFC 1123"),
    ],
)
async def test_mistakes_in_manifests_are_told(cluster: Cluster, change: tuple[str, str], words: str) -> None:
    code, _, error = await cluster.kubectl_result("apply", "-f", "-", stdin=MANIFEST.replace(*change))
    assert code == 1
    assert words in error


async def test_server_side_apply_tells_conflicts(cluster: Cluster) -> None:
    apply = ("apply", "--server-side", "-f", "-")
    await cluster.kubectl(*apply, stdin=MANIFEST)
    await cluster.kubectl("scale", "deployment/web", "--replicas=5")
    code, _, error = await cluster.kubectl_result(*apply, stdin=MANIFEST)
    assert code == 1
    assert 'conflict with "kubectl"' in error
    assert ".spec.replicas" in error
    await cluster.kubectl(*apply, "--force-conflicts", stdin=MANIFEST)
    found = cluster.storage.get("deployments", "default", "web")
    assert found is not None
    assert found["spec"]["replicas"] == 2


async def test_client_and_server_version_are_shown(cluster: Cluster) -> None:
    assert json.loads(await cluster.kubectl("version", "-o", "json"))["serverVersion"]["major"] == "1"


async def test_resources_are_found_by_their_short_names(cluster: Cluster) -> None:
    listed = (await cluster.kubectl("api-resources", "--no-headers")).splitlines()
    assert {"po", "svc", "deploy", "netpol", "ns", "no"} <= {word for line in listed for word in line.split()[1].split(",")}
    assert "default" in await cluster.kubectl("get", "ns,no,svc", "-A")
