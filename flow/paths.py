"""Path templates: `/users/123/posts` and `/users/456/posts` are one endpoint, `/users/{id}/posts`.

A segment becomes a placeholder by its form alone; what remains is bounded by Templates, which knows how many there are.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

REMEMBERED: Final = 8_192
LONGEST: Final = 256  # characters of a template; paths are kept up to 160 bytes
DEEPEST: Final = 16  # segments; what is below is `...`
OTHERS: Final = "{*}"
MOST_CHILDREN: Final = 50  # different names at one place: more than any API's resources have beside each other
MOST_TEMPLATES: Final = 5_000  # places in the whole tree

_WORD: Final = re.compile(r"[A-Za-z]+")
_WHOLE: Final = (
    (re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", re.ASCII), "{uuid}"),
    (re.compile(r"v[0-9]{1,3}(?:(?:alpha|beta|rc)[0-9]{0,3})?|v?[0-9]{1,3}(?:\.[0-9]{1,4}){1,3}", re.ASCII | re.IGNORECASE), ""),
    (re.compile(r"(?:19|20)[0-9]{2}-[01][0-9](?:-[0-3][0-9](?:[T_][0-9:.+Z-]*)?)?", re.ASCII), "{date}"),
    (re.compile(r"(?:19|20)[0-9]{2}[01][0-9][0-3][0-9]", re.ASCII), "{date}"),
    # A number, or several of them: coordinates, lists.
    (re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:(?:[,;]|%2[Cc])-?[0-9]+(?:\.[0-9]+)?)*", re.ASCII), "{id}"),
    (re.compile(r"HUBBLE_REDACTED|eyJ[\w-]+(?:\.[\w-]*)*", re.ASCII), "{token}"),
)
_TOKEN: Final = re.compile(
    r"(?=[0-9A-Fa-f]*[0-9])[0-9A-Fa-f]{8,}|(?=[\w~.-]*[0-9])(?=[\w~.-]*[A-Za-z])[\w~-]{20,}(?:\.[\w~-]+)*", re.ASCII
)
# A number in a name stands at its end or between separators: seg-00012.ts, chunk_12.m4s, user42, 1080p stays.
_IN_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_IN_DATE: Final = re.compile(r"(?<![0-9])(?:19|20)[0-9]{2}-[01][0-9]-[0-3][0-9](?![0-9])", re.ASCII)
_IN_HEX: Final = re.compile(
    r"(?<![0-9A-Za-z])(?=[0-9A-Fa-f]*[0-9])(?=[0-9A-Fa-f]*[A-Fa-f])[0-9A-Fa-f]{8,}(?![0-9A-Za-z])", re.ASCII
)
_NUMBER: Final = re.compile(r"(?:(?<=[-_.~])|^)[0-9]+(?=[-_.~]|$)|(?<=[A-Za-z])[0-9]{2,}(?=[-_.~]|$)", re.ASCII)
_EXTENSION: Final = re.compile(r"\.[A-Za-z][0-9A-Za-z]{0,7}(?:\.gz|\.br)?\Z", re.ASCII)


@lru_cache(REMEMBERED)
def template(path: str) -> str:
    """The path with `{id}`, `{uuid}`, `{date}` and `{token}` for what differs from call to call, without query; bounded."""
    segments = re.split(r"[?#]", path, maxsplit=1)[0].split("/")
    shown = [_segment(segment) for segment in segments[: DEEPEST + 1]]
    if len(segments) > DEEPEST + 1:
        shown.append("...")
    text = "/".join(shown)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _segment(segment: str) -> str:
    if not segment or _WORD.fullmatch(segment):
        return segment
    for form, placeholder in _WHOLE:
        if form.fullmatch(segment):
            return placeholder or segment
    extension = _EXTENSION.search(segment)
    stem, rest = (segment[: extension.start()], extension[0]) if extension and extension.start() else (segment, "")
    return _stem(stem) + rest


def _stem(stem: str) -> str:
    for form, placeholder in _WHOLE:
        if form.fullmatch(stem):
            return placeholder or stem
    named = _NUMBER.sub("{id}", _IN_HEX.sub("{token}", _IN_DATE.sub("{date}", _IN_UUID.sub("{uuid}", stem))))
    if named != stem and not _TOKEN.fullmatch(re.sub(r"[{}]", "", named)):
        return named
    return "{token}" if _TOKEN.fullmatch(stem) else named


class _Place:
    """One segment of known templates with what comes below it."""

    __slots__ = ("children", "collapsed")

    def __init__(self) -> None:
        self.children: dict[str, _Place] = {}
        self.collapsed = False


class Templates:
    """Templates of one group of paths, bounded: what has more than `most` different children at one place gets `{*}` for them.

    A place that has collapsed stays so, also for the children that it knew before; so the order of paths decides which names were
    given out before that, and callers group by what of() says in the end. Not safe for use by several threads.
    """

    def __init__(self, most: int = MOST_CHILDREN, places: int = MOST_TEMPLATES) -> None:
        """most: children of one place; places: in all, beyond which new names are `{*}` wherever they are."""
        self._root = _Place()
        self._most, self._left = most, places

    def add(self, path: str) -> str:
        """Learn a path; its template as of now."""
        shown: list[str] = []
        place = self._root
        for segment in template(path).split("/"):
            known = self._child(place, segment)
            if known is None:  # no room for anything new
                shown.append(OTHERS)
                break
            name, place = known
            shown.append(name)
        return "/".join(shown)

    def of(self, path: str) -> str:
        """The template of a path after all were learnt; the same as add() for one that was."""
        shown: list[str] = []
        place = self._root
        for segment in template(path).split("/"):
            name = OTHERS if place.collapsed else segment
            if name not in place.children:
                return "/".join([*shown, OTHERS])
            place = place.children[name]
            shown.append(name)
        return "/".join(shown)

    def _child(self, place: _Place, segment: str) -> tuple[str, _Place] | None:
        name = OTHERS if place.collapsed else segment
        if name not in place.children:
            if self._left <= 0:
                return None
            if len(place.children) >= self._most and not place.collapsed:
                self._collapse(place)
                name = OTHERS
            else:
                self._left -= 1
                place.children[name] = _Place()
        return name, place.children[name]

    def _collapse(self, place: _Place) -> None:
        """All children become one, which has what they had below them; bounds hold there, too."""
        before = _size(place)
        merged = _Place()
        for child in place.children.values():
            _merge(merged, child)
        place.children, place.collapsed = {OTHERS: merged}, True
        self._left += before - _size(place)
        self._settle(merged)

    def _settle(self, place: _Place) -> None:
        if len(place.children) > (1 if place.collapsed else self._most):
            self._collapse(place)
        else:
            for child in place.children.values():
                self._settle(child)


def _merge(into: _Place, other: _Place) -> None:
    into.collapsed |= other.collapsed
    for name, below in other.children.items():
        _merge(into.children.setdefault(name, _Place()), below)


def _size(place: _Place) -> int:
    return 1 + sum(map(_size, place.children.values()))
