"""Sources of an answer's flows: a server, or a file. Both can be asked again, for what explains what they first told."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from flows.cli.answers_stream import AnswerStream
from flows.cli.servers import ServerError
from flows.flow.filter.selection import ALL, Selection
from flows.proto import flows_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from flows.cli.answers_stream import Take
    from flows.cli.options import ObserveOptions
    from flows.cli.route import Route
    from flows.proto.flow_pb2 import FlowFilter
    from flows.proto.flows_pb2 import Coverage
    from flows.proto.observer_pb2 import GetFlowsResponse

# What a second look may bring at most; the newest.
MOST_LOOKED_AT = 100_000
# How much before --since it looks: a connection or an upstream's query may have begun before.
BEFORE_NS = 5_000_000_000


@dataclass(frozen=True, slots=True)
class Look:
    """A second look. since: when what is to be explained began; None: at any time. known: what came first is not needed again."""

    filters: tuple[FlowFilter, ...]
    since: int | None = None
    known: bool = False


class Source(Protocol):
    """Where flows come from: those of batches go to `take`, others are in what is given.

    coverage, unreadable: as in FlowStream, of what flows() gave.
    """

    coverage: Coverage | None
    unreadable: bool

    def flows(self, take: Take) -> AsyncGenerator[GetFlowsResponse, None]:
        """Those that were asked for. Raises ServerError, ReplayError, FilterError."""

    def more(self, look: Look, take: Take) -> AsyncGenerator[GetFlowsResponse, None]:
        """Others of the same time. Raises the same."""

    def looked(self) -> Coverage | None:
        """How far the last more() can be trusted."""

    async def namespaces(self) -> frozenset[str] | None:
        """Of which namespaces the caller is shown flows; None: of all there are."""


class ServerSource:
    """A relay or an agent; Hubble's, too."""

    def __init__(self, way: Route, options: ObserveOptions, tell: Callable[[str], None]) -> None:
        self._way, self._options, self._tell = way, options, tell
        self._looked: Coverage | None = None
        self.coverage: Coverage | None = None
        self.unreadable = False

    async def flows(self, take: Take) -> AsyncGenerator[GetFlowsResponse, None]:
        stream = AnswerStream(self._way, self._options.request(), self._tell, take)
        async with aclosing(stream.responses()) as responses:
            async for response in responses:
                yield response
        self.coverage, self.unreadable = stream.coverage, stream.unreadable

    async def more(self, look: Look, take: Take) -> AsyncGenerator[GetFlowsResponse, None]:
        told: list[Coverage | None] = []
        for options in again(self._options, look):
            stream = AnswerStream(self._way, options.request(), self._tell, take)
            async with aclosing(stream.responses()) as responses:
                async for response in responses:
                    yield response
            told.append(stream.coverage)
            if options.deny and self.coverage is not None:  # what the first look should have brought is not brought now either
                told.append(self.coverage)
        self._looked = _together(told)

    def looked(self) -> Coverage | None:
        return self._looked

    async def namespaces(self) -> frozenset[str] | None:
        try:
            client = await self._way.client()
            try:
                return frozenset(each.namespace for each in (await client.namespaces()).namespaces)
            finally:
                await client.close()
        except ServerError:
            return frozenset()  # what may be shown is not known: then nothing follows from what is not


class FileSource:
    """JSON lines; standard input is kept in a temporary file, so that it can be read twice."""

    def __init__(self, options: ObserveOptions, warn: Callable[[str], None]) -> None:
        self._options, self._warn = options, warn
        self._kept: tempfile._TemporaryFileWrapper[bytes] | None = None
        self.coverage: Coverage | None = None
        self.unreadable = False

    async def flows(self, take: Take) -> AsyncGenerator[GetFlowsResponse, None]:  # noqa: ARG002 - lines are no batches
        if self._options.input_file == "-":
            self._keep()
        told: list[Coverage] = []
        passed_over: list[GetFlowsResponse] = []
        for response in self._replay(self._options, self._warn, told.append, passed_over.append):
            yield response
        for response in passed_over:
            yield response
        # A file is all there is, but for what was missing when it was written.
        self.coverage = _together(told) if told else flows_pb2.Coverage(complete=True)

    async def more(self, look: Look, take: Take) -> AsyncGenerator[GetFlowsResponse, None]:  # noqa: ARG002 - the same
        for options in again(self._options, look):
            for response in self._replay(options, _say_nothing, _say_nothing, _say_nothing):
                yield response

    def looked(self) -> Coverage | None:
        return None  # it was told with the flows

    async def namespaces(self) -> frozenset[str] | None:
        return None

    def _keep(self) -> None:
        kept = tempfile.NamedTemporaryFile(prefix="flows-")  # noqa: SIM115 - as long as this object
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.flush()
        self._kept = kept
        self._options = replace(self._options, input_file=kept.name)

    def _replay(
        self,
        options: ObserveOptions,
        warn: Callable[[str], None],
        covered: Callable[[Coverage], None],
        passed_over: Callable[[GetFlowsResponse], None],
    ) -> Iterator[GetFlowsResponse]:
        from flows.cli.replay import replay  # noqa: PLC0415 - NumPy and the filters are for files only

        return replay(options, warn, covered, passed_over)

    def close(self) -> None:
        """Removes what was kept."""
        if self._kept is not None:
            self._kept.close()


def again(options: ObserveOptions, look: Look) -> list[ObserveOptions]:
    """The options of a second look, each with an end; the last is of all the time that is looked at.

    What the first look brought is denied, if that was all there is. It brought nothing from before its own beginning, where the
    other end's view of its first requests may be: that is asked for without.
    """
    old = options.selection
    since = max(old.since or 0, look.since or 0) - BEFORE_NS if old.since is not None or look.since is not None else None
    whole = not options.deny and old.number in {0, ALL}
    selection = Selection(number=MOST_LOOKED_AT, since=since, until=old.until)
    main = replace(options, allow=look.filters, deny=options.allow if look.known and whole else (), selection=selection)
    if not main.deny or old.since is None or since is None or since >= old.since:
        return [main]
    until = min(old.since, old.until) if old.until is not None else old.since
    return [replace(main, deny=(), selection=replace(selection, until=until)), main]


def _together(told: Sequence[Coverage | None]) -> Coverage | None:
    """How far flows can be trusted that several answers brought; None: one of them does not tell."""
    known = [each for each in told if each is not None]
    if len(known) < len(told):
        return None
    found = flows_pb2.Coverage(complete=all(each.complete for each in known))
    for each in known:
        found.nodes.extend(each.nodes)
    return found


def _say_nothing(_: object) -> None:
    """It was said when the flows were first read."""
