"""Two sockets of one connection on this node: each end is named by what the other one's record tells."""

from __future__ import annotations

from typing import Any

import pytest
from enrich_samples import CONTAINER, NODE, Make, Tree, ends, pod, tell

from flows.flow.endpoint import Evidence, Reserved


def pair(client: int, server: int, here: str, there: str) -> list[dict[str, Any]]:
    """The records of both ends of one connection to port 80."""
    return [
        {
            "cgroup_id": client,
            "local": here,
            "remote": there,
            "local_port": 5000,
            "remote_port": 80,
            "conn_id": 1,
        },
        {
            "cgroup_id": server,
            "local": there,
            "remote": here,
            "local_port": 80,
            "remote_port": 5000,
            "conn_id": 2,
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
