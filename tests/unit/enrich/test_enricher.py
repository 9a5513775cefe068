"""Records in, names out: both ends of every kind of connection, at the time it was."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from enrich_samples import CONTAINER, SECOND, Clock, Tree, packed, pod, records, uid

from flows.agent.enrich.kube_records import NodeRecord, Record, ServiceRecord
from flows.agent.enrich.kube_source import SourceStatus
from flows.flow.endpoint import Endpoint, Evidence, Reserved, ServiceName
from flows.kube.resource import Changes, Relisted

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.agent.enrich.enricher import Enricher

    Make = Callable[..., Enricher]

NODE = "192.168.0.1"


class Told:
    """A source that says what the test says."""

    def __init__(self) -> None:
        self.sink: Callable[[Changes | Relisted], None] = lambda _: None
        self.stopped = False

    def start(self, sink: Callable[[Changes | Relisted], None]) -> None:
        self.sink = sink

    def stop(self) -> None:
        self.stopped = True

    def status(self) -> SourceStatus:
        return SourceStatus(True, 1.0, {})


def tell(enricher: Enricher, resource: str, *made: Record, deleted: tuple[str, ...] = ()) -> None:
    enricher._inbox.append(Changes(resource, made, deleted))


def ends(enricher: Enricher, *rows: dict[str, Any]) -> list[tuple[Endpoint, Endpoint]]:
    """Both ends' endpoints of each record."""
    local, remote = enricher.resolve(records(*rows))
    assert local.dtype == remote.dtype == np.dtype(np.uint32)
    return [(enricher.endpoint(a), enricher.endpoint(b)) for a, b in zip(local.tolist(), remote.tolist(), strict=True)]


def test_pod_to_pod_by_cgroup_and_address(tree: Tree, make_enricher: Make) -> None:
    cgroup = tree.pod(1)
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.1"), pod(2, "10.0.0.2", node="node-2"))
    [(local, remote)] = ends(enricher, {"cgroup_id": cgroup, "local": "10.0.0.1", "remote": "10.0.0.2"})
    assert (local.pod, local.evidence, local.container and local.container.id) == (
        "web-1",
        Evidence.CGROUP,
        CONTAINER,
    )
    assert (remote.pod, remote.evidence, remote.node) == ("web-2", Evidence.ADDRESS, "node-2")


def test_ipv6_is_named_alike(tree: Tree, make_enricher: Make) -> None:
    cgroup = tree.pod(1)
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.1", "fd00::1"), pod(2, "fd00::2"))
    [(local, remote)] = ends(enricher, {"cgroup_id": cgroup, "local": "fd00::1", "remote": "fd00::2"})
    assert (local.pod, remote.pod) == ("web-1", "web-2")


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


def pair(client: int, server: int, here: str, there: str, **fields: Any) -> list[dict[str, Any]]:
    """The records of both ends of one connection to port 80."""
    return [
        {
            "cgroup_id": client,
            "local": here,
            "remote": there,
            "local_port": 5000,
            "remote_port": 80,
            "conn_id": 1,
            **fields,
        },
        {
            "cgroup_id": server,
            "local": there,
            "remote": here,
            "local_port": 80,
            "remote_port": 5000,
            "conn_id": 2,
            **fields,
        },
    ]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        (NODE, NODE),
        ("172.17.0.2", "172.17.0.3"),
        ("172.17.0.2", NODE),
    ],
)
def test_both_ends_on_this_node_name_each_other(tree: Tree, make_enricher: Make, here: str, there: str) -> None:
    client, server = tree.make(f"docker/{CONTAINER}"), tree.make("system.slice/nginx.service")
    (a, b), (c, d) = ends(make_enricher(), *pair(client, server, here, there))
    assert (a.cgroup, a.evidence) == (d.cgroup, Evidence.CGROUP)
    assert (b.systemd_unit, c.systemd_unit, b.evidence) == (
        "nginx.service",
        "nginx.service",
        Evidence.CONNECTION,
    )
    assert d.evidence is Evidence.CONNECTION


