"""DNS of the demo: compared with the name servers' own logs, and where queries died."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from l7_failing import FATES, LOST, dropping, drops, hanging
from l7_followed import Followed, Told, agents, only
from l7_truth import Log, one, resolved, script
from told import moment

from flows.demo import layout
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from demo_command import Demo

Json = dict[str, Any]
RATE, SECONDS = 2_000, 10
CODES = {0: "NOERROR", 3: "NXDOMAIN"}
# A resolver gives up after 5 s; whoever asks here listens for longer, to see whether an answer comes late.
PATIENCE_SECONDS = 8
SETTLE_SECONDS = 2.0


def query(demo: Demo, pod: Json, *words: str) -> str:
    """What l7_queries.py prints, run in a pod."""
    return demo.exec(f"{pod['namespace']}/{pod['name']}", "python3", "-c", script("l7_queries.py"), layout.DNS_SERVICE, *words)


@pytest.mark.timeout(120)
def test_at_2000_a_second_every_query_has_its_own_name_and_code_at_both_ends(demo: Demo) -> None:
    servers, player, tag = demo.pods("kube-system/kube-dns-"), one(demo, "demo/player-"), f"x{secrets.token_hex(4)}"
    logs = [Log(server, "dnsmasq") for server in servers]
    with Followed(agents(demo, player, *servers), only(dns_query=[f"^{tag}-"], reply=[True])) as followed:
        counts = json.loads(query(demo, player, "pace", str(RATE), str(RATE * SECONDS), tag))
        followed.settle()
    truth = resolved(logs, tag)
    assert counts["asked"] == RATE * SECONDS
    assert len(truth) > 0.95 * RATE * SECONDS  # for what came while the server did nothing its socket may have had no room
    told, lost = followed.told(), followed.lost()
    for by_client in (True, False):
        compare(truth, [one for one in told if one.by_client == by_client], lost, "client" if by_client else "server")


def compare(truth: dict[tuple[str, str], str], told: list[Told], lost: dict[str, int], end: str) -> None:
    """Every answer has the code and the addresses of its own question; what is missing was reported as lost."""
    codes = {key(one): CODES.get(one.flow.l7.dns.rcode, "") for one in told}
    mispaired = [(name, code, truth.get(name)) for name, code in codes.items() if truth.get(name) != code]
    twice = [name for name, count in Counter(map(key, told)).items() if count > 1]
    missing = len(truth) - len(codes)
    sys.stdout.write(f"{end}: {len(told)} of {len(truth)} told, {missing} missing, {len(mispaired)} mispaired, lost: {lost}\n")
    assert (mispaired[:5], twice[:5]) == ([], [])
    assert missing <= sum(lost.values()), (missing, lost)


def key(told: Told) -> tuple[str, str]:
    dns = told.flow.l7.dns
    return dns.query.removesuffix("."), dns.qtypes[0]


# Where a query died


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a case."""

    name: str
    pod: Json
    answer: str
    since: str  # a time, as users give it


@pytest.fixture(scope="module")
def asked(demo: Demo) -> dict[str, Asked]:
    """All cases at once, as each takes seconds: each has a client of its own, and what is dropped is that client's alone."""
    made: dict[str, Asked] = {}
    since = moment(time.time_ns())
    with ExitStack() as stack, ThreadPoolExecutor(len(FATES)) as pool:
        answers = {}
        for title, case in FATES.items():
            pod, name = one(demo, case.client), f"x{secrets.token_hex(4)}.{case.zone}"
            for place in drops(demo, case.drop, pod) if case.drop else ():
                stack.enter_context(dropping(*place))
            answers[title] = name, pod, pool.submit(query, demo, pod, "ask", "A", name, str(PATIENCE_SECONDS))
        for title, (name, pod, answer) in answers.items():
            made[title] = Asked(name, pod, answer.result().strip(), since)
    time.sleep(SETTLE_SECONDS)
    return made


