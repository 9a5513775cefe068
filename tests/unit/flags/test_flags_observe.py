"""The command line of `flows observe`: options, conflicts, environment and file."""

from __future__ import annotations

import itertools
import re

import pytest
from flags_parsed import NOW, parse, refusal
from hypothesis import given
from hypothesis import strategies as st

from flows.cli.flags import observe_parser
from flows.cli.flags_filter import CONFLICTS, FILTER_FLAGS, FilterFlag
from flows.cli.flags_options import OPTIONS
from flows.cli.options import Color, Format, TimeFormat, UsageError
from flows.flow.filter.selection import ALL, Selection
from flows.proto import flow_pb2
from flows.proto.flow_pb2 import FlowFilter


@pytest.mark.parametrize(
    ("arguments", "selection"),
    [
        ([], Selection(number=20)),
        (["-f"], Selection(follow=True)),
        (["--last", "5", "-f"], Selection(number=5, follow=True)),
        (["--first", "0x10"], Selection(number=16, first=True)),
        (["--all"], Selection(number=ALL)),
        (["--since", "1s"], Selection(since=NOW - 10**9)),
        (["--until", "0", "--last", "3"], Selection(number=3, until=NOW)),
        (["--since", "0", "--until", "0", "-f"], Selection(since=NOW, follow=True)),
        (["--input-file", "-"], Selection()),
        (["flows", "--last=7"], Selection(number=7)),
    ],
    ids=str,
)
def test_how_many_and_when(arguments: list[str], selection: Selection) -> None:
    assert parse(*arguments).selection == selection


def test_a_request_holds_all_that_a_server_needs() -> None:
    request = parse(
        "--pod",
        "a/b",
        "--not",
        "--port",
        "53",
        "--since",
        "1s",
        "--first",
        "3",
        "-o",
        "json",
        "--field-mask",
        "time,IP",
    ).request()
    assert request.whitelist == [FlowFilter(source_pod=["a/b"]), FlowFilter(destination_pod=["a/b"])]
    assert request.blacklist == [FlowFilter(source_port=["53"]), FlowFilter(destination_port=["53"])]
    assert (request.number, request.first, request.since.ToNanoseconds()) == (3, True, NOW - 10**9)
    assert list(request.field_mask.paths) == ["time", "IP"]
    assert not request.HasField("until")
    assert not parse().request().HasField("field_mask")


def test_filter_switches_may_be_written_with_a_value() -> None:
    assert (
        parse("--not=true", "--pod", "a/b", "--encrypted=true", "--ipv4=v4").request()
        == parse("--not", "--pod", "a/b", "--encrypted", "-4").request()
    )


def test_the_command_line_outdoes_a_variable_for_a_port_forward() -> None:
    assert parse(FLOWS_PORT_FORWARD="true", FLOWS_SERVER="a:1").server.port_forward
    assert parse(FLOWS_PORT_FORWARD="true", FLOWS_SERVER="a:1").server.address == ""
    named = parse("--server", "b:2", FLOWS_PORT_FORWARD="true").server
    assert (named.port_forward, named.address) == (False, "b:2")


def test_output_options() -> None:
    output = parse("-ojsonpb", "--color=always", "--time-format", "rfc3339nano", "--numeric", "-D", "-s").output
    assert (output.format, output.color, output.time_format) == (Format.JSON, Color.ALWAYS, TimeFormat.RFC3339_NANO)
    assert (output.ip_translation, output.debug, output.silent_errors) == (False, True, True)
    assert parse("--ip-translation=false").output.ip_translation is False
    assert parse("--print-node-name=F").output.print_node_name is False
    assert (parse("-D=f").output.debug, parse("-f=false").selection.follow, parse("-f=t").selection.follow) == (
        False,
        False,
        True,
    )
    assert parse("--color", "NEVER").output.color is Color.NEVER
    assert parse("-o", "tab").output.format is Format.TABLE


