"""Label selectors: Kubernetes' grammar, with Cilium's label sources (`k8s:app=web`, `reserved:world`).

Sources: k8s.io/apimachinery/pkg/labels/selector.go; cilium pkg/hubble/filters/labelparser.go, pkg/labels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANY = "any"
_RESERVED = "reserved"
_EQUAL = ("=", "==", "!=")
_SETS = ("in", "notin")
_ORDER = (">", "<")
_TOKEN = re.compile(r"[ \t\r\n]*(?:(==|!=|[=!(),<>])|([^=!(),<> \t\r\n]+))")
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_DNS = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_NAME = 63
_MAX_PREFIX = 253


class SelectorError(ValueError):
    """The text is no selector; the message says where."""


class Label(NamedTuple):
    """A label as Cilium reads it: `k8s:app=web` is ("k8s", "app", "web"); without a source it is "unspec"."""

    source: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one key. operator: `exists`, `!`, `=`, `==`, `!=`, `in`, `notin`, `>` or `<`."""

    source: str
    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Sequence[Label]) -> bool:
        """Kubernetes' rules: a missing key satisfies `!`, `!=` and `notin`, and nothing else."""
        value = next((label.value for label in labels if self._names(label)), None)
        if value is None:
            return self.operator in ("!", "!=", "notin")
        match self.operator:
            case "exists":
                return True
            case "=" | "==" | "in":
                return value in self.values
            case "!=" | "notin":
                return value not in self.values
            case ">" | "<":
                return _is_integer(value) and _compare(int(value), self.operator, int(self.values[0]))
        return False

    def _names(self, label: Label) -> bool:
        return label.key == self.key and self.source in (_ANY, label.source)


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements hold; none selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def selects(self, labels: Sequence[Label]) -> bool:
        """labels sorted by key; of equal keys the first counts."""
        return all(requirement.holds(labels) for requirement in self.requirements)


@lru_cache(maxsize=1 << 14)  # a cluster has few labels, and a filter reads them once per endpoint
def parse_label(text: str) -> Label:
    """Any text is a label: `[source:]key[=value]`; `$x` is reserved:x."""
    if text.startswith("$"):
        source, rest = _RESERVED, text[1:]
    elif ":" in text:
        source, rest = text.split(":", 1)
    elif text.startswith(f"{_RESERVED}."):
        source, rest = _RESERVED, text[len(_RESERVED) + 1 :]
    else:
        source, rest = "", text
    if source == _RESERVED and rest.startswith("="):
        rest = rest[1:]
        return Label(source, rest, "")
    key, _, value = rest.partition("=")
    return Label(source or "unspec", key, value)


def parse_selector(text: str) -> Selector:
    """Empty text selects everything. Raises SelectorError."""
    tokens = _Tokens(text)
    if tokens.peek() == "" and not text:
        return Selector()
    requirements = [_requirement(tokens)]
    while (found := tokens.next()) != "":
        if found != ",":
            raise SelectorError(f"found {found!r}, expected: ',' or 'end of string'")
        if tokens.peek() in ("", *"),=<>("):
            raise SelectorError(f"found {tokens.peek()!r}, expected: identifier after ','")
        requirements.append(_requirement(tokens))
    return Selector(tuple(requirements))


class _Tokens:
    """The words and signs of a selector; the empty string is the end."""

    def __init__(self, text: str) -> None:
        self._tokens = [sign or word for sign, word in _TOKEN.findall(text)]
        self._at = 0

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def next(self) -> str:
        found = self.peek()
        self._at += 1
        return found


def _requirement(tokens: _Tokens) -> Requirement:
    found = tokens.next()
    absent = found == "!"
    if absent:
        found = tokens.next()
    if not _is_word(found):
        raise SelectorError(f"found {found!r}, expected: identifier")
    source, key = _key(found)
    if absent or tokens.peek() in ("", ","):
        return Requirement(source, key, "!" if absent else "exists")
    operator = tokens.next()
    if operator in _SETS:
        return Requirement(source, key, operator, _checked(_set(tokens)))
    if operator in _EQUAL:
        return Requirement(source, key, operator, _checked((_exact(tokens),)))
    if operator in _ORDER:
        value = _exact(tokens)
        if not _is_integer(value):
            raise SelectorError(f"{value!r}: for '>' and '<' the value must be an integer")
        return Requirement(source, key, operator, (value,))
    raise SelectorError(f"found {operator!r}, expected: =, ==, !=, in, notin, > or <")


def _is_word(found: str) -> bool:
    return found != "" and found[0] not in "=!(),<>"


def _key(word: str) -> tuple[str, str]:
    """Source and key of `[source:]key`. The first colon ends the source; a second one is no key."""
    source, colon, key = word.partition(":")
    if not colon:
        source, key = _ANY, word
    # Cilium reads the translated `source.key` up to its first dot.
    _check_key(f"{source}.{key}", word)
    head, _, tail = f"{source}.{key}".partition(".")
    return head, tail


def _check_key(qualified: str, word: str) -> None:
    prefix, slash, name = qualified.rpartition("/")
    if "/" in prefix or (slash and not (len(prefix) <= _MAX_PREFIX and _DNS.fullmatch(prefix))):
        raise SelectorError(f"invalid label key {word!r}: the part before '/' must be a lower-case DNS name")
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        rule = "at most 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit"
        raise SelectorError(f"invalid label key {word!r}: a key has {rule}")


def _checked(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value and (len(value) > _MAX_NAME or not _NAME.fullmatch(value)):
            rule = "at most 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit"
            raise SelectorError(f"invalid label value {value!r}: a value is empty or has {rule}")
    return values


def _exact(tokens: _Tokens) -> str:
    if tokens.peek() in ("", ","):
        return ""
    found = tokens.next()
    if not _is_word(found):
        raise SelectorError(f"found {found!r}, expected: identifier")
    return found


def _set(tokens: _Tokens) -> tuple[str, ...]:
    """`(a,b)`; nothing between two signs is the empty value."""
    if (found := tokens.next()) != "(":
        raise SelectorError(f"found {found!r}, expected: '('")
    values, after_value = [], False
    while (found := tokens.next()) != ")":
        if found == ",":
            values += [] if after_value else [""]
            after_value = False
        elif _is_word(found) and not after_value:
            values.append(found)
            after_value = True
        else:
            raise SelectorError(f"found {found!r}, expected: ',' or ')'")
    return tuple(values if after_value else [*values, ""])


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]{1,18}", text) is not None


def _compare(left: int, operator: str, right: int) -> bool:
    return left > right if operator == ">" else left < right
