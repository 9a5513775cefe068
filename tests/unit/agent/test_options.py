"""Command lines of the agent: what is understood, and one line for what is not."""

from __future__ import annotations

import pytest

from flows.agent.options import AGENT_LISTEN, LOCAL_LISTEN, duration, parse
from flows.agent.probe.settings import PlaintextSettings

SECOND = 10**9


def test_defaults_of_both_commands_differ_in_listeners_and_the_api() -> None:
    agent, local = parse("agent", []), parse("local", [])
    assert (agent.listen, agent.kubernetes) == (AGENT_LISTEN, True)
    assert (local.listen, local.kubernetes) == (LOCAL_LISTEN, False)
    assert agent.flows == 65_535


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--no-kubernetes"], "kubernetes", False),
        (["--flows", "1023"], "flows", 1023),
        (["--listen", "127.0.0.1:1", "--listen", "unix:///a/b"], "listen", ("127.0.0.1:1", "unix:///a/b")),
        (["--listen", "0.0.0.0:1", "--allow-unauthenticated"], "listen", ("0.0.0.0:1",)),
        (["--node", "n", "--cluster", "c"], "node", "n"),
        (["--no-plaintext"], "plaintext", None),
        (["--plaintext-budget", "0.5"], "plaintext", PlaintextSettings(budget_percent=0.5)),
        (["--no-plaintext-of", "a", "--no-plaintext-of", "b"], "plaintext", PlaintextSettings(frozenset({"a", "b"}))),
    ],
)
def test_what_is_understood(words: list[str], field: str, value: object) -> None:
    assert getattr(parse("agent", words), field) == value


def test_intervals_reach_the_probe() -> None:
    probe = parse("agent", ["--active-interval", "500ms", "--unanswered-after", "1m", "--ring-mib", "16"]).probe
    assert (probe.active_interval_ns, probe.unanswered_after_ns, probe.ring_bytes) == (SECOND // 2, 60 * SECOND, 16 << 20)


def test_beyond_the_rate_of_requests_a_quarter_of_it_is_taken() -> None:
    probe = parse("agent", ["--requests-per-second", "500"]).probe
    assert (probe.payloads_per_second, probe.sampled_per_second) == (2_000, 100)  # first bytes of request and answer at both ends


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cgruop", "/x"], "did you mean --cgroup?"),
        (["--flows", "0"], "from 1 to"),
        (["--flows", "many"], "whole number"),
        (["--ring-mib", "3"], "power of two"),
        (["--idle-after", "5"], "a number and a unit"),
        (["--idle-after", "0s"], "out of range"),
        (["--plaintext-budget", "0"], "above 0, up to 100"),
        (["--plaintext-budget", "101"], "above 0, up to 100"),
        (["--plaintext-budget", "nan"], "above 0, up to 100"),
        (["--listen", "nowhere"], "expected host:port"),
        (["--listen", "host:70000"], "expected host:port"),
        (["--listen", "0.0.0.0:1"], "must show a certificate"),
        (["--listen", "[::]:1"], "must show a certificate"),
        (["--tls-cert-file", "/x"], "go together"),
        (["--tls-cert-file", "/x", "--tls-key-file", "/x", "--tls-client-ca-file", "/x"], "No such file"),
        (["\x1b[31mred"], "unknown flag"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("agent", words)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert said in error
    assert error.count("\n") == 1
    assert "\x1b" not in error


@pytest.mark.parametrize(
    ("text", "ns"), [("5s", 5 * SECOND), ("500ms", SECOND // 2), ("1.5m", 90 * SECOND), ("1h", 3600 * SECOND)]
)
def test_durations(text: str, ns: int) -> None:
    assert duration(text) == ns
