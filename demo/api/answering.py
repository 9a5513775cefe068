"""Requests to answers: who asks, whether they may, and what the API then says."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from flows.demo.api import access, discovery, openapi, portforward, resources, reviews, schema, wire
from flows.demo.api.bodies import body_of, question, token_seconds
from flows.demo.api.clock import now_text
from flows.demo.api.errors import (
    StatusError,
    bad_request,
    internal,
    method_not_allowed,
    unsupported_media_type,
)
from flows.demo.api.fairness import RETRY_AFTER_SECONDS, Fairness
from flows.demo.api.field_sets import fields_of
from flows.demo.api.journal import Entry, Journal
from flows.demo.api.kinds import REVIEWS
from flows.demo.api.managed_fields import entry
from flows.demo.api.rendering import renderer, stream
from flows.demo.api.targets import Target, is_true, parse_target
from flows.demo.api.watching import BOOKMARK_SECONDS, Watch, watch_options

if TYPE_CHECKING:
    from flows.demo.api.pki import Pki
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
log = logging.getLogger(__name__)

MAX_BODY = 3 * 1024 * 1024
"""Largest request body, as in the real server."""
_ENTRY = web.RequestKey("journal", Entry)
_HEALTH = {"/healthz", "/livez", "/readyz"}


class Api:
    """Answers requests from a Storage."""

    def __init__(
        self,
        storage: Storage,
        pki: Pki,
        bookmark_seconds: float = BOOKMARK_SECONDS,
        connect: portforward.Connect = portforward.nowhere,
    ) -> None:
        self.storage = storage
        self.pki = pki
        self.bookmark_seconds = bookmark_seconds
        self.connect = connect
        self.journal = Journal()
        self.fairness = Fairness()
        self._cached_from = 0
        self._watches: set[Watch] = set()

    def new_watch_cache(self) -> None:
        """Forget what watches could resume from, as a server does that starts anew: older ones get 410 and must list."""
        self._cached_from = self.storage.version

    def close_watches(self) -> int:
        """End all watches that are open; how many there were."""
        for watch in (closing := tuple(self._watches)):
            watch.close()
        return len(closing)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; whatever is wrong becomes a Status."""
        try:
            response = await self._answer(request)
        except StatusError as error:
            _note(request, error.code)
            return wire.error_response(request, error)
        except web.HTTPRequestEntityTooLarge:
            text = f"Request entity too large: limit is {MAX_BODY}"
            return wire.error_response(request, StatusError(413, "RequestEntityTooLarge", text))
        except RecursionError:
            return wire.error_response(request, bad_request("the object is nested too deeply"))
        except (asyncio.CancelledError, ConnectionError, web.HTTPException):
            raise
        except Exception as error:
            log.exception("cannot answer %s %s", request.method, request.path)
            _note(request, 500)
            return wire.error_response(request, internal(f"{type(error).__name__}: {error}"))
        _note(request, response.status)
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport else None
        authorization = request.headers.get("Authorization", "")
        user = access.authenticate(authorization, certificate, self.storage, self.pki)
        watch = is_true(request.query.get("watch"))
        target = parse_target(request.method, request.path, watch=watch)
        request[_ENTRY] = self._begin(request, user, target)
        if not self.fairness.admits(user):
            return wire.too_many_requests(RETRY_AFTER_SECONDS)
        if target is None:
            return self._non_resource(request, user)
        self._authorize(user, target.attributes, target)
        if target.kind in REVIEWS:
            return await self._review(request, target, user)
        return await self._resource(request, target, user)

    def _begin(self, request: web.Request, user: access.User, target: Target | None) -> Entry:
        return self.journal.begin(
            user=user.name,
            agent=request.headers.get("User-Agent", ""),
            verb=target.verb if target else request.method.lower(),
            resource=target.attributes.full_resource if target else request.path,
            query=request.query_string,
        )

    def _authorize(self, user: access.User, act: access.Attributes, target: Target | None) -> None:
        if access.allow(user, act, self.storage) is None:
            raise access.denied(user, act, target.kind if target else None)

    # Paths that are not resources

    def _non_resource(self, request: web.Request, user: access.User) -> web.StreamResponse:
        path = request.path
        verb = request.method.lower()
        self._authorize(user, access.Attributes(verb, path=path), None)
        if path.rstrip("/") in _HEALTH or path.startswith(("/livez/", "/readyz/", "/healthz/")):
            return web.Response(text="ok", headers=wire.common_headers() | {"X-Content-Type-Options": "nosniff"})
        if request.method != "GET":
            raise method_not_allowed()
        if path.rstrip("/") == "/version":
            return wire.json_response(request, discovery.VERSION, pretty=True)
        if path.startswith("/openapi/"):
            return _openapi(request)
        found = discovery.document(path, request.host)
        return wire.page_not_found() if found is None else wire.json_response(request, found)

    # Reviews

    async def _review(self, request: web.Request, target: Target, user: access.User) -> web.StreamResponse:
        if request.method != "POST" or target.name:
            raise method_not_allowed()
        body = await question(request)
        write = resources.write_options(request.query, request.headers.get("User-Agent", ""))
        review, _ = resources.checked(target, body, strict=write.strict)
        answer = reviews.answer(target.kind, review, user, self.storage, self.pki)
        _note_writer(target, answer, write.manager)
        return wire.json_response(request, answer, 201)

    # Resources

    async def _resource(self, request: web.Request, target: Target, user: access.User) -> web.StreamResponse:
        if target.subresource == "token":
            return await self._token(request, target)
        if target.subresource == "portforward":
            return await self._forward(request, target, user)
        if target.verb == "watch":
            return await self._watch(request, target)
        if target.verb in {"get", "list"}:
            return self._read(request, target)
        return await self._write(request, target)

    async def _write(self, request: web.Request, target: Target) -> web.StreamResponse:
        write = resources.write_options(request.query, request.headers.get("User-Agent", ""))
        if target.kind.namespaced and not target.namespace:
            raise method_not_allowed()
        if target.verb == "create" and not target.name:
            return await self._create(request, target, write)
        if target.verb == "update" and target.name:
            return await self._update(request, target, write)
        if target.verb == "patch" and target.name:
            return await self._patch(request, target, write)
        if target.verb in {"delete", "deletecollection"} and not target.subresource:
            return await self._delete(request, target, write)
        raise method_not_allowed()

    def _read(self, request: web.Request, target: Target) -> web.StreamResponse:
        render = renderer(request, target)
        if target.verb == "list":
            objects, metadata = resources.list_page(self.storage, target, request.query)
            return wire.json_response(request, render(objects, metadata, True))
        obj = resources.existing(self.storage, target)
        if target.subresource == "scale":
            return wire.json_response(request, resources.scale_of(obj))
        return wire.json_response(request, render([obj], None, True))

    async def _create(self, request: web.Request, target: Target, write: resources.Write) -> web.StreamResponse:
        obj, unknown = resources.checked(target, await body_of(request), strict=write.strict)
        stored = resources.create(self.storage, target, obj, write)
        return _written(request, target, stored, 201, unknown)

    async def _update(self, request: web.Request, target: Target, write: resources.Write) -> web.StreamResponse:
        body = await body_of(request)
        if target.subresource == "scale":
            scale = schema.decode("Scale", "v1", body)
            obj, unknown = scale.object, scale.unknown
        else:
            obj, unknown = resources.checked(target, body, strict=write.strict)
        stored = resources.replace(self.storage, target, obj, write)
        return _written(request, target, stored, 200, unknown)

    async def _patch(self, request: web.Request, target: Target, write: resources.Write) -> web.StreamResponse:
        if request.content_type not in resources.PATCH_TYPES:
            raise unsupported_media_type(resources.PATCH_TYPES)
        body = wire.parse_body(await request.read(), request.content_type)
        stored, created, unknown = resources.patch(self.storage, target, body, request.content_type, write)
        return _written(request, target, stored, 201 if created else 200, unknown)

    async def _delete(self, request: web.Request, target: Target, write: resources.Write) -> web.StreamResponse:
        data = await request.read()
        options = resources.delete_options(wire.parse_body(data, request.content_type) if data else None, request.query)
        if target.name:
            answer = resources.delete(self.storage, target, options, dry_run=write.dry_run)
        else:
            answer = resources.delete_all(self.storage, target, request.query, options, dry_run=write.dry_run)
        return wire.json_response(request, answer)

    async def _token(self, request: web.Request, target: Target) -> web.StreamResponse:
        account = resources.existing(self.storage, target)["metadata"]
        seconds = token_seconds(await question(request), account["name"])
        token = self.pki.service_account_token(account["namespace"], account["name"], account["uid"], seconds)
        head = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        metadata = {key: account[key] for key in ("name", "namespace")} | {"creationTimestamp": now_text()}
        answer = {**head, "metadata": metadata, "spec": {"expirationSeconds": seconds}, "status": {"token": token}}
        return wire.json_response(request, answer, 201)

    async def _forward(self, request: web.Request, target: Target, user: access.User) -> web.StreamResponse:
        if request.method == "GET":  # a WebSocket's upgrade is a GET and makes something: both are asked for (since 1.35)
            self._authorize(user, replace(target.attributes, verb="create"), target)
        pod = resources.existing(self.storage, target)
        return await portforward.forward(request, pod, self.connect)

    # Watches

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        options = watch_options(request.query, self.bookmark_seconds)
        selects = resources.selection(request.query, target)
        watch = Watch(self.storage, target.kind, target.namespace or None, selects, options, self._cached_from)
        response = web.StreamResponse(headers=wire.common_headers())
        response.content_type = wire.JSON
        response.enable_chunked_encoding()
        render = renderer(request, target)
        await response.prepare(request)
        _note(request, response.status, goes_on=True)
        self._watches.add(watch)
        try:
            await stream(response, watch.events(), render)
        finally:
            self._watches.discard(watch)
            _note(request, response.status)
        return response


