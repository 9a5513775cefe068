"""Addresses, routes and namespaces of nodes and pods."""

from __future__ import annotations

import pytest

from flows.demo import layout
from flows.demo.errors import DemoError
from flows.demo.node import podnet, wire
from flows.demo.node.podnet import FIRST_HOST, LAST_HOST, AddressPool, PodNetwork

NODE = layout.NODES[0]


def test_pool_gives_each_address_once_and_a_freed_one_last() -> None:
    pool = AddressPool(NODE)
    first, second = pool.take(), pool.take()
    pool.free(first)
    rest = [pool.take() for _ in range(LAST_HOST - FIRST_HOST)]
    assert rest[-1] == first
    assert len({second, *rest}) == LAST_HOST - FIRST_HOST + 1
    with pytest.raises(DemoError, match=r"no address is left in 10\.244\.1\.0/24"):
        pool.take()


def test_pod_is_routed_through_its_node_in_both_families() -> None:
    net = PodNetwork(NODE, "ns", "veth0", 5)
    assert net.addresses == ["10.244.1.5", "fd00:10:244:1::5"]
    assert "route add 10.244.1.5/32 dev veth0" in podnet.node_lines(net)
    assert "route add fd00:10:244:1::5/128 dev veth0" in podnet.node_lines(net)
    assert "route add default via 10.244.1.1 dev eth0" in podnet.pod_lines(net)


def test_node_knows_the_way_to_the_other_nodes_pods_only() -> None:
    lines = wire.node_lines(NODE, layout.NODES)
    assert "route add 10.244.2.0/24 via 172.31.77.12" in lines
    assert "route add fd00:10:244:3::/64 via fd00:172:31:77::13" in lines
    assert not any("10.244.1.0/24" in line for line in lines)


@pytest.mark.parametrize("taken", ["172.31.0.0/16", "172.31.77.128/25", "fd00:172:31::/48"])
def test_network_that_is_in_use_is_named(taken: str) -> None:
    with pytest.raises(DemoError, match=taken):
        wire.check_free(["10.0.0.0/8", taken])


def test_other_routes_and_default_routes_are_no_hindrance() -> None:
    wire.check_free(["0.0.0.0/0", "::/0", "192.168.1.0/24", "fd00::/64", "172.17.0.0/16"])


def test_namespace_name_is_a_file_name_that_begins_with_the_prefix() -> None:
    name = podnet.name_netns("demo", "a" * 253, "0123456789abcdef")
    assert name.startswith("flows-demo-demo-aaa")
    assert name.endswith("-01234567")
    assert len(name) < 255
