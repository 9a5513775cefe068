"""Redaction: what is taken out of a request before anything of it is stored.

Query strings, user info, headers and secrets in paths by default, as Hubble's `hubble.redact` can be told to, and rules for paths
and DNS names. What is taken out of the middle of a text leaves HUBBLE_REDACTED; a query string leaves nothing, as with Hubble.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np

from flows.agent.l7 import redact_rules as parsed
from flows.agent.l7.masks import anywhere, before, number
from flows.agent.l7.redact_secrets import SHORTEST, hide
from flows.agent.l7.redact_urls import (
    has_url,
    path_without_query,
    path_without_user,
    value_without_query,
    value_without_user,
)
from flows.agent.store.request_columns import TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from flows.agent.l7.redact_rules import Rule

REMEMBERED: Final = 2_048  # paths and names that rules were applied to
T = TypeVar("T")
AT, SLASH, QUESTION, HASH, PERCENT = (number(byte, np.uint8) for byte in b"@/?#%")
_ENCODED_SIGNS: Final = np.array([int.from_bytes(code, "little") for code in (b"40", b"3f", b"3F", b"23")], np.uint16)  # of @?#

# Kept only if the allow list names them: a deny list of other headers must not let these through.
ALWAYS_DENIED: Final = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"})

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2; no header has another name


class Kept(NamedTuple):
    """Of one path: what may be stored, at most TEXT_BYTES; cut: it was longer."""

    text: bytes
    cut: bool


class Paths(NamedTuple):
    """Of n paths: text (n, w or TEXT_BYTES), zeros after the end; changed: something was taken out; cut: it is not whole (n,)."""

    text: NDArray[np.uint8]
    changed: NDArray[np.bool_]
    cut: NDArray[np.bool_]


def _remembered(redact: Callable[..., T]) -> Callable[..., T]:
    """The same function, which remembers results by a keyed hash of what they are of: that itself stays nowhere."""
    key, known = secrets.token_bytes(16), OrderedDict[bytes, T]()

    def remembered(raw: bytes, *flags: bool) -> T:
        digest = blake2b(raw + bytes(flags), key=key, digest_size=16).digest()
        if digest not in known:
            if len(known) >= REMEMBERED:
                known.popitem(last=False)
            known[digest] = redact(raw, *flags)
        return known[digest]

    return remembered


@dataclass(frozen=True)
class Redaction:
    """The rules. Header names are in lower case; without lists no header is kept."""

    url_query: bool = True
    user_info: bool = True
    path_secrets: bool = True
    headers_allow: frozenset[bytes] = frozenset()
    headers_deny: frozenset[bytes] | None = None
    path_rules: tuple[Rule, ...] = ()
    dns_rules: tuple[Rule, ...] = ()
    _path: Callable[[bytes, bool], Kept] = field(init=False, repr=False, compare=False)
    _name: Callable[[bytes], bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Remember what the latest paths and names became."""
        object.__setattr__(self, "_path", _remembered(self._redact_path))
        object.__setattr__(self, "_name", _remembered(self._redact_name))

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> Redaction:
        """Rules of flags or of a JSON object; names as in the table below. Raises ValueError: what, where, and the cure."""
        unknown = [name for name in settings if name not in _PARSERS]
        if unknown:
            raise ValueError(f"redaction: {unknown[0]!r} is no rule: expected {', '.join(_PARSERS)}")
        if settings.get("headers_allow") and settings.get("headers_deny"):
            raise ValueError("redaction: headers_allow and headers_deny exclude each other: give one of them")
        values: dict[str, Any] = {name: _PARSERS[name](f"redaction: {name}", value) for name, value in settings.items()}
        return cls(**values)

    @property
    def keeps_headers(self) -> bool:
        """Whether any header may be stored."""
        return bool(self.headers_allow) or self.headers_deny is not None

    def keeps(self, header: bytes) -> bool:
        """Whether a header of this name may be stored."""
        name = header.lower()
        if self.headers_deny is not None:
            return name not in self.headers_deny and name not in ALWAYS_DENIED and _TOKEN.fullmatch(name) is not None
        return name in self.headers_allow

    def header_value(self, name: bytes, value: bytes) -> bytes:
        """A kept header's value: as it came, but a URL (Referer, Location, ...) without its query and user info, as a Host."""
        if name.lower() == b"host":
            value = self.host(value)
        if not has_url(name, value):
            return value
        if self.user_info:
            value = value_without_user(value)
        if self.url_query:
            value = value_without_query(name, value)
        return hide(value, cut=False) if self.path_secrets else value

    def host(self, authority: bytes) -> bytes:
        """Host and port of an authority, without user info."""
        return authority.rpartition(b"@")[2] if self.user_info else authority

    def path(self, path: bytes, *, cut: bool = False) -> Kept:
        """One path, with or without query. cut: its end was not captured."""
        return self._path(path, cut)

    def dns_name(self, name: bytes) -> bytes:
        """One name after the rules for DNS."""
        return self._name(name)

    def dns_names(self, names: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Apply the rules for DNS to names (n, w), zeros after their ends, in place; which were changed: bool (n,)."""
        changed = np.zeros(len(names), bool)
        for row in range(len(names) if self.dns_rules else 0):
            raw = names[row].tobytes().rstrip(b"\0")
            name = self._name(raw)[: names.shape[1]]
            changed[row] = name != raw
            _write(names[row], name)
        return changed

    def paths(
        self, text: NDArray[np.uint8], lengths: NDArray[np.int64], cut: NDArray[np.bool_], whole: Callable[[int], bytes]
    ) -> Paths:
        """Paths (n,) with their queries. text: the beginnings (n, w), then anything, changed in place; lengths: (n,).

        cut: whose ends were not captured, bool (n,); whole: gives all that was captured of one, by row.
        """
        lengths, width, changed = lengths.copy(), text.shape[1], np.zeros(len(text), bool)
        if self.url_query:
            changed = _cut_query(text, lengths)
        cut = cut & ~changed
        text *= before(lengths, width)
        rows = self._looked_at(text, lengths, cut)
        if rows.size and width < TEXT_BYTES:  # what is taken out may leave something longer
            text = np.concatenate((text, np.zeros((len(text), TEXT_BYTES - width), np.uint8)), axis=1)
        for row in rows.tolist():
            raw = text[row, : lengths[row]].tobytes() if lengths[row] <= width else whole(row)
            kept = self._path(raw, bool(cut[row]))
            changed[row] |= not raw.startswith(kept.text) or (not kept.cut and kept.text != raw)
            cut[row] = kept.cut
            _write(text[row], kept.text[: text.shape[1]])
        return Paths(text, changed, cut)

    def _looked_at(self, text: NDArray[np.uint8], lengths: NDArray[np.int64], cut: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Rows that need more than their query cut: few, unless rules are given."""
        if self.path_rules:
            return np.arange(len(text))
        wanted = cut | (lengths > text.shape[1])
        if self.path_secrets:
            wanted |= _has_long_segment(text, lengths)
        if self.user_info:
            wanted |= anywhere(text, AT)
        if self.user_info or self.url_query:
            wanted |= _has_encoded_sign(text)
        rows: NDArray[np.int64] = wanted.nonzero()[0]
        return rows

    def _redact_path(self, raw: bytes, cut: bool) -> Kept:
        path, query = _split(raw)
        path_cut, query = cut and not query, b"" if self.url_query else query
        if self.user_info:
            path = path_without_user(path)
        if self.url_query:
            path = path_without_query(path)
        if self.path_secrets:
            path = hide(path, cut=path_cut)
        text = path + query
        for rule in self.path_rules:
            text = rule.applied(text)
        return Kept(text[:TEXT_BYTES], len(text) > TEXT_BYTES or path_cut or (cut and bool(query)))

    def _redact_name(self, name: bytes) -> bytes:
        for rule in self.dns_rules:
            name = rule.applied(name)
        return name


_PARSERS: Final[dict[str, Callable[[str, object], Any]]] = {
    "url_query": parsed.flag,
    "user_info": parsed.flag,
    "path_secrets": parsed.flag,
    "headers_allow": parsed.header_names,
    "headers_deny": parsed.header_names,
    "path_rules": parsed.rules,
    "dns_rules": parsed.rules,
}


def _split(raw: bytes) -> tuple[bytes, bytes]:
    at = min((place for place in (raw.find(b"?"), raw.find(b"#")) if place >= 0), default=len(raw))
    return raw[:at], raw[at:]


def _write(row: NDArray[np.uint8], text: bytes) -> None:
    row[: len(text)] = np.frombuffer(text, np.uint8)
    row[len(text) :] = 0


def _cut_query(text: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Shorten lengths (n,) to where the first ? or # is; which were: bool (n,)."""
    found = text == QUESTION
    found |= text == HASH
    at = found.argmax(axis=1)
    cut: NDArray[np.bool_] = found[np.arange(len(text)), at] & (at < lengths)
    lengths[cut] = at[cut]
    return cut


def _has_encoded_sign(text: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which paths (n, w) have a percent-encoded @, ? or #, as URLs in them may; bool (n,)."""
    has = anywhere(text, PERCENT)
    rows: NDArray[np.int64] = has.nonzero()[0]
    if rows.size:
        some = text[rows]
        codes = some[:, 1:-1].astype(np.uint16) | some[:, 2:].astype(np.uint16) << np.uint16(8)
        has[rows] = ((some[:, :-2] == PERCENT) & np.isin(codes, _ENCODED_SIGNS)).any(axis=1)
    return has


def _has_long_segment(text: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which paths (n, w), zeros after their ends, have SHORTEST bytes or more without a slash; bool (n,)."""
    width = text.shape[1]
    run = np.zeros((len(text), width + 1), bool)  # with a column that is in no segment
    np.multiply(text != SLASH, before(lengths, width).view(np.bool_), out=run[:, :-1])
    # Whether the bytes from each on are of one segment: for twice as many at each step, and then for as many as are left.
    flat, known = run.reshape(-1), 1
    while known < SHORTEST and len(flat):
        step = min(known, SHORTEST - known)
        flat, known = flat[:-step] & flat[step:], known + step
    long = np.zeros(len(text), bool)
    long[flat.nonzero()[0] // (width + 1)] = True
    return long
