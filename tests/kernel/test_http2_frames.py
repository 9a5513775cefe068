"""HTTP/2 on real sockets: which frames leave the kernel, whole, numbered and once, however packets cut them."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
import talk

from flows.agent.probe import bpf
from flows.agent.probe.payload import LONG_TEXT, PayloadKind
from flows.agent.probe.record import Counter

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from first_bytes import Listener
    from hosts import Host
    from numpy.typing import NDArray

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
HANDED_OVER = {HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, GOAWAY, CONTINUATION}
END_HEADERS = 4


def frame(kind: int, size: int, stream: int = 1, flags: int = 0) -> bytes:
    """A frame whose payload names its kind."""
    return size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + bytes((0x40 + kind,)) * size


BEGIN = PREFACE + frame(SETTINGS, 18, 0)
ASK = frame(HEADERS, 40, flags=END_HEADERS)
ANSWER = frame(HEADERS, 30, flags=END_HEADERS) + frame(DATA, 50)
TRAILERS = frame(HEADERS, 20, flags=END_HEADERS | 1)
SETTLED = frame(SETTINGS, 12, 0)
STILL = frame(PING, 8, 0)  # what the other side says so that the next write is a packet of its own


class Frame(NamedTuple):
    """A frame as it left: its first record and what followed it."""

    kind: int
    text: bytes
    length: int


def handed_over(payloads: NDArray[np.void], *, by_client: bool, host: Host, client: Host) -> list[Frame]:
    """Frames of one direction of one connection; their records' numbers count up from 0."""
    sent = by_client == (host is client)
    own = payloads[payloads["sent"] == sent]
    assert own["number"].tolist() == list(range(len(own)))
    frames: list[Frame] = []
    for row in own:
        text = row["text"][: row["captured"]].tobytes()
        if row["kind"] == PayloadKind.HTTP2_MORE:
            assert row["captured"] == row["length"]
            frames[-1] = frames[-1]._replace(text=frames[-1].text + text)
        else:
            assert row["kind"] == PayloadKind.HTTP2
            preface = text.startswith(PREFACE)
            frames.append(Frame(-1 if preface else text[3], PREFACE if preface else text, 24 if preface else int(row["length"])))
    return frames


def expected(stream: bytes) -> list[Frame]:
    """Of all that one side said, what is to leave."""
    frames, at = [], 0
    if stream.startswith(PREFACE):
        frames, at = [Frame(-1, PREFACE, len(PREFACE))], len(PREFACE)
    while at < len(stream):
        end = at + 9 + int.from_bytes(stream[at : at + 3], "big")
        if stream[at + 3] in HANDED_OVER:
            frames.append(Frame(stream[at + 3], stream[at:end], end - at))
        at = end
    return frames


def check(listener: Listener, scripts: list[talk.Script], ids: tuple[list[int], list[int]]) -> None:
    """Both ends of each connection handed over what both sides said."""
    for host, own in ((listener.client, ids[0]), (listener.server, ids[1])):
        payloads = listener.of(host)
        for script, conn_id in zip(scripts, own, strict=True):
            of_one = payloads[payloads["conn_id"] == conn_id]
            for by_client in (True, False):
                said = b"".join(text for speaker, text in script if speaker == by_client)
                seen = handed_over(of_one, by_client=by_client, host=host, client=listener.client)
                assert seen == expected(said), (host.name, by_client)


def unfollowed(listener: Listener) -> int:
    return listener.probe.counters()[Counter.HTTP2_UNFOLLOWED]


@pytest.mark.parametrize("version", [4, 6])
def test_frames_of_headers_leave_and_others_do_not(listener: Listener, version: int) -> None:
    script = [(True, BEGIN), (False, SETTLED), (True, ASK), (False, ANSWER + TRAILERS), (True, frame(GOAWAY, 8, 0))]
    before = unfollowed(listener)
    check(listener, [script], listener.talk(script, version=version))
    assert unfollowed(listener) == before


@pytest.mark.parametrize("kind", range(11))
def test_each_kind_of_frame(listener: Listener, kind: int) -> None:
    script = [(True, BEGIN), (False, SETTLED), (True, frame(kind, 16)), (False, frame(kind, 17)), (True, ASK), (False, ANSWER)]
    check(listener, [script], listener.talk(script))


def test_many_frames_of_one_packet_leave_each(listener: Listener) -> None:
    frames = b"".join(frame(HEADERS, 10 + number, 2 * number + 1, END_HEADERS) for number in range(12))
    script = [(True, BEGIN + frames), (False, SETTLED + frames)]
    check(listener, [script], listener.talk(script))


