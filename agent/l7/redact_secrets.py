"""Secrets in paths: which parts of a segment look like keys, tokens or signatures, and what is shown instead.

A guess, and on the safe side: a long random identifier is taken for a secret, a UUID and words are not.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

REDACTED: Final = b"HUBBLE_REDACTED"  # Hubble's text
SHORTEST: Final = 20  # bytes of a segment below which nothing is looked at; AWS access keys have 20
SHORTEST_PART: Final = 8  # of a segment whose end was not captured: enough of a token to be worth something
DECODINGS: Final = 3  # times that a segment may have been percent-encoded

# JSON Web Tokens begin with `{"`, encoded (RFC 7519); the others are prefixes that their makers publish.
_KNOWN = re.compile(
    rb"eyJ[\w-]{5,}(?:\.[\w-]*)*|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[0-9A-Za-z]{16,}|glpat-[\w-]{16,}"
    rb"|github_pat_\w{20,}|npm_[0-9A-Za-z]{30,}|AIza[\w-]{30,}|ya29\.[\w-]{8,}"
    rb"|xox[abeprs]-[\w-]{10,}|[sr]k_(?:live|test)_[0-9A-Za-z]{10,}",
    re.ASCII,
)
_RUN = re.compile(rb"[\w+-]{20,}", re.ASCII)
_UUID = re.compile(rb"(?<![0-9A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Fa-f])")
_HEX = re.compile(rb"[0-9A-Fa-f]{32}")
_PIECE = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_UNBROKEN = re.compile(rb"[0-9A-Za-z]{24,}")
_LOWER, _UPPER, _DIGIT = re.compile(rb"[a-z]"), re.compile(rb"[A-Z]"), re.compile(rb"[0-9]")
_TOKEN_BYTES = 22  # 16 random bytes in base64
# Words are longer than four letters on average; of random text of small letters, capitals and digits pieces have two, and those
# of base32, which has few digits, three to four.
_PIECE_BYTES, _LONG_PIECE_BYTES = 4, 5


def hide(path: bytes, *, cut: bool) -> bytes:
    """The path with its secrets replaced. cut: its end was not captured, so the last segment may be part of a secret."""
    *segments, last = path.split(b"/")
    whole = [_segment(segment) for segment in segments]
    return b"/".join([*whole, _part(last) if cut else _segment(last)])


def _segment(segment: bytes) -> bytes:
    if len(segment) < SHORTEST:
        return segment
    hidden = _hidden(segment)
    decoded = segment
    for _ in range(DECODINGS if b"%" in segment else 0):
        decoded = unquote_to_bytes(decoded)
    if decoded == segment:
        return hidden
    # Base64 of the standard alphabet has these three, and they are why it is encoded.
    joined = decoded.translate(None, b"+/=")
    return REDACTED if _hidden(decoded) != decoded or _hidden(joined) != joined else hidden


def _part(segment: bytes) -> bytes:
    """Of a segment that goes on beyond what was captured: words only, as of the rest nobody knows what it is."""
    mixed = _DIGIT.search(segment) or b"%" in segment or (_LOWER.search(segment) and _UPPER.search(segment))
    return REDACTED if len(segment) >= SHORTEST_PART and mixed else _segment(segment)


def _hidden(text: bytes) -> bytes:
    return _RUN.sub(lambda run: REDACTED if _is_secret(run[0]) else run[0], _KNOWN.sub(REDACTED, text))


def _is_secret(run: bytes) -> bool:
    rest = _UUID.sub(b"", run)
    if _HEX.search(rest):
        return True
    if len(rest) >= _TOKEN_BYTES and _LOWER.search(rest) and _UPPER.search(rest) and _is_random(rest):
        return True
    # Names of Kubernetes are digits and small letters with hyphens: without hyphens nobody writes that many.
    parts = (part for part in _UNBROKEN.findall(rest) if not part.isdigit())
    return any(_DIGIT.search(part) and _is_random(part, _LONG_PIECE_BYTES) for part in parts)


def _is_random(text: bytes, piece_bytes: int = _PIECE_BYTES) -> bool:
    """Whether it changes between small letters, capitals and digits more often than words and numbers do."""
    pieces = _PIECE.findall(text)
    return len(pieces) * piece_bytes > sum(map(len, pieces))
