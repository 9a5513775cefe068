"""FilterError: a filter that cannot be built, said so that its author can mend it."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


# Enough to recognise what one wrote; a raw filter may be kilobytes.
_LONGEST = 200
# The text may quote parts of the value, and gRPC carries it in a header.
_MESSAGE = 1000
# Enough for every set but the drop reasons.
_MOST = 16


class FilterError(ValueError):
    """One value of one FlowFilter field is not valid.

    field is the FlowFilter's name for it, expected says what would be valid, nearest is a valid spelling like
    value, or empty. The command line puts its flag in the field's place through `describe`.
    """

    def __init__(self, field: str, value: str, expected: str, nearest: str = "") -> None:
        super().__init__(field, value, expected, nearest)
        self.field = field
        self.value = value
        self.expected = expected
        self.nearest = nearest

    def describe(self, name: str) -> str:
        """The message, with the value called name."""
        hint = f"; did you mean {_cut(self.nearest, _LONGEST)}?" if self.nearest else ""
        return printable(f"{name} {quote(self.value)}: {_cut(self.expected, _MESSAGE)}{hint}")

    def __str__(self) -> str:
        return self.describe(self.field)


class UnsupportedError(FilterError):
    """A field that Hubble has and this version has not."""

    def __init__(self, field: str, value: str = "") -> None:
        super().__init__(field, value, f"not supported yet: {field}")

    def describe(self, name: str) -> str:  # noqa: ARG002 (the name that matters is the field's)
        return self.expected


def quote(value: str) -> str:
    """The value in double quotes, on one line, fit for any terminal, cut to a length that can be read."""
    return printable(json.dumps(_cut(value, _LONGEST), ensure_ascii=False))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def printable(text: str) -> str:
    """Escapes what a terminal might obey or could not show."""
    return "".join(rune if rune.isprintable() else f"\\u{ord(rune):04x}" for rune in text)


def nearest(value: str, choices: Iterable[str]) -> str:
    """The choice most like value, whatever its case: one that it begins, else a close one; or empty."""
    wanted = value.strip().lower()
    by_lower = {choice.lower(): choice for choice in choices}
    begun = [lower for lower in by_lower if len(wanted) > 1 and lower.startswith(wanted)]
    close = begun or get_close_matches(wanted[:_LONGEST], by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else ""


def one_of(field: str, value: str, choices: Iterable[str]) -> FilterError:
    """The error for a value outside a closed set."""
    known = list(choices)
    listed = f"one of {', '.join(known[:_MOST])}" + (f" and {len(known) - _MOST} more" if known[_MOST:] else "")
    return FilterError(field, value, f"expected {listed}", nearest(value, known))
