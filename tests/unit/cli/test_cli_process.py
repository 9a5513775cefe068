"""`flows` as a process of its own: closed pipes, Ctrl-C, terminals."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_samples import at
from cli_server import Observer, Serve

FLOWS = [sys.executable, "-m", "flows.cli.main"]
OBSERVE = [*FLOWS, "observe"]


def start(*arguments: str, stdin: int | None = None, terminal: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TERM": "xterm"}
    return subprocess.Popen([*OBSERVE, *arguments], env=environment, stdin=stdin, stdout=terminal, stderr=terminal)


@pytest.mark.parametrize("flags", [["-f"], ["-f", "-o", "json"], ["-o", "dict", "--all"]])
def test_a_closed_pipe_ends_it_quietly(serve: Serve, flags: list[str]) -> None:
    server = serve(Observer([at(n) for n in range(5000)], hold=True))
    with start("--server", server, *flags) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def test_a_closed_pipe_ends_it_although_no_flow_comes(serve: Serve) -> None:
    with start("--server", serve(Observer([at(1)], hold=True)), "-f") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(b"(n1)\n")
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def test_ctrl_c_ends_it_quietly_with_what_came_before(serve: Serve) -> None:
    with start("--server", serve(Observer([at(1)], hold=True)), "-f") as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(b"(n1)\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_ctrl_c_ends_reading_of_standard_input() -> None:
    with start("--input-file", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"flow":{"Summary":"x"}}\n')
        process.stdin.flush()
        assert process.stdout.readline().endswith(b"(x)\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")


def read_until(terminal: int, wanted: bytes) -> bytes:
    text = b""
    while wanted not in text:
        text += os.read(terminal, 65536)
    return text


def test_on_a_terminal_followed_flows_are_coloured_above_a_line_of_status(serve: Serve) -> None:
    ours, theirs = pty.openpty()
    server = serve(Observer([at(1), at(2)], hold=True))
    with start("--server", server, "-f", terminal=theirs) as process:
        os.close(theirs)
        text = read_until(ours, b"2 flows, ")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    os.close(ours)
    unknown = b"\x1b[35m(unknown)\x1b[0m"
    assert b"Jan  1 00:00:01.000:  %b <>  %b UNKNOWN \x1b[32mFORWARDED\x1b[0m (n1)" % (unknown, unknown) in text
    assert b"/s (Ctrl-C ends) from unix:///" in text


def test_help_is_there_without_a_server_or_a_terminal() -> None:
    for arguments in ([], ["--help"], ["help"], ["observe", "--help"], ["status", "--help"], ["help", "list"], ["watch", "-h"]):
        result = subprocess.run([*FLOWS, *arguments], capture_output=True, check=True, timeout=30)
        assert b"usage: flows" in result.stdout
        assert result.stderr == b""


def test_help_loads_neither_grpc_nor_numpy() -> None:
    code = "import sys, flows.cli.main as m; m.main(['--help']); print({'grpc', 'numpy', 'rich'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30)
    assert result.stdout.endswith(b"set()\n")


def test_an_observation_loads_neither_rich_nor_the_kubernetes_client(serve: Serve) -> None:
    server = serve(Observer())
    code = (
        "import sys, flows.cli.main as m;"
        f" m.main(['observe', '--server', '{server}']); print({{'rich', 'kubernetes'}} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30)
    assert result.stdout == b"set()\n"


def test_output_that_cannot_be_encoded_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / "flows.json"
    file.write_text('{"flow":{"Summary":"日"}}\n')
    command = [*OBSERVE, "--input-file", str(file)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30)
    assert result.stdout.endswith(b"(\\u65e5)\n")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "flows.json"
    file.write_text('{"flow":{"Summary":"x"}}\n')
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [*OBSERVE, "--input-file", str(file)], stdout=full, stderr=subprocess.PIPE, check=False, timeout=30
        )
    assert (result.returncode, result.stderr.count(b"\n")) == (1, 1)
    assert b"flows: [Errno 28] No space left on device" in result.stderr
