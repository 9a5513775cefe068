"""Answers: from a question and its options to a table: flows are fetched, put together, explained by a second look, and shown."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from flows.cli.answers_options import ANSWER_OPTIONS, AnswerOptions, Form, parse_answer
from flows.cli.answers_source import MOST_LOOKED_AT, FileSource, Look, ServerSource, Source
from flows.cli.flags import Grammar
from flows.cli.flags_raw import raw_filters_yaml
from flows.cli.outcome import Outcome
from flows.cli.outlet import until_reader_gone
from flows.cli.print.answer_screen import screen_of
from flows.cli.print.coverage import conclusion, coverage_json
from flows.cli.print.escape import escape, escape_json
from flows.cli.print.nodes import FAULTS
from flows.cli.route import route
from flows.cli.servers import ServerError, server_of
from flows.flow.answers.filters import part_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flows.cli.print.answer_screen import Screen
    from flows.flow.answers.table import Column, Table
    from flows.flow.answers.told import Told
    from flows.proto.flow_pb2 import Flow, FlowFilter
    from flows.proto.flows_pb2 import Coverage
    from flows.proto.observer_pb2 import GetFlowsResponse

# How many second looks one answer takes at most: each is for up to 64 names.
MOST_LOOKS = 4
# Why nothing follows from what a second look did not bring, where it brought as much as it may.
TOO_MANY = f"only the newest {MOST_LOOKED_AT:,} flows were looked at that may tell of it"
# Following: how often rows are shown anew, and how often a second look is taken.
REDRAW_S, LOOK_S = 1.0, 5.0
# Following: flows older than this have all come, if any did: servers deliver within 5 s at worst, and mostly in 0.1 s.
DELIVERY_NS = 2_000_000_000
# New objects after which cycles are looked for: as many as some 3,000 requests have. Python's own figure is 700.
COLLECT_AFTER = 50_000


class Answer(Protocol):
    """What puts flows together (flow/answers). take, take_context: as add and context, of what a flow tells."""

    explains: bool  # whether causes follow from what else was, or was not, seen
    remembers: bool  # whether a second look needs no flows that came with the first

    def add(self, flow: Flow) -> None: ...
    def take(self, known: Told) -> None: ...
    def context(self, flow: Flow) -> None: ...
    def take_context(self, known: Told) -> None: ...
    def began(self) -> int | None: ...
    def cover(self, coverage: Coverage) -> None: ...
    def see(self, namespaces: frozenset[str] | None) -> None: ...
    def more(self) -> tuple[FlowFilter, ...]: ...
    def looked(self, doubt: str) -> None: ...
    def within(self, since: int | None, until: int | None) -> None: ...
    def advance(self, time_ns: int) -> None: ...
    def end(self) -> None: ...
    def tables(self) -> list[Table]: ...


@dataclass(frozen=True, slots=True)
class Question:
    """A command. make: an empty answer, by whether there are filters, and whether they may part the flows of a request.

    allow, deny: the FlowFilters that it needs for those that were given.
    """

    grammar: Grammar
    columns: Sequence[Column]
    make: Callable[[bool, bool], Answer]
    allow: Callable[[Sequence[FlowFilter]], tuple[FlowFilter, ...]]
    deny: Callable[[Sequence[FlowFilter]], tuple[FlowFilter, ...]]


def grammar(command: str, description: str, examples: str) -> Grammar:
    """The command line of an answer."""
    return Grammar(command, description, examples, ANSWER_OPTIONS)


def run(question: Question, arguments: Sequence[str]) -> int:
    """Runs a command; gives its exit status. Raises UsageError, ServerError, ReplayError, OSError of standard output."""
    options = parse_answer(question.grammar, question.columns, arguments, os.environ)
    asked = options.observe
    for note in asked.notes:
        print(f"flows: {escape(note)}", file=sys.stderr)
    sent = replace(asked, allow=question.allow(asked.allow), deny=question.deny(asked.deny))
    if asked.print_raw_filters:
        sys.stdout.write(raw_filters_yaml(sent.allow, sent.deny))
        return 0
    _collect_less()
    answer = question.make(asked.filtered, part_requests(asked.allow, asked.deny))
    outcome = asyncio.run(_run(answer, replace(options, observe=sent)))
    return outcome.status(filtered=asked.filtered) if asked.exit_code else 0


def _collect_less() -> None:
    """Requests that wait for their answers are many objects in no cycle: to look through them all the time costs a third more."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


async def _run(answer: Answer, options: AnswerOptions) -> Outcome:
    asked = options.observe
    answer.within(asked.selection.since, asked.selection.until or time.time_ns() * (asked.input_file is None))

    def tell(message: str) -> None:
        if not asked.output.silent_errors:
            print(f"flows: {escape(message)}", file=sys.stderr)

    if asked.input_file is not None:
        source = FileSource(asked, tell)
        try:
            return await _Run(answer, options, source).whole()
        finally:
            source.close()
    server = None if asked.server.port_forward else server_of(asked.server)
    async with route(server, asked.server) as way:
        one = _Run(answer, options, ServerSource(way, asked, tell))
        return await (one.following() if asked.selection.follow else one.whole())


