"""Records in, names out: both ends of every kind of connection, at the time it was."""

from __future__ import annotations

from typing import Any

import pytest
from enrich_samples import CONTAINER, NODE, SECOND, Clock, Make, Tree, ends, packed, pod, records, tell, uid

from flows.agent.enrich.kube_records import NodeRecord, ServiceRecord
from flows.flow.endpoint import Evidence, Reserved, ServiceName


@pytest.mark.parametrize(
    ("here", "there", "local_address", "remote_address"),
    [
        pytest.param(("10.0.0.1",), ("10.0.0.2",), "10.0.0.1", "10.0.0.2", id="IPv4"),
        pytest.param(("10.0.0.1", "fd00::1"), ("fd00::2",), "fd00::1", "fd00::2", id="IPv6 is named alike"),
    ],
)
def test_pod_to_pod_by_cgroup_and_address(
    tree: Tree, make_enricher: Make, here: tuple[str, ...], there: tuple[str, ...], local_address: str, remote_address: str
) -> None:
    cgroup = tree.pod(1)
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, *here), pod(2, *there, node="node-2"))
    [(local, remote)] = ends(enricher, {"cgroup_id": cgroup, "local": local_address, "remote": remote_address})
    assert (local.pod, local.evidence, local.container and local.container.id) == (
        "web-1",
        Evidence.CGROUP,
        CONTAINER,
    )
    assert (remote.pod, remote.evidence, remote.node) == ("web-2", Evidence.ADDRESS, "node-2")


@pytest.mark.parametrize(
    ("address", "identity", "evidence"),
    [
        ("8.8.8.8", Reserved.WORLD, Evidence.RANGE),
        ("2001:db8::1", Reserved.WORLD, Evidence.RANGE),
        ("10.9.9.9", Reserved.WORLD, Evidence.RANGE),
        ("169.254.169.254", Reserved.WORLD, Evidence.RANGE),
        ("224.0.0.251", Reserved.WORLD, Evidence.RANGE),
        ("127.0.0.1", Reserved.HOST, Evidence.RANGE),
        ("127.0.0.53", Reserved.HOST, Evidence.RANGE),
        ("::1", Reserved.HOST, Evidence.RANGE),
        (NODE, Reserved.HOST, Evidence.ADDRESS),
        ("192.168.0.2", Reserved.REMOTE_NODE, Evidence.ADDRESS),
        ("0.0.0.0", Reserved.UNKNOWN, Evidence.UNKNOWN),
        ("::", Reserved.UNKNOWN, Evidence.UNKNOWN),
    ],
)
def test_remote_addresses_without_a_pod(make_enricher: Make, address: str, identity: int, evidence: Evidence) -> None:
    enricher = make_enricher()
    tell(enricher, "nodes", NodeRecord("n2", "node-2", (packed("192.168.0.2"),)))
    [(_, remote)] = ends(enricher, {"local": "10.0.0.1", "remote": address})
    assert (remote.identity, remote.evidence) == (identity, evidence)


def test_cluster_ip_names_the_service(make_enricher: Make) -> None:
    enricher = make_enricher()
    tell(enricher, "services", ServiceRecord("s", "shop", "web", (("app", "web"),), (packed("10.96.0.9"),), 0))
    [(_, remote)] = ends(enricher, {"local": NODE, "remote": "10.96.0.9"})
    assert remote.service == ServiceName("shop", "web")


def test_units_and_containers_without_an_api(tree: Tree, make_enricher: Make) -> None:
    unit, container = tree.make("system.slice/nginx.service"), tree.make(f"docker/{CONTAINER}")
    enricher = make_enricher()
    (one, _), (two, _) = ends(
        enricher,
        {"cgroup_id": unit, "local": NODE, "remote": "8.8.8.8"},
        {"cgroup_id": container, "local": "172.17.0.2", "remote": "8.8.8.8"},
    )
    assert (one.systemd_unit, one.identity, one.node) == ("nginx.service", Reserved.HOST, "node-1")
    assert two.container is not None
    assert (two.container.id, two.container.runtime) == (CONTAINER, "docker")


@pytest.mark.parametrize("cgroup_id", [0, 1 << 60])
def test_local_end_falls_back_to_its_address(make_enricher: Make, cgroup_id: int) -> None:
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.1"))
    [(local, _)] = ends(enricher, {"cgroup_id": cgroup_id, "local": "10.0.0.1", "remote": "8.8.8.8"})
    assert (local.pod, local.evidence) == ("web-1", Evidence.ADDRESS)


def test_root_cgroup_tells_nothing(tree: Tree, make_enricher: Make) -> None:
    root = tree.root.stat().st_ino
    [(local, _)] = ends(make_enricher(), {"cgroup_id": root, "local": NODE, "remote": "8.8.8.8"})
    assert (local.identity, local.evidence, local.cgroup) == (Reserved.HOST, Evidence.ADDRESS, "")


def test_a_reused_address_belongs_to_who_had_it_at_the_flows_time(make_enricher: Make, clock: Clock) -> None:
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.9", started_ns=4100 * SECOND))  # monotonic 100
    enricher.apply_changes()
    clock.seconds = 1100.0
    tell(enricher, "pods", deleted=(uid(1),))
    enricher.apply_changes()
    clock.seconds = 1200.0
    tell(enricher, "pods", pod(2, "10.0.0.9", started_ns=5150 * SECOND))  # monotonic 1150
    seen = ends(
        enricher,
        {"remote": "10.0.0.9", "time_ns": 1050 * SECOND},
        {"remote": "10.0.0.9", "time_ns": 1120 * SECOND},
        {"remote": "10.0.0.9", "time_ns": 1190 * SECOND},
        {"remote": "10.0.0.9", "time_ns": 1190 * SECOND, "start_ns": 1000 * SECOND},
    )
    assert [remote.pod for _, remote in seen] == ["web-1", "", "web-2", "web-1"]
    assert seen[1][1].identity == Reserved.WORLD


@pytest.mark.parametrize("change", [{"addresses": ()}, {"host_network": True, "addresses": ()}])
def test_an_ended_pod_frees_its_address(make_enricher: Make, clock: Clock, change: dict[str, Any]) -> None:
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.9"))
    enricher.apply_changes()
    clock.seconds += 5
    tell(enricher, "pods", pod(1, **change))
    [(_, remote)] = ends(enricher, {"remote": "10.0.0.9", "time_ns": clock.monotonic_ns()})
    assert remote.identity == Reserved.WORLD


def test_host_network_pod_is_named_by_its_cgroup_and_does_not_own_the_node(tree: Tree, make_enricher: Make) -> None:
    cgroup = tree.pod(1)
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, host_network=True))
    [(local, remote)] = ends(enricher, {"cgroup_id": cgroup, "local": NODE, "remote": NODE, "remote_port": 80})
    assert (local.pod, remote.pod, remote.identity) == ("web-1", "", Reserved.HOST)


def test_an_empty_batch_is_fine(make_enricher: Make) -> None:
    local, remote = make_enricher().resolve(records())
    assert (local.size, remote.size) == (0, 0)


def test_a_slice_of_a_larger_array_is_fine(make_enricher: Make) -> None:
    many = records(*[{"remote": f"10.0.0.{i}"} for i in range(1, 9)])
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.3"))
    assert [enricher.endpoint(n).pod for n in enricher.resolve(many[1:6:2])[1].tolist()] == ["", "", ""]
    assert [enricher.endpoint(n).pod for n in enricher.resolve(many[2:4])[1].tolist()] == ["web-1", ""]
