"""HTTP of the demo's cache, compared with the cache's own access log."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from l7_followed import Followed, Told, agents, only
from l7_truth import Log, Served, one, script, served

from flows.proto import extension_pb2, flow_pb2

if TYPE_CHECKING:
    from demo_command import Demo

Json = dict[str, Any]
RATE, SECONDS = 5_000, 20
CONNECTIONS = 32
HELD_SECONDS = 2  # answers whose requests were not seen are held back for a while, as those might still come
Kinds = tuple[list[Served], list[Told]]


def paced(demo: Demo, client: Json, url: str, tag: str, total: int) -> None:
    """Requests from a pod at RATE, each with a path of its own, until there were `total`."""
    seconds = total // RATE + 2
    wrk = f"exec wrk -t1 -c{CONNECTIONS} -d{seconds} -s /tmp/pace.lua {url} -- {RATE} {total} {tag}"
    demo.ok("exec", f"demo/{client['name']}", "--", "sh", "-c", f"cat > /tmp/pace.lua && {wrk}", text=script("l7_pace.lua"))


def answers(told: list[Told], *, by_client: bool) -> list[Told]:
    """The answers that clients' ends, or servers' ends, saw."""
    return [one for one in told if one.connection.event == extension_pb2.RESPONSE and one.by_client == by_client]


def pairs(row: Served, told: Told) -> bool:
    return (row.status, row.method) == (told.flow.l7.http.code, told.flow.l7.http.method)


@pytest.fixture(scope="module")
def kinds(demo: Demo) -> Kinds:
    """What the cache logged of l7_kinds.py's connections, and what was told of them, in order of time."""
    cache, player, tag = one(demo, "demo/cache-"), one(demo, "demo/player-"), secrets.token_hex(4)
    log = Log(cache, "nginx")
    filters = [flow_pb2.FlowFilter(protocol=["http"], destination_ip=[cache["ip"]], source_ip=[player["ip"]])]
    filters.append(flow_pb2.FlowFilter(protocol=["http"], destination_ip=[player["ip"]], source_ip=[cache["ip"]]))
    with Followed(agents(demo, cache, player), filters) as followed:
        demo.exec(f"demo/{player['name']}", "python3", "-c", script("l7_kinds.py"), cache["ip"], tag)
        time.sleep(HELD_SECONDS)
        followed.settle()
    rows = served(log)
    connections = {row.connection for row in rows if tag in row.uri}
    return [row for row in rows if row.connection in connections], followed.told()


def test_no_flow_comes_after_a_watermark_that_is_later(demo: Demo) -> None:
    """A watermark says that all flows before it have been sent; answers without requests are known as such only later."""
    cache, player, tag = one(demo, "demo/cache-"), one(demo, "demo/player-"), secrets.token_hex(4)
    with Followed(agents(demo, cache, player), only(protocol=["http"])) as followed:
        demo.exec(f"demo/{player['name']}", "python3", "-c", script("l7_kinds.py"), cache["ip"], tag)
        time.sleep(HELD_SECONDS)
        followed.settle()
    assert followed.late() == []


def same_connection(kinds: Kinds, path: str, *, by_client: bool) -> Kinds:
    """The part of both that is of the connection on which there was a request for a path that ends so."""
    rows, told = kinds
    number = next(row.connection for row in rows if row.path.partition("/status")[0].partition("/media")[0].endswith(path))
    known = {row.path for row in rows if row.connection == number} - {"/slow", "/upload"}
    connections = {one.connection.id for one in told if one.path in known and one.by_client == by_client}
    return [row for row in rows if row.connection == number], [one for one in told if one.connection.id in connections]


def answer_of(told: list[Told], path: str) -> Told:
    """The one answer to the one request for a path."""
    found = [one for one in told if one.path == path and one.connection.event == extension_pb2.RESPONSE]
    assert len(found) == 1, (path, found)
    return found[0]


