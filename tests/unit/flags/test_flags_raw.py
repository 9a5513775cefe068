"""Raw filters: printed as Hubble prints them, and read back."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.cli.flags import parse_observe
from flows.cli.flags_raw import parse_raw_filters, raw_filters_yaml
from flows.flow.filter import FilterError
from flows.proto.flow_pb2 import FlowFilter

if TYPE_CHECKING:
    from pathlib import Path

# As Hubble 1.19.4 prints them.
PRINTED = [
    (
        "--not --pod kube-system/coredns --verdict DROPPED",
        """\
allowlist:
    - '{"verdict":["DROPPED"]}'
denylist:
    - '{"source_pod":["kube-system/coredns"]}'
    - '{"destination_pod":["kube-system/coredns"]}'
""",
    ),
    (
        "-n shop --http-status 5+ --protocol http",
        """\
allowlist:
    - '{"source_pod":["shop/"],"http_status_code":["5+"],"protocol":["http"]}'
    - '{"destination_pod":["shop/"],"http_status_code":["5+"],"protocol":["http"]}'
""",
    ),
    (
        "--type trace:to-endpoint --workload Job/ --not --to-fqdn *.example.com",
        """\
allowlist:
    - '{"source_workload":[{"kind":"Job"}],"event_type":[{"type":4,"match_sub_type":true}]}'
    - '{"destination_workload":[{"kind":"Job"}],"event_type":[{"type":4,"match_sub_type":true}]}'
denylist:
    - '{"destination_fqdn":["*.example.com"]}'
""",
    ),
    ("", "{}\n"),
]


def printed(arguments: list[str], **env: str) -> str:
    options = parse_observe(arguments, env=env)
    return raw_filters_yaml(options.allow, options.deny)


@pytest.mark.parametrize(("arguments", "expected"), PRINTED)
def test_printed_as_hubble_does(arguments: str, expected: str) -> None:
    assert printed(arguments.split()) == expected


@pytest.mark.parametrize(
    "arguments",
    [arguments.split() for arguments, _ in PRINTED]
    + [["--http-url", text] for text in ("it's <b>&\u2028\x00", "x\x85y", "x\x7fy", "x\ufffey")],
)
def test_what_is_printed_can_be_read_back(tmp_path: Path, arguments: list[str]) -> None:
    file, text = tmp_path / "c.yaml", printed(arguments)
    file.write_text(text)
    assert set(yaml.safe_load(text)) <= {"allowlist", "denylist"}
    assert printed(["--config", str(file)]) == text


def test_escaped_as_go_does() -> None:
    assert r"""'{"http_url":["it''s \u003cb\u003e\u0026"]}'""" in printed(["--http-url", "it's <b>&"])


@given(st.one_of(st.text(), st.text('{}[]",:source_pod0123456789 \n', max_size=40)))
def test_any_text_is_filters_or_a_filter_error(text: str) -> None:
    with suppress(FilterError):
        assert isinstance(parse_raw_filters(text), list)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=2)),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([field.name for field in FlowFilter.DESCRIPTOR.fields]), JSON, max_size=3))
def test_any_json_is_filters_or_a_filter_error(value: dict[str, Any]) -> None:
    with suppress(FilterError):
        assert len(parse_raw_filters(json.dumps(value))) == 1


def test_a_number_too_long_to_read_is_a_filter_error() -> None:
    with pytest.raises(FilterError, match="too long"):
        parse_raw_filters(f'{{"source_identity":[{"9" * 5000}]}}')
