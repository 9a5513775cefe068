"""What `flows demo stop`, `start` and `api` ask of the control plane: HTTP on a Unix socket that only root can open."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from flows.demo import layout
from flows.demo.api.server import bind_unix

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from flows.demo.api.answering import Api
    from flows.demo.node.unit import Unit

Json = dict[str, Any]
MAX_SECONDS = 3600.0  # longer than any test wants its API server to refuse


class Control:
    """Answers requests of the form `POST /ACT` with a JSON object; the answer is one, too."""

    def __init__(self, units: Mapping[str, Unit], api: Api) -> None:
        self.units = units
        self.api = api
        self.acts: dict[str, Callable[[Json], Awaitable[Json]]] = {
            "stop": self.stop,
            "start": self.start,
            "compact": self.compact,
            "close-watches": self.close_watches,
            "throttle": self.throttle,
            "requests": self.requests,
        }

    async def serve(self) -> None:
        """Listen until cancelled."""
        app = web.Application()
        app.router.add_post("/{act}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.SockSite(runner, bind_unix(layout.CONTROL_SOCKET)).start()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        act = self.acts.get(request.match_info["act"])
        if act is None:
            return web.json_response({"error": f"unknown act; expected one of {', '.join(self.acts)}"}, status=404)
        try:
            return web.json_response(await act(await request.json()))
        except (KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
            return web.json_response({"error": str(error)}, status=400)

    def _unit(self, words: Json) -> Unit:
        unit = self.units.get(words["unit"])
        if unit is None:
            raise ValueError(f"there is no {words['unit']!r}; expected one of {', '.join(self.units)}")
        return unit

    async def stop(self, words: Json) -> Json:
        """End a unit and leave it so."""
        unit = self._unit(words)
        await unit.stop()
        return unit.describe()

    async def start(self, words: Json) -> Json:
        """Let a unit run again."""
        unit = self._unit(words)
        unit.start()
        return unit.describe()

    async def compact(self, _words: Json) -> Json:
        """Forget the history and end all watches: they must list again."""
        return {"compacted": self.api.storage.compact(), "watches": self.api.close_watches()}

    async def close_watches(self, _words: Json) -> Json:
        """End all watches; they can go on from where they are."""
        return {"watches": self.api.close_watches()}

    async def throttle(self, words: Json) -> Json:
        """Answer 429 to users that make more than `rate` requests a second, for so many seconds."""
        rate, seconds = int(words["rate"]), float(words["seconds"])
        if rate < 0 or not 0 <= seconds <= MAX_SECONDS:
            raise ValueError(f"expected a rate from 0 and 0 to {MAX_SECONDS:.0f} seconds, got {rate} and {seconds:g}")
        self.api.fairness.limit(rate, seconds)
        return {"rate": rate, "seconds": seconds}

    async def requests(self, words: Json) -> Json:
        """The requests that the API server got since a time."""
        return {"requests": self.api.journal.since(float(words.get("since", 0)))}