BOTH_ENDS = pytest.mark.parametrize("by_client", [True, False], ids=["client", "server"])


@BOTH_ENDS
def test_every_kind_of_answer_has_its_status_and_size(kinds: Kinds, *, by_client: bool) -> None:
    rows, told = same_connection(kinds, ".whole", by_client=by_client)
    assert len(rows) == 11
    for row in rows:
        answer = answer_of(told, row.path)
        assert pairs(row, answer), (row, answer)
        interim = len("HTTP/1.1 100 Continue\r\n\r\n") if row.method == "POST" else 0  # the log counts it, too
        assert answer.request.response_bytes in {0, row.bytes - interim}, (row, answer)
        assert not answer.marks & {"PIPELINED", "LATE_ANSWER"}, (row, answer)


@BOTH_ENDS
def test_latency_is_to_the_first_byte_of_the_answer(kinds: Kinds, *, by_client: bool) -> None:
    rows, told = same_connection(kinds, ".whole", by_client=by_client)
    (row,) = [row for row in rows if row.path == "/slow"]
    assert 0.29 <= answer_of(told, "/slow").flow.l7.latency_ns / 1e9 <= row.seconds + 0.1


@BOTH_ENDS
def test_pipelined_requests_never_get_anothers_answer_and_are_marked(kinds: Kinds, *, by_client: bool) -> None:
    rows, told = same_connection(kinds, ".pipe200", by_client=by_client)
    for row in rows:
        assert {one.flow.l7.http.code for one in told if one.path == row.path} <= {0, row.status}, row
    burst = [one for one in told if one.path == "/slow" or ".burst" in one.path]
    assert len(burst) >= 3
    assert all("PIPELINED" in one.marks for one in burst)
    statuses = Counter(one.flow.l7.http.code for one in told if one.connection.event == extension_pb2.RESPONSE)
    assert statuses == Counter(row.status for row in rows)  # all are counted


@BOTH_ENDS
def test_a_request_after_pipelined_ones_is_paired_again(kinds: Kinds, *, by_client: bool) -> None:
    _, told = same_connection(kinds, ".pipe200", by_client=by_client)
    (answer,) = [one for one in told if ".after-pipe" in one.path and one.connection.event == extension_pb2.RESPONSE]
    assert answer.flow.l7.http.code == 500


@BOTH_ENDS
def test_a_body_that_looks_like_requests_confuses_nothing(kinds: Kinds, *, by_client: bool) -> None:
    rows, told = same_connection(kinds, ".before-alike", by_client=by_client)
    assert [row.status for row in rows] == [404, 201, 503]
    for row in rows:
        assert pairs(row, answer_of(told, row.path))
    assert {one.path for one in told} == {row.path for row in rows}


@BOTH_ENDS
def test_an_upgrade_is_marked_and_what_follows_is_no_http(kinds: Kinds, *, by_client: bool) -> None:
    _, told = same_connection(kinds, "/socket", by_client=by_client)
    answer = answer_of(told, "/socket")
    assert (answer.flow.l7.http.code, "UPGRADED" in answer.marks) == (101, True)
    assert {one.path for one in told} == {"/socket"}


