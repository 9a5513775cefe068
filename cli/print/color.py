"""Colour: which part of a line is painted how. Hubble's colours, its nesting and its resets."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

Painter = Callable[[str], str]


def plain(text: str) -> str:
    """The text as it is."""
    return text


def _sgr(code: int) -> Painter:
    def paint(text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m"

    return paint


_RED, _GREEN, _YELLOW, _MAGENTA, _CYAN = (_sgr(code) for code in (31, 32, 33, 35, 36))


@dataclass(frozen=True, slots=True)
class Palette:
    """How each part is painted. good, bad and notice are verdicts and authentication."""

    host: Painter = plain
    port: Painter = plain
    identity: Painter = plain
    good: Painter = plain
    bad: Painter = plain
    notice: Painter = plain


NO_COLOR = Palette()
COLOR = Palette(host=_CYAN, port=_YELLOW, identity=_MAGENTA, good=_GREEN, bad=_RED, notice=_YELLOW)


def palette(when: str, stream: TextIO) -> Palette:
    """The palette for `--color auto|always|never`; auto: on a terminal, unless NO_COLOR or TERM=dumb."""
    if when == "auto":
        wanted = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    else:
        wanted = when == "always"
    return COLOR if wanted else NO_COLOR
