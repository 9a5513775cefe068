"""First bytes of packets on real sockets: what leaves the kernel, at which end, and what does not."""

from __future__ import annotations

import random
import socket
import struct

import dns.message
import numpy as np
import pytest
import talk
import traffic
from first_bytes import DNS_PORT, Listener, texts

from flows.agent.probe.lanes import left_out, pairing_hash
from flows.agent.probe.payload import LONG_TEXT, SHORT_TEXT, Origin, PayloadKind
from flows.agent.probe.record import TABLE_ID, Counter
from flows.agent.store.request_columns import METHODS

ASK, ANSWER, HELLO, DNS = (
    PayloadKind.HTTP_REQUEST, PayloadKind.HTTP_RESPONSE, PayloadKind.TLS_HELLO, PayloadKind.DNS
)  # fmt: skip
GET = b"GET /users/7?q=1 HTTP/1.1\r\nHost: web\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
QUERY = dns.message.make_query("web.shop.", "A", id=7).to_wire()
REPLY = dns.message.make_response(dns.message.from_wire(QUERY)).to_wire()
CLIENT_HELLO = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(506)
SERVER_HELLO = b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03" + bytes(116)
versions = pytest.mark.parametrize("version", [4, 6])


@versions
def test_a_request_and_its_answer_leave_at_both_ends(listener: Listener, version: int) -> None:
    ours, theirs = listener.talk([(True, GET), (False, OK)], version=version)
    for host, (conn_id,), sent in ((listener.client, ours, [1, 0]), (listener.server, theirs, [0, 1])):
        payloads = listener.of(host)
        assert texts(payloads) == [(ASK, GET), (ANSWER, OK)]
        assert payloads["sent"].tolist() == sent
        assert payloads["conn_id"].tolist() == [conn_id] * 2
        assert payloads["length"].tolist() == payloads["captured"].tolist() == [len(GET), len(OK)]
        assert set(payloads["protocol"]) == {6}
        assert set(payloads["origin"]) == {Origin.PACKET}
    asked, answered = listener.of(listener.client)
    assert answered["sequence"] == asked["acknowledged"]
    assert answered["acknowledged"] == (int(asked["sequence"]) + len(GET)) % (1 << 32)
    seen = listener.of(listener.server)[0]
    assert (seen["sequence"], seen["acknowledged"]) == (asked["sequence"], asked["acknowledged"])


@versions
def test_addresses_and_ports_are_those_of_the_sockets(listener: Listener, version: int) -> None:
    listener.talk([(True, GET), (False, OK)], version=version)
    ours, theirs = listener.of(listener.client)[0], listener.of(listener.server)[0]
    assert bytes(ours["local_addr"]) == bytes(theirs["remote_addr"])
    assert bytes(ours["remote_addr"]) == bytes(theirs["local_addr"])
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    address = socket.inet_pton(family, listener.client.address(version))
    assert bytes(ours["local_addr"]) == (bytes(10) + b"\xff\xff" + address if version == 4 else address)
    assert (ours["local_port"], ours["remote_port"]) == (theirs["remote_port"], theirs["local_port"])


@pytest.mark.parametrize(
    "method",
    METHODS[1:],
)
def test_every_method_is_known(listener: Listener, method: str) -> None:
    ask = f"{method} /users HTTP/1.1\r\nHost: web\r\n\r\n".encode()
    listener.talk([(True, ask), (False, OK)])
    assert texts(listener.of(listener.server)) == [(ASK, ask), (ANSWER, OK)]


def test_requests_on_one_connection_meet_their_own_answers(listener: Listener) -> None:
    rounds = 17
    script = [part for number in range(rounds) for part in ((True, GET + bytes(number)), (False, OK))]
    listener.talk(script)
    for host in (listener.client, listener.server):
        payloads = listener.of(host)
        assert len(payloads) == 2 * rounds
        asked, answered = (payloads[payloads["kind"] == kind] for kind in (ASK, ANSWER))
        assert answered["sequence"].tolist() == asked["acknowledged"].tolist()
        assert len(set(answered["sequence"].tolist())) == rounds


