"""Names that come late, change or go: what was numbered before is told, renamed or freed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from enrich_samples import CONTAINER, NODE, SECOND, Clock, Make, Tree, ends, packed, pod, records, tell, uid

from flows.agent.enrich.kube_records import NodeRecord, Record, ServiceRecord
from flows.agent.enrich.kube_source import SourceStatus
from flows.flow.endpoint import Endpoint, Evidence, Reserved
from flows.kube.resource import Changes, Relisted

if TYPE_CHECKING:
    from collections.abc import Callable


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


class Told:
    """A source that says what the test says."""

    def __init__(self) -> None:
        self.sink: Callable[[Changes[Record] | Relisted], None] = lambda _: None
        self.stopped = False

    def start(self, sink: Callable[[Changes[Record] | Relisted], None]) -> None:
        self.sink = sink

    def stop(self) -> None:
        self.stopped = True

    def status(self) -> SourceStatus:
        return SourceStatus(True, 1.0, {})


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
