"""What a node lacks is named, with the cure."""

from __future__ import annotations

import errno

import pytest

from flows.agent.probe import preflight

ALL = "CapEff:\t000001ffffffffff\n"


def status(*bits: int) -> str:
    return f"Name:\tx\nCapEff:\t{sum(1 << bit for bit in bits):016x}\n"


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (ALL, []),
        (status(), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]),
        (status(12, 38, 39), []),
        (status(12, 39), ["CAP_PERFMON"]),
        (status(21), ["CAP_NET_ADMIN"]),
        (status(21, 12), []),
        ("no such line", ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]),
    ],
)
def test_missing_capabilities(text: str, missing: list[str]) -> None:
    assert preflight.missing_capabilities(text) == missing


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("none [integrity] confidentiality\n", "integrity"),
        ("[none] integrity confidentiality", "none"),
        ("none integrity [confidentiality]", "confidentiality"),
        ("", "none"),
    ],
)
def test_lockdown_mode(text: str, mode: str) -> None:
    assert preflight.lockdown_mode(text) == mode


@pytest.mark.parametrize(("release", "found"), [("6.18.44-fc", (6, 18)), ("5.4.0", (5, 4)), ("strange", (0, 0))])
def test_kernel_version(release: str, found: tuple[int, int]) -> None:
    assert preflight.kernel_version(release) == found


@pytest.mark.parametrize(("error", "word"), [(errno.EPERM, "bpf"), (errno.ENOMEM, "memory")])
def test_known_errors_are_explained(error: int, word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(preflight, "missing_capabilities", lambda _: [])
    assert word in preflight.explain(error)


def test_other_errors_are_left_alone() -> None:
    assert preflight.explain(errno.EINVAL) == preflight.explain(None) == ""
