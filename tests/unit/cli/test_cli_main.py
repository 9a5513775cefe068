"""The command `flows` itself: commands, errors, completion."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from flows.cli.commands import COMMANDS
from flows.cli.completion import VALUES
from flows.cli.flags_filter import FILTER_FLAGS
from flows.cli.flags_options import OPTIONS
from flows.cli.main import main
from flows.proto import flow_pb2

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["obsrve"], 'unknown command "obsrve"; did you mean `flows observe`?'),
        (["\x1b[2J"], 'unknown command "^[[2J" (one of observe, status'),
        (["--from", "x"], 'expected a command, not "--from"'),
        (["completion"], "flows completion: expected one of bash, zsh, fish"),
        (["completion", "tcsh"], "flows completion: expected one of bash, zsh, fish"),
        (["observe", "--form", "x"], "unknown flag: --form; did you mean --from?"),
    ],
)
def test_what_is_not_understood_is_one_line(capsys: Capture, arguments: list[str], message: str) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"flows: {message}")


def test_help_shows_every_command(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out and command.summary in out for name, command in COMMANDS.items())
    assert "examples:" in out


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(capsys: Capture, arguments: list[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("flows 0.")


@pytest.mark.parametrize(
    ("arguments", "module", "passed"),
    [
        (["agent", "--help"], "flows.agent.main", ["agent", "--help"]),
        (["local", "--listen", "x"], "flows.agent.main", ["local", "--listen", "x"]),
        (["demo", "up"], "flows.demo.main", ["up"]),
    ],
)
def test_other_parts_get_their_arguments_and_give_the_status(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], module: str, passed: list[str]
) -> None:
    part = ModuleType(module)
    seen: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        seen.append(arguments)
        return 7

    part.main = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module, part)
    assert main(arguments) == 7
    assert seen == [passed]


@pytest.fixture
def broken_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    part = ModuleType("flows.demo.main")

    def main(arguments: list[str]) -> int:
        raise RuntimeError("it\nbroke\x1b")

    part.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flows.demo.main", part)


@pytest.mark.usefixtures("broken_demo")
def test_a_fault_is_one_line_that_says_how_to_get_the_trace(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWS_DEBUG", raising=False)
    assert main(["demo"]) == 1
    line = r"flows: RuntimeError: it\nbroke^[ (this is a fault of flows; FLOWS_DEBUG=1 shows where)"
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.usefixtures("broken_demo")
def test_debugging_shows_the_trace(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWS_DEBUG", "1")
    assert main(["demo"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_flag(capsys: Capture, shell: str) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    prefix = "-l " if shell == "fish" else "--"
    assert all(name in script for name in COMMANDS)
    assert all(f"{prefix}{name}" in script for name in (*FILTER_FLAGS, *OPTIONS))


def completed(script: str, *words: str) -> set[str]:
    listed = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _flows; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    result = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, check=True, text=True, timeout=10)
    assert result.stderr == ""
    return set(result.stdout.split())


def test_bash_completes(capsys: Capture) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    assert completed(script, "flows", "") == set(COMMANDS)
    assert completed(script, "flows", "observe", "--from-p") == {"--from-pod", "--from-port"}
    assert completed(script, "flows", "observe", "-o", "js") == {"json", "jsonpb"}
    assert completed(script, "flows", "observe", "--verdict", "D") == {"DROPPED"}
    assert completed(script, "flows", "demo", "") >= {"up", "down"}


def test_completed_values_belong_to_flags_and_are_accepted(capsys: Capture) -> None:
    assert set(VALUES) <= {*FILTER_FLAGS, *OPTIONS}
    assert "DROPPED" in VALUES["verdict"]
    assert set(VALUES["drop-reason-desc"]) == set(flow_pb2.DropReason.keys())
    for name, words in VALUES.items():
        for word in words[:3]:
            assert main(["observe", "--print-raw-filters", f"--{name}", word]) == 0
    capsys.readouterr()
