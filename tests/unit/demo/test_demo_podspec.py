"""A pod's spec: environment, DNS settings, hosts, volumes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.demo.layout import NODES
from flows.demo.node import podspec, volumes
from flows.demo.node.podspec import MissingObjectError, PodContext

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]
OBJECTS: dict[tuple[str, str, str], Json] = {
    ("configmaps", "demo", "settings"): {"data": {"MODE": "fast", "app.conf": "x=1\n"}},
    ("secrets", "demo", "keys"): {"data": {"token": base64.b64encode(b"s3cret").decode()}},
}


def context(**spec: Any) -> PodContext:
    pod = {
        "metadata": {"name": "web-0", "namespace": "demo", "uid": "u-1", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}], **spec},
    }
    return PodContext(pod, ["10.244.1.2", "fd00:10:244:1::2"], NODES[0], lambda r, ns, n: OBJECTS.get((r, ns, n)))


RESOLV = [
    (
        {},
        "search demo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
    ),
    ({"dnsPolicy": "Default"}, None),
    ({"hostNetwork": True}, None),
    (
        {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
        "search demo.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
    ),
    (
        {"dnsConfig": {"options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}], "searches": ["corp"]}},
        "search demo.svc.cluster.local svc.cluster.local cluster.local corp\nnameserver 10.96.0.10\noptions ndots:2 edns0\n",
    ),
    ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"]}}, "nameserver 192.0.2.1\n"),
]


@pytest.mark.parametrize(("spec", "text"), RESOLV)
def test_resolv_conf_follows_the_dns_policy(spec: Json, text: str | None) -> None:
    assert podspec.resolv_conf(context(**spec)) == text


ENV = [
    ([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(NONE)$$(A)"}], {"A": "1", "B": "1$(NONE)$(A)"}),
    ([{"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}], {"P": "10.244.1.2"}),
    ([{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}], {"N": "node-1"}),
    ([{"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}], {"L": "web"}),
    ([{"name": "M", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "MODE"}}}], {"M": "fast"}),
    ([{"name": "S", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}}], {"S": "s3cret"}),
]


@pytest.mark.parametrize(("env", "expected"), ENV)
def test_environment_is_worked_out_as_a_kubelet_does(env: list[Json], expected: dict[str, str]) -> None:
    got = podspec.environment({"env": env}, context())
    assert expected.items() <= got.items()
    assert got["HOSTNAME"] == "web-0"


def test_env_from_takes_all_keys_with_a_prefix() -> None:
    env = podspec.environment({"envFrom": [{"prefix": "X_", "configMapRef": {"name": "settings"}}]}, context())
    assert env["X_MODE"] == "fast"


MISSING = [
    {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "nope", "key": "k"}}}]},
    {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "nope"}}}]},
    {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.nope"}}}]},
    {"envFrom": [{"secretRef": {"name": "nope"}}]},
]


@pytest.mark.parametrize("container", MISSING)
def test_what_does_not_exist_is_named(container: Json) -> None:
    with pytest.raises(MissingObjectError, match=r"nope"):
        podspec.environment(container, context())


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_any_text_is_expanded_without_a_crash(text: str, env: dict[str, str]) -> None:
    podspec.expand(text, env)


def test_hosts_file_names_the_pod_by_both_addresses() -> None:
    text = podspec.hosts_file(context(hostAliases=[{"ip": "192.0.2.9", "hostnames": ["a", "b"]}]))
    assert "10.244.1.2\tweb-0\nfd00:10:244:1::2\tweb-0\n192.0.2.9\ta\tb\n" in text


def test_volumes_hold_what_their_sources_say(tmp_path: Path) -> None:
    ctx = context(
        volumes=[
            {"name": "conf", "configMap": {"name": "settings", "items": [{"key": "app.conf", "path": "d/app.conf"}]}},
            {"name": "keys", "secret": {"secretName": "keys"}},
            {"name": "scratch", "emptyDir": {}},
            {
                "name": "all",
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token"}},
                        {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
                    ]
                },
            },
        ]
    )
    made = volumes.prepare(tmp_path, ctx, lambda: {"token": "t0ken"})
    assert (made["conf"] / "d/app.conf").read_text() == "x=1\n"
    assert (made["keys"] / "token").read_text() == "s3cret"
    assert list(made["scratch"].iterdir()) == []
    assert {p.name: p.read_text() for p in made["all"].iterdir()} == {"token": "t0ken", "ns": "demo"}


def test_a_volumes_file_cannot_leave_the_volume(tmp_path: Path) -> None:
    items = [{"key": "MODE", "path": "../../evil"}]
    ctx = context(volumes=[{"name": "v", "configMap": {"name": "settings", "items": items}}])
    with pytest.raises(MissingObjectError, match="leads out"):
        volumes.prepare(tmp_path / "pod", ctx, dict)


def test_mounts_come_parents_first(tmp_path: Path) -> None:
    container = {"volumeMounts": [{"name": "v", "mountPath": "/a/b", "readOnly": True}, {"name": "v", "mountPath": "/a"}]}
    assert volumes.mounts(container, {"v": tmp_path}) == [
        (str(tmp_path), "/a", False),
        (str(tmp_path), "/a/b", True),
    ]


def test_mount_of_an_unknown_volume_is_named() -> None:
    with pytest.raises(MissingObjectError, match="nope"):
        volumes.mounts({"volumeMounts": [{"name": "nope", "mountPath": "/a"}]}, {})
