"""Changes of state that the kernel runs no program for: what is found of them afterwards, and that the rest is counted."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import re
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hosts
import pytest
import traffic
from watching import last_records

from flows.agent.probe import bpf
from flows.agent.probe.probe import TRACEPOINTS
from flows.agent.probe.record import Counter, Event, Initiator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.synchronize import Event as Over

    from watching import Watch

    from flows.agent.probe.probe import Probe

LINK = "inet_sock_set_state_link"
NONE = -1
N = 3
SOMEBODY_ELSE = "02:00:00:00:00:77"


@contextlib.contextmanager
def unwatched(probe: Probe) -> Iterator[None]:
    """No change of state is told meanwhile."""
    own = probe._own
    os.close(own[LINK])
    own[LINK] = NONE
    try:
        yield
    finally:
        own[LINK] = bpf.open_tracepoint(own["inet_sock_set_state"])


def start(watch: Watch, host: hosts.Host, act: Callable[..., Any], *arguments: Any) -> hosts.Running:
    """As host.start(), but without the link: it lasts as long as any process has it."""
    link = watch.probe._own[LINK]

    def begin(say: Callable[[object], None], *given: Any) -> Any:
        if link != NONE:
            os.close(link)
        return act(say, *given)

    return host.start(begin, *arguments)


@contextlib.contextmanager
def astray(watch: Watch) -> Iterator[None]:
    """What the client sends the server arrives nowhere."""
    address = watch.server.address(4)
    hosts.ip("-n", watch.client.netns, "neigh", "replace", address, "lladdr", SOMEBODY_ELSE, "nud", "permanent", "dev", "w")
    try:
        yield
    finally:
        hosts.ip("-n", watch.client.netns, "neigh", "del", address, "dev", "w")


@contextlib.contextmanager
def answered_unseen(watch: Watch, port: int, over: Over) -> Iterator[hosts.Running]:
    """A client with one connection, of which only the SYN was seen; what follows meanwhile is not told either."""
    with contextlib.ExitStack() as lost:
        lost.enter_context(astray(watch))
        asking = start(watch, watch.client, traffic.connect_until, watch.server.address(4), port, 1, over)
        watch.until(lambda: counted(watch, Counter.SYNS_PENDING) == 1)
        with unwatched(watch.probe):
            lost.close()
            assert asking.heard() == "open"
            yield asking


def counted(watch: Watch, counter: Counter) -> int:
    """After one more sweep."""
    watch.records()
    return watch.probe.counters()[counter]


def told(watch: Watch, host: hosts.Host, port: int, event: Event) -> int:
    return int((watch.of(host, port)["event"] == event).sum())


def test_an_answer_that_passed_unseen_is_told_of_at_both_ends(watch: Watch) -> None:
    over = multiprocessing.Event()
    with start(watch, watch.server, traffic.serve_kept, 4, 1) as serving:
        port = serving.heard()
        with answered_unseen(watch, port, over) as asking:
            pass
        with asking:
            watch.until_told(watch.client, port, Event.ESTABLISHED, 1)
            watch.until_told(watch.server, port, Event.ACTIVE, 1)
            assert counted(watch, Counter.SYNS_PENDING) == 0
            accepted = last_records(watch.of(watch.server, port))[0]
            assert (accepted["initiator"], accepted["pid"]) == (Initiator.REMOTE, serving.process.pid)
            over.set()
            asking.heard()
        serving.heard()
    for host in (watch.client, watch.server):
        watch.until_told(host, port, Event.CLOSED, 1)


def test_an_end_that_passed_unseen_is_told_of_or_counted(watch: Watch) -> None:
    over = multiprocessing.Event()
    both = (watch.client, watch.server)
    with start(watch, watch.server, traffic.serve_kept, 4, N) as serving:
        port = serving.heard()
        with start(watch, watch.client, traffic.connect_until, watch.server.address(4), port, N, over) as asking:
            assert asking.heard() == "open"
            for host in both:
                watch.until_told(host, port, Event.ESTABLISHED, N)
            with unwatched(watch.probe):
                over.set()
                asking.heard()
                serving.heard()
                asking.process.join(5)
                serving.process.join(5)
    watch.until(lambda: sum(told(watch, host, port, Event.CLOSED) for host in both) + counted(watch, Counter.LOST_END) == 2 * N)
    found = watch.of(watch.client, port)
    assert (found["sent_bytes"][found["event"] == Event.CLOSED] == len(b"first")).all()
    assert counted(watch, Counter.FOUND_LATE) + counted(watch, Counter.LOST_END) == 2 * N


def test_a_connection_of_which_only_the_syn_was_seen_is_not_said_to_be_unanswered(watch: Watch) -> None:
    over = multiprocessing.Event()
    with start(watch, watch.server, traffic.serve_kept, 4, 1) as serving:
        port = serving.heard()
        with answered_unseen(watch, port, over) as asking, asking:
            over.set()
            asking.heard()
            serving.heard()
            serving.process.join(5)
    watch.until(lambda: told(watch, watch.client, port, Event.CLOSED) + counted(watch, Counter.LOST_END) == 1)
    assert told(watch, watch.client, port, Event.UNANSWERED) == 0


def test_an_end_whose_socket_is_in_use_again_is_counted(watch: Watch) -> None:
    over = multiprocessing.Event()
    both = (watch.client, watch.server)
    ports = []
    for _ in range(2):  # the second ones take up the memory of the first ones' sockets, or of some
        over.clear()
        with start(watch, watch.server, traffic.serve_kept, 4, N) as serving:
            ports.append(serving.heard())
            with start(watch, watch.client, traffic.connect_until, watch.server.address(4), ports[-1], N, over) as asking:
                assert asking.heard() == "open"
                with unwatched(watch.probe) if len(ports) == 1 else contextlib.nullcontext():
                    over.set()
                    asking.heard()
                    serving.heard()
                    asking.process.join(5)
                    serving.process.join(5)

    def ended(port: int) -> int:
        return sum(told(watch, host, port, Event.CLOSED) for host in both)

    watch.until(lambda: ended(ports[0]) + counted(watch, Counter.LOST_END) == 2 * N)
    assert ended(ports[1]) == 2 * N


def test_a_connection_whose_beginning_passed_unseen_is_told_of_at_its_end(watch: Watch) -> None:
    over = multiprocessing.Event()
    with start(watch, watch.server, traffic.serve_kept, 4, N) as serving:
        port = serving.heard()
        with unwatched(watch.probe):
            asking = start(watch, watch.client, traffic.connect_until, watch.server.address(4), port, N, over)
            assert asking.heard() == "open"
        with asking:
            over.set()
            asking.heard()
        serving.heard()
    for host in (watch.client, watch.server):
        watch.until_told(host, port, Event.CLOSED, N)
        records = watch.of(host, port)
        assert len(records) == N
        assert not records["start_ns"].any()


def test_a_connection_that_failed_unseen_waits_no_longer(watch: Watch) -> None:
    with astray(watch), start(watch, watch.client, traffic.connect_unanswered, watch.server.address(4), 80, N, 1.0) as asking:
        watch.until(lambda: counted(watch, Counter.SYNS_PENDING) == N)
        with unwatched(watch.probe):
            assert asking.heard() == N
            asking.process.join(5)
    watch.until(lambda: counted(watch, Counter.SYNS_PENDING) == 0)
    assert told(watch, watch.client, 80, Event.UNANSWERED) + counted(watch, Counter.LOST_END) >= N
    assert told(watch, watch.client, 80, Event.UNANSWERED) <= N


def test_nothing_is_found_late_where_all_was_seen(watch: Watch) -> None:
    found = partial(counted, watch, Counter.FOUND_LATE)
    over = multiprocessing.Event()
    with start(watch, watch.server, traffic.serve_kept, 4, N) as serving:
        port = serving.heard()
        with start(watch, watch.client, traffic.connect_until, watch.server.address(4), port, N, over) as asking:
            assert asking.heard() == "open"
            watch.probe._passed = -1  # have sockets looked for although nothing passed unseen
            watch.until_told(watch.server, port, Event.ACTIVE, N)
            over.set()
            asking.heard()
        serving.heard()
    for host in (watch.client, watch.server):
        watch.until_told(host, port, Event.CLOSED, N)
        assert told(watch, host, port, Event.ESTABLISHED) == N
    assert (found(), counted(watch, Counter.LOST_END)) == (0, 0)


@pytest.mark.parametrize("name", TRACEPOINTS)
def test_what_the_kernel_did_not_run_stands_where_it_is_looked_for(watch: Watch, name: str) -> None:
    """By the field behind it, for it is 0 unless an interrupt came in between."""
    program = watch.probe._own[name]
    info = ctypes.create_string_buffer(220)
    bpf.bpf(bpf.Command.OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", program, len(info), ctypes.addressof(info)))
    missed, verified = struct.unpack_from("<QI", info, 208)
    said = dict(re.findall(r"^(\w+):\s*(\d+)$", Path(f"/proc/self/fdinfo/{program}").read_text(), re.MULTILINE))
    assert verified == int(said["verified_insns"]) > 0
    assert missed <= bpf.missed_runs(program) <= missed + 1_000
