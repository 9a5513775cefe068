"""`--input-file`: JSON lines of responses or bare flows, filtered as a server would."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from cli_samples import shown
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]


def flow(second: int, **fields: object) -> str:
    time = f"1970-01-01T00:00:{second:02}Z"
    return json.dumps({"flow": {"time": time, "Summary": f"f{second}", **fields}, "time": time})


LOSS = json.dumps({"lost_events": {"num_events_lost": "9"}, "time": "1970-01-01T00:00:03Z"})
LINES = [flow(1), flow(2, verdict="DROPPED"), LOSS, flow(4, verdict="DROPPED"), flow(5)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flows.json"
    path.write_text("\n".join(LINES))
    return path


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ["f1", "f2", "9", "f4", "f5"]),
        (["--verdict", "DROPPED"], ["f2", "f4"]),
        (["--verdict", "DROPPED", "--last", "1"], ["f4"]),
        (["--last", "3"], ["9", "f4", "f5"]),
        (["--first", "1"], ["f1"]),
        (["--first", "3"], ["f1", "f2", "9"]),
        (["--since", "1970-01-01T00:00:04Z"], ["f4", "f5"]),
        (["--until", "1970-01-01T00:00:03Z"], ["f1", "f2", "9"]),
        (["--not", "--verdict", "DROPPED"], ["f1", "9", "f5"]),
        (["--follow"], ["f1", "f2", "9", "f4", "f5"]),
    ],
)
def test_selection(file: Path, capsys: Capture, flags: list[str], expected: list[str]) -> None:
    assert main(["observe", "--input-file", str(file), *flags]) == 0
    assert shown(capsys.readouterr().out) == expected


def test_standard_input_and_bare_flows(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = [json.dumps({"time": "1970-01-01T00:00:01Z", "node_name": "n", "Summary": "bare"}), "", "  "]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(bare).encode())))
    assert main(["observe", "--input-file", "-", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "flow": {"time": "1970-01-01T00:00:01Z", "node_name": "n", "Summary": "bare"},
        "node_name": "n",
        "time": "1970-01-01T00:00:01Z",
    }


def test_fields_of_a_later_version_are_left_out_with_one_warning(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "f"
    path.write_text(f"{flow(1, new_field=1)}\n{flow(2, verdict='NEW_VERDICT')}\n")
    assert main(["observe", "--input-file", str(path)]) == 0
    out, err = capsys.readouterr()
    assert shown(out) == ["f1", "f2"]
    assert err.count("\n") == 1
    assert err.startswith(f"flows: --input-file {path}, line 1: fields that this version does not know are left out")


@pytest.mark.parametrize(
    "line",
    [
        "{", "[]", "7", "nonsense", '{"flow":7}', '{"flow":{"time":"yesterday"}}',
        '{"flow":{"l4":{"TCP":{"source_port":-1}}}}', '{"flow":{"extensions":{"@type":"x/none"}}}', "\x1b[2J",
        '{"flow":{"Summary":"\\ud800"}}', "[" * 100_000, '{"flow":' * 500,
    ],
)  # fmt: skip
def test_a_malformed_line_is_named(tmp_path: Path, capsys: Capture, line: str) -> None:
    path = tmp_path / "f"
    path.write_text(f"{flow(1)}\n{line}\n{flow(2)}\n")
    assert main(["observe", "--input-file", str(path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"flows: --input-file {path}, line 2: not a flow as JSON: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_bytes_that_are_no_text_are_named(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "f"
    path.write_bytes(b'{"flow":{"Summary":"\xff"}}')
    assert main(["observe", "--input-file", str(path)]) == 1
    assert "line 1: not a flow as JSON" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: Capture) -> None:
    assert main(["observe", "--input-file", f"{tmp_path}/none"]) == 1
    assert capsys.readouterr().err == f"flows: --input-file {tmp_path}/none: No such file or directory\n"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["flow", "time", "l4", "TCP", "IP", "source", "lost_events", "verdict", "labels", "x"]),
            inner,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20), max_size=3))
def test_any_file_is_shown_or_refused_in_one_line(tmp_path: Path, capsys: Capture, lines: list[bytes]) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\n".join(lines))
    status = main(["observe", "--input-file", str(path), "--since", "1h", "--port", "80"])
    err = capsys.readouterr().err
    assert status in {0, 1}
    assert "fault of flows" not in err
    assert err.count("\n") <= 2


def coverage(**fields: object) -> str:
    return json.dumps({"coverage": fields, "node_name": "relay", "time": "1970-01-01T00:00:06Z"})


@pytest.mark.parametrize(
    ("lines", "flags", "status"),
    [
        ([flow(1)], [], 0),
        ([flow(1)], ["--verdict", "DROPPED"], 1),
        ([flow(1), coverage(complete=True)], ["--verdict", "DROPPED"], 1),
        ([flow(1), coverage(nodes=[{"node": "a", "later": 1}])], ["--verdict", "DROPPED"], 3),
        ([flow(1), coverage()], [], 3),
        ([LOSS], [], 3),
        ([], [], 1),
    ],
)
def test_what_was_missing_when_the_file_was_written_is_still_missing(
    tmp_path: Path, capsys: Capture, lines: list[str], flags: list[str], status: int
) -> None:
    path = tmp_path / "covered.json"
    path.write_text("\n".join(lines))
    assert main(["observe", "--exit-code", "--input-file", str(path), *flags]) == status
    out, err = capsys.readouterr()
    assert "coverage" not in out
    assert err == ""