class _Run:
    """One answer on its way."""

    def __init__(self, answer: Answer, options: AnswerOptions, source: Source) -> None:
        self._answer, self._options, self._source = answer, options, source
        self._outcome = Outcome()
        self._told_namespaces = False
        self._looked_at = 0

    async def whole(self) -> Outcome:
        """Of what has been; shown once."""
        await until_reader_gone(sys.stdout, asyncio.create_task(self._fetch()))
        self._answer.end()
        outcome, source = self._outcome, self._source
        outcome.coverage, outcome.unreadable = source.coverage, source.unreadable
        if source.coverage is not None:
            self._answer.cover(source.coverage)
        await self._explain()
        tables = self._answer.tables()
        with screen_of(self._options, sys.stdout) as screen:
            screen.show(tables, last=True)
        outcome_of_rows = replace(outcome, flows=len(tables[0].rows))
        self._conclude(outcome)
        return outcome_of_rows

    async def following(self) -> Outcome:
        """Until it is ended: rows are shown again as they change."""
        with screen_of(self._options, sys.stdout) as screen:
            fetching, showing = asyncio.create_task(self._fetch()), asyncio.create_task(self._show(screen))
            await until_reader_gone(sys.stdout, fetching, showing)
            self._answer.end()
            await self._explain()
            screen.show(self._answer.tables(), last=True)
        return self._outcome

    async def _fetch(self) -> None:
        async with aclosing(self._source.flows(self._take_all)) as responses:
            async for response in responses:
                self._take(response)

    def _take_all(self, flows: Sequence[Told]) -> None:
        self._outcome.flows += len(flows)
        take = self._answer.take
        for known in flows:
            take(known)

    def _explain_by(self, flows: Sequence[Told]) -> None:
        self._looked_at += len(flows)
        take = self._answer.take_context
        for known in flows:
            take(known)

    def _take(self, response: GetFlowsResponse) -> None:
        self._outcome.count(response)
        if response.HasField("flow"):
            self._answer.add(response.flow)
        elif response.HasField("node_status") and response.node_status.state_change in FAULTS:
            names = ", ".join(response.node_status.node_names[:3])
            if not self._options.observe.output.silent_errors and self._options.form is not Form.JSON:
                print(f"flows: {escape(names)}: {escape(response.node_status.message or 'unavailable')}", file=sys.stderr)

    async def _show(self, screen: Screen) -> None:
        looked = time.monotonic()
        while True:
            await asyncio.sleep(REDRAW_S)
            self._answer.advance(time.time_ns() - DELIVERY_NS)
            if time.monotonic() - looked >= LOOK_S:
                await self._explain(most=1)
                looked = time.monotonic()
            screen.show(self._answer.tables(), last=False)

    async def _explain(self, most: int = MOST_LOOKS) -> None:
        """Second looks. One that fails leaves causes unknown; the answer stands."""
        if self._answer.explains and not self._told_namespaces:
            self._told_namespaces = True
            self._answer.see(await self._source.namespaces())
        for _ in range(most):
            filters = self._answer.more()
            if not filters:
                return
            try:
                await self._look(filters)
            except ServerError as error:
                if not self._options.observe.output.silent_errors:
                    print(f"flows: causes are not known: {escape(str(error))}", file=sys.stderr)
                return

    async def _look(self, filters: tuple[FlowFilter, ...]) -> None:
        look, self._looked_at = Look(filters, self._answer.began(), known=self._answer.remembers), 0
        async with aclosing(self._source.more(look, self._explain_by)) as responses:
            async for response in responses:
                if response.HasField("flow"):
                    self._looked_at += 1
                    self._answer.context(response.flow)
        if (coverage := self._source.looked()) is not None:
            self._answer.cover(coverage)
        self._answer.looked(TOO_MANY if self._looked_at >= MOST_LOOKED_AT else "")

    def _conclude(self, outcome: Outcome) -> None:
        """What the end of the answer says of its completeness, as under `flows observe`."""
        coverage, output = outcome.coverage, self._options.observe.output
        if self._options.form is Form.JSON:
            if coverage is not None:
                now = Timestamp()
                now.FromNanoseconds(time.time_ns())
                line = coverage_json(coverage, now)
                sys.stdout.write(escape_json(line[:-1]) + "\n" if sys.stdout.isatty() else line)
            return
        sys.stdout.flush()
        if not output.silent_errors and (text := conclusion(outcome.flows, coverage, time.time_ns())):
            print(text, file=sys.stderr)
