"""What filters ask of flows of requests: HTTP, DNS and names, read from the RequestStore for those rows only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import numpy as np

from flows.agent.probe.record import Event, of_requests
from flows.agent.store.header_lines import pairs
from flows.agent.store.public_names import number_of, public_name
from flows.agent.store.request_columns import METHODS, Kind, State
from flows.flow.columns import L7_DNS, L7_HTTP, Categories, Http
from flows.proto import extension_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flows.agent.store.requests import RequestStore

T = TypeVar("T")
TCP: Final = 6
L7: Final = np.array([0, L7_HTTP, L7_HTTP, L7_HTTP, L7_DNS, 0], np.uint8)  # by Kind
WANTED: Final = ("kind", "state", "method", "status", "text", "host", "headers", "origin")


class Lazy(Sequence[T], Generic[T]):
    """Values that are made when asked for; a new one for each table, so that nobody remembers answers for other rows."""

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        return self._make(range(self._count)[index])


class RequestTable:
    """Columns over n flows. Used and dropped while the flow store's lock is held."""

    def __init__(
        self, store: RequestStore | None, events: NDArray[Any], details: NDArray[Any], names: Callable[[int], str]
    ) -> None:
        """events, details (n,): of the flows; names: of connections' far ends, by number."""
        self._events, self._details, self._names = events, details, names
        self._rows = np.zeros(0, np.int64)  # flows whose requests are still kept
        self._columns: dict[str, NDArray[Any]] = {}
        if store is not None and store.written:
            rows = np.flatnonzero(of_requests(events))
            with store.lock:
                numbers = store.numbers_of(details[rows])
                here = store.stored(numbers)
                self._columns = store.take(numbers[here], WANTED)
            self._rows = rows[here]

    @cached_property
    def _codes(self) -> NDArray[np.int64]:
        """Of each flow one more than the index of its request among those that were read; 0: it is none, or it is gone."""
        codes = np.zeros(len(self._events), np.int64)
        codes[self._rows] = np.arange(1, len(self._rows) + 1)
        return codes

    def _kinds(self) -> NDArray[np.uint8]:
        kinds = np.zeros(len(self._events), np.uint8)
        if len(self._rows):
            kinds[self._rows] = self._columns["kind"]
        return kinds

    def l7(self) -> NDArray[np.uint8]:
        """See flows.flow.columns (n,)."""
        numbers: NDArray[np.uint8] = L7[self._kinds()]
        return numbers

    def encrypted(self, protocol: NDArray[Any], spoken: NDArray[Any]) -> NDArray[np.uint8]:
        """1 where TLS is spoken (n,)."""
        mask = ~of_requests(self._events) & (protocol == TCP) & (spoken == extension_pb2.SPOKEN_TLS)
        if len(self._rows):
            mask[self._rows] = (self._columns["kind"] == Kind.TLS) | (self._columns["origin"] != 0)
        numbers: NDArray[np.uint8] = mask.view(np.uint8)
        return numbers

    def http(self) -> Categories[Http | None]:
        """See flows.flow.columns."""
        return Categories(self._codes, Lazy(len(self._rows) + 1, self._http))

    def _http(self, code: int) -> Http | None:
        if not code or L7[self._columns["kind"][code - 1]] != L7_HTTP:
            return None
        at, row = code - 1, self._rows[code - 1]
        answer, alone = self._events[row] == Event.RESPONSE, self._columns["state"][at] == State.ALONE
        host, path = self._text("host", at), self._text("text", at)
        scheme = "https" if self._columns["origin"][at] else "http"
        whole = "://" in path and not path.startswith("/")
        return Http(
            code=int(self._columns["status"][at]) if answer else 0,
            method="" if alone else METHODS[int(self._columns["method"][at])] or "UNKNOWN",
            url=f"{scheme}://{host}{path}" if host and not whole else path,
            headers=tuple(pairs(self._text("headers", at), answered=answer)),
        )

    def dns_query(self) -> Categories[str | None]:
        """See flows.flow.columns."""
        return Categories(self._codes, Lazy(len(self._rows) + 1, self._dns_query))

    def _dns_query(self, code: int) -> str | None:
        if not code or self._columns["kind"][code - 1] != Kind.DNS:
            return None
        return self._text("text", code - 1) + "."

    def asked_names(self, *, answers: bool) -> Categories[tuple[str, ...]]:
        """Names of who was asked: of answers, whose source that is, or of all others."""
        chosen = (self._events == Event.RESPONSE) == answers
        codes = np.where(chosen, self._codes, 0)
        plain = chosen & ~of_requests(self._events)
        most = len(self._rows) + 1
        codes[plain] = np.where(self._details[plain] != 0, number_of(self._details[plain]).astype(np.int64) + most, 0)
        return Categories(codes, Lazy(int(codes.max(initial=0)) + 1, lambda code: self._name(code, most)))

    def _name(self, code: int, most: int) -> tuple[str, ...]:
        if not code:
            return ()
        if code >= most:
            name = self._names(code - most)
        else:
            kind = self._columns["kind"][code - 1]
            told = "text" if kind == Kind.TLS else "host"
            name = public_name(self._columns[told][code - 1].tobytes()) if kind != Kind.DNS else ""
        return (name,) if name else ()

    def _text(self, name: str, at: int) -> str:
        raw: bytes = self._columns[name][at].tobytes()
        return raw.rstrip(b"\0").decode(errors="backslashreplace")