def rows(*words: str) -> list[Json]:
    """What `flows dns -o json` prints, without what it says of coverage."""
    argv = [sys.executable, "-m", "flows.cli.main", "dns", *words, "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return [row for row in map(json.loads, done.stdout.splitlines()) if "name" in row]


def causes(client: Json, name: str, since: str) -> dict[str, str]:
    """What `flows dns` says of the queries of a pod for a name: cause -> evidence."""
    found = rows("--from", f"{client['namespace']}/{client['name']}", "--since", since)
    return {row["cause"]: row["evidence"] for row in found if row["name"].removesuffix(".") == name}


@pytest.mark.timeout(90)
@pytest.mark.parametrize("title", FATES)
def test_flows_dns_says_where_a_query_died(asked: dict[str, Asked], title: str) -> None:
    case, made = FATES[title], asked[title]
    assert made.answer == case.answer
    found = causes(made.pod, made.name, made.since)
    assert found.keys() == {case.fate}, found


@pytest.mark.timeout(120)
def test_the_relay_says_it_in_the_flows_themselves(demo: Demo, asked: dict[str, Asked]) -> None:
    wanted = {title: {(FATES[title].fate, True)} for title in asked}
    end, told = time.monotonic() + 60, dict[str, set[tuple[str, bool]]]()
    while told != wanted:  # a relay looks only so often, and those before were many
        assert time.monotonic() < end, told
        flows = demo.observe("--protocol", "dns", "--since", next(iter(asked.values())).since)
        told = {title: fates(flows, made) for title, made in asked.items()}


@pytest.mark.timeout(60)
def test_who_may_not_see_the_name_servers_flows_is_told_the_cause_all_the_same(
    demo: Demo, asked: dict[str, Asked], tmp_path: Path
) -> None:
    token, made = tmp_path / "token", asked["SERVFAIL of the upstream"]
    token.write_text(demo.ok("token", "demo/viewer"))
    server = ("--server", f"tls://{layout.NODES[0].address}:31245", "--tls-ca-cert-files", str(layout.FLOWS_CA))
    words = (*server, "--token-file", str(token), "--from", f"demo/{made.pod['name']}", "--since", made.since)
    wanted = {("UPSTREAM_FAILED", "told from flows of which some are not shown to you")}
    end, found = time.monotonic() + 40, set[tuple[str, str]]()
    while found != wanted:
        assert time.monotonic() < end, found
        found = {(row["cause"], row["evidence"]) for row in rows(*words) if row["name"] == made.name}


def fates(flows: list[Json], of: Asked) -> set[tuple[str, bool]]:
    """What flows of a query say of where it died, and whether they have evidence."""
    ours = [flow for flow in flows if flow["l7"]["dns"]["query"] == f"{of.name}." and of.pod["name"] in ends(flow)]
    said = [flow["extensions"]["connection"]["request"]["dns"] for flow in ours]
    return {(dns["fate"], bool(dns.get("fate_evidence"))) for dns in said if "fate" in dns}


def ends(flow: Json) -> set[str]:
    """Names of the pods that speak."""
    return {flow[side].get("pod_name", "") for side in ("source", "destination")}


@pytest.mark.timeout(60)
def test_a_name_server_that_hangs_is_silent(demo: Demo) -> None:
    client, name = one(demo, "demo/store-"), f"x{secrets.token_hex(4)}.any.test"
    since = moment(time.time_ns())
    with hanging(*demo.pods("kube-system/kube-dns-")):
        assert query(demo, client, "ask", "A", name, "6").strip() == LOST
        time.sleep(SETTLE_SECONDS)
        found = causes(client, name, since)
    assert found.keys() == {"SERVER_SILENT"}, found


@pytest.mark.timeout(60)
def test_a_late_answer_is_told_as_no_answer_and_then_as_a_late_one(demo: Demo, asked: dict[str, Asked]) -> None:
    made = asked["answered after 6 s"]
    pod = f"{made.pod['namespace']}/{made.pod['name']}"
    flows = demo.observe("--protocol", "dns", "--since", made.since, "--pod", pod)
    ours = [flow["extensions"]["connection"] for flow in flows if flow["l7"]["dns"]["query"] == f"{made.name}."]
    events = [one["event"] for one in ours]
    assert "NO_RESPONSE" in events, events
    assert any(one["event"] == "RESPONSE" and "LATE_ANSWER" in one["request"].get("marks", []) for one in ours), ours


@pytest.mark.timeout(60)
def test_repeated_queries_of_one_question_are_linked(demo: Demo) -> None:
    name = f"x{secrets.token_hex(4)}.silent.example.test"
    player = one(demo, "demo/player-")
    with Followed(agents(demo, player), only(dns_query=[f"^{re.escape(name)}"])) as followed:
        demo.run("exec", f"demo/{player['name']}", "--", "getent", "ahostsv4", f"{name}.")
        followed.settle()
    told = [one for one in followed.told() if one.connection.event == extension_pb2.REQUEST and one.by_client]
    asked = [one for one in told if one.flow.source.pod_name == player["name"]]  # not the cluster's server that asks in turn
    attempts = sorted((one.request.dns.attempt, one.request.dns.first, one.request.id) for one in asked)
    assert [attempt for attempt, _, _ in attempts] == [1, 2]
    assert {first for _, first, _ in attempts} == {attempts[0][2]}


@pytest.mark.timeout(60)
def test_a_search_suffix_is_told_apart_from_a_name_that_is_not_there(demo: Demo) -> None:
    """svc-b.demo from the namespace other: the first suffix is not it. svc-b alone: it is in another namespace."""
    assert "svc-b.demo" in demo.exec("other/visitor", "getent", "ahosts", "svc-b.demo")
    assert demo.run("exec", "other/visitor", "--", "getent", "ahosts", "svc-b").returncode == 2
    time.sleep(SETTLE_SECONDS)
    names = {row["name"].removesuffix("."): row for row in rows("names", "--from", "other/visitor", "--since", "30s")}
    assert names["svc-b.demo"]["outcome"] == "resolved"
    assert names["svc-b.demo"]["wasted_packets"] > 0
    assert "svc-b.demo" in names["svc-b"]["did_you_mean"]


def test_a_query_and_its_answer_are_lines_as_hubble_prints_them(demo: Demo) -> None:
    name = f"x{secrets.token_hex(4)}.demo.svc.cluster.local"
    known = f"x{secrets.token_hex(4)}.any.test"
    player = one(demo, "demo/player-")
    query(demo, player, "ask", "A", name, "2")
    query(demo, player, "ask", "A", known, "2")
    absent = "DNS Answer RCode: Non-Existent Domain TTL: 4294967295"
    cluster = r"kube-system/kube-dns\S+ \(\S+\)"
    forms = [
        rf"demo/player-\S+ \(ID:\d+\) -> {cluster} dns-request .*FORWARDED \(DNS Query {name}\. A\)",
        rf"demo/player-\S+ \(ID:\d+\) <- {cluster} dns-response .*FORWARDED \({absent} \(\S+ {name}\. A\)\)",
        rf'dns-response .*FORWARDED \(DNS Answer "192\.0\.2\.53" TTL: \d+ \(\S+ {known}\. A\)\)',
    ]
    end, lines = time.monotonic() + 10, list[str]()
    pod = f"demo/{player['name']}"
    argv = [sys.executable, "-m", "flows.cli.main", "observe", "--protocol", "dns", "--pod", pod, "--since", "1m"]
    while not all(any(re.search(form, line) for line in lines) for form in forms):
        assert time.monotonic() < end, (forms, lines[-8:])
        lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
