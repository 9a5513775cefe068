"""Credentials of a call: the token in its metadata, and the certificate of its connection."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from flows.relay.access.refusals import malformed

if TYPE_CHECKING:
    import grpc.aio

AUTHORIZATION_LIMIT: Final = 24 << 10
"""Characters of the authorization metadata: below what wire.limits allows for all metadata of a call. Kubernetes' own
tokens have about 1,000; those of identity providers that list groups, up to 16,000."""
_FORMS: Final = '"Bearer TOKEN", or "Basic BASE64" of NAME:TOKEN (the name does not count)'
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller gave, unchecked but for the certificate, whose chain TLS has verified."""

    authorization: str = field(default="", repr=False)  # the metadata as it came; "" when there was none
    peer: str = ""  # as gRPC names it: ipv4:ADDRESS:PORT, ipv6:..., unix:
    certificate: bytes = b""  # PEM of the client's certificate; empty without


@dataclass(frozen=True, slots=True)
class Login:
    """The token of an authorization, and the user name beside it, which does not count."""

    token: str = field(repr=False)
    name: str = ""


def credentials(context: grpc.aio.ServicerContext[Any, Any]) -> Credentials:
    """Take the credentials from a call. Raises Denied if there is more than one authorization, or an empty or huge one."""
    given = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if not given:
        authorization: str | bytes = ""
    elif len(given) > 1:
        raise malformed(f"one, got {len(given)}")
    else:
        (authorization,) = given
        if not isinstance(authorization, str) or not authorization.strip() or len(authorization) > AUTHORIZATION_LIMIT:
            raise malformed(f"{_FORMS}, of at most {AUTHORIZATION_LIMIT} characters")
    certificate = next(iter(context.auth_context().get("x509_pem_cert") or ()), b"")
    return Credentials(str(authorization), context.peer(), certificate)


def login(authorization: str) -> Login:
    """Read authorization metadata: Bearer (RFC 6750) or Basic (RFC 7617) with the token as password. Raises Denied."""
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        found = Login(rest.strip())
    elif scheme.lower() == "basic":
        found = _basic(rest.strip())
    else:
        raise malformed(_FORMS)
    if not _TOKEN.fullmatch(found.token):
        raise malformed(f"{_FORMS}, with a token of printable ASCII without spaces")
    return found


def _basic(encoded: str) -> Login:
    try:
        name, colon, token = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise malformed(_FORMS) from None
    if not colon:
        raise malformed(_FORMS)
    return Login(token, name)
