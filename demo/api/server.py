"""The HTTPS server: who asks, what for, and the answer."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from flows.demo.api import access, discovery, openapi, resources, reviews, schema, tables, wire
from flows.demo.api.bootstrap import bootstrap
from flows.demo.api.clock import now_text
from flows.demo.api.errors import (
    StatusError,
    bad_request,
    internal,
    method_not_allowed,
    not_acceptable,
    unsupported_media_type,
)
from flows.demo.api.kinds import REVIEWS
from flows.demo.api.managed_fields import entry, fields_of
from flows.demo.api.pki import TOKEN_SECONDS, Pki
from flows.demo.api.targets import Target, is_true, parse_target
from flows.demo.api.watching import BOOKMARK_SECONDS, Watch, watch_options

if TYPE_CHECKING:
    from flows.demo.api.storage import Storage

Json = dict[str, Any]
log = logging.getLogger(__name__)

MAX_BODY = 3 * 1024 * 1024
"""Largest request body, as in the real server."""
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
_HEALTH = {"/healthz", "/livez", "/readyz"}
_TABLE, _PARTIAL, _PARTIAL_LIST = "Table", "PartialObjectMetadata", "PartialObjectMetadataList"
_ACCEPTED = "application/json"


class Api:
    """Answers requests from a Storage."""

    def __init__(self, storage: Storage, pki: Pki, bookmark_seconds: float = BOOKMARK_SECONDS) -> None:
        self.storage = storage
        self.pki = pki
        self.bookmark_seconds = bookmark_seconds

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; whatever is wrong becomes a Status."""
        try:
            return await self._answer(request)
        except StatusError as error:
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
            return wire.error_response(request, internal(f"{type(error).__name__}: {error}"))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport else None
        authorization = request.headers.get("Authorization", "")
        user = access.authenticate(authorization, certificate, self.storage, self.pki)
        watch = is_true(request.query.get("watch"))
        target = parse_target(request.method, request.path, watch=watch)
        if target is None:
            return self._non_resource(request, user)
        self._authorize(user, target.attributes, target)
        if target.kind in REVIEWS:
            return await self._review(request, target, user)
        return await self._resource(request, target)

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
        body = await _body(request)
        write = resources.write_options(request.query, request.headers.get("User-Agent", ""))
        review, _ = resources.checked(target, body, strict=write.strict)
        answer = reviews.answer(target.kind, review, user, self.storage, self.pki)
        _note_writer(target, answer, write.manager)
        return wire.json_response(request, answer, 201)

    # Resources

    async def _resource(self, request: web.Request, target: Target) -> web.StreamResponse:
        if target.subresource == "token":
            return await self._token(request, target)
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
        render = _renderer(request, target)
        if target.verb == "list":
            objects, metadata = resources.list_page(self.storage, target, request.query)
            return wire.json_response(request, render(objects, metadata, True))
        obj = resources.existing(self.storage, target)
        if target.subresource == "scale":
            return wire.json_response(request, resources.scale_of(obj))
        return wire.json_response(request, render([obj], None, True))

    async def _create(self, request: web.Request, target: Target, write: resources.Write) -> web.StreamResponse:
        obj, unknown = resources.checked(target, await _body(request), strict=write.strict)
        stored = resources.create(self.storage, target, obj, write)
        return _written(request, target, stored, 201, unknown)

    async def _update(self, request: web.Request, target: Target, write: resources.Write) -> web.StreamResponse:
        body = await _body(request)
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
        body = await _body(request)
        spec = body.get("spec") if isinstance(body, dict) else None
        asked = spec.get("expirationSeconds") if isinstance(spec, dict) else None
        seconds = asked if isinstance(asked, int) and 600 <= asked <= TOKEN_SECONDS else 3600
        token = self.pki.service_account_token(account["namespace"], account["name"], account["uid"], seconds)
        head = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        metadata = {key: account[key] for key in ("name", "namespace")} | {"creationTimestamp": now_text()}
        answer = {**head, "metadata": metadata, "spec": {"expirationSeconds": seconds}, "status": {"token": token}}
        return wire.json_response(request, answer, 201)

    # Watches

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        options = watch_options(request.query, self.bookmark_seconds)
        selects = resources.selection(request.query, target)
        watch = Watch(self.storage, target.kind, target.namespace or None, selects, options)
        response = web.StreamResponse(headers=wire.common_headers())
        response.content_type = wire.JSON
        response.enable_chunked_encoding()
        render = _renderer(request, target)
        await response.prepare(request)
        await _stream(response, watch.events(), render)
        return response


Renderer = Callable[[list[Json], Json | None, bool], Json]
"""(objects, list metadata or None for a single object, with table headings) -> the body."""


async def _stream(response: web.StreamResponse, events: AsyncIterator[Json], render: Renderer) -> None:
    headings = True
    async for event in events:
        obj = event["object"]
        if event["type"] != "ERROR":
            bookmark = event["type"] == "BOOKMARK"
            obj = obj if bookmark and render is _plain else render([obj], None, headings)
            headings = False
        await response.write(wire.dump({"type": event["type"], "object": obj}))
    await response.write_eof()


