"""How objects are shown: plain, as lists, as Tables or as metadata only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from flows.demo.api import resources, tables, wire
from flows.demo.api.errors import not_acceptable

if TYPE_CHECKING:
    from aiohttp import web

    from flows.demo.api.targets import Target

Json = dict[str, Any]
_TABLE, _PARTIAL, _PARTIAL_LIST = "Table", "PartialObjectMetadata", "PartialObjectMetadataList"
_ACCEPTED = "application/json"
Renderer = Callable[[list[Json], Json | None, bool], Json]
"""(objects, list metadata or None for a single object, with table headings) -> the body."""


async def stream(response: web.StreamResponse, events: AsyncIterator[Json], render: Renderer) -> None:
    """Write the events of a watch, one JSON line each, to a prepared response."""
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


def renderer(request: web.Request, target: Target) -> Renderer:
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
