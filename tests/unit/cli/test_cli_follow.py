"""`flows observe -f` when its server goes away and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cli_samples import SECOND, at, batch, shown
from cli_server import Batches, Observer, Serve

from flows.cli import stream
from flows.cli.main import main

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from cli_server import Failure

    from flows.proto import flows_pb2

Capture = pytest.CaptureFixture[str]
GONE = (grpc.StatusCode.UNAVAILABLE, "Socket closed")
NO_SERVICE = (grpc.StatusCode.UNIMPLEMENTED, "unknown service flows.v1.Flows")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts without the pauses that people have patience for."""
    monkeypatch.setattr(stream, "BACKOFF_S", (0.01, 0.02))


def delivered(seconds: Sequence[int], up_to: int, *, past: bool = True, watermark: int = 0) -> flows_pb2.FlowBatch:
    """A batch of node n that says how far its stream has come."""
    message = batch(seconds)
    message.past, message.watermark_ns = past, watermark * SECOND
    message.positions.add(node="n", instance=7, received=up_to, watermark_ns=watermark * SECOND)
    return message


def scripted(*answers: Sequence[flows_pb2.FlowBatch | Failure]) -> Batches:
    """Gives the answers one after another, one per call."""
    rest = iter(answers)
    return Batches(answer=lambda _: next(rest))


def test_a_broken_stream_goes_on_where_it_was(serve: Serve, capsys: Capture) -> None:
    server = scripted([delivered([1, 2], 2, watermark=2), delivered([3], 3, watermark=3), GONE], [delivered([4], 4)])
    address = serve(server)
    assert main(["observe", "-f", "--last", "9", "--server", address]) == 0
    out, err = capsys.readouterr()
    assert shown(out) == ["n1", "n2", "n3", "n4"]
    assert err.splitlines() == [
        f"flows: {address}: cannot reach it: the connection broke: Socket closed; trying again",
        f"flows: {address}: connected again",
    ]
    first, second = server.batch_requests
    assert (first.query.number, len(first.resume)) == (9, 0)
    (position,) = second.resume
    assert (position.node, position.instance, position.received) == ("n", 7, 3)
    # A node that was not there before answers from where the others are.
    assert (second.query.number, second.query.since.ToNanoseconds(), second.query.follow) == (0, 3 * SECOND, True)


def test_a_stream_that_breaks_within_the_past_asks_for_the_rest_of_it(serve: Serve) -> None:
    server = scripted([delivered([1], 1, past=False), GONE], [delivered([2], 2)])
    assert main(["observe", "-f", "--last", "9", "--server", serve(server)]) == 0
    second = server.batch_requests[1]
    assert (second.query.number, second.resume[0].received) == (9, 1)


def test_an_outage_is_told_once_however_long_it_lasts(serve: Serve, capsys: Capture) -> None:
    server = scripted([delivered([1], 1), GONE], [GONE], [GONE], [GONE], [delivered([2], 2), GONE], [delivered([3], 3)])
    assert main(["observe", "-f", "--server", serve(server)]) == 0
    out, err = capsys.readouterr()
    assert shown(out) == ["n1", "n2", "n3"]
    assert [line.rsplit(" ", 2)[-2:] for line in err.splitlines()] == [["trying", "again"], ["connected", "again"]] * 2


def test_silence_is_what_was_asked_for(serve: Serve, capsys: Capture) -> None:
    server = scripted([delivered([1], 1), GONE], [delivered([2], 2)])
    assert main(["observe", "-f", "-s", "--server", serve(server)]) == 0
    assert capsys.readouterr().err == ""


