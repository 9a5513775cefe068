"""HTTP of the demo's cache, compared with the cache's own access log."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from l7_followed import Followed, Told, agents, only
from l7_truth import Log, Served, one, script, served

from flows.proto import extension_pb2

if TYPE_CHECKING:
    from conftest import Demo

Json = dict[str, Any]
RATE, SECONDS = 5_000, 20
CONNECTIONS = 32
Kinds = tuple[list[Served], list[Told]]


def paced(demo: Demo, client: Json, url: str, tag: str, total: int) -> None:
    """Requests from a pod at RATE, each with a path of its own, until there were `total`."""
    seconds = total // RATE + 2
    wrk = f"exec wrk -t1 -c{CONNECTIONS} -d{seconds} -s /tmp/pace.lua {url} -- {RATE} {total} {tag}"
    demo.ok("exec", f"demo/{client['name']}", "--", "sh", "-c", f"cat > /tmp/pace.lua && {wrk}", text=script("l7_pace.lua"))


def answers(told: list[Told], *, by_client: bool) -> list[Told]:
    """The answers that clients' ends, or servers' ends, saw."""
    return [one for one in told if one.connection.event == extension_pb2.RESPONSE and one.by_client == by_client]


@pytest.mark.timeout(150)
def test_at_5000_a_second_every_request_has_its_own_path_and_status_at_both_ends(demo: Demo) -> None:
    cache, player, tag = one(demo, "demo/cache-"), one(demo, "demo/player-"), secrets.token_hex(4)
    log = Log(cache, "nginx")
    with Followed(agents(demo, cache, player), only(http_path=[f"^/s/{tag}-"], reply=[True])) as followed:
        paced(demo, player, f"http://{cache['ip']}:8080", tag, RATE * SECONDS)
        followed.settle()
    truth = {row.path: row for row in served(log) if row.path.startswith(f"/s/{tag}-")}
    assert len(truth) == RATE * SECONDS
    told, lost = followed.told(), followed.lost()
    for by_client in (True, False):
        compare(truth, answers(told, by_client=by_client), lost, "client" if by_client else "server")


def compare(truth: dict[str, Served], told: list[Told], lost: dict[str, int], end: str) -> None:
    """Every answer belongs to its request; what is missing was reported as lost."""
    mispaired = [(one.path, one.flow.l7.http.code, truth[one.path].status) for one in told if not pairs(truth[one.path], one)]
    twice = [path for path, count in Counter(one.path for one in told).items() if count > 1]
    missing = len(truth) - len({one.path for one in told})
    sys.stdout.write(f"{end}: {len(told)} of {len(truth)} told, {missing} missing, {len(mispaired)} mispaired, lost: {lost}\n")
    assert (mispaired[:5], twice[:5]) == ([], [])
    assert missing <= sum(lost.values()), (missing, lost)


def pairs(row: Served, told: Told) -> bool:
    return (row.status, row.method) == (told.flow.l7.http.code, told.flow.l7.http.method)


@pytest.fixture(scope="module")
def kinds(demo: Demo) -> Kinds:
    """What the cache logged of that connection, and what was told of it."""
    cache, player, tag = one(demo, "demo/cache-"), one(demo, "demo/player-"), secrets.token_hex(4)
    log = Log(cache, "nginx")
    with Followed(agents(demo, cache, player), only(protocol=["http"])) as followed:
        demo.exec(f"demo/{player['name']}", "python3", "-c", script("l7_kinds.py"), cache["ip"], tag)
        followed.settle()
    rows = served(log)
    number = next(row.connection for row in rows if row.path.startswith(f"/s/{tag}/"))
    told = followed.told()
    ours = {one.connection.id for one in told if one.path.startswith(f"/s/{tag}/")}
    return [row for row in rows if row.connection == number], [one for one in told if one.connection.id in ours]


def told_at(told: list[Told], path: str, *, by_client: bool) -> list[Told]:
    return [one for one in told if one.path == path and one.by_client == by_client]


@pytest.mark.parametrize("by_client", [True, False])
def test_every_kind_of_answer_on_one_connection_has_its_status(kinds: Kinds, *, by_client: bool) -> None:
    rows, told = kinds
    assert len(rows) == 16
    for row in rows:
        if ".pipe" in row.path:
            continue
        (answer,) = [
            one for one in told_at(told, row.path, by_client=by_client) if one.connection.event == extension_pb2.RESPONSE
        ]
        assert pairs(row, answer), (row, answer)
        assert answer.request.response_bytes in {0, row.bytes} or row.status == 101, (row, answer)


@pytest.mark.parametrize("by_client", [True, False])
def test_pipelined_requests_are_all_told_and_never_get_anothers_answer(kinds: Kinds, *, by_client: bool) -> None:
    rows, told = kinds
    for row in (row for row in rows if ".pipe" in row.path):
        for one_told in told_at(told, row.path, by_client=by_client):
            assert one_told.flow.l7.http.code in {0, row.status}, (row, one_told)
    assert any("PIPELINED" in one_told.marks for one_told in told if one_told.by_client == by_client)


def test_what_only_looks_like_a_request_is_none(kinds: Kinds) -> None:
    rows, told = kinds
    assert {one.path for one in told} <= {row.path for row in rows}


def test_latency_is_to_the_first_byte_of_the_answer(kinds: Kinds) -> None:
    rows, told = kinds
    (row,) = [row for row in rows if row.path == "/slow"]
    slow = [
        one.flow.l7.latency_ns / 1e9 for one in told if one.path == "/slow" and one.connection.event == extension_pb2.RESPONSE
    ]
    assert len(slow) == 2
    assert all(0.29 <= seconds <= row.seconds + 0.1 for seconds in slow), (slow, row)


def test_an_upgrade_is_marked(kinds: Kinds) -> None:
    _, told = kinds
    upgraded = [one for one in told if one.path == "/socket" and one.connection.event == extension_pb2.RESPONSE]
    assert len(upgraded) == 2
    assert all("UPGRADED" in one.marks and one.flow.l7.http.code == 101 for one in upgraded)


def endpoints(*words: str) -> list[Json]:
    """What `flows http -o json` prints, without what it says of coverage."""
    argv = [sys.executable, "-m", "flows.cli.main", "http", *words, "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return [row for row in map(json.loads, done.stdout.splitlines()) if "path" in row]


def test_flows_http_counts_each_request_once_by_endpoint(demo: Demo) -> None:
    host = f"x{secrets.token_hex(4)}.test"
    curl = f"curl -s -o /dev/null -H 'Host: {host}'"
    demo.exec("player", "sh", "-c", f"{curl} 'http://cache/users/[1-30]?token=x'; {curl} -X PUT http://cache/orders/[500-509]")
    demo.exec("player", "sh", "-c", f"{curl} http://cache/status/503; {curl} -I http://cache/missing")
    expected = {
        ("GET", "/users/{id}", 30, 30, 0, 0),
        ("PUT", "/orders/{id}", 10, 10, 0, 0),
        ("GET", "/status/503", 1, 0, 0, 1),
        ("HEAD", "/missing", 1, 0, 1, 0),
    }
    end, found = time.monotonic() + 10, set[tuple[Any, ...]]()
    fields = ("method", "path", "count", "status_2xx", "status_4xx", "status_5xx")
    while found != expected:
        assert time.monotonic() < end, found
        rows = endpoints("--from", "demo/player", "--to", "demo/cache", "--since", "60s")
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
