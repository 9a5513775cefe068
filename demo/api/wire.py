"""JSON bodies in and out: reading requests, writing answers with the headers of the real server."""

from __future__ import annotations

import json
import uuid
from typing import Any

import yaml
from aiohttp import web

from flows.demo.api.errors import StatusError, bad_request

Json = dict[str, Any]
JSON = "application/json"
YAML_TYPES = ("application/yaml", "application/apply-patch+yaml")
COMPRESS_FROM = 128 * 1024
"""Bytes from which answers are compressed for clients that take gzip, as in the real server."""
_FLOW_SCHEMA, _PRIORITY_LEVEL = str(uuid.uuid4()), str(uuid.uuid4())


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: timestamps stay text."""


_Loader.yaml_implicit_resolvers = {
    letter: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _no_constant(text: str) -> None:
    raise ValueError(f"invalid character '{text[0]}' looking for beginning of value")


def parse_json(data: bytes) -> Any:
    """Decode JSON. Raises StatusError 400."""
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {_short(error)}") from error


def parse_body(data: bytes, content_type: str) -> Any:
    """Decode a JSON or YAML body. Raises StatusError 400."""
    if content_type not in YAML_TYPES or data.lstrip()[:1] == b"{":
        return parse_json(data)
    try:
        return yaml.load(data, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise bad_request(f"error decoding YAML: {_short(error)}") from error


def _short(error: Exception) -> str:
    return str(error).replace("\n", " ")[:200]


def dump(obj: object, *, pretty: bool = False) -> bytes:
    """Encode as the real server: compact with a final newline, or indented by two without."""
    if pretty:
        return json.dumps(obj, indent=2, ensure_ascii=False).encode("utf-8", "replace")
    return dump_compact(obj) + b"\n"


def dump_compact(obj: object) -> bytes:
    """Compact JSON without a newline."""
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def wants_pretty(request: web.BaseRequest) -> bool:
    """Whether a person reads it: `?pretty`, or a browser, curl or wget asks."""
    asked = request.query.get("pretty")
    if asked is not None:
        return asked not in {"0", "false"}
    return request.headers.get("User-Agent", "").startswith(("curl", "Wget", "Mozilla/5.0"))


def common_headers(*, classified: bool = True) -> dict[str, str]:
    """Headers of every answer; 401 comes before flow control classifies the request."""
    headers = {"Audit-Id": str(uuid.uuid4()), "Cache-Control": "no-cache, private"}
    if classified:
        headers["X-Kubernetes-Pf-Flowschema-Uid"] = _FLOW_SCHEMA
        headers["X-Kubernetes-Pf-Prioritylevel-Uid"] = _PRIORITY_LEVEL
    return headers


def json_response(request: web.BaseRequest, obj: object, code: int = 200, *, pretty: bool | None = None) -> web.Response:
    """An answer with an object."""
    body = dump(obj, pretty=wants_pretty(request) if pretty is None else pretty)
    response = web.Response(body=body, status=code, content_type=JSON, headers=common_headers())
    if len(body) >= COMPRESS_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def error_response(request: web.BaseRequest, error: StatusError) -> web.Response:
    """An answer with a `Status` that says what is wrong."""
    response = json_response(request, error.body(), error.code)
    if error.code == 401:
        for name in ("X-Kubernetes-Pf-Flowschema-Uid", "X-Kubernetes-Pf-Prioritylevel-Uid"):
            response.headers.popall(name, None)
    if error.code == 403:
        response.headers["X-Content-Type-Options"] = "nosniff"
    if error.details and "retryAfterSeconds" in error.details:
        response.headers["Retry-After"] = str(error.details["retryAfterSeconds"])
    return response


def too_many_requests(retry_after_seconds: int) -> web.Response:
    """The plain answer of flow control to a user whose share is used up (apiserver's server/filters/maxinflight.go)."""
    headers = common_headers() | {"X-Content-Type-Options": "nosniff", "Retry-After": str(retry_after_seconds)}
    return web.Response(text="Too many requests, please try again later.\n", status=429, headers=headers)


def page_not_found() -> web.Response:
    """The plain answer for paths outside the API."""
    headers = common_headers() | {"X-Content-Type-Options": "nosniff"}
    return web.Response(text="404 page not found\n", status=404, headers=headers)
