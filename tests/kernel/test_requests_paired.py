"""From sockets to stored requests: every request with its own answer, at both ends, under concurrency."""

from __future__ import annotations

import http.client
import http.server
import threading
from typing import TYPE_CHECKING, Any

import dns.message
import dns.rcode
import numpy as np
import pytest
from traffic import FAMILY
from watching import QUICK

from flows.agent.l7.redact import Redaction
from flows.agent.l7.requests import Requests
from flows.agent.probe.cgroup import find_subtree
from flows.agent.probe.probe import Probe
from flows.agent.probe.record import Event
from flows.agent.reader import to_wall_ns
from flows.agent.store.request_columns import METHODS, Flag, Kind, State
from flows.agent.store.requests import RequestStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from first_bytes import Listener
    from hosts import Host

CLIENTS, REQUESTS = 7, 97
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def first_bytes_probe(both_hosts: tuple[Path, Host, Host]) -> Iterator[Probe]:
    """With as much room as there is by default."""
    with Probe(QUICK, find_subtree(both_hosts[0])) as probe:
        yield probe


class Numbered(http.server.BaseHTTPRequestHandler):
    """Answers a path that ends in a number by a status that depends on it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        number = int(self.path.partition("?")[0].rpartition("/")[2])
        body = b"x" * (number % 5_000)
        self.send_response((200, 206, 304, 404, 503)[number % 5])
        self.send_header("Content-Length", "0" if number % 5 == 2 else str(len(body)))
        self.end_headers()
        if number % 5 != 2:
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


def serve_numbered(say: Callable[[object], None], version: int) -> int:
    """Serve until all clients have gone. Says the port."""
    kind = type("Server", (http.server.ThreadingHTTPServer,), {"address_family": FAMILY[version], "daemon_threads": True})
    with kind(("", 0), Numbered) as server:
        server.timeout = 20
        say(server.server_port)
        for _ in range(CLIENTS):
            server.handle_request()
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(20)
    return 0


def ask_numbered(say: Callable[[object], None], address: str, port: int) -> int:
    """Clients side by side, each on one connection. Gives how many requests were answered."""

    def ask(client: int) -> None:
        connection = http.client.HTTPConnection(address, port, timeout=20)
        for number in range(client * REQUESTS, (client + 1) * REQUESTS):
            connection.request("GET", f"/items/{number}?secret={number}")
            connection.getresponse().read()
            answered.append(number)
        connection.close()

    answered: list[int] = []
    threads = [threading.Thread(target=ask, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(answered)


FLOW = ("cgroup_id", "event", "pid", "start_ns", "netns")


class Reading:
    """What the reader does of each batch, and the flows that it would store."""

    def __init__(self, listener: Listener) -> None:
        self.probe, self.flows = listener.probe, list[dict[str, Any]]()
        self.store = RequestStore(8_192)
        self.requests = Requests(self.store, Redaction(), 5 * SECOND, 60 * SECOND)
        self.wall = to_wall_ns()

    def batch(self) -> None:
        records = self.probe.peek()
        read = self.requests.read(records, self.probe.peek_payloads(), self.wall)
        self.probe.release()
        self.flows.append({name: read.records[name][len(records) :].copy() for name in FLOW})

    def until_done(self, done: threading.Event) -> None:
        while not done.wait(0.02):
            self.batch()
        for _ in range(3):
            self.batch()

    def of(self, host: Host) -> dict[str, Any]:
        """The host's requests by time: each CPU has a lane, so they are not stored in the order in which they were sent."""
        columns = self.store.take(np.arange(self.store.oldest, self.store.written))
        mine = np.flatnonzero(columns["cgroup_id"] == host.cgroup_id)
        mine = mine[np.argsort(columns["time"][mine], kind="stable")]
        return {name: column[mine] for name, column in columns.items()}

    def events(self, host: Host) -> dict[Event, int]:
        events = self.column("event")[self.column("cgroup_id") == host.cgroup_id]
        return {Event(event): int((events == event).sum()) for event in np.unique(events).tolist()}

    def column(self, name: str) -> Any:
        """Of all flows of requests."""
        return np.concatenate([flows[name] for flows in self.flows])


def while_reading(listener: Listener, act: Callable[[], None]) -> Reading:
    """Do something while batches are taken as they come."""
    reading, done = Reading(listener), threading.Event()
    thread = threading.Thread(target=reading.until_done, args=(done,))
    thread.start()
    try:
        act()
    finally:
        done.set()
        thread.join()
    return reading


@pytest.mark.parametrize("version", [4, 6])
def test_every_request_of_many_connections_meets_its_own_answer(listener: Listener, version: int) -> None:
    def act() -> None:
        with listener.server.start(serve_numbered, version) as serving:
            said = listener.client.run(ask_numbered, listener.server.address(version), serving.heard())
            assert said == CLIENTS * REQUESTS
            serving.heard()

    reading = while_reading(listener, act)
    for host, client in ((listener.client, 1), (listener.server, 0)):
        rows = reading.of(host)
        paths = [text.tobytes().rstrip(b"\0").decode() for text in rows["text"]]
        assert sorted(paths) == sorted(f"/items/{number}" for number in range(CLIENTS * REQUESTS))
        wanted = [(200, 206, 304, 404, 503)[int(path.rpartition("/")[2]) % 5] for path in paths]
        assert rows["status"].tolist() == wanted
        assert set(rows["state"]) == {State.ANSWERED}
        assert set(rows["kind"]) == {Kind.HTTP1}
        assert set(rows["method"]) == {METHODS.index("GET")}
        assert set(rows["client"]) == {client}
        assert np.unique(rows["conn_id"]).size == CLIENTS
        assert (rows["answered"] >= rows["time"]).all()
        assert set(rows["flags"]) == {Flag.REDACTED}  # the query
        assert reading.events(host) == {Event.REQUEST: CLIENTS * REQUESTS, Event.RESPONSE: CLIENTS * REQUESTS}


def test_flows_of_requests_name_the_process_that_their_connection_is_of(listener: Listener) -> None:
    get, ok = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"
    reading = while_reading(listener, lambda: listener.talk([(True, get), (False, ok)]) and None)
    assert len(reading.column("event")) == 4
    for name in ("pid", "start_ns", "netns"):
        assert (reading.column(name) > 0).all()


def test_every_dns_question_meets_its_own_answer(listener: Listener) -> None:
    many = 211
    questions = [dns.message.make_query(f"host{number % 50}.shop.", "A", id=number + 1) for number in range(many)]
    answers = [dns.message.make_response(question) for question in questions]
    for number, answer in enumerate(answers):
        answer.set_rcode(dns.rcode.Rcode(number % 4))

    def act() -> None:
        listener.ask([question.to_wire() for question in questions], [answer.to_wire() for answer in answers], port=53)

    reading = while_reading(listener, act)
    for host in (listener.client, listener.server):
        rows = reading.of(host)
        assert rows["query_id"].tolist() == [number + 1 for number in range(many)]
        assert rows["status"].tolist() == [number % 4 for number in range(many)]
        assert set(rows["state"]) == {State.ANSWERED}
        assert set(rows["attempt"]) == {1}
        assert reading.events(host) == {Event.REQUEST: many, Event.RESPONSE: many}
