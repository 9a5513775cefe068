"""Decoding of what a real kube-apiserver sent, and of rubbish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from enrich_samples import packed
from hypothesis import given
from hypothesis import strategies as st

from flows.agent.enrich.kube_objects import resources
from flows.agent.enrich.kube_records import ApiServerRecord, NodeRecord, Owner, PodRecord, Record, ServiceRecord
from flows.kube.listing import ListReader
from flows.kube.resource import Codec
from flows.kube.wire import ListMeta, decode_status

DATA = Path(__file__).parents[2] / "data" / "kubernetes-api"


def body(name: str) -> bytes:
    return (DATA / f"{name}.http").read_bytes().partition(b"\r\n\r\n")[2]


def codec(resource: str, node: str = "node-0") -> Codec[Record]:
    return next(Codec(one) for one in resources(node) if one.name == resource)


def page(resource: str, data: bytes, node: str = "node-0") -> tuple[ListMeta, list[Record]]:
    reader = next(ListReader(one) for one in resources(node) if one.name == resource)
    records = [record for part in reader.read([data]) for record in part]
    return reader.metadata, records


def pod_from(**parts: Any) -> PodRecord:
    metadata = {"name": "a", "namespace": "n", "uid": "u", **parts.pop("metadata", {})}
    text = json.dumps({"metadata": {}, "items": [{"metadata": metadata, **parts}]}).encode()
    record = page("pods", text)[1][0]
    assert isinstance(record, PodRecord)
    return record


def test_recorded_pods_page() -> None:
    metadata, records = page("pods", body("pods-page-1"))
    assert (metadata.resource_version, bool(metadata.continue_token), len(records)) == ("315", True, 5)
    first = records[0]
    assert isinstance(first, PodRecord)
    assert (first.namespace, first.name, first.node) == ("ns-0", "app-0-0", "node-0")
    assert first.addresses == (packed("10.244.0.1"),)
    assert first.owner == Owner("ReplicaSet", "app-0", "932463f8-c757-434f-962c-3458186c66f8")
    assert first.labels[0] == ("app", "app-0")
    assert first.containers == (("0" * 64, "c"),)
    assert first.started_ns == 1795437734 * 10**9


def test_containers_are_kept_for_this_node_only() -> None:
    _, records = page("pods", body("pods-page-1"), node="node-1")
    assert [bool(one.containers) for one in records if isinstance(one, PodRecord)] == [
        False,
        True,
        False,
        False,
        False,
    ]


def test_recorded_watch() -> None:
    events = [codec("pods").event(line) for line in body("pods-watch").splitlines()]
    assert [one.type for one in events][:5] == ["MODIFIED", "MODIFIED", "ADDED", "DELETED", "ADDED"]
    assert [one.version for one in events if one.type == "BOOKMARK"] == ["364"] * 3
    assert [one.version for one in events][:3] == ["316", "317", "318"]
    assert all(one.record is None for one in events if one.type == "BOOKMARK")
    deleted = next(one for one in events if one.type == "DELETED")
    assert deleted.uid == "1098fef4-33c5-423b-9a0d-cc1cd65c0726"


@pytest.mark.parametrize(("name", "code"), [("watch-expired-410", 410), ("watchlist-refused-by-old-etcd", 500)])
def test_recorded_error_events(name: str, code: int) -> None:
    event = codec("pods").event(body(name).strip())
    assert (event.type, event.status and event.status.code) == ("ERROR", code)


def test_recorded_nodes_services_slices_and_owners() -> None:
    node = page("nodes", body("nodes"))[1][0]
    service = page("services", body("services"))[1][0]
    slices = page("endpointslices", body("endpointslices"))[1]
    replicasets = page("replicasets", body("replicasets"))[1]
    namespaces = page("namespaces", body("namespaces"))[1]
    assert isinstance(node, NodeRecord)
    assert isinstance(service, ServiceRecord)
    assert (node.name, node.addresses) == ("node-0", (packed("192.168.0.1"),))
    assert (service.name, service.addresses, service.selector) == ("kubernetes", (packed("10.96.0.1"),), ())
    assert all(isinstance(one, ApiServerRecord) and not one.addresses for one in slices)  # of other Services
    assert (len(replicasets), len(namespaces)) == (2, 3)


@pytest.mark.parametrize("name", ["forbidden-403", "unauthorized-401", "continue-expired-410"])
def test_recorded_errors_have_a_message(name: str) -> None:
    status = decode_status(body(name))
    assert status.message
    assert str(status.code) == name[-3:]


def test_error_page_of_a_proxy_is_an_empty_status() -> None:
    assert decode_status(b"<html>bad gateway</html>").message is None
    assert decode_status(b"\xff").message is None


@pytest.mark.parametrize(
    ("parts", "owned"),
    [
        ({"status": {"phase": "Running", "podIP": "10.0.0.1"}}, ("10.0.0.1",)),
        ({"status": {"phase": "Pending", "podIP": "10.0.0.1"}}, ("10.0.0.1",)),
        (
            {"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}},
            ("10.0.0.1", "fd00::1"),
        ),
        ({"status": {"phase": "Succeeded", "podIP": "10.0.0.1"}}, ()),
        ({"status": {"phase": "Failed", "podIP": "10.0.0.1"}}, ()),
        ({"status": {"phase": "Running", "podIP": "10.0.0.1"}, "spec": {"hostNetwork": True}}, ()),
        ({"status": {"phase": "Pending"}}, ()),
        ({"status": None, "spec": None}, ()),
        ({"status": {"podIP": "nonsense", "podIPs": None}}, ()),
        (
            {
                "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"phase": "Running", "podIP": "10.0.0.1"},
            },
            ("10.0.0.1",),
        ),
    ],
)
def test_addresses_that_are_a_pods_own(parts: dict[str, Any], owned: tuple[str, ...]) -> None:
    assert pod_from(**parts).addresses == tuple(packed(address) for address in owned)


def test_nulls_of_go_are_absent() -> None:
    record = pod_from(
        metadata={"labels": None, "annotations": None, "ownerReferences": None},
        spec={"containers": None, "nodeName": None},
        status={"containerStatuses": None, "startTime": None},
    )
    assert (record.labels, record.owner, record.node, record.containers) == ((), None, "", ())


def test_only_the_controller_owns() -> None:
    references = [
        {"kind": "A", "name": "a", "uid": "1"},
        {"kind": "B", "name": "b", "uid": "2", "controller": True},
    ]
    assert pod_from(metadata={"ownerReferences": references}).owner == Owner("B", "b", "2")


def test_static_pods_configuration_hash() -> None:
    annotations = {"kubernetes.io/config.hash": "a" * 32, "other": "x" * 10_000}
    assert pod_from(metadata={"annotations": annotations}).config_hash == "a" * 32


def test_slice_of_the_kubernetes_service_has_the_api_servers() -> None:
    item = {"metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}}}
    endpoints = [{"addresses": ["172.18.0.2"]}, {"addresses": None}]
    text = json.dumps({"metadata": {}, "items": [{**item, "endpoints": endpoints}]}).encode()
    record = page("endpointslices", text)[1][0]
    assert isinstance(record, ApiServerRecord)
    assert record.addresses == (packed("172.18.0.2"),)


def test_other_slices_are_not_the_api_servers() -> None:
    item = {"metadata": {"namespace": "shop", "labels": {"kubernetes.io/service-name": "kubernetes"}}}
    text = json.dumps({"metadata": {}, "items": [{**item, "endpoints": [{"addresses": ["10.0.0.1"]}]}]}).encode()
    record = page("endpointslices", text)[1][0]
    assert isinstance(record, ApiServerRecord)
    assert record.addresses == ()


LINE = body("pods-watch").splitlines()[0]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)
OBJECTS = st.fixed_dictionaries({"type": st.sampled_from(["ADDED", "ERROR", "BOOKMARK", "X"]), "object": JSON})


@given(st.one_of(st.binary(), JSON.map(lambda x: json.dumps(x).encode()), OBJECTS.map(lambda x: json.dumps(x).encode())))
def test_any_line_is_an_event_or_a_decode_error(line: bytes) -> None:
    try:
        event = codec("pods").event(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    assert isinstance(event.type, str)


@given(st.integers(0, len(LINE) - 1), st.integers(0, 255))
def test_damaged_lines_are_an_event_or_a_decode_error(position: int, value: int) -> None:
    damaged = bytearray(LINE)
    damaged[position] = value
    for line in (bytes(damaged), LINE[:position]):
        try:
            codec("pods").event(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
