"""Services, step by step: the endpoints and slices that controllers make of them follow their pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api_cluster import set_running
from api_objects import pod, service, workload

if TYPE_CHECKING:
    from api_stepwise import Demo

Json = dict[str, Any]


def slices(demo: Demo, name: str = "web") -> dict[str, Json]:
    wanted = {"kubernetes.io/service-name": name}
    listed = demo.storage.list("endpointslices")
    return {s["addressType"]: s for s in listed if wanted.items() <= s["metadata"]["labels"].items()}


def test_slices_follow_pods_in_both_families(demo: Demo) -> None:
    demo.storage.create("services", service(ipFamilyPolicy="RequireDualStack"))
    demo.settle()
    assert {family: s["endpoints"] for family, s in slices(demo).items()} == {"IPv4": [], "IPv6": []}
    demo.storage.create("deployments", workload(replicas=2))
    demo.until_settled()
    for family, item in slices(demo).items():
        assert item["ports"] == [{"name": "", "protocol": "TCP", "port": 8080}]
        assert [":" in e["addresses"][0] for e in item["endpoints"]] == [family == "IPv6"] * 2
        first = item["endpoints"][0]
        assert first["conditions"] == {"ready": True, "serving": True, "terminating": False}
        assert first["targetRef"]["kind"] == "Pod"
        assert first["nodeName"].startswith("node-")
    addresses = demo.get("endpoints", "web")["subsets"][0]["addresses"]
    assert len(addresses) == 2


def test_pods_that_end_or_are_not_ready_are_marked(demo: Demo) -> None:
    demo.storage.create("services", service())
    demo.storage.create("deployments", workload(replicas=2))
    demo.until_settled()
    first, second = demo.pods(app="web")
    demo.storage.request_deletion("pods", "default", first["metadata"]["name"])
    conditions = [{"type": "Ready", "status": "False"}]
    demo.storage.update_status("pods", {**second, "status": {**second["status"], "conditions": conditions}})
    demo.settle()
    by_name = {e["targetRef"]["name"]: e["conditions"] for e in slices(demo)["IPv4"]["endpoints"]}
    assert by_name[first["metadata"]["name"]] == {"ready": False, "serving": True, "terminating": True}
    assert by_name[second["metadata"]["name"]] == {"ready": False, "serving": False, "terminating": False}
    subsets = demo.get("endpoints", "web")["subsets"]
    assert [len(subset.get("notReadyAddresses", ())) for subset in subsets] == [2]


def test_slices_go_with_their_service(demo: Demo) -> None:
    demo.storage.create("services", service())
    demo.settle()
    demo.storage.request_deletion("services", "default", "web")
    demo.settle()
    assert slices(demo) == {}


def test_more_than_a_hundred_endpoints_are_split(demo: Demo) -> None:
    demo.storage.create("services", service())
    for number in range(101):
        made = demo.storage.create("pods", pod(f"p{number}", labels={"app": "web"}))
        set_running(demo.storage, made, f"10.2.0.{number}")
    demo.settle()
    listed = [s for s in demo.storage.list("endpointslices") if s["metadata"].get("generateName") == "web-"]
    assert sorted(len(s["endpoints"]) for s in listed) == [1, 100]


def test_the_api_has_its_own_service(demo: Demo) -> None:
    demo.settle()
    spec = demo.get("services", "kubernetes")["spec"]
    assert spec["clusterIPs"] == ["10.96.0.1", "fd00:10:96::1"]
    found = slices(demo, "kubernetes")
    assert found["IPv4"]["endpoints"][0]["addresses"] == ["10.0.0.1"]
    assert found["IPv6"]["ports"] == [{"name": "https", "protocol": "TCP", "port": 6443}]