# Two frames of headers with another frame between, and the end in a packet of its own.
BLOB = frame(HEADERS, 20, flags=END_HEADERS) + frame(DATA, 21) + frame(HEADERS, 19, 3) + frame(CONTINUATION, 17, 3, END_HEADERS)
GROUP = 6  # connections at a time: all find a slot


@pytest.mark.parametrize("first", range(1, len(BLOB), GROUP))
def test_frames_are_whole_wherever_packets_cut_them(listener: Listener, first: int) -> None:
    before = unfollowed(listener)
    cuts = range(first, min(first + GROUP, len(BLOB)))
    scripts: list[talk.Script] = [
        [
            (True, BEGIN), (False, SETTLED), (True, BLOB[:cut]), (False, STILL), (True, BLOB[cut:]), (False, BLOB[:cut]),
            (True, STILL), (False, BLOB[cut:]), (True, ASK), (False, ANSWER),
        ]
        for cut in cuts
    ]  # fmt: skip
    check(listener, scripts, listener.talk(*scripts))
    assert unfollowed(listener) == before


@pytest.mark.parametrize("size", [1, 2, 5, 8, 9, 10, 15, 16, 17])
def test_frames_are_whole_in_the_smallest_packets(listener: Listener, size: int) -> None:
    parts = [BLOB[at : at + size] for at in range(0, len(BLOB), size)]
    script: talk.Script = [(True, BEGIN), (False, SETTLED)]
    for part in parts:
        script += [(True, part), (False, STILL)]
    script += [(True, ASK), (False, ANSWER)]
    before = unfollowed(listener)
    check(listener, [script], listener.talk(script))
    assert unfollowed(listener) == before


def test_small_frames_that_come_alone_are_followed(listener: Listener) -> None:
    """Acknowledged settings, windows and cancelled streams are less than what begins anything else."""
    acknowledged, window, cancelled = frame(SETTINGS, 0, 0, 1), frame(WINDOW_UPDATE, 4, 0), frame(RST_STREAM, 4)
    script = [(True, BEGIN), (False, SETTLED), (True, acknowledged), (False, acknowledged), (True, ASK), (False, ANSWER)]
    script += [(True, window), (False, STILL), (True, cancelled), (False, window), (True, ASK), (False, ANSWER)]
    before = unfollowed(listener)
    check(listener, [script], listener.talk(script))
    assert unfollowed(listener) == before


