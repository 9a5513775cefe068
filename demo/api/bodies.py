"""Bodies: what requests carry, in the formats that clients send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.demo.api import protobuf, wire
from flows.demo.api.errors import invalid, unsupported_media_type
from flows.demo.api.kinds import TOKEN_REQUEST
from flows.demo.api.pki import TOKEN_SECONDS

if TYPE_CHECKING:
    from aiohttp import web


async def question(request: web.Request) -> Any:
    """The body of a request that stores nothing: clients send those in protobuf, too."""
    if request.content_type == protobuf.PROTOBUF:
        return protobuf.decode(await request.read())
    return await body_of(request)


async def body_of(request: web.Request) -> Any:
    """The body, parsed. Raises StatusError 415."""
    accepted = (wire.JSON, "application/yaml")
    if request.content_type not in {*accepted, "application/octet-stream"}:
        raise unsupported_media_type(accepted)
    return wire.parse_body(await request.read(), request.content_type)


def token_seconds(body: Any, name: str) -> int:
    """How long a token is to be good for. Raises StatusError 422."""
    spec = body.get("spec") if isinstance(body, dict) else None
    asked = spec.get("expirationSeconds") if isinstance(spec, dict) else None
    if not isinstance(asked, int):
        return 3600
    if asked < 600:
        text = f"Invalid value: {asked}: may not specify a duration less than 10 minutes"
        raise invalid(TOKEN_REQUEST, name, [("spec.expirationSeconds", "FieldValueInvalid", text)])
    return min(asked, TOKEN_SECONDS)