def _note(request: web.Request, code: int, *, goes_on: bool = False) -> None:
    if _ENTRY in request:
        request[_ENTRY].code, request[_ENTRY].open = code, goes_on


def _written(request: web.Request, target: Target, obj: Json, code: int, unknown: list[str]) -> web.Response:
    shown = obj if obj.get("kind") == "Scale" else renderer(request, target)([obj], None, True)
    response = wire.json_response(request, shown, code)
    if request.query.get("fieldValidation") != "Ignore":
        for path in unknown:
            text = path.encode("ascii", "backslashreplace").decode().replace("\r", " ").replace("\n", " ")
            response.headers.add("Warning", f'299 - "unknown field \\"{text}\\""')
    return response


def _note_writer(target: Target, answer: Json, manager: str) -> None:
    spec = {"spec": answer["spec"]} if "spec" in answer else {}
    if spec:
        fields = fields_of(target.kind.kind, spec)
        made = entry(manager, "Update", target.kind.api_version, fields)
        answer["metadata"] = {**answer["metadata"], "managedFields": [made]}


def _openapi(request: web.Request) -> web.Response:
    parts = request.path.strip("/").split("/")
    if parts == ["openapi", "v2"]:
        if any(name in request.headers.get("Accept", "") for name in openapi.V2_PROTOBUF_ASKED):
            return web.Response(body=openapi.v2_protobuf(), content_type=openapi.V2_PROTOBUF, headers=wire.common_headers())
        return wire.json_response(request, openapi.v2())
    if parts == ["openapi", "v3"]:
        return wire.json_response(request, openapi.v3_root())
    document = None
    if parts[:3] == ["openapi", "v3", "api"] and len(parts) == 4:
        document = openapi.v3("", parts[3])
    elif parts[:3] == ["openapi", "v3", "apis"] and len(parts) == 5:
        document = openapi.v3(parts[3], parts[4])
    return wire.page_not_found() if document is None else wire.json_response(request, document)
