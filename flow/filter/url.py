"""The path of a request's URL, as Go's url.ParseRequestURI (which Hubble uses) gives it."""

from __future__ import annotations

import re
from urllib.parse import unquote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%A-Za-z0-9_~\-]*\]|[^\s\"\\^`{|}<>\[\]:/?#@]*)(:[0-9]*)?")


def request_path(url: str) -> str | None:
    """The unescaped path of an absolute URI or an absolute path; None where Go would report an error.

    `#` begins no fragment here: a request has none.
    """
    if not url or any(ord(rune) < 0x20 or ord(rune) == 0x7F for rune in url) or url.startswith(":"):
        return None
    if url == "*":
        return url
    scheme = _SCHEME.match(url)
    rest = (url[scheme.end() :] if scheme else url).partition("?")[0]
    if not rest.startswith("/"):
        return "" if scheme else None
    if scheme and rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        if not _is_authority(authority):
            return None
        rest = slash + path
    return None if _BAD_ESCAPE.search(rest) else unquote(rest, errors="replace")


def _is_authority(authority: str) -> bool:
    return _HOST.fullmatch(authority.rpartition("@")[2]) is not None
