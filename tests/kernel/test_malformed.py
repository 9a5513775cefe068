"""Truncated and contradictory packets: counted, and no flow is made of them."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest
import traffic
from test_exchanges import ipv6
from watching import last_records

from flows.agent.probe.record import Counter

if TYPE_CHECKING:
    from watching import Watch

TCP = struct.pack("!HHIIBBHHH", 4100, 5100, 7, 0, 0x50, 2, 1024, 0, 0)
UDP = struct.pack("!HHHH", 4100, 5100, 8, 0)

IPV4 = {
    "TCP header cut off": (6, TCP[:19]),
    "TCP data offset below 5": (6, TCP[:12] + b"\x40" + TCP[13:]),
    "TCP options beyond the packet": (6, TCP[:12] + b"\xf0" + TCP[13:]),
    "TCP empty": (6, b""),
    "UDP header cut off": (17, UDP[:7]),
    "UDP length below 8": (17, UDP[:4] + b"\0\x07" + UDP[6:]),
    "UDP length beyond the packet": (17, UDP[:4] + b"\0\x09" + UDP[6:]),
    "ICMP header cut off": (1, b"\x08\0\0\0\0\0\0"),
    "SCTP header cut off": (132, bytes(11)),
}


@pytest.mark.parametrize("name", IPV4)
def test_malformed_ipv4_is_counted_and_makes_no_flow(watch: Watch, name: str) -> None:
    watch.client.run(traffic.send_raw, watch.client.address(4), watch.server.address(4), [IPV4[name]] * 7)
    counted(watch, Counter.MALFORMED, 7)


IPV6 = {
    "TCP cut off": (6, TCP[:19]),
    "extension header cut off": (0, b"\x06\0\0"),
    "extension header longer than the packet": (0, b"\x11\xff\0\0\0\0\0\0" + UDP),
    "nothing but extension headers": (0, b"\0\0\1\4\0\0\0\0" * 9),
}


@pytest.mark.parametrize("name", IPV6)
def test_malformed_ipv6_is_counted_and_makes_no_flow(watch: Watch, name: str) -> None:
    packet = ipv6(watch, *IPV6[name])
    watch.client.run(traffic.send_raw_ipv6, watch.server.address(6), [packet] * 7)
    counted(watch, Counter.MALFORMED, 7)


def test_later_fragments_have_a_counter_of_their_own(watch: Watch) -> None:
    packet = ipv6(watch, 44, bytes([17, 0, 1, 0, 0, 0, 0, 9]) + UDP)
    watch.client.run(traffic.send_raw_ipv6, watch.server.address(6), [packet] * 7)
    counted(watch, Counter.FRAGMENT, 7)


def test_other_protocols_are_counted(watch: Watch) -> None:
    watch.client.run(traffic.send_raw, watch.client.address(4), watch.server.address(4), [(47, bytes(20))] * 7)
    counted(watch, Counter.UNKNOWN_PROTOCOL, 7)


def counted(watch: Watch, counter: Counter, number: int) -> None:
    counters = watch.probe.counters()
    assert counters[counter] == number
    assert [value for other, value in counters.items() if other is not counter and value] == []
    own = watch.records()
    assert len(own[own["cgroup_id"] == watch.client.cgroup_id]) == 0


def test_random_packets_are_counted_once_each(watch: Watch) -> None:
    """Each is malformed, or of another protocol, or a packet of some exchange: none is lost, none is counted twice."""
    noise = random.Random(20)  # a fixed seed: the same packets each time
    packets = [(noise.choice([1, 6, 17, 132, 47]), noise.randbytes(noise.randrange(64))) for _ in range(499)]
    watch.client.run(traffic.send_raw, watch.client.address(4), watch.server.address(4), packets)

    def accounted() -> int:
        own = watch.records()
        own = own[own["cgroup_id"] == watch.client.cgroup_id]
        counters = watch.probe.counters()
        return int(last_records(own)["sent_packets"].sum()) + counters[Counter.MALFORMED] + counters[Counter.UNKNOWN_PROTOCOL]

    watch.until(lambda: accounted() == 499)
    assert watch.probe.counters()[Counter.MALFORMED] > 50
