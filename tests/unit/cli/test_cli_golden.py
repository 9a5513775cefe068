"""`flows observe --input-file` is what the real `hubble observe` 1.19.4 printed, byte for byte."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from flows.cli.main import main

DATA = Path(__file__).parents[2] / "data" / "hubble"
OUT = DATA / "out"


class Case(NamedTuple):
    """A row of index.tsv."""

    name: str
    status: int
    arguments: list[str]

    def recorded(self, stream: str) -> str:
        """What Hubble wrote; the log line of its --debug is left out."""
        file = OUT / f"{self.name}.{stream}"
        lines = file.read_bytes().decode().splitlines(keepends=True) if file.exists() else []
        return "".join(line for line in lines if not line.startswith("time="))


def cases() -> list[Case]:
    rows = [line.split("\t") for line in (OUT / "index.tsv").read_text().splitlines()]
    return [Case(name, int(status), shlex.split(arguments)) for name, status, arguments in rows]


@pytest.mark.parametrize("case", [case for case in cases() if case.status == 0], ids=lambda case: case.name)
def test_output_is_hubbles(case: Case, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    status = main(["observe", "--input-file", str(DATA / "flows.json"), *case.arguments])
    out, err = capsysbinary.readouterr()
    assert (status, err.decode(), out.decode()) == (0, case.recorded("err"), case.recorded("out"))


@pytest.mark.parametrize("case", [case for case in cases() if case.status != 0], ids=lambda case: case.name)
def test_what_hubble_refuses_is_a_usage_error(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["observe", "--input-file", str(DATA / "flows.json"), *case.arguments])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("flows: ")
    assert "cannot be combined" in err


def test_every_recorded_output_is_compared() -> None:
    assert {case.name for case in cases()} == {file.stem for file in OUT.iterdir() if file.name != "index.tsv"}