def test_loopback_of_a_pod_is_the_pod_though_the_other_socket_is_not_seen(tree: Tree, make_enricher: Make) -> None:
    cgroup = tree.pod(1)
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.1"))
    [(_, remote)] = ends(enricher, {"cgroup_id": cgroup, "local": "127.0.0.1", "remote": "127.0.0.1", "remote_port": 80})
    assert (remote.pod, remote.evidence) == ("web-1", Evidence.ADDRESS)


def test_containers_of_a_pod_name_each_other_over_its_loopback(tree: Tree, make_enricher: Make) -> None:
    one, two = tree.pod(1, "a" * 64), tree.pod(1, "b" * 64)
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.1", containers=(("a" * 64, "app"), ("b" * 64, "proxy"))))
    (_, b), (_, d) = ends(enricher, *pair(one, two, "127.0.0.1", "127.0.0.1"))
    assert [end.container and end.container.name for end in (b, d)] == ["proxy", "app"]


def test_pod_and_kubelet_name_each_other(tree: Tree, make_enricher: Make) -> None:
    kubelet, container = tree.make("system.slice/kubelet.service"), tree.pod(1)
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.1"))
    (_, b), (_, d) = ends(enricher, *pair(container, kubelet, "10.0.0.1", NODE))
    assert (b.systemd_unit, b.evidence) == ("kubelet.service", Evidence.CONNECTION)
    assert (d.pod, d.evidence) == ("web-1", Evidence.ADDRESS)


@pytest.mark.parametrize("scopes", [(7, 8), (0, 0), (7, 0)])
def test_loopback_of_another_or_unknown_network_namespace_is_not_joined(
    tree: Tree, make_enricher: Make, scopes: tuple[int, int]
) -> None:
    client, server = tree.make("a.service"), tree.make("b.service")
    rows = pair(client, server, "127.0.0.1", "127.0.0.1")
    for row, netns in zip(rows, scopes, strict=True):
        row["netns"] = netns
    assert [remote.evidence for _, remote in ends(make_enricher(), *rows)] == [Evidence.RANGE] * 2


@pytest.mark.parametrize("field", ["protocol", "local_port", "remote_port", "remote"])
def test_another_connection_is_not_joined(tree: Tree, make_enricher: Make, field: str) -> None:
    client, server = tree.make("a.service"), tree.make("b.service")
    rows = pair(client, server, NODE, NODE)
    rows[1][field] = "127.0.0.9" if field == "remote" else 17
    assert [remote.systemd_unit for _, remote in ends(make_enricher(), *rows)] == ["", ""]


def test_other_end_seen_later_comes_as_a_late_name(tree: Tree, make_enricher: Make) -> None:
    client, server = tree.make("a.service"), tree.make("b.service")
    enricher = make_enricher()
    first, second = pair(client, server, NODE, NODE)
    enricher.late_names()
    [(_, remote)] = ends(enricher, first)
    assert remote.identity == Reserved.HOST
    enricher.late_names()
    [(_, named)] = ends(enricher, second)
    [late] = enricher.late_names()
    assert (named.systemd_unit, late.connections.tolist()) == ("a.service", [1])
    assert enricher.endpoint(int(late.connection_numbers[0])).systemd_unit == "b.service"
    ends(enricher, first, second)
    assert enricher.late_names() == []


def test_a_pod_that_the_api_names_late_keeps_its_number(tree: Tree, make_enricher: Make) -> None:
    cgroup = tree.pod(1)
    enricher = make_enricher()
    local, _ = enricher.resolve(records({"cgroup_id": cgroup, "local": "10.0.0.1", "remote": "8.8.8.8"}))
    assert (enricher.endpoint(int(local[0])).pod, enricher.endpoint(int(local[0])).cgroup[:5]) == (
        "",
        "/kube",
    )
    generation = enricher.generation
    tell(enricher, "pods", pod(1, "10.0.0.1"))
    again, _ = enricher.resolve(records({"cgroup_id": cgroup, "local": "10.0.0.1", "remote": "8.8.8.8"}))
    assert (again.tolist(), enricher.endpoint(int(local[0])).pod) == (local.tolist(), "web-1")
    assert enricher.generation > generation


