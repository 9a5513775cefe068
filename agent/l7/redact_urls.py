"""URLs in paths and in values of headers: their user info and their queries. Source: RFC 3986; RFC 8288, section 3; RFC 9110.

What is looked at is whatever somebody sent, so expressions are RE2's: linear, whatever that is.
"""

from __future__ import annotations

import re
from typing import Final

import re2  # type: ignore[import-untyped]

_OPTIONS = re2.Options()
_OPTIONS.encoding = re2.Options.Encoding.LATIN1

# In a path a URL is written as it is, or percent-encoded; then its own signs are, too.
_ENCODED: Final = rb"(?::|%3a)(?:/|%2f){2}"
_BEFORE_ENCODED_SIGNS: Final = rb"(?:[^/?#%]|%2[^f3/?#]|%3[^f/?#]|%[^23/?#])*"
_PATH_USER: Final = re2.compile(
    rb"(?i)(://)[^/?#]*(?:@|%40)|(" + _ENCODED + rb")" + _BEFORE_ENCODED_SIGNS + rb"(?:@|%40)", _OPTIONS
)
_PATH_QUERY: Final = re2.compile(rb"(?is)((?::|%3a)(?:(?:%2f){2}[^/]*?|//.*?))%(?:3f|23)[^/]*", _OPTIONS)

# Headers that are URLs, also relative ones (`next?page=2`).
_URL_HEADERS: Final = frozenset(
    (b"content-location", b"destination", b"link", b"location", b"referer", b"refresh", b"x-original-url", b"x-rewrite-url")
)
_HEADER_USER: Final = re2.compile(rb"(?i)((?:^|[\s<=\"']|:|%3a)(?:/|%2f){2})[^/?#]*(?:@|%40)", _OPTIONS)
_URL: Final = re.compile(rb"\s*<?(?:[A-Za-z][A-Za-z0-9+.-]*:)?/")
_TO_THE_END, _IN_BRACKETS, _IN_TEXT = (re.compile(rb"(?s)[?#]" + rest) for rest in (rb".*", rb"[^>]*", rb"\S*"))


def path_without_user(path: bytes) -> bytes:
    """A path without user info of URLs in it."""
    found: bytes = _PATH_USER.sub(rb"\1\2", path)
    return found


def path_without_query(path: bytes) -> bytes:
    """A path without queries, and fragments, of encoded URLs in it, up to the next slash."""
    found: bytes = _PATH_QUERY.sub(rb"\1", path)
    return found


def has_url(header: bytes, value: bytes) -> bool:
    """Whether a header's value is a URL, or has one in it."""
    return header.lower() in _URL_HEADERS or bool(_URL.match(value)) or b"://" in value


def value_without_user(value: bytes) -> bytes:
    """A value with a URL, without its user info."""
    found: bytes = _HEADER_USER.sub(rb"\1", value)
    return found


def value_without_query(header: bytes, value: bytes) -> bytes:
    """A value with a URL, without its query and fragment.

    Where it ends is known in brackets only: commas, semicolons and, as browsers allow them, blanks may be in it.
    """
    if b"<" in value:
        return _IN_BRACKETS.sub(b"", value)
    alone = header.lower() in _URL_HEADERS or _URL.match(value)
    return (_TO_THE_END if alone else _IN_TEXT).sub(b"", value)
