"""`flows dns`, `flows dns names`, `flows http`, `flows encryption`: from the command line and a file to rows and cells."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from answer_resolver import EXTERNAL, Resolver
from answer_samples import A, B, Call, Pod, Query, connection, ordered
from cli_answer_samples import COMMANDS_OF_ANSWERS, DNS_FLOWS, Capture, found, written

from flows.cli.answers_options import ANSWER_OPTIONS
from flows.cli.commands import COMMANDS
from flows.cli.main import main
from flows.cli.print.answer_cells import cell, duration, size
from flows.flow.answers.dns import DnsAnswer
from flows.flow.answers.encryption import EncryptionAnswer
from flows.flow.answers.http import HttpAnswer
from flows.flow.answers.names import NamesAnswer
from flows.flow.answers.table import Column, Kind
from flows.flow.answers.told import extension_of
from flows.proto import extension_pb2

EVIL = Query("x\x1b[2J\u202e.example.com", rcode=2, number=9, query_id=9)


def test_dns_of_a_file_as_json(tmp_path: Path, capsys: Capture) -> None:
    assert main(["dns", "--input-file", written(tmp_path, DNS_FLOWS), "-o", "json", "--from", "svc-a"]) == 0
    out = capsys.readouterr().out
    (row,) = found(out, "dns")
    assert {key: row[key] for key in ("client", "server", "name", "qtype", "result", "count", "cause")} == {
        "client": "demo/svc-a", "server": "kube-system/kube-dns", "name": "bad.example.com", "qtype": "A", "result": "SERVFAIL",
        "count": 1, "cause": "UPSTREAM_FAILED",
    }  # fmt: skip
    assert row["quantile_error"] == 0.01
    assert row["last_seen"].endswith("Z")
    assert found(out, "dns_total")[0]["failed"] == 1
    assert json.loads(out.splitlines()[-1])["coverage"]["complete"]


def test_dns_of_a_file_as_a_table(tmp_path: Path, capsys: Capture) -> None:
    assert main(["dns", "--input-file", written(tmp_path, DNS_FLOWS)]) == 0
    out, err = capsys.readouterr()
    header = out.splitlines()[0].split()
    assert header[:6] == ["CLIENT", "SERVER", "NAME", "TYPE", "RESULT", "COUNT"]
    assert "UPSTREAM_FAILED" in out
    assert "\ntotals\n" in out
    assert "quantiles: within 1 % (DDSketch)" in out
    assert err == ""


def test_standard_input_is_read_for_both_looks(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(written(tmp_path, DNS_FLOWS)).read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["dns", "--input-file", "-", "--from", "svc-a", "-o", "json"]) == 0
    assert found(capsys.readouterr().out, "dns")[0]["cause"] == "UPSTREAM_FAILED"


def test_names_and_connections_of_a_file(tmp_path: Path, capsys: Capture) -> None:
    query = Query("svc-b.demo", ips=(B.address,))
    path = written(tmp_path, ordered([*query.flows(), connection(A, B, at=1, port=80)]))
    assert main(["dns", "names", "--from", "svc-a", "--input-file", path, "-o", "json"]) == 0
    (row,) = found(capsys.readouterr().out, "dns_name")
    assert (row["name"], row["outcome"], row["connection"]) == ("svc-b.demo", "resolved", "10.0.2.1 TCP 80")


def test_http_of_a_file_sorted(tmp_path: Path, capsys: Capture) -> None:
    calls = [Call("/a", number=1), Call("/b", number=2, at=1, took=0.5), Call("/c", number=3, at=2, took=0.1, client=B, server=A)]
    path = written(tmp_path, ordered(flow for call in calls for flow in call.flows()))
    assert main(["http", "--from", "svc-a", "--to", "svc-b", "--input-file", path, "-o", "json", "--sort", "-p99"]) == 0
    assert [row["path"] for row in found(capsys.readouterr().out)] == ["/b", "/a"]


def test_encryption_of_a_file(tmp_path: Path, capsys: Capture) -> None:
    flows = [connection(A, B, spoken=extension_pb2.SPOKEN_HTTP1), connection(B, A, spoken=extension_pb2.SPOKEN_TLS)]
    path = written(tmp_path, flows)
    assert main(["encryption", "--input-file", path]) == 0
    out = capsys.readouterr().out
    assert out.index(" plain ") < out.index(" encrypted ")
    assert "1 encrypted, 1 plain, 0 unknown connections" in out


@pytest.mark.parametrize("command", COMMANDS_OF_ANSWERS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sort", "nope"], '--sort "nope": expected one of client, server'),
        (["--sort", "cleint"], "did you mean client?"),
        (["-o", "compact"], '--output "compact": expected one of table, wide, json'),
        (["--form", "x"], "unknown flag: --form; did you mean --from?"),
        (["svc-a"], 'unexpected argument "svc-a"'),
        (["--from", "a/b/c"], "did you mean a/b?"),
        (["--since", "yesterdayish"], "--since"),
        (["-f", "--exit-code"], "--exit-code: --follow never ends"),
        (["--last", "3", "--first", "3"], "cannot set both --first and --last"),
        (["--field-mask", "time"], "unknown flag: --field-mask"),
        (["--sort"], "--sort: a value must follow: COLUMN"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_a_usage_error(capsys: Capture, command: list[str], arguments: list[str], message: str) -> None:
    assert main([*command, *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message.replace("client, server", "client") in err


@pytest.mark.parametrize("command", COMMANDS_OF_ANSWERS)
def test_help_has_all_filters_and_sort(capsys: Capture, command: list[str]) -> None:
    assert main([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: flows {' '.join(command)} [flags]" in out
    assert all(flag in out for flag in ("--from", "--http-status", "--server", "--port-forward", "--sort", "--since"))
    assert "--field-mask" not in out


@pytest.mark.parametrize("command", COMMANDS_OF_ANSWERS)
@pytest.mark.parametrize("form", ["table", "wide", "json"])
def test_nothing_is_said_to_be_nothing(tmp_path: Path, capsys: Capture, command: list[str], form: str) -> None:
    path = written(tmp_path, [])
    assert main([*command, "--input-file", path, "-o", form]) == 0
    assert main([*command, "--input-file", path, "--exit-code", "-o", form]) == 1


@pytest.mark.parametrize("form", ["table", "wide", "json"])
def test_what_comes_from_the_network_is_escaped(tmp_path: Path, capsys: Capture, form: str) -> None:
    path = written(tmp_path, EVIL.flows())
    for command in (["dns"], ["dns", "names"]):
        assert main([*command, "--input-file", path, "-o", form]) == 0
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        if form != "json":
            assert "x^[[2j\\u202e.example.com" in out


def test_colours_never_carry_what_the_network_says(tmp_path: Path, capsys: Capture) -> None:
    assert main(["dns", "--input-file", written(tmp_path, EVIL.flows()), "--color", "always"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[31m" in out
    assert "\x1b[2J" not in out


@pytest.mark.parametrize("color", ["never", "always"])
def test_a_note_with_a_name_of_the_network_is_one_line(tmp_path: Path, capsys: Capture, color: str) -> None:
    """Of a process that is in no pod, and calls itself `x`, and in a line of its own `all is well`."""
    flows = Resolver(Pod("", "10.0.1.5", "node-1", pid=5)).glibc(EXTERNAL, EXTERNAL).flows()
    for flow in flows:
        extension = extension_of(flow)
        client = extension.destination if flow.is_reply.value else extension.source
        client.process.name = "x\nall is well"
        flow.extensions.Pack(extension)
    assert main(["dns", "names", "--input-file", written(tmp_path, flows), "--color", color]) == 0
    lines = [re.sub("\x1b[^m]*m", "", line).rstrip() for line in capsys.readouterr().out.splitlines()]
    note = lines.index(r"x\nall is well: in the pod's spec")
    assert lines[note + 1 :] == ["dnsConfig:", "  options:", "    - name: ndots", '      value: "1"']
    assert not any(line.startswith("all is well") for line in lines)


def test_the_filters_that_are_sent_go_both_ways(capsys: Capture) -> None:
    assert main(["dns", "--from-ip", "10.0.1.1", "--not", "--to-port", "5353", "--print-raw-filters"]) == 0
    assert capsys.readouterr().out == (
        "allowlist:\n"
        '    - \'{"source_ip":["10.0.1.1"],"protocol":["dns"],"reply":[false]}\'\n'
        '    - \'{"destination_ip":["10.0.1.1"],"protocol":["dns"],"reply":[true]}\'\n'
        "denylist:\n"
        '    - \'{"destination_port":["5353"],"reply":[false]}\'\n'
        '    - \'{"source_port":["5353"],"reply":[true]}\'\n'
    )


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (None, Kind.COUNT, "-"),
        (0, Kind.COUNT, "0"),
        (12345, Kind.COUNT, "12,345"),
        (8080, Kind.NUMBER, "8080"),
        (1_234_567, Kind.DURATION, "1.23ms"),
        (["a", "b", "c", "d"], Kind.LIST, "a, b, c and 1 more"),
        ({"x\n": 3}, Kind.COUNTS, "x\\n 3"),
        (0.012, Kind.RATE, "0.012"),
        (1 << 90, Kind.TIME, "N/A"),
        ("", Kind.TEXT, "-"),
    ],
)
def test_values_of_cells(value: object, kind: Kind, expected: str) -> None:
    assert cell(value, Column("x", kind)) == expected


def test_durations_and_sizes() -> None:
    assert [duration(each) for each in (5, 5_000, 123_400_000, 5_000_000_000)] == ["5ns", "5µs", "123ms", "5s"]
    assert [size(each) for each in (5, 2048, 5 << 30, 5 << 50)] == ["5 B", "2.0 KiB", "5.0 GiB", "5,120.0 TiB"]


def test_completion_knows_the_flags_of_answers(capsys: Capture) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert all(f"{'-l ' if shell == 'fish' else '--'}{name}" in script for name in ANSWER_OPTIONS)
    assert {"dns", "http", "encryption"} <= COMMANDS.keys()


def test_every_column_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "answers.md").read_text()
    for answer in (DnsAnswer, NamesAnswer, HttpAnswer, EncryptionAnswer):
        missing = [column.key for column in answer.columns if f"`{column.key}`" not in text]
        assert missing == []