def _plain(objects: list[Json], _metadata: Json | None, _headings: bool) -> Json:
    return objects[0]


def _renderer(request: web.Request, target: Target) -> Renderer:
    """How to show objects, by the first media type in `Accept` that can be produced. Raises StatusError 406."""
    include = request.query.get("includeObject", "Metadata")
    for accepted in request.headers.get("Accept", "*/*").split(","):
        media_type, *parameters = [part.strip() for part in accepted.split(";")]
        if media_type not in {wire.JSON, "*/*", "application/*"}:
            continue
        options = dict(part.partition("=")[::2] for part in parameters)
        form = options.get("as", "")
        if not form:
            return _lists(target)
        if options.get("g") == "meta.k8s.io" and options.get("v", "v1") == "v1":
            if form == _TABLE:
                return _tables(target, include)
            if form in {_PARTIAL, _PARTIAL_LIST}:
                return _partials
    raise not_acceptable(_ACCEPTED)


def _lists(target: Target) -> Renderer:
    if target.verb != "list":
        return _plain
    return lambda objects, metadata, _headings: resources.list_object(target.kind, objects, metadata or {})


def _tables(target: Target, include: str) -> Renderer:
    def render(objects: list[Json], metadata: Json | None, headings: bool) -> Json:
        if metadata is None:
            metadata = {"resourceVersion": objects[0]["metadata"]["resourceVersion"]}
        if objects and "uid" not in objects[0]["metadata"]:  # a bookmark has no cells
            return tables.table(target.kind, [], metadata, headings=headings)
        return tables.table(target.kind, objects, metadata, include=include, headings=headings)

    return render


def _partials(objects: list[Json], metadata: Json | None, _headings: bool) -> Json:
    if metadata is None:
        return tables.partial(objects[0])
    head = {"kind": _PARTIAL_LIST, "apiVersion": "meta.k8s.io/v1"}
    return head | {"metadata": metadata, "items": [tables.partial(obj) for obj in objects]}


async def _body(request: web.Request) -> Any:
    accepted = (wire.JSON, "application/yaml")
    if request.content_type not in {*accepted, "application/octet-stream"}:
        raise unsupported_media_type(accepted)
    return wire.parse_body(await request.read(), request.content_type)


def _written(request: web.Request, target: Target, obj: Json, code: int, unknown: list[str]) -> web.Response:
    shown = obj if obj.get("kind") == "Scale" else _renderer(request, target)([obj], None, True)
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


# Listening


class RunningServer:
    """The server on its sockets; tests and the demo may stop and start listening to play an outage."""

    def __init__(self, api: Api, sockets: Sequence[socket.socket], names: Sequence[str]) -> None:
        self.api = api
        self._sockets = list(sockets)
        self._context = api.pki.server_context(names)
        self._runner: web.AppRunner | None = None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(address, port) of each socket."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    @property
    def url(self) -> str:
        """`https://ADDRESS:PORT` of the first socket."""
        address, port = self.addresses[0]
        return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"

    async def listen(self) -> None:
        """Take connections (again)."""
        if self._runner is not None:
            return
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self.api.handle)
        app.on_response_prepare.append(_without_server_header)
        # Cancellation ends the watch of a client that went away.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await self._runner.setup()
        for sock in self._sockets:
            sock.listen(128)
            await web.SockSite(self._runner, sock.dup(), ssl_context=self._context).start()

    async def stop_listening(self) -> None:
        """Refuse connections and end those that are open; the addresses stay ours."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        for sock in self._sockets:
            # Closing the copy that asyncio has would leave the kernel accepting for this one.
            sock.shutdown(socket.SHUT_RDWR)
        await runner.cleanup()

    async def close(self) -> None:
        """Stop for good."""
        await self.stop_listening()
        for sock in self._sockets:
            sock.close()


async def _without_server_header(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)


def bind(address: str, port: int) -> socket.socket:
    """A TCP socket bound to an address; port 0 takes a free one. Raises OSError that names the address."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot bind the API server to {address} port {port}: {error.strerror}") from error
    sock.setblocking(False)
    return sock


async def start_api(
    storage: Storage,
    host_addresses: Sequence[str],
    port: int,
    pki: Pki,
    *,
    sockets: Sequence[socket.socket] = (),
    names: Sequence[str] = (),
    bookmark_seconds: float = BOOKMARK_SECONDS,
) -> RunningServer:
    """Serve `storage` over HTTPS on addresses of this network namespace and on sockets bound in others.

    The certificate is good for `host_addresses`, the sockets' addresses, the names and addresses of the `kubernetes`
    Service, localhost, and `names` (more DNS names or addresses, such as those other namespaces route to us).
    Creates what every cluster has (namespaces, roles) when it is missing.
    """
    bootstrap(storage)
    bound = [*(bind(address, port) for address in host_addresses), *sockets]
    own = [sock.getsockname()[0] for sock in bound]
    service = [str(network.network_address + 1) for network in storage.addresses.networks.values()]
    all_names = [*SERVICE_NAMES, "localhost", "127.0.0.1", "::1", *own, *service, *names]
    server = RunningServer(Api(storage, pki, bookmark_seconds), bound, all_names)
    await server.listen()
    return server
