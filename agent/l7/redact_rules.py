"""Rules of redaction as their author writes them, checked: texts of flags or of a JSON file to expressions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import re2  # type: ignore[import-untyped]

from flows.agent.l7.redact_secrets import REDACTED

# A rule is tried on each path or name that was not met lately: RE2 is linear, but each rule is another pass.
MOST_RULES: Final = 64
LONGEST_PATTERN: Final = 1_024  # characters, as of filters
LONGEST_REPLACEMENT: Final = 64  # bytes
LARGEST_PROGRAM: Final = 4_096  # RE2's instructions
PROGRAM_BYTES: Final = 1 << 20
MOST_HEADERS: Final = 64

_OPTIONS = re2.Options()
_OPTIONS.max_mem = PROGRAM_BYTES
_OPTIONS.log_errors = False  # a bad pattern is reported to its author, not to stderr
_OPTIONS.encoding = re2.Options.Encoding.LATIN1  # what comes from the network is bytes

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")  # RFC 9110: token
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)


class Rule(NamedTuple):
    """What is replaced by what; pattern: an RE2 expression over bytes."""

    pattern: Any
    replacement: bytes

    def applied(self, text: bytes) -> bytes:
        """The text with all that matches replaced."""
        replaced: bytes = self.pattern.sub(self.replacement, text)
        return replaced


def flag(where: str, value: object) -> bool:
    """A switch. Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{where}: {value!r} is no switch: expected true or false")  # noqa: TRY004
    return value


def header_names(where: str, value: object) -> frozenset[bytes]:
    """Names of headers in lower case. Raises ValueError."""
    names = _texts(where, value, MOST_HEADERS, "header names")
    for name in names:
        if not _HEADER.fullmatch(name):
            raise ValueError(f"{where}: {name!r} is no name of a header: expected letters, digits and hyphens, e.g. X-Request-Id")
    return frozenset(name.lower().encode() for name in names)


def rules(where: str, value: object) -> tuple[Rule, ...]:
    """Expressions (RE2), each alone or as `EXPRESSION => REPLACEMENT`, in which \\1 is the first group. Raises ValueError."""
    return tuple(_rule(f"{where}, rule {place}", text) for place, text in enumerate(_texts(where, value, MOST_RULES, "rules"), 1))


def _rule(where: str, text: str) -> Rule:
    pattern, arrow, replacement = text.partition(" => ")
    if not pattern or len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"{where}: {len(pattern)} characters: expected an expression of 1 to {LONGEST_PATTERN}")
    try:
        compiled = re2.compile(pattern.encode(), _OPTIONS)
    except (re2.error, UnicodeEncodeError) as error:
        raise ValueError(f"{where}: {pattern!r}: expected a regular expression (RE2 syntax): {_reason(error)}") from None
    if compiled.programsize > LARGEST_PROGRAM:
        raise ValueError(f"{where}: {pattern!r} is too large when compiled: make it shorter, or repeat less")
    if compiled.search(b"") is not None:
        raise ValueError(f"{where}: {pattern!r} matches nothing at all, so everywhere: name at least one character")
    return Rule(compiled, _replacement(where, replacement, compiled.groups) if arrow else REDACTED)


def _replacement(where: str, text: str, groups: int) -> bytes:
    if len(text.encode(errors="replace")) > LONGEST_REPLACEMENT:
        raise ValueError(f"{where}: the replacement is too long: expected at most {LONGEST_REPLACEMENT} bytes")
    for escape in _ESCAPE.findall(text):
        if escape != "\\" and not (escape.isascii() and escape.isdigit() and 1 <= int(escape) <= groups):
            raise ValueError(f"{where}: \\{escape} in the replacement: the expression has {groups} groups, from \\1 on")
    return text.encode(errors="replace")


def _texts(where: str, value: object, most: int, what: str) -> Sequence[str]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, set, frozenset)):
        raise ValueError(f"{where}: {value!r}: expected a list of {what}")  # noqa: TRY004
    if len(value) > most:
        raise ValueError(f"{where}: {len(value)} {what}: expected at most {most}")
    texts = list(value)
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        raise ValueError(f"{where}: {wrong[0]!r} is no text: expected a list of {what}")
    return texts


def _reason(error: Exception) -> str:
    cause = error.args[0] if isinstance(error, re2.error) else "not valid Unicode"
    return cause.decode(errors="replace") if isinstance(cause, bytes) else str(cause)
