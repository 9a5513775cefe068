"""--from and --to take whatever a person types."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from flows.cli.flags import parse_observe
from flows.cli.options import UsageError
from flows.cli.selectors import expand
from flows.flow.filter import FilterError, compile_filters
from flows.flow.table import MessageTable
from flows.proto.flow_pb2 import Flow, FlowFilter

if TYPE_CHECKING:
    from collections.abc import Sequence


def alternatives(word: str, namespaces: Sequence[str] = ()) -> list[dict[str, Any]]:
    return [
        json_format.MessageToDict(one, preserving_proto_field_name=True)
        for one in expand(word, "source", namespaces).alternatives
    ]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("web", [{"source_service": ["/web"]}, {"source_pod": ["/web"]}, {"source_workload": [{"name": "web"}]}]),
        (
            "shop/web",
            [
                {"source_service": ["shop/web"]},
                {"source_pod": ["shop/web"]},
                {"source_workload": [{"name": "web"}], "source_pod": ["shop/"]},
            ],
        ),
        ("shop/", [{"source_service": ["shop/"]}, {"source_pod": ["shop/"]}]),
        (
            "/world",
            [{"source_service": ["/world"]}, {"source_pod": ["/world"]}, {"source_workload": [{"name": "world"}]}],
        ),
        ("world", [{"source_identity": [2, 9, 10]}]),
        ("host", [{"source_identity": [1]}]),
        ("remote-node", [{"source_identity": [6]}]),
        ("kube-apiserver", [{"source_identity": [7]}, {"source_label": ["reserved:kube-apiserver"]}]),
        ("app=web", [{"source_label": ["app=web"]}]),
        ("k in (a,b)", [{"source_label": ["k in (a,b)"]}]),
        ("!k", [{"source_label": ["!k"]}]),
        ("k8s:app", [{"source_label": ["k8s:app"]}]),
        ("10.0.0.1", [{"source_ip": ["10.0.0.1"]}]),
        ("10.0.0.0/8", [{"source_ip": ["10.0.0.0/8"]}]),
        ("fd00::1", [{"source_ip": ["fd00::1"]}]),
        ("::/0", [{"source_ip": ["::/0"]}]),
        ("*.example.com", [{"source_fqdn": ["*.example.com"]}]),
        ("example.com.", [{"source_fqdn": ["example.com."]}]),
        (
            "db.shop",
            [
                {"source_fqdn": ["db.shop"]},
                {"source_service": ["shop/db"]},
                {"source_pod": ["shop/db"]},
                {"source_workload": [{"name": "db"}], "source_pod": ["shop/"]},
            ],
        ),
        ("db.shop.svc", [{"source_service": ["shop/db"]}, {"source_fqdn": ["db.shop.svc"]}]),
        ("Deployment/web", [{"source_workload": [{"kind": "Deployment", "name": "web"}]}]),
    ],
)
def test_what_a_word_stands_for(word: str, expected: list[dict[str, Any]]) -> None:
    assert alternatives(word) == expected


def test_a_namespace_flag_qualifies_names_and_selectors() -> None:
    assert alternatives("web", ["shop"])[1] == {"source_pod": ["shop/web"]}
    assert alternatives("app=web", ["shop"]) == [{"source_label": ["app=web"], "source_pod": ["shop/"]}]
    assert alternatives("shop/web", ["shop"]) == alternatives("shop/web")


@pytest.mark.parametrize("word", ["world", "Deployment/web", "db.shop.svc.cluster.local", "db.shop"])
def test_an_ambiguous_word_is_explained(word: str) -> None:
    notes = parse_observe(["--to", word], env={}).notes
    assert len(notes) == 1
    assert f"--to: '{word}' is taken for" in notes[0]


@pytest.mark.parametrize("word", ["web", "shop/web", "app=web", "10.0.0.1", "www.example.com", "*.example.com"])
def test_a_plain_word_is_not(word: str) -> None:
    assert parse_observe(["--to", word], env={}).notes == ()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("10.0.0.300", "did you mean 10.0.0.255?"),
        ("10.0.0.0/33", "did you mean 10.0.0.0/32?"),
        ("fd00::zz", "expected an IP address"),
        ("web:80", "--to web --to-port 80"),
        ("My_App", "did you mean my-app?"),
        ("wrold_", "did you mean world?"),
        ("a/b/c", "did you mean a/b?"),
        ("app=(", "expected a label selector"),
        ("", "expected [ns/]name"),
        ("/", "expected [ns/]name"),
    ],
)
def test_nonsense_is_refused_with_a_cure(word: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_observe(["--to", word], env={})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "web", "--from-pod", "db"], "--from and --from-pod cannot be combined"),
        (["--from", "web", "--pod", "b/db"], "--from and --pod cannot be combined"),
        (["--from", "web", "-n", "shop"], "--from and --namespace cannot be combined"),
        (["--from", "10.0.0.1", "--from-namespace", "shop"], "an address has no namespace"),
        (["--from", "a/web", "--from-namespace", "b"], "namespace conflict"),
    ],
)
def test_words_that_other_flags_contradict(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_observe(arguments, env={})
    assert message in str(caught.value)


def flow(**fields: Any) -> Flow:
    return json_format.ParseDict(fields, Flow())


SERVICE_LEG = flow(source={"namespace": "a", "pod_name": "web-1"}, destination_service={"namespace": "b", "name": "db"})
POD_LEG = flow(source={"namespace": "a", "pod_name": "web-1"}, destination={"namespace": "b", "pod_name": "db-0"})
REPLY = flow(source={"namespace": "b", "pod_name": "db-0"}, destination={"namespace": "a", "pod_name": "web-1"})
LEGS = MessageTable([SERVICE_LEG, POD_LEG, REPLY, Flow()])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--from", "web", "--to", "db"], [True, True, False, False]),
        (["--from", "a/", "--to", "b/"], [True, True, False, False]),
        (["--from", "web", "--from", "db"], [True, True, True, False]),
        (["--from", "web", "--to", "db", "--protocol", "tcp"], [False] * 4),
        (["--not", "--from", "web"], [False, False, True, True]),
        (["--to", "db", "--to-namespace", "b"], [True, True, False, False]),
        (["--to", "db", "--to-namespace", "c"], [False] * 4),
    ],
    ids=str,
)
def test_both_legs_to_a_service_are_found(arguments: list[str], expected: list[bool]) -> None:
    options = parse_observe(arguments, env={})
    assert compile_filters(options.allow, options.deny)(LEGS).tolist() == expected


@given(st.one_of(st.text(), st.text("ab/.:=!(),*-0123456789 ", max_size=20)))
def test_any_word_has_a_meaning_that_compiles_or_is_refused(word: str) -> None:
    with suppress(FilterError):
        meaning = expand(word, "destination")
        compile_filters(meaning.alternatives)
        assert FlowFilter() not in meaning.alternatives
