"""Status, reason and words of answers, by table."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from api_objects import pod, service, workload

if TYPE_CHECKING:
    from api_cluster import Cluster

Json = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
SERVICES = "/api/v1/namespaces/default/services"


@pytest.mark.parametrize(
    ("method", "path", "status", "reason", "message"),
    [
        ("GET", f"{PODS}/none", 404, "NotFound", 'pods "none" not found'),
        ("GET", f"{DEPLOYMENTS}/none", 404, "NotFound", 'deployments.apps "none" not found'),
        ("DELETE", f"{PODS}/none", 404, "NotFound", 'pods "none" not found'),
        ("GET", "/api/v1/nonsense", 404, "NotFound", "the server could not find the requested resource"),
        ("GET", f"{PODS}/p/nonsense", 404, "NotFound", "the server could not find the requested resource"),
        ("POST", f"{PODS}/p", 405, "MethodNotAllowed", "does not allow this method"),
        ("GET", f"{PODS}?limit=x", 400, "BadRequest", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("GET", f"{PODS}?resourceVersion=x", 400, "BadRequest", 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("GET", f"{PODS}?labelSelector=a%20b", 400, "BadRequest", "unable to parse requirement"),
        ("GET", f"{PODS}?fieldSelector=spec.x=1", 400, "BadRequest", "field label not supported: spec.x"),
        ("GET", f"{PODS}?resourceVersionMatch=Exact", 422, "Invalid", "forbidden unless resourceVersion is provided"),
        ("GET", f"{PODS}?resourceVersion=0&resourceVersionMatch=Exact", 422, "Invalid", 'forbidden for resourceVersion "0"'),
        ("GET", f"{PODS}?resourceVersion=1&resourceVersionMatch=What", 422, "Invalid", "supported values"),
        ("GET", f"{PODS}?resourceVersion=99999", 504, "Timeout", "Too large resource version: 99999"),
        ("GET", f"{PODS}?watch=1&sendInitialEvents=true", 422, "Invalid", "requires setting resourceVersionMatch"),
        ("GET", f"{PODS}?watch=1&resourceVersionMatch=Exact", 422, "Invalid", "unless sendInitialEvents is provided"),
        ("GET", f"{PODS}?watch=1&resourceVersion=x", 400, "BadRequest", "invalid syntax"),
        ("DELETE", "/api/v1/namespaces/default", 403, "Forbidden", "this namespace may not be deleted"),
    ],
)
async def test_refused_requests(cluster: Cluster, method: str, path: str, status: int, reason: str, message: str) -> None:
    answer = await cluster.ask(method, path)
    body = answer.json
    assert (answer.status, body["code"], body["kind"], body["status"]) == (status, status, "Status", "Failure")
    assert body["reason"] == reason
    assert message in body["message"]


def without(obj: Json, *path: str) -> Json:
    copied: Json = json.loads(json.dumps(obj))
    inner = copied
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return copied


def with_ports(*ports: Json) -> Json:
    return service(ports=list(ports))


@pytest.mark.parametrize(
    ("path", "obj", "status", "message"),
    [
        (PODS, b"{", 400, "json parse error"),
        (PODS, b"[" * 100_000, 400, ""),
        (PODS, [], 400, "couldn't get version/kind"),
        (PODS, {"kind": "Service", "apiVersion": "v1"}, 400, "cannot be handled as a Pod"),
        (PODS, {"kind": "Deployment", "apiVersion": "apps/v1"}, 400, "does not match the expected API version (v1)"),
        (PODS, pod(namespace="other"), 400, "does not match the namespace sent on the request"),
        (PODS, pod(resourceVersion="5"), 400, "resourceVersion should not be set"),
        (PODS, {"spec": {}}, 422, "metadata.name: Required value: name or generateName is required"),
        (PODS, pod("Upper"), 422, "a lowercase RFC 1123 subdomain must consist of"),
        (PODS, pod(labels={"a b": ""}), 422, "metadata.labels: Invalid value: "),
        (PODS, pod(labels={"a": 5}), 400, "cannot unmarshal number into Go struct field ObjectMeta.metadata.labels.a"),
        (PODS, {**pod(), "spec": {}}, 422, "spec.containers: Required value"),
        (PODS, {**pod(), "spec": {"containers": [{"name": "c"}]}}, 422, "spec.containers[0].image: Required value"),
        (PODS, {**pod(), "spec": {"containers": 5}}, 400, "cannot unmarshal number into Go struct field PodSpec"),
        (DEPLOYMENTS, without(workload(), "spec", "selector"), 422, "spec.selector: Required value"),
        (DEPLOYMENTS, workload(replicas=-1), 422, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (DEPLOYMENTS, workload(selector={"matchLabels": {"app": "x"}}), 422, "`selector` does not match template `labels`"),
        (SERVICES, without(service(), "spec", "ports"), 422, "spec.ports: Required value"),
        (SERVICES, with_ports({"port": 0}), 422, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535"),
        (SERVICES, with_ports({"port": 1}, {"port": 2}), 422, "spec.ports[0].name: Required value"),
        (SERVICES, service(clusterIP="1.2.3.4"), 422, "the provided IP (1.2.3.4) is not in the valid range"),
        (SERVICES, service(clusterIP="nope"), 422, "must be a valid IP address"),
        (SERVICES, service(type="Odd"), 422, 'supported values: "ClusterIP"'),
        (SERVICES, service(ipFamilies=["IPv5"]), 422, 'supported values: "IPv4", "IPv6"'),
        (
            "/apis/batch/v1/namespaces/default/cronjobs",
            {"metadata": {"name": "c"}, "spec": {"schedule": "61 * * * *"}},
            422,
            "expected a number",
        ),
    ],
)
async def test_refused_objects(cluster: Cluster, path: str, obj: Any, status: int, message: str) -> None:
    answer = await cluster.ask("POST", path, obj)
    assert (answer.status, answer.json["code"]) == (status, status), answer.text
    assert message in answer.json["message"]
    if status == 422:
        assert answer.json["details"]["causes"]


@pytest.mark.parametrize(
    ("path", "obj", "change", "message"),
    [
        (SERVICES, service(), {"spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}}, "may not change once set"),
        (DEPLOYMENTS, workload(), {"spec": {"selector": {"matchLabels": {"app": None, "b": "c"}}}}, "field is immutable"),
        (PODS, pod(), {"spec": {"hostNetwork": True}}, "pod updates may not change fields other than"),
    ],
)
async def test_what_may_not_change(cluster: Cluster, path: str, obj: Json, change: Json, message: str) -> None:
    await cluster.create(path, obj)
    merge = {"Content-Type": "application/merge-patch+json"}
    answer = await cluster.ask("PATCH", f"{path}/{obj['metadata']['name']}", change, headers=merge)
    assert answer.status == 422
    assert message in answer.json["message"]


async def test_name_taken_and_stale_version_are_conflicts(cluster: Cluster) -> None:
    made = await cluster.create(PODS, pod())
    again = await cluster.ask("POST", PODS, pod())
    assert (again.status, again.json["message"]) == (409, 'pods "p" already exists')
    made["metadata"]["labels"] = {"a": "b"}
    assert (await cluster.ask("PUT", f"{PODS}/p", made)).status == 200
    stale = await cluster.ask("PUT", f"{PODS}/p", made | {"metadata": made["metadata"] | {"labels": {}}})
    assert (stale.status, stale.json["reason"]) == (409, "Conflict")


@pytest.mark.parametrize(
    ("mode", "status", "warns"), [("Strict", 400, False), ("Warn", 201, True), ("Ignore", 201, False), ("", 201, True)]
)
async def test_unknown_fields(cluster: Cluster, mode: str, status: int, warns: bool) -> None:
    obj = pod() | {"spec": pod()["spec"] | {"nonsense": 1}}
    answer = await cluster.ask("POST", f"{PODS}?fieldValidation={mode}", obj)
    assert (answer.status, "Warning" in answer.headers) == (status, warns)
    if status == 400:
        assert answer.json["message"].endswith('strict decoding error: unknown field "spec.nonsense"')
    else:
        assert "nonsense" not in answer.json["spec"]


@pytest.mark.parametrize(("method", "content_type", "status"), [("POST", "text/plain", 415), ("PATCH", "application/json", 415)])
async def test_other_media_types_are_refused(cluster: Cluster, method: str, content_type: str, status: int) -> None:
    path = PODS if method == "POST" else f"{PODS}/p"
    answer = await cluster.ask(method, path, pod(), headers={"Content-Type": content_type})
    assert (answer.status, answer.json["reason"]) == (status, "UnsupportedMediaType")


async def test_yaml_bodies_are_read(cluster: Cluster) -> None:
    text = "metadata: {name: y, annotations: {when: '2020-01-01'}}\nspec: {containers: [{name: c, image: i}]}\n"
    answer = await cluster.ask("POST", PODS, text, headers={"Content-Type": "application/yaml"})
    assert answer.status == 201, answer.text


async def test_body_over_three_mebibytes_is_refused(cluster: Cluster) -> None:
    answer = await cluster.ask("POST", PODS, io.BytesIO(b'"' + b"x" * (3 << 20) + b'"'))
    assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")


async def test_dry_run_stores_nothing(cluster: Cluster) -> None:
    version = cluster.storage.version
    assert (await cluster.ask("POST", f"{PODS}?dryRun=All", pod())).status == 201
    assert (cluster.storage.list("pods"), cluster.storage.version) == ([], version)


async def test_deletion_answers_with_the_pod_or_a_status(cluster: Cluster) -> None:
    await cluster.create(PODS, pod())
    await cluster.create(DEPLOYMENTS, workload())
    gone = await cluster.ask("DELETE", f"{PODS}/p")
    assert (gone.status, gone.json["kind"]) == (200, "Pod")
    status = (await cluster.ask("DELETE", f"{DEPLOYMENTS}/web")).json
    assert (status["kind"], status["status"], status["details"]["group"]) == ("Status", "Success", "apps")


async def test_collection_is_deleted_by_selector(cluster: Cluster) -> None:
    for name, label in (("a", "x"), ("b", "y"), ("c", "x")):
        await cluster.create(PODS, pod(name, labels={"l": label}))
    answer = await cluster.ask("DELETE", f"{PODS}?labelSelector=l=x")
    assert [item["metadata"]["name"] for item in answer.json["items"]] == ["a", "c"]
    assert [obj["metadata"]["name"] for obj in cluster.storage.list("pods")] == ["b"]


async def test_scale_is_read_and_written(cluster: Cluster) -> None:
    await cluster.create(DEPLOYMENTS, workload(replicas=2))
    scale = (await cluster.ask("GET", f"{DEPLOYMENTS}/web/scale")).json
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 2}, "app=web")
    merge = {"Content-Type": "application/merge-patch+json"}
    answer = await cluster.ask("PATCH", f"{DEPLOYMENTS}/web/scale", {"spec": {"replicas": 5}}, headers=merge)
    assert answer.json["spec"] == {"replicas": 5}
    scale["spec"]["replicas"] = 7
    assert (await cluster.ask("PUT", f"{DEPLOYMENTS}/web/scale", scale)).status == 409


async def test_health_is_told_to_anyone_asked_for(cluster: Cluster) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        answer = await cluster.ask("GET", path)
        assert (answer.status, answer.text) == (200, "ok")


async def test_paths_outside_the_api_get_a_plain_404(cluster: Cluster) -> None:
    answer = await cluster.ask("GET", "/nonsense")
    assert (answer.status, answer.text) == (404, "404 page not found\n")


async def test_account_token_is_made_on_request(cluster: Cluster) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await cluster.create(accounts, {"metadata": {"name": "agent"}})
    answer = await cluster.ask("POST", f"{accounts}/agent/token", {"spec": {}})
    claims = cluster.pki.token_claims(answer.json["status"]["token"])
    assert claims is not None
    assert claims["sub"] == "system:serviceaccount:default:agent"


async def test_nobody_reads_more_than_rbac_allows(cluster: Cluster) -> None:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    uid = (await cluster.create(accounts, {"metadata": {"name": "agent"}}))["metadata"]["uid"]
    headers = {"Authorization": "Bearer " + cluster.pki.service_account_token("default", "agent", uid)}
    assert (await cluster.ask("GET", PODS, headers=headers)).status == 403
    subjects = [{"kind": "ServiceAccount", "name": "agent", "namespace": "default"}]
    binding = {"metadata": {"name": "b"}, "subjects": subjects, "roleRef": {"kind": "ClusterRole", "name": "view"}}
    await cluster.create("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", binding)
    assert (await cluster.ask("GET", PODS, headers=headers)).status == 200
    assert (await cluster.ask("DELETE", f"{PODS}/p", headers=headers)).status == 403
    assert (await cluster.ask("GET", "/api/v1/pods", headers=headers)).status == 403
    cluster.storage.delete("serviceaccounts", "default", "agent")
    assert (await cluster.ask("GET", PODS, headers=headers)).status == 401
