"""The schema is that of the official client, and decoding follows it."""

from __future__ import annotations

from typing import Any

import pytest

from flows.demo.api import openapi, schema
from flows.demo.api.errors import StatusError
from flows.demo.api.kinds import KINDS
from flows.demo.api.merge_keys import LISTS
from flows.demo.api.schema_source import derive


def test_stored_schema_is_what_the_client_models_say() -> None:
    assert schema.types() == derive()


def test_merge_keys_name_fields_that_exist() -> None:
    for owner, fields in LISTS.items():
        for name, merge in fields.items():
            items = schema.item_type(schema.field_type(owner, name))
            assert all(schema.field_type(items, key) for key in merge.keys), (owner, name)


def test_quantities_take_numbers_and_null_is_absent() -> None:
    container = {"name": "c", "image": None, "resources": {"limits": {"cpu": 1}}}
    decoded = schema.decode("Pod", "v1", {"spec": {"containers": [container, None]}, "odd": 1})
    assert decoded.object == {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}}
    assert decoded.unknown == ["odd"]


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        ({"spec": 1}, "cannot unmarshal number into Go struct field Pod.spec of type PodSpec"),
        ({"spec": {"hostNetwork": "yes"}}, "cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        ({"spec": {"priority": True}}, "cannot unmarshal bool"),
        ({"spec": {"priority": 1 << 70}}, "of type int64"),
        ({"metadata": {"labels": []}}, "cannot unmarshal array"),
    ],
)
def test_wrong_types_are_refused_in_the_words_of_go(obj: Any, words: str) -> None:
    with pytest.raises(StatusError, match='Pod in version "v1" cannot be handled as a Pod') as caught:
        schema.decode("Pod", "v1", obj)
    assert words in caught.value.message


def test_openapi_documents_cover_every_kind() -> None:
    definitions = openapi.v2()["definitions"]
    root = openapi.v3_root()["paths"]
    for kind in KINDS:
        assert definitions[f"io.k8s.api.{kind.kind}"]["x-kubernetes-group-version-kind"][0]["kind"] == kind.kind
        document = openapi.v3(kind.group, kind.version)
        assert document is not None
        parameters = [
            parameter["name"]
            for path, item in document["paths"].items()
            if path.endswith(f"/{kind.plural}/{{name}}")
            for parameter in item["patch"]["parameters"]
        ]
        assert "fieldValidation" in parameters
        assert (f"apis/{kind.group}/v1" if kind.group else "api/v1") in root


def test_references_resolve() -> None:
    definitions = openapi.v2()["definitions"]

    def references(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for item in value.values():
                yield from references(item)

    assert {text.removeprefix("#/definitions/") for text in references(definitions)} <= definitions.keys()


def test_protobuf_document_begins_as_openapi_2() -> None:
    assert openapi.v2_protobuf().startswith(b"\x0a\x032.0\x12")
