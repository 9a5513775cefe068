"""Every recorded run of Hubble's `observe --input-file`: the same flows, the same refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from flows.cli.flags import parse_observe
from flows.cli.options import UsageError
from flows.flow.filter import compile_filters
from flows.flow.table import choose
from flows.proto.observer_pb2 import GetFlowsResponse

DATA = Path(__file__).parents[2] / "data" / "hubble"
CASES = json.loads((DATA / "cases.json").read_text())
RESPONSES = [json_format.Parse(line, GetFlowsResponse()) for line in (DATA / "flows.json").read_text().splitlines()]

# Flags that do not exist yet; their cases must be refused as not supported.
NOT_YET = ("--cel-expression",)
# What Hubble accepts in silence and this refuses on purpose.
STRICTER = (
    ["--ip-version", "5"],
    ["--workload", "a/b/c"],
    ["--time-format", "nope"],
    ["--color", "red"],
    ["--uuid", ""],
)


def needs(case: dict[str, Any], flags: tuple[str, ...]) -> bool:
    return any(flag in case["args"] for flag in flags)


def name(case: dict[str, Any]) -> str:
    return " ".join(case["args"])


def observe(args: list[str]) -> list[GetFlowsResponse]:
    options = parse_observe(["--input-file", "flows.json", "-o", "json", *args], env={}, now_ns=0)
    return choose(RESPONSES, compile_filters(options.allow, options.deny), options.selection)


def refusal(args: list[str]) -> str:
    with pytest.raises(UsageError) as caught:
        observe(args)
    message = str(caught.value)
    assert "\n" not in message
    return message


SHOWN = [case for case in CASES if case["exit"] == 0 and not needs(case, NOT_YET) and case["args"] not in STRICTER]
REFUSED = [case for case in CASES if case["exit"] != 0 and not needs(case, NOT_YET)]


def test_no_case_is_left_out() -> None:
    unsupported = [case for case in CASES if needs(case, NOT_YET)]
    assert len(SHOWN) + len(REFUSED) + len(unsupported) + len(STRICTER) == len(CASES) == 461


@pytest.mark.parametrize("case", SHOWN, ids=name)
def test_the_same_flows_in_the_same_order(case: dict[str, Any]) -> None:
    flows = [response.flow for response in observe(case["args"]) if response.HasField("flow")]
    assert len(flows) == case.get("flows", len(flows))
    if "uuids" in case:
        assert [flow.uuid[-12:] for flow in flows] == [str(uuid)[-12:].zfill(12) for uuid in case["uuids"]]


def information(text: str) -> tuple[set[str], set[str]]:
    """The flags and quoted values of one of Hubble's messages."""
    flags = set(re.findall(r"--[a-z-]+", text))
    values = set(re.findall(r"[\"'`]([^\"'`]+)[\"'`]", text)) - {"true", "l7"}
    return flags, {value for value in values if not value.startswith(("-", "type "))}


@pytest.mark.parametrize("case", REFUSED, ids=name)
def test_the_same_refusals_with_the_same_information(case: dict[str, Any]) -> None:
    flags, values = information(case["stderr_first"])
    message = refusal(case["args"])
    for part in (*flags, *values):
        assert part in message


@pytest.mark.parametrize("args", STRICTER, ids=" ".join)
def test_nonsense_that_hubble_accepts_is_refused(args: list[str]) -> None:
    assert f"{args[0]} " in refusal(args)


@pytest.mark.parametrize("case", [case for case in CASES if needs(case, NOT_YET)], ids=name)
def test_flags_to_come_say_so(case: dict[str, Any]) -> None:
    assert "not supported yet: experimental.cel_expression" in refusal(case["args"])
