"""List options: versions, pages and their opaque continue tokens."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.demo.api import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.demo.api.history import Key

INCONSISTENT = -1
"""Version of a token that goes on with whatever is stored now."""
_TOO_OLD = "The resourceVersion for the provided list is too old."
_TOKEN_VERSION = "meta.k8s.io/v1"  # noqa: S105  (the name of a format)


def key_text(key: Key) -> str:
    """`ns/name`, or `name` for cluster-wide kinds."""
    return "/".join(part for part in key if part)


@dataclass(frozen=True, slots=True)
class Continue:
    """Where the next page starts (first key text not to skip) and which version it shows."""

    version: int
    start: str

    def encode(self) -> str:
        """The token, in the real server's format."""
        body = {"v": _TOKEN_VERSION, "rv": self.version, "start": self.start}
        text = json.dumps(body, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_continue(token: str) -> Continue:
    """Read a token. Raises StatusError 400 for what no server gave."""
    try:
        data = _raw_url_decode(token)
        body = json.loads(data)
    except (binascii.Error, UnicodeDecodeError, json.JSONDecodeError, _Base64Error, RecursionError) as error:
        raise _bad_token(_go_error(token, error)) from error
    if not isinstance(body, dict) or body.get("v") != _TOKEN_VERSION:
        raise _bad_token("server does not recognize this encoded version " + _quoted(body))
    version, start = body.get("rv"), body.get("start")
    if isinstance(version, bool) or not isinstance(version, int) or version == 0 or version < INCONSISTENT:
        raise _bad_token(f"incorrect resourceVersion {_quoted(version)} ({_TOKEN_VERSION})")
    if not isinstance(start, str) or not start:
        raise _bad_token(f"incorrect or missing start key ({_TOKEN_VERSION})")
    if ".." in start.split("/") or "//" in start:
        raise _bad_token(start)
    return Continue(version, start)


class _Base64Error(ValueError):
    """Position of the first byte that base64 does not know."""


def _raw_url_decode(token: str) -> bytes:
    found = re.search(r"[^A-Za-z0-9_-]", token)
    if found or len(token) % 4 == 1:
        raise _Base64Error(found.start() if found else len(token) - 1)
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def _bad_token(why: str) -> errors.StatusError:
    return errors.bad_request(f"invalid continue token: continue key is not valid: {why}")


def _quoted(value: object) -> str:
    return json.dumps(value.get("v", "") if isinstance(value, dict) else value)


def _go_error(token: str, error: Exception) -> str:
    """What Go's decoders say of the same bytes."""
    if isinstance(error, _Base64Error):
        return f"illegal base64 data at input byte {error.args[0]}"
    data = _raw_url_decode(token)
    text = data.decode("latin-1")
    position = error.pos if isinstance(error, json.JSONDecodeError) else 0
    if position >= len(text.rstrip()):
        return "unexpected end of JSON input"
    letter = text[position]
    shown = letter if " " <= letter <= "~" or letter >= "\xa1" else letter.encode("unicode_escape").decode()
    shown = shown.replace("\\x", "\\u00")
    return f"invalid character '{shown}' looking for beginning of value"


def parse_version(text: str) -> int | None:
    """The `resourceVersion` option: None when absent. Raises StatusError 400."""
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,20}", text):
        shown = json.dumps(text, ensure_ascii=False)
        raise errors.bad_request(f"Invalid value: {shown}: strconv.ParseUint: parsing {shown}: invalid syntax")
    return int(text)


def parse_int(query: Mapping[str, str], name: str) -> int:
    """A whole-number option: 0 when absent. Raises StatusError 400."""
    text = query.get(name, "")
    if not text:
        return 0
    if not re.fullmatch(r"[-+]?[0-9]{1,19}", text):
        shown = json.dumps(text, ensure_ascii=False)
        raise errors.bad_request(f"strconv.ParseInt: parsing {shown}: invalid syntax")
    return int(text)


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Which version a list shows, from where and how much."""

    version: int | None
    """Exact version to show; None for the present."""
    start: str
    limit: int


def list_options(query: Mapping[str, str], current: int, compacted: int) -> ListOptions:
    """Check the options of a list. Raises StatusError 400, 410, 422 or 504 as the real server does."""
    limit = max(0, parse_int(query, "limit"))
    version, match = parse_version(query.get("resourceVersion", "")), query.get("resourceVersionMatch", "")
    _check_match(match, version, query)
    if token := query.get("continue", ""):
        if version:
            raise errors.bad_request("specifying resource version is not allowed when using continue")
        return _continued(decode_continue(token), limit, compacted)
    if version is not None and version > current:
        raise errors.version_too_large(version, current)
    exact = match == "Exact" or (not match and limit > 0)
    if not version or not exact:
        return ListOptions(None, "", limit)
    if version < compacted:
        raise errors.expired(_TOO_OLD)
    return ListOptions(version, "", limit)


def _continued(token: Continue, limit: int, compacted: int) -> ListOptions:
    if token.version == INCONSISTENT:
        return ListOptions(None, token.start, limit)
    if token.version < compacted:
        again = Continue(INCONSISTENT, token.start).encode()
        raise errors.expired(errors.EXPIRED_CONTINUE, again)
    return ListOptions(token.version, token.start, limit)


def _check_match(match: str, version: int | None, query: Mapping[str, str]) -> None:
    field = "resourceVersionMatch"
    if not match:
        return
    if query.get("continue"):
        raise errors.invalid_options(field, "Forbidden: resourceVersionMatch is forbidden when continue is provided")
    if version is None:
        text = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise errors.invalid_options(field, text)
    if match not in {"Exact", "NotOlderThan"}:
        shown = json.dumps(match, ensure_ascii=False)
        text = f'Unsupported value: {shown}: supported values: "Exact", "NotOlderThan", ""'
        raise errors.invalid_options(field, text)
    if match == "Exact" and version == 0:
        text = 'Forbidden: resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
        raise errors.invalid_options(field, text)