def test_addresses_that_the_api_names_late_are_told(make_enricher: Make, clock: Clock) -> None:
    enricher = make_enricher()
    enricher.apply_changes()
    enricher.late_names()
    tell(
        enricher,
        "pods",
        pod(1, "10.0.0.1", started_ns=4900 * SECOND),
        pod(2, "10.0.0.2", started_ns=9999 * SECOND),
    )
    enricher.apply_changes()
    [late] = enricher.late_names()
    assert [bytes(row) for row in late.addresses] == [packed("10.0.0.1"), packed("10.0.0.2")]
    assert late.since_ns.tolist() == [898 * SECOND, clock.monotonic_ns() - 2 * SECOND]
    assert [enricher.endpoint(number).pod for number in late.numbers.tolist()] == ["web-1", "web-2"]
    assert (len(late), late.connections.size) == (2, 0)


@pytest.mark.parametrize(
    ("resource", "record", "shown"),
    [
        ("services", ServiceRecord("s", "shop", "web", (), (packed("10.96.0.9"),), 4900 * SECOND), "web"),
        ("nodes", NodeRecord("n", "node-2", (packed("10.96.0.9"),)), "node-2"),
        ("own pods", pod(2, "10.96.0.9", started_ns=4900 * SECOND), "web-2"),
    ],
)
def test_services_nodes_and_pods_named_late_are_told_with_their_address(
    make_enricher: Make, resource: str, record: Record, shown: str
) -> None:
    enricher = make_enricher()
    assert ends(enricher, {"remote": "10.96.0.9", "time_ns": 950 * SECOND})[0][1].identity == Reserved.WORLD
    enricher.late_names()
    tell(enricher, resource, record)
    enricher.apply_changes()
    [late] = enricher.late_names()
    assert [bytes(row) for row in late.addresses] == [packed("10.96.0.9")]
    assert int(late.since_ns[0]) <= 950 * SECOND
    found = enricher.endpoint(int(late.numbers[0]))
    assert shown in (found.service and found.service.name, found.node, found.pod)


def test_an_address_that_comes_with_a_later_change_names_flows_since_the_pod_ran(make_enricher: Make, clock: Clock) -> None:
    enricher = make_enricher()
    tell(enricher, "pods", pod(1))
    enricher.apply_changes()
    enricher.late_names()
    clock.seconds += 7
    tell(enricher, "pods", pod(1, "10.0.0.1", started_ns=5003 * SECOND))
    enricher.apply_changes()
    [late] = enricher.late_names()
    assert (late.since_ns.tolist(), late.former.tolist()) == ([1001 * SECOND], [0])
    assert enricher.endpoint(int(late.numbers[0])).pod == "web-1"


def test_nodes_and_this_nodes_labels_are_given(make_enricher: Make) -> None:
    enricher = make_enricher()
    assert (enricher.nodes(), enricher.node_labels()) == ({}, ())
    labels = (("kubernetes.io/arch", "amd64"), ("zone", "a"))
    here, there = NodeRecord("n1", "node-1", (packed(NODE),), labels), NodeRecord("n2", "node-2", (packed("192.168.0.2"),))
    tell(enricher, "nodes", here, there)
    enricher.apply_changes()
    nodes = enricher.nodes()
    assert (nodes, enricher.node_labels()) == ({"node-1": here, "node-2": there}, ("kubernetes.io/arch=amd64", "zone=a"))
    tell(enricher, "pods", pod(1))
    tell(enricher, "nodes", here)
    enricher.apply_changes()
    assert enricher.nodes() is nodes
    tell(enricher, "nodes", deleted=("n2",))
    enricher.apply_changes()
    assert list(enricher.nodes()) == ["node-1"]


def test_labels_change_in_place(make_enricher: Make) -> None:
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.1"))
    _, before = enricher.resolve(records({"remote": "10.0.0.1"}))
    old = enricher.endpoint(int(before[0]))
    tell(enricher, "pods", pod(1, "10.0.0.1", labels=(("app", "new"),)))
    _, after = enricher.resolve(records({"remote": "10.0.0.1"}))
    new = enricher.endpoint(int(after[0]))
    assert before.tolist() == after.tolist()
    assert ("k8s:app=new" in new.labels, old.identity != new.identity) == (True, True)