@pytest.mark.parametrize("size", [SHORT_TEXT - 1, SHORT_TEXT, SHORT_TEXT + 1, 1_400])
def test_what_does_not_fit_into_a_short_record_leaves_whole_in_a_long_one(listener: Listener, size: int) -> None:
    ask = GET[:-2] + b"X: " + b"y" * (size - len(GET) - 5) + b"\r\n\r\n"
    assert len(ask) == size
    listener.talk([(True, ask), (False, OK)])
    for host in (listener.client, listener.server):
        assert texts(listener.of(host))[0] == (ASK, ask)


def test_a_request_larger_than_a_packet_leaves_its_beginning(listener: Listener) -> None:
    ask = GET[:-2] + b"Cookie: " + b"y" * 6_000 + b"\r\n\r\n"
    listener.talk([(True, ask), (False, OK)], mss=500)
    for host in (listener.client, listener.server):
        (kind, text), answer = texts(listener.of(host))
        assert (kind, answer) == (ASK, (ANSWER, OK))
        assert ask.startswith(text)
        assert 400 < len(text) <= LONG_TEXT


def test_an_answer_leaves_its_beginning_and_its_body_nothing(listener: Listener) -> None:
    answer = OK + b"z" * 3_000_000
    listener.talk([(True, GET), (False, answer)])
    for host in (listener.client, listener.server):
        assert texts(listener.of(host)) == [(ASK, GET), (ANSWER, answer[:SHORT_TEXT])]


def test_a_continue_comes_before_the_answer(listener: Listener) -> None:
    post = b"POST /orders HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    listener.talk([(True, post), (False, CONTINUE), (True, b"body" * 9), (False, OK)])
    for host in (listener.client, listener.server):
        payloads = listener.of(host)
        assert texts(payloads) == [(ASK, post), (ANSWER, CONTINUE), (ANSWER, OK)]
        asked, interim, answered = payloads
        assert interim["sequence"] == asked["acknowledged"]
        assert answered["sequence"] == (int(interim["sequence"]) + len(CONTINUE)) % (1 << 32)


def test_a_body_that_begins_like_a_request_does_not_change_what_meets(listener: Listener) -> None:
    """The kernel cannot tell; sequence numbers can: nothing answers what the body says."""
    post = b"POST /orders HTTP/1.1\r\nHost: web\r\nContent-Length: 41\r\n\r\n"
    listener.talk([(True, post), (True, GET), (False, OK)])
    payloads = listener.of(listener.server)
    asked, body, answered = payloads
    assert texts(payloads) == [(ASK, post), (ASK, GET), (ANSWER, OK)]
    assert answered["sequence"] == asked["acknowledged"] == body["acknowledged"]
    assert answered["acknowledged"] == (int(body["sequence"]) + len(GET)) % (1 << 32)


@pytest.mark.parametrize(
    "text",
    [
        b"GETX/ HTTP/1.1\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"HTTP/2 200\r\n\r\n\r\n\r\n\r\n",
        b"\x16\x03\x01\0\x20\x03\0\0\x1c\x03\x03" + bytes(26),
        b"\x17\x03\x03\0\x20" + bytes(32),
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n",
        bytes(64),
        b"PRI",
        b"GET /",
        b"\x16\x03\x01",
    ],
)
def test_what_begins_otherwise_leaves_nothing(listener: Listener, text: bytes) -> None:
    listener.talk([(True, text), (False, text[::-1])])
    assert texts(listener.look()) == []


def test_big_transfers_leave_nothing(listener: Listener) -> None:
    listener.talk([(True, bytes(4_000_000)), (False, bytes(4_000_000))])
    assert texts(listener.look()) == []