def endpoints(*words: str) -> list[Json]:
    """What `flows http -o json` prints, without what it says of coverage."""
    argv = [sys.executable, "-m", "flows.cli.main", "http", *words, "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return [row for row in map(json.loads, done.stdout.splitlines()) if "path" in row]


def test_flows_http_counts_each_request_once_by_endpoint(demo: Demo) -> None:
    host, since = f"x{secrets.token_hex(4)}.test", datetime.now(UTC).isoformat()
    curl = f"curl -s -o /dev/null -H 'Host: {host}'"
    demo.exec("player", "sh", "-c", f"{curl} 'http://cache/users/[1-30]?token=x'; {curl} -X PUT http://cache/orders/[500-509]")
    demo.exec("player", "sh", "-c", f"{curl} http://cache/status/503; {curl} -I http://cache/missing")
    expected = {
        ("GET", "/users/{id}", 30, 30, 0, 0),
        ("PUT", "/orders/{id}", 10, 10, 0, 0),
        ("GET", "/status/{id}", 1, 0, 0, 1),
        ("HEAD", "/missing", 1, 0, 1, 0),
    }
    end, found = time.monotonic() + 10, set[tuple[Any, ...]]()
    fields = ("method", "path", "count", "status_2xx", "status_4xx", "status_5xx")
    while found != expected:
        assert time.monotonic() < end, found
        rows = endpoints("--from", "demo/player", "--to", "demo/cache", "--since", since)
        found = {
            tuple(row[field] or 0 if field[0] == "s" else row[field] for field in fields) for row in rows if row["host"] == host
        }


def test_a_request_and_its_answer_are_lines_as_hubble_prints_them(demo: Demo) -> None:
    tag = secrets.token_hex(4)
    demo.exec("player", "curl", "-s", "-o", "/dev/null", f"http://cache/s/{tag}/status/404")
    path = rf"http://cache/s/{tag}/status/404"
    demo.observed(lambda flow: flow.get("is_reply") is True, "--protocol", "http", "--http-path", f"^/s/{tag}/", "--last", "5")
    argv = [sys.executable, "-m", "flows.cli.main", "observe", "--http-path", f"^/s/{tag}/", "--last", "10"]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    asked = rf"demo/player-\S+ \(ID:\d+\) -> demo/cache\S+ \(\S+\) http-request FORWARDED \(HTTP/1\.1 GET {path}\)"
    answered = (
        rf"demo/player-\S+ \(ID:\d+\) <- demo/cache\S+ \(\S+\) http-response FORWARDED \(HTTP/1\.1 404 \d+ms \(GET {path}\)\)"
    )
    for form in (asked, answered):
        assert any(re.search(form, line) for line in lines), (form, lines)


@pytest.mark.timeout(150)
def test_at_5000_a_second_every_request_has_its_own_path_and_status_at_both_ends(demo: Demo) -> None:
    cache, tag = one(demo, "demo/cache-"), secrets.token_hex(4)
    client = next(pod for pod in demo.pods("demo/svc-a-") if pod["node"] != cache["node"])  # each end has an agent of its own
    log, told_of = Log(cache, "nginx"), ("l7", "is_reply", "extensions")
    with Followed(agents(demo, cache, client), only(http_path=[f"^/s/{tag}-"], reply=[True]), told_of) as followed:
        paced(demo, client, f"http://{cache['ip']}:8080", tag, RATE * SECONDS)
        followed.settle()
    truth = {row.path: row for row in served(log) if row.path.startswith(f"/s/{tag}-")}
    assert len(truth) > 0.8 * RATE * SECONDS  # wrk stops after its time
    told, lost = followed.told(), followed.lost()
    for by_client in (True, False):
        compare(truth, answers(told, by_client=by_client), lost, "client" if by_client else "server")


def compare(truth: dict[str, Served], told: list[Told], lost: dict[str, int], end: str) -> None:
    """Every answer belongs to its request; what is missing was reported as lost."""
    forgotten = sum(one.request.kind == extension_pb2.REQUEST_KIND_UNKNOWN for one in told)  # overwritten before it was told
    told = [one for one in told if one.request.kind]
    mispaired = [(one.path, one.flow.l7.http.code, truth[one.path].status) for one in told if not pairs(truth[one.path], one)]
    twice = [path for path, count in Counter(one.path for one in told).items() if count > 1]
    missing = len(truth) - len({one.path for one in told})
    counts = f"{len(told)} of {len(truth)} told, {missing} missing, {len(mispaired)} mispaired"
    sys.stdout.write(f"{end}: {counts}, lost: {lost}, forgotten: {forgotten}\n")
    assert (mispaired[:5], twice[:5]) == ([], [])
    assert missing <= sum(lost.values()) + forgotten, (missing, lost, forgotten)