def test_interface_addresses_may_change(make_enricher: Make, clock: Clock) -> None:
    enricher = make_enricher(node_addresses=[NODE, "fe80::1%eth0", "nonsense"])
    assert ends(enricher, {"remote": "fe80::1"})[0][1].identity == Reserved.HOST
    clock.seconds += 5
    enricher.set_node_addresses([NODE])
    assert ends(enricher, {"remote": "fe80::1", "time_ns": clock.monotonic_ns()})[0][1].identity == Reserved.WORLD


def test_numbers_are_freed_when_neither_stored_nor_alive(tree: Tree, make_enricher: Make, clock: Clock) -> None:
    cgroup = tree.pod(1)
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.1"))
    row = {"cgroup_id": cgroup, "local": "10.0.0.1", "remote": "10.0.0.1"}
    local, remote = enricher.resolve(records(row))
    both = np.concatenate((local, remote))
    tell(enricher, "pods", deleted=(uid(1),))
    list(enricher._tree.scan())
    (tree.root / f"kubepods/pod{uid(1)}/{CONTAINER}").rmdir()
    enricher._read_tree()
    for in_use in (both, both):
        enricher.retain(in_use)
    enricher.apply_changes()
    assert [enricher.endpoint(number).pod for number in both.tolist()] == ["web-1", "web-1"]
    clock.seconds += 600
    for _ in range(2):
        enricher.retain(np.zeros(0, np.uint32))
    enricher.apply_changes()
    enricher._purge(clock.monotonic_ns())
    for _ in range(2):
        enricher.retain(np.zeros(0, np.uint32))
    enricher.apply_changes()
    assert [enricher.endpoint(number) for number in both.tolist()] == [Endpoint(), Endpoint()]
    [(late, _)] = ends(enricher, row)
    assert (late.pod, late.identity) == ("", Reserved.WORLD)


def test_deleted_pods_that_no_number_needs_are_not_remembered(tree: Tree, make_enricher: Make) -> None:
    tree.pod(1)
    enricher = make_enricher()
    tell(enricher, "pods", pod(1), pod(2), pod(3, "10.0.0.3"))
    tell(enricher, "pods", deleted=(uid(1), uid(2), uid(3)))
    enricher.apply_changes()
    assert set(enricher._names.directory.former) == {uid(1), uid(3)}  # one has a cgroup, one an address


def test_an_empty_batch_is_fine(make_enricher: Make) -> None:
    local, remote = make_enricher().resolve(records())
    assert (local.size, remote.size) == (0, 0)


def test_a_slice_of_a_larger_array_is_fine(make_enricher: Make) -> None:
    many = records(*[{"remote": f"10.0.0.{i}"} for i in range(1, 9)])
    enricher = make_enricher()
    tell(enricher, "pods", pod(1, "10.0.0.3"))
    assert [enricher.endpoint(n).pod for n in enricher.resolve(many[1:6:2])[1].tolist()] == ["", "", ""]
    assert [enricher.endpoint(n).pod for n in enricher.resolve(many[2:4])[1].tolist()] == ["web-1", ""]


async def test_run_follows_the_tree_and_the_source(tree: Tree, make_enricher: Make) -> None:
    told = Told()
    enricher = make_enricher(source=told)
    task = asyncio.create_task(enricher.run())
    await asyncio.sleep(0)
    cgroup = tree.pod(1)
    told.sink(Changes("pods", (pod(1, "10.0.0.1"),)))
    for _ in range(200):
        await asyncio.sleep(0.005)
        [(local, _)] = ends(enricher, {"cgroup_id": cgroup, "local": "10.0.0.1", "remote": "8.8.8.8"})
        enricher._gone_until = dict.fromkeys(enricher._gone_until, 0)
        enricher._purge(1)
        if local.evidence is Evidence.CGROUP:
            break
    assert (local.pod, local.evidence) == ("web-1", Evidence.CGROUP)
    assert enricher.source_status() == SourceStatus(True, 1.0, {})
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert told.stopped