def test_a_server_that_says_nothing_any_more_is_gone(serve: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SILENCE_S", 0.2)
    server = scripted([delivered([1], 1)], [delivered([2], 2), (grpc.StatusCode.ABORTED, "enough")])
    server.hold = True
    assert main(["observe", "-f", "--server", serve(server)]) == 1
    out, err = capsys.readouterr()
    assert shown(out) == ["n1", "n2"]
    assert "no word from it for 0.2 s; trying again" in err


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ([GONE], "cannot reach it: the connection broke: Socket closed"),
        ([delivered([1], 1), (grpc.StatusCode.PERMISSION_DENIED, "grant get")], "permission denied: grant get"),
        ([delivered([1], 1), (grpc.StatusCode.INTERNAL, "bug")], "internal: bug"),
    ],
)
def test_what_is_no_outage_is_an_error(serve: Serve, capsys: Capture, answer: Any, text: str) -> None:
    server = scripted(answer)
    assert main(["observe", "-f", "--server", serve(server)]) == 1
    assert text in capsys.readouterr().err
    assert len(server.batch_requests) == 1


def test_an_expired_token_is_renewed(serve: Serve, capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")
    expired = (grpc.StatusCode.UNAUTHENTICATED, "expired")

    def answer(request: flows_pb2.FlowsRequest) -> list[Any]:
        file.write_text("new")
        return [delivered([1], 1), expired] if not request.resume else [delivered([2], 2), expired]

    server = Batches(answer=answer)
    assert main(["observe", "-f", "--token-file", str(file), "--server", serve(server)]) == 1
    out, err = capsys.readouterr()
    assert shown(out) == ["n1", "n2"]
    assert [value for key, value in server.metadata if key == "authorization"] == ["Bearer old", "Bearer new"]
    assert "it wants to know who you are: expired; --token-file" in err


@dataclass
class Flaky(Observer):
    """An Observer that breaks after each of its answers but the last."""

    answers: list[Sequence[int]] = field(default_factory=list)

    async def GetFlows(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.requests.append(request)
        for second in self.answers.pop(0):
            yield at(second)
        if self.answers:
            await context.abort(*GONE)


def test_a_plain_observer_goes_on_by_time_and_it_is_said(serve: Serve, capsys: Capture) -> None:
    server = Flaky(answers=[[1, 2], [3]])
    assert main(["observe", "-f", "--last", "9", "--server", serve(server)]) == 0
    out, err = capsys.readouterr()
    assert shown(out) == ["n1", "n2", "n3"]
    assert "connected again; flows of the meantime may be missing or shown twice" in err
    again = server.requests[1]
    assert (again.number, again.since.ToNanoseconds(), again.follow) == (0, 2 * SECOND + 1, True)


def test_flows_without_a_time_still_tell_how_far_it_was(serve: Serve) -> None:
    server = Flaky(answers=[[0], [3]])
    before = time.time_ns()
    assert main(["observe", "-f", "--server", serve(server)]) == 0
    assert before <= server.requests[1].since.ToNanoseconds() <= time.time_ns()


def test_the_batched_service_may_be_gone_after_a_restart(serve: Serve, capsys: Capture) -> None:
    server = scripted([delivered([1], 1), GONE], [NO_SERVICE], [])
    server.responses = [at(2)]
    assert main(["observe", "-f", "--server", serve(server)]) == 0
    out, err = capsys.readouterr()
    assert shown(out) == ["n1", "n2"]
    assert "may be missing or shown twice" in err
    assert server.requests[0].since.ToNanoseconds() == SECOND + 1


def follow(address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.cli.main", "observe", "-f", "--server", address]
    return subprocess.Popen(command, env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("batched", [True, False])
def test_a_server_is_restarted_and_then_ctrl_c_is_quiet(serve: Serve, batched: bool) -> None:
    def server(second: int) -> Observer:
        held = Batches(answer=lambda _: [delivered([second], second)]) if batched else Observer([at(second)])
        held.hold = True
        return held

    address = serve(server(1))
    with follow(address) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(b"(n1)\n")
        serve.stop(address)
        assert process.stderr.readline().endswith(b"; trying again\n")
        serve(server(2), address=address)
        assert process.stdout.readline().endswith(b"(n2)\n")
        assert b"connected again" in process.stderr.readline()
        serve.stop(address)
        assert process.stderr.readline().endswith(b"; trying again\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")