def test_hellos_leave_whole(listener: Listener) -> None:
    listener.talk([(True, CLIENT_HELLO), (False, SERVER_HELLO)])
    for host in (listener.client, listener.server):
        assert texts(listener.of(host)) == [(HELLO, CLIENT_HELLO), (HELLO, SERVER_HELLO)]


@versions
@pytest.mark.parametrize("port", [53, DNS_PORT])
def test_dns_over_udp_leaves_with_its_exchange(listener: Listener, version: int, port: int) -> None:
    listener.ask([QUERY] * 3, [REPLY] * 3, version=version, port=port)
    for host, sent in ((listener.client, [1, 0]), (listener.server, [0, 1])):
        payloads = listener.of(host)
        assert texts(payloads) == [(DNS, QUERY), (DNS, REPLY)] * 3
        assert payloads["sent"].tolist() == sent * 3
        assert set(payloads["protocol"]) == {17}
        (conn_id,) = set(payloads["conn_id"].tolist())
        assert conn_id >= TABLE_ID
        local, remote = ("remote", "local") if host is listener.client else ("local", "remote")
        assert set(payloads[f"{local}_port"]) == {port}
        assert set(payloads[f"{remote}_port"]) != {port}
    assert (listener.of(listener.client)["pid"] > 0).all()


@pytest.mark.parametrize("size", [12, SHORT_TEXT, SHORT_TEXT + 1, LONG_TEXT, LONG_TEXT + 1, 4_000])
def test_long_answers_over_udp_are_cut_where_the_record_ends(listener: Listener, size: int) -> None:
    answer = REPLY[:12] + bytes(size - 12)
    listener.ask([QUERY], [answer], port=53)
    for host in (listener.client, listener.server):
        payloads = listener.of(host)
        assert texts(payloads) == [(DNS, QUERY), (DNS, answer[:LONG_TEXT])]
        assert payloads["length"].tolist() == [len(QUERY), size]


@pytest.mark.parametrize(("length", "payload"), [(8, b""), (9, b"\0"), (19, bytes(11)), (8 + len(QUERY), QUERY)])
def test_datagrams_that_are_no_whole_message(listener: Listener, length: int, payload: bytes) -> None:
    """They leave as they are; a raw socket's own datagrams are nobody's questions."""
    datagram = struct.pack("!HHHH", 4_100, 53, length, 0) + payload
    with listener.server.start(talk.serve_datagrams, 4, [REPLY], 53) as serving:
        serving.heard()
        listener.client.run(traffic.send_raw, listener.client.address(4), listener.server.address(4), [(17, datagram)])
        serving.heard()
    assert texts(listener.of(listener.server)) == [(DNS, payload[: length - 8]), (DNS, REPLY)]
    assert texts(listener.of(listener.client)) == []


def test_noise_to_a_dns_port_leaves_what_sockets_get_and_nothing_stops(listener: Listener) -> None:
    noise = random.Random(20)  # a fixed seed: the same packets each time
    packets = [(noise.choice([6, 17]), struct.pack("!HH", 4_100, 53) + noise.randbytes(noise.randrange(60))) for _ in range(200)]
    listener.client.run(traffic.send_raw, listener.client.address(4), listener.server.address(4), packets)
    assert texts(listener.of(listener.client)) == []
    listener.ask([QUERY], [REPLY], port=53)
    assert texts(listener.of(listener.server)) == [(DNS, QUERY), (DNS, REPLY)]


@pytest.mark.parametrize("port", [53, DNS_PORT])
def test_dns_over_tcp_leaves_packet_by_packet(listener: Listener, port: int) -> None:
    whole = len(QUERY).to_bytes(2, "big") + QUERY
    script = [(True, whole[:2]), (True, whole[2:9]), (True, whole[9:]), (False, len(REPLY).to_bytes(2, "big") + REPLY)]
    listener.talk(script, port=port)
    for host in (listener.client, listener.server):
        payloads = listener.of(host)
        assert set(payloads["kind"]) == {DNS}
        assert b"".join(text for _, text in texts(payloads[payloads["acknowledged"] == payloads["acknowledged"][0]])) == whole
        assert texts(payloads)[-1][1][2:] == REPLY


