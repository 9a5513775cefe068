"""Rules for names, labels and annotation keys (`apimachinery/pkg/util/validation`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flows.demo.api.causes import invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.demo.api.errors import Cause
    from flows.demo.api.kinds import Kind

Json = dict[str, Any]

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")


def name_causes(kind: Kind, name: str) -> Iterator[Cause]:
    """What is wrong with the name of an object of a kind."""
    if kind.group == "rbac.authorization.k8s.io":
        if name in {".", ".."} or "/" in name or "%" in name:
            yield invalid("metadata.name", name, "may not contain '/' or '%', and may not be '.' or '..'")
        return
    pattern, text, longest = (LABEL, LABEL_TEXT, 63) if kind.label_name else (_SUBDOMAIN, _SUBDOMAIN_TEXT, 253)
    if not re.fullmatch(pattern, name):
        yield invalid("metadata.name", name, text)
    if len(name) > longest:
        yield invalid("metadata.name", name, f"must be no more than {longest} characters")


def label_causes(path: str, labels: Json) -> Iterator[Cause]:
    """What is wrong with a map of labels."""
    for key, value in labels.items():
        yield from key_causes(path, key)
        if len(value) > 63:
            yield invalid(path, value, "must be no more than 63 characters")
        elif value and not _QUALIFIED.fullmatch(value):
            yield invalid(path, value, _LABEL_VALUE_TEXT)


def key_causes(path: str, key: str) -> Iterator[Cause]:
    """What is wrong with the key of a label or an annotation."""
    prefix, _, name = key.rpartition("/")
    if len(name) > 63:
        yield invalid(path, key, "name part must be no more than 63 characters")
    elif not _QUALIFIED.fullmatch(name):
        yield invalid(path, key, _QUALIFIED_TEXT)
    if prefix and not re.fullmatch(_SUBDOMAIN, prefix.lower()):
        yield invalid(path, key, "prefix part " + _SUBDOMAIN_TEXT)
