"""UDP, ICMP, SCTP: first packet, answer, activity, end by silence, with exact counts."""

from __future__ import annotations

import socket
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
import traffic
from watching import events, last_records

from flows.agent.probe.record import TABLE_ID, Event, Initiator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from watching import Watch

N = 23
UDP_HEADERS = {4: 28, 6: 48}
versions = pytest.mark.parametrize("version", [4, 6])


@versions
def test_udp_questions_and_answers_are_counted_at_both_ends(watch: Watch, version: int) -> None:
    with watch.server.start(traffic.serve_udp, version, N, 300) as serving:
        port = serving.heard()
        asked = watch.client.run(traffic.ask_udp, watch.server.address(version), port, N, 100)
        heard = serving.heard()
    assert asked == heard == 100 * N
    for host, initiator in ((watch.client, Initiator.LOCAL), (watch.server, Initiator.REMOTE)):
        watch.until_told(host, port, Event.IDLE, N)
        records = watch.of(host, port)
        last = last_records(records)
        sent, received = (100, 300) if host is watch.client else (300, 100)
        assert len(last) == N
        assert set(last["sent_bytes"]) == {sent + UDP_HEADERS[version]}
        assert set(last["received_bytes"]) == {received + UDP_HEADERS[version]}
        assert set(last["initiator"]) == {initiator}
        assert (last["conn_id"] >= TABLE_ID).all()
        assert (last["pid"] > 0).all()
        assert [(records["event"] == event).sum() for event in (Event.OPENED, Event.ESTABLISHED, Event.IDLE)] == [N] * 3


@versions
def test_a_ping_is_one_exchange(watch: Watch, version: int) -> None:
    ping = f"ip netns exec {watch.client.netns} ping -c 3 -i 0.2 {watch.server.address(version)}"
    enter = f"echo $$ > {watch.client.cgroup}/cgroup.procs; exec {ping}"
    subprocess.run(["sh", "-c", enter], check=True, stdout=subprocess.DEVNULL)
    watch.until(lambda: Event.IDLE in events(pings(watch)))
    records = pings(watch)
    assert len(last_records(records)) == 1
    assert events(records)[:2] == [Event.OPENED, Event.ESTABLISHED]
    assert (records[-1]["sent_packets"], records[-1]["received_packets"]) == (3, 3)
    assert records[-1]["comm"] == b"ping"
    assert records[-1]["icmp_type"] == (8 if version == 4 else 128)


def pings(watch: Watch) -> NDArray[np.void]:
    records = watch.records()
    found: NDArray[np.void] = records[(records["cgroup_id"] == watch.client.cgroup_id) & (records["comm"] == b"ping")]
    return found


def test_sctp_ports_are_read(watch: Watch) -> None:
    init = struct.pack("!HHII", 4001, 5001, 0, 0) + bytes([1, 0, 0, 20]) + bytes(16)
    source, destination = watch.client.address(4), watch.server.address(4)
    watch.client.run(traffic.send_raw, source, destination, [(132, init)])
    records = watch.of(watch.client, 5001)
    assert events(records) == [Event.OPENED]
    assert (records[0]["protocol"], records[0]["local_port"]) == (132, 4001)


def test_tcp_from_a_raw_socket_is_kept_in_the_table(watch: Watch) -> None:
    syn = struct.pack("!HHIIBBHHH", 4002, 5002, 7, 0, 0x50, 2, 1024, 0, 0)
    source, destination = watch.client.address(4), watch.server.address(4)
    watch.client.run(traffic.send_raw, source, destination, [(6, syn)])
    records = watch.of(watch.client, 5002)
    assert events(records) == [Event.OPENED]
    assert (records[0]["flags_sent"], records[0]["conn_id"] >= TABLE_ID) == (2, True)


def ipv6(watch: Watch, next_header: int, payload: bytes) -> bytes:
    ends = [socket.inet_pton(socket.AF_INET6, host.address(6)) for host in (watch.client, watch.server)]
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, 64) + b"".join(ends) + payload


HOP_BY_HOP = bytes([60, 0, 1, 4, 0, 0, 0, 0])
DESTINATION = bytes([44, 0, 1, 4, 0, 0, 0, 0])
FIRST_FRAGMENT = bytes([51, 0, 0, 1, 0, 0, 0, 9])
AUTHENTICATION = bytes([17, 2]) + bytes(14)


def test_ipv6_extension_headers_are_skipped(watch: Watch) -> None:
    datagram = struct.pack("!HHHH", 4003, 5003, 8, 0)
    packet = ipv6(watch, 0, HOP_BY_HOP + DESTINATION + FIRST_FRAGMENT + AUTHENTICATION + datagram)
    watch.client.run(traffic.send_raw_ipv6, watch.server.address(6), [packet])
    records = watch.of(watch.client, 5003)
    assert events(records) == [Event.OPENED]
    assert (records[0]["protocol"], records[0]["local_port"], records[0]["sent_bytes"]) == (17, 4003, len(packet))


def test_a_translated_connected_socket_is_one_exchange_with_its_peer(watch: Watch) -> None:
    """DNAT in the sender's own OUTPUT hook: the socket talks to the service's address, in both directions."""
    service = "10.99.1.1"
    netns = ["ip", "netns", "exec", watch.client.netns]
    with watch.server.start(traffic.serve_udp, 4, N, 300) as serving:
        port = serving.heard()
        rules = f"""table ip flows-test {{
            chain out {{
                type nat hook output priority -100
                ip daddr {service} udp dport 53 dnat to {watch.server.address(4)}:{port}
            }}
        }}"""
        subprocess.run([*netns, "ip", "route", "add", service, "dev", "w"], check=True)
        subprocess.run([*netns, "nft", "-f", "-"], input=rules, text=True, check=True)
        try:
            watch.client.run(traffic.ask_connected_udp, service, 53, N)
            serving.heard()
        finally:
            subprocess.run([*netns, "nft", "delete", "table", "ip", "flows-test"], check=True)
            subprocess.run([*netns, "ip", "route", "del", service, "dev", "w"], check=True)
    records = watch.of(watch.client, 53)
    assert len(last_records(records)) == N
    assert set(records["initiator"]) == {Initiator.LOCAL}
    assert {bytes(address)[12:] for address in records["remote_addr"]} == {socket.inet_aton(service)}
    assert [(records["event"] == event).sum() for event in (Event.OPENED, Event.ESTABLISHED)] == [N, N]