@pytest.mark.parametrize("size", [1_400, LONG_TEXT - 9, LONG_TEXT + 1, 5_000])
def test_headers_longer_than_a_packet_or_a_record(listener: Listener, size: int) -> None:
    """What does not fit into a record is missing, and the frame's length tells so."""
    ask = frame(HEADERS, size, flags=END_HEADERS)
    script = [(True, BEGIN), (False, SETTLED), (True, ask), (False, ANSWER), (True, TRAILERS), (False, TRAILERS)]
    asked, served = listener.talk(script, mss=700)
    for host, (conn_id,) in ((listener.client, asked), (listener.server, served)):
        payloads = listener.of(host)
        of_one = payloads[payloads["conn_id"] == conn_id]
        _, _, first, last = handed_over(of_one, by_client=True, host=host, client=listener.client)
        assert ask.startswith(first.text)
        assert first.length == len(ask)
        assert first.text == ask or len(first.text) >= LONG_TEXT
        assert last.text == TRAILERS


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """For both hosts: a sender that moves to another CPU meanwhile may be overtaken by its own packets, and a gap is a gap."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    yield
    os.sched_setaffinity(0, cpus)


@pytest.mark.usefixtures("one_cpu")
def test_large_bodies_are_passed_over(listener: Listener) -> None:
    body = b"".join(frame(DATA, 16_384) for _ in range(200))
    script = [(True, BEGIN), (False, SETTLED), (True, ASK), (False, ANSWER + body), (True, TRAILERS), (False, TRAILERS)]
    before = unfollowed(listener)
    check(listener, [script], listener.talk(script))
    assert unfollowed(listener) == before


def test_more_frames_in_a_packet_than_are_looked_at_are_told_as_a_gap(listener: Listener) -> None:
    frames = b"".join(frame(PING, 8, 0) for _ in range(40))
    script = [(True, BEGIN), (False, SETTLED), (True, frames), (False, STILL), *[(True, ASK), (False, ANSWER)] * 2]
    before = unfollowed(listener)
    asked, served = listener.talk(script)
    for host, (conn_id,), sent in ((listener.client, asked, 1), (listener.server, served, 0)):
        payloads = listener.of(host)
        own = payloads[(payloads["conn_id"] == conn_id) & (payloads["sent"] == sent)]
        assert own["number"].tolist() == [0, 1, 3, 4]
        assert [row["text"][: row["captured"]].tobytes() for row in own[2:]] == [ASK, ASK]
    assert unfollowed(listener) == before + 2


def test_a_connection_joined_in_the_middle_begins_with_headers(listener: Listener) -> None:
    script = [(True, STILL), (False, STILL), (True, ASK), (False, ANSWER), (True, frame(DATA, 30) + TRAILERS), (False, TRAILERS)]
    asked, served = listener.talk(script)
    for host, (conn_id,) in ((listener.client, asked), (listener.server, served)):
        payloads = listener.of(host)
        of_one = payloads[payloads["conn_id"] == conn_id]
        for by_client, said in ((True, ASK + TRAILERS), (False, ANSWER + TRAILERS)):
            seen = handed_over(of_one, by_client=by_client, host=host, client=listener.client)
            assert seen == expected(said)


@pytest.mark.parametrize(
    "text",
    [
        frame(HEADERS, 40)[:30],  # does not fit into its packet
        frame(HEADERS, 40, 2, END_HEADERS),  # no client's stream
        frame(HEADERS, 40, 1, END_HEADERS | 0x80),  # a flag that does not exist
        frame(HEADERS, 40, 1, 0),  # goes on
        frame(HEADERS, 40, (1 << 31) + 1, END_HEADERS),  # the reserved bit
        PREFACE[:-8] + b"........",
    ],
)
def test_what_only_looks_like_it_begins_nothing(listener: Listener, text: bytes) -> None:
    listener.talk([(True, text), (False, text)])
    payloads = listener.look()
    assert (payloads["number"] <= 1).all()
    assert [kind for kind in payloads["kind"].tolist() if kind == PayloadKind.HTTP2_MORE] == []
    if not text.startswith(b"PRI"):
        assert len(payloads) == 0


def test_what_is_sent_again_leaves_once(listener: Listener) -> None:
    """The server's host drops the packet until the client has sent it again: it has left twice, and arrived once."""
    first, then = [(True, BEGIN), (False, SETTLED)], [(True, ASK), (False, ANSWER), (True, TRAILERS), (False, TRAILERS)]
    netns = ["ip", "netns", "exec", listener.server.netns]
    with listener.server.start(talk.serve, 4, [first + then], 0) as serving:
        port = serving.heard()
        with listener.client.start(talk.ask_late, listener.server.address(4), port, first, then) as asking:
            assert asking.heard() == "waiting"
            rules = f"""table ip flows-drop {{
                chain arriving {{
                    type filter hook input priority 0
                    tcp dport {port} counter drop
                }}
            }}"""
            subprocess.run([*netns, "nft", "-f", "-"], input=rules, text=True, check=True)
            try:
                asking.tell()
                for _ in range(200):
                    listed = subprocess.run([*netns, "nft", "list", "ruleset"], check=True, capture_output=True, text=True)
                    dropped = int(listed.stdout.partition("counter packets ")[2].split()[0])
                    if dropped >= 2:
                        break
                    time.sleep(0.05)
            finally:
                subprocess.run([*netns, "nft", "delete", "table", "ip", "flows-drop"], check=True)
            ids = [asking.heard()], serving.heard()
    assert dropped >= 2
    check(listener, [first + then], ids)


def test_all_frames_are_looked_at_however_few_requests_leave(listener: Listener) -> None:
    script = [(True, BEGIN), (False, SETTLED), *[(True, ASK), (False, ANSWER)] * 50]
    listener.probe.sample(0.0)
    before = unfollowed(listener)
    check(listener, [script], listener.talk(script))
    assert (unfollowed(listener), attended(listener)) == (before, 0)


def attended(listener: Listener) -> int:
    """Connections whose packets are all looked at: none that is over."""
    table = listener.probe._own["attentions"]
    entries = [bpf.lookup(table, at.to_bytes(4, "little"), 8) for at in range(bpf.map_sizes(table)[2])]
    return sum(int.from_bytes(entry[:4], "little") for entry in entries)


def test_frames_that_find_no_slot_leave_a_gap_in_the_numbers(listener: Listener) -> None:
    before = listener.probe.counters()[Counter.LOST_PAYLOAD]
    rounds = 400
    asked, _ = listener.talk([(True, BEGIN), (False, SETTLED), *[(True, ASK), (False, ANSWER)] * rounds])
    lost = listener.probe.counters()[Counter.LOST_PAYLOAD] - before
    assert lost > 0
    assert 4 * rounds + 6 - len(listener.look()) == lost
    listener.begin()
    (again,), _ = listener.talk([(True, BEGIN), (False, SETTLED)])
    assert len(listener.look()) == 6
    assert again != asked[0]
