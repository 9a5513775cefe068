"""http_status_code, http_method, http_path, http_url, http_header: parts of an HTTP flow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flows.flow.filter import patterns
from flows.flow.filter.condition import on_value
from flows.flow.filter.errors import FilterError
from flows.flow.filter.event_type import L7
from flows.flow.filter.url import request_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flows.flow.columns import Http
    from flows.flow.filter.condition import Condition
    from flows.proto.flow_pb2 import FlowFilter, HTTPHeader


def only_l7(field: str, message: FlowFilter) -> None:
    """Raises FilterError where the FlowFilter asks for event types of which none has HTTP."""
    if message.event_type and all(event.type != L7 for event in message.event_type):
        types = ", ".join(str(event.type) for event in message.event_type)
        raise FilterError(
            field,
            _shown(getattr(message, field)[0]),
            f"filtering by {field.replace('_', ' ')} requires the event type filter to only match 'l7' events"
            f"; it asks for {types}: leave the type out or add l7",
        )


def _shown(value: str | HTTPHeader) -> str:
    return value if isinstance(value, str) else f"{value.key}:{value.value}"


def build_status(field: str, values: Sequence[str]) -> Condition:
    """`404`, or a prefix: `5+`, `40+`. Only responses have a status."""
    exact, prefixes = set(), []
    for value in values:
        if re.fullmatch(r"[1-5][0-9]{2}", value):
            exact.add(value)
        elif re.fullmatch(r"[1-5][0-9]?\+", value):
            prefixes.append(value[:-1])
        else:
            expected = "expected a status from 100 to 599, or the beginning of one and a plus sign (5+, 40+)"
            raise FilterError(field, value, f"invalid status code prefix; {expected}", _nearest_status(value))

    def matches(http: Http) -> bool:
        code = f"{http.code:03d}"
        return http.code != 0 and (code in exact or code.startswith(tuple(prefixes)))

    return _on_http(matches)


def _nearest_status(value: str) -> str:
    """The status or the class of statuses that is numerically next."""
    digits = re.search(r"[0-9]{1,3}", value)
    if digits is None:
        return "5+" if "+" in value else ""
    if "+" in value and len(digits[0]) < 3:
        return f"{min(max(int(digits[0][0]), 1), 5)}{digits[0][1:]}+"
    return str(min(max(int(digits[0]), 100), 599)) if len(digits[0]) == 3 else f"{min(max(int(digits[0][0]), 1), 5)}+"


def build_method(field: str, values: Sequence[str]) -> Condition:  # noqa: ARG001 (every text is valid)
    """The method is one of those, upper or lower case."""
    wanted = frozenset(value.casefold() for value in values)
    return _on_http(lambda http: http.method != "" and http.method.casefold() in wanted)


def build_url(field: str, values: Sequence[str]) -> Condition:
    """The URL holds a match of any of the expressions."""
    matches = patterns.regex(field, values)
    return _on_http(lambda http: http.url != "" and matches(http.url))


def build_path(field: str, values: Sequence[str]) -> Condition:
    """The URL's path holds a match of any of the expressions; a URL that cannot be parsed has no path."""
    matches = patterns.regex(field, values)

    def path_matches(http: Http) -> bool:
        path = request_path(http.url)
        return path is not None and matches(path)

    return _on_http(path_matches)


def build_header(field: str, values: Sequence[HTTPHeader]) -> Condition:  # noqa: ARG001 (every text is valid)
    """Any header of the flow has the key and the value of any of those, letter by letter."""
    wanted = frozenset((value.key, value.value) for value in values)
    return _on_http(lambda http: not wanted.isdisjoint(http.headers))


def _on_http(predicate: Callable[[Http], bool]) -> Condition:
    return on_value("http", lambda http: http is not None and predicate(http))