@pytest.mark.parametrize("port", [5_353, 5_355, 54])
def test_other_ports_are_not_dns(listener: Listener, port: int) -> None:
    listener.ask([QUERY], [REPLY], port=port)
    listener.talk([(True, len(QUERY).to_bytes(2, "big") + QUERY), (False, REPLY)], port=port)
    assert texts(listener.look()) == []


def test_packets_with_urgent_or_no_data_leave_nothing(listener: Listener) -> None:
    listener.talk([], [])
    assert texts(listener.look()) == []


def test_what_finds_no_slot_is_counted(listener: Listener) -> None:
    before = listener.probe.counters()[Counter.LOST_PAYLOAD]
    rounds = 1_500
    listener.talk([(True, GET), (False, OK)] * rounds)
    left = 4 * rounds - len(listener.look())
    lost = listener.probe.counters()[Counter.LOST_PAYLOAD] - before
    assert left > 0
    assert lost == left
    listener.begin()
    listener.talk([(True, GET), (False, OK)])
    assert len(listener.look()) == 4


def test_long_records_that_find_no_slot_are_counted(listener: Listener) -> None:
    before = listener.probe.counters()[Counter.LOST_PAYLOAD]
    rounds = 600
    post = GET + b"b" * SHORT_TEXT
    listener.talk([(True, post), (False, b"+" * 20)] * rounds)
    left = 2 * rounds - len(listener.look())
    assert left > 0
    assert listener.probe.counters()[Counter.LOST_PAYLOAD] - before == left


def test_what_would_have_left_nothing_is_not_counted_as_lost_while_there_is_no_slot(listener: Listener) -> None:
    def lost() -> int:
        return listener.probe.counters()[Counter.LOST_PAYLOAD]

    before, rounds = lost(), 0
    while lost() < before + 4_000:  # on whichever CPU: no slot is left
        rounds += 1
        assert rounds < 10
        listener.talk([(True, GET), (False, OK)] * 600)
    full = lost()
    listener.talk(
        [(True, bytes(2_000_000)), (False, bytes(2_000_000))], [(True, b"*1\r\n$4\r\nPING\r\n\r\n"), (False, b"+PONG\r\n" * 9)]
    )
    assert lost() == full


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_sample_has_whole_requests_at_both_ends(listener: Listener, share: float) -> None:
    rounds = 60  # all find a slot
    begun = counted(listener)
    listener.probe.sample(share)
    listener.talk([(True, GET), (False, OK)] * rounds)
    taken = []
    for host in (listener.client, listener.server):
        payloads = listener.of(host)
        asked, answered = (payloads[payloads["kind"] == kind] for kind in (ASK, ANSWER))
        assert sorted(asked["acknowledged"].tolist()) == sorted(answered["sequence"].tolist())
        taken.append(sorted(answered["sequence"].tolist()))
    assert taken[0] == taken[1]
    assert (pairing_hash(np.array(taken[0], np.uint32)) >= left_out(share)).all()
    assert share * rounds / 2 <= len(taken[0]) <= share * rounds * 3 / 2
    sampled, passed = np.array(counted(listener)) - begun
    assert sampled + passed == 4 * (rounds - len(taken[0]))
    assert passed > 0


def counted(listener: Listener) -> tuple[int, int]:
    counters = listener.probe.counters()
    return counters[Counter.SAMPLED_OUT], counters[Counter.PASSED_OVER]


def test_hellos_are_looked_at_however_few_requests_leave(listener: Listener) -> None:
    listener.probe.sample(0.0)
    listener.talk(*[[(True, CLIENT_HELLO), (False, SERVER_HELLO)]] * 50)
    assert listener.of(listener.client)["kind"].tolist() == [PayloadKind.TLS_HELLO] * 100