@pytest.mark.parametrize(("spelling", "form"), [("json", Format.JSON_LEGACY), ("jsonpb", Format.JSON), ("dict", Format.DICT)])
def test_hubbles_older_json_on_request(spelling: str, form: Format) -> None:
    assert parse("-o", spelling, HUBBLE_COMPAT="legacy-json-output").output.format is form


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frm", "x"], "unknown flag: --frm; did you mean --from?"),
        (["--from-pods", "x"], "did you mean --from-pod?"),
        (["-z"], "unknown flag: -z"),
        (["web"], 'unexpected argument "web"'),
        (["--pod"], "--pod: a value must follow: [NS/]NAME"),
        (["--last", "-1"], '--last "-1": expected a number'),
        (["--last", "ten"], '--last "ten": expected a number'),
        (["--first", "1", "--follow"], "cannot set both --first and --follow"),
        (["--first", "1", "--all"], "cannot set both --first and --all"),
        (["-o", "table", "-f"], "not compatible with follow mode"),
        (["-o", "jsn"], "did you mean json?"),
        (["--input-file", "f", "--last", "1000001"], "must be at most 1000000"),
        (["--follow=perhaps"], "--follow 'perhaps': expected no value, or =true or =false"),
        (["--not=perhaps"], "--not 'perhaps': expected no value"),
        (["-f=6"], "--follow '6': expected no value, or =true or =false"),
        (["-4=t"], "--ipv4 't': expected no value"),
        (["--uuid", "x\udcff"], "expected UTF-8 text"),
        (["--pod", "x\udcff"], "expected UTF-8 text"),
        (["--http-header", "a:\udcff"], "expected UTF-8 text"),
        (["-o", "json", "--field-mask", "\udcff"], "expected UTF-8 text"),
        (["--http-header", "A:b", "--type", "drop"], '--http-header "A:b": filtering by'),
        (["-o", "json", "--field-mask", "source.pod"], "did you mean source.pod_name?"),
        (["-o", "json", "--field-mask", "source.labels.x"], "invalid path"),
        (["--server", "localhost"], "did you mean localhost:4245?"),
        (["--server", "/run/f.sock"], "did you mean unix:///run/f.sock?"),
        (["--server", "http://h:1"], "did you mean h:4245?"),
        (["--server", "h:99999"], "expected host:port"),
        (["--timeout", "5 sec"], "did you mean 5s?"),
        (["--tls", "--tls-client-cert-file", "c"], "must be given together"),
        (["--basic-auth-username", "u", "--basic-auth-password", "p"], "needs TLS"),
        (["-P", "--server", "a:1"], "cannot set both --server and --port-forward"),
        (["-P", "--input-file", "f"], "cannot set both --input-file and --port-forward"),
        (["--port-forward-port", "70000"], "expected a port"),
        (["--kube-namespace", "../kube-system"], "expected the name of a namespace"),
        (["--server", "a:1", "--server", "b:2"], "expected one server; run `flows relay --peers a:1,b:2`"),
        (["--server", "a:1,b:2"], "expected one server; run `flows relay --peers a:1,b:2`"),
        (["--exit-code", "-f"], "--follow never ends"),
        (["--tls", "--basic-auth-username", "u", "--basic-auth-password", "p", "--token-file", "f"], "cannot set both"),
        (["--namespace", "a/b"], "did you mean a?"),
        (["--from-pod", "a/b", "--from-service", "c/d"], "conflicts with pod"),
        (["--tcp-flags", "SYN,FOO"], "unknown tcp flag 'FOO'"),
        (["--type", "trace:to-endpont"], "did you mean trace:to-endpoint?"),
        (["--identity", "wrld"], "did you mean world?"),
        (["--identity", "4294967296"], "or a numeric value"),
        (["--http-header", "a=b"], "did you mean a:b?"),
        (["--allowlist", "{"], "--allowlist"),
        (["--allowlist", "[]"], "expected FlowFilters in JSON"),
        (["--denylist", '{"sourc_pod":["a/"]}'], "did you mean source_pod?"),
        (["--denylist", '{"source_port":["x"]}'], 'source_port "x": invalid syntax'),
        (["--ip", "a\x1b[31m"], "\\u001b"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_with_its_cure(arguments: list[str], message: str) -> None:
    assert message in refusal(*arguments)


@pytest.mark.parametrize("group", CONFLICTS, ids=" ".join)
def test_of_a_group_of_flags_one_is_allowed(group: tuple[str, ...]) -> None:
    valid = {"ip": "10.0.0.1", "fqdn": "a.b", "port": "80", "identity": "1", "label": "a"}

    def given(name: str) -> list[str]:
        row = FILTER_FLAGS[name]
        return [f"--{name}"] if row.constant is not None else [f"--{name}", valid.get(row.field, "x")]

    for one, other in itertools.pairwise(group):
        assert f"filters --{one} and --{other} cannot be combined" in refusal(*given(other), *given(one))
        parse("--not", *given(one), *given(other))


@pytest.mark.parametrize(
    ("arguments", "allow"),
    [
        (["-n", "a"], [FlowFilter(source_pod=["a/"]), FlowFilter(destination_pod=["a/"])]),
        (["-n", "a", "--pod", "x"], [FlowFilter(source_pod=["a/x"]), FlowFilter(destination_pod=["a/x"])]),
        (
            ["-n", "a", "-n", "b", "--service", "x"],
            [FlowFilter(source_service=["a/x", "b/x"]), FlowFilter(destination_service=["a/x", "b/x"])],
        ),
        (["-A", "--pod", "x"], [FlowFilter(source_pod=["/x"]), FlowFilter(destination_pod=["/x"])]),
        (["-A"], [FlowFilter(source_pod=["/"]), FlowFilter(destination_pod=["/"])]),
        (["--to-namespace", "a", "--from-pod", "x"], [FlowFilter(source_pod=["x"], destination_pod=["a/"])]),
        (["--verdict", "DROPPED", "-4"], [FlowFilter(verdict=[flow_pb2.DROPPED], ip_version=[flow_pb2.IPv4])]),
        (
            ["--ip", "1.1.1.1", "--label", "a"],
            [
                FlowFilter(source_ip=["1.1.1.1"], source_label=["a"]),
                FlowFilter(destination_ip=["1.1.1.1"], destination_label=["a"]),
            ],
        ),
        (
            ["--type", "4:5", "-t", "255"],
            [FlowFilter(event_type=[{"type": 4, "match_sub_type": True, "sub_type": 5}, {"type": 255}])],
        ),
        (
            ["--identity", "0x10", "--encrypted"],
            [
                FlowFilter(source_identity=[16], encrypted=[True]),
                FlowFilter(destination_identity=[16], encrypted=[True]),
            ],
        ),
        (
            ["--unencrypted", "--workload", "Job/"],
            [
                FlowFilter(encrypted=[False], source_workload=[{"kind": "Job"}]),
                FlowFilter(encrypted=[False], destination_workload=[{"kind": "Job"}]),
            ],
        ),
        (
            ["--allowlist", '{"sourcePod":["a/"]} {"verdict":[2]}'],
            [FlowFilter(source_pod=["a/"]), FlowFilter(verdict=[flow_pb2.DROPPED])],
        ),
    ],
    ids=str,
)
def test_flags_become_hubbles_filters(arguments: list[str], allow: list[FlowFilter]) -> None:
    assert list(parse(*arguments).allow) == allow


def test_not_inverts_only_what_follows() -> None:
    options = parse("--not", "--pod", "a/b", "--port", "80", "--not", "--verdict", "AUDIT")
    assert list(options.allow) == [FlowFilter(source_port=["80"]), FlowFilter(destination_port=["80"])]
    assert list(options.deny) == [
        FlowFilter(source_pod=["a/b"], verdict=[flow_pb2.AUDIT]),
        FlowFilter(destination_pod=["a/b"], verdict=[flow_pb2.AUDIT]),
    ]


def test_a_value_may_be_empty_or_begin_with_a_hyphen() -> None:
    assert list(parse("--http-path", "-x", "--trace-id", "").allow) == [FlowFilter(http_path=["-x"], trace_id=[""])]


def test_each_row_of_the_tables_is_a_flag_with_help() -> None:
    text = observe_parser().format_help()
    for name in (*FILTER_FLAGS, *OPTIONS):
        assert re.search(rf"--{name}\b", text)
    assert "examples:\n" in text


@pytest.mark.parametrize("row", [row for row in FILTER_FLAGS.values() if row.field], ids=lambda row: row.name)
def test_the_fields_of_a_row_are_flow_filters(row: FilterFlag) -> None:
    for field in row.fields():
        assert field in FlowFilter.DESCRIPTOR.fields_by_name


def test_help_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse("--help")
    assert "usage: flows observe [flags]" in capsys.readouterr().out


FLAGS = st.sampled_from([f"--{name}" for name in (*FILTER_FLAGS, *OPTIONS) if name != "config"])


@given(st.lists(st.one_of(FLAGS, st.text(max_size=8), st.sampled_from(["web", "10.0.0.1", "80", "a/b", "-n"])), max_size=6))
def test_any_command_line_is_understood_or_refused_in_one_line(arguments: list[str]) -> None:
    message = ""
    try:
        parse(*(argument for argument in arguments if argument not in ("-h", "--help")))
    except UsageError as error:
        message = str(error)
    assert message.isprintable()
