"""How a resource is kept listed and watched, over a real wire: what is asked for first, and what after each failure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from api_server import LIST, STREAM, WATCH, ApiServer
from kube_samples import THINGS, Followed, bookmark, error, event, eventually, page

from flows.kube import backoff, watch
from flows.kube.errors import ApiError
from flows.kube.lines import GATHER_SECONDS, LINE_LIMIT, gathered, lines
from flows.kube.state import ResourceState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Follow = Callable[..., Followed]

INITIAL = (event("ADDED", "a", "3"), event("ADDED", "b", "4"), bookmark("9", initial_end=True))


def test_a_list_is_streamed_and_the_stream_goes_on_as_a_watch(api: ApiServer, follow: Follow) -> None:
    api.on_stream(THINGS, *INITIAL, event("MODIFIED", "c", "10"), None)
    followed = follow()
    eventually(lambda: followed.names == ["a", "b", "c"])
    assert followed.reflector.state.in_sync
    [asked] = api.queries(THINGS, STREAM)
    expected = {"watch": "1", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    assert asked.items() >= {**expected, "resourceVersion": "0", "labelSelector": "a=b"}.items()
    assert len(api.asked) == 1


def test_only_the_end_of_a_streamed_list_is_in_sync_and_a_version_to_resume_from(api: ApiServer, follow: Follow) -> None:
    api.on_stream(THINGS, event("ADDED", "a", "3"), bookmark("5"), None)
    followed = follow()
    eventually(lambda: followed.names == ["a"])
    assert (followed.reflector.state.in_sync, followed.reflector._version) == (False, "")


def test_changes_and_ends_among_the_first_events_count(api: ApiServer, follow: Follow) -> None:
    live = (event("DELETED", "a", "6"), event("MODIFIED", "b", "7"), event("ADDED", "c", "8"))
    api.on_stream(THINGS, INITIAL[0], INITIAL[1], *live, INITIAL[2], None)
    followed = follow()
    eventually(lambda: followed.reflector.state.in_sync)
    assert (followed.names, followed.reflector.count) == (["b", "c"], 2)


def test_after_a_streamed_list_the_watch_resumes_from_its_last_version(api: ApiServer, follow: Follow) -> None:
    api.on_stream(THINGS, *INITIAL, event("ADDED", "c", "12"))
    api.on_watch(THINGS, None)
    followed = follow()
    eventually(lambda: api.queries(THINGS, WATCH))
    assert api.queries(THINGS, WATCH)[0]["resourceVersion"] == "12"
    assert (followed.names, len(api.queries(THINGS, LIST))) == (["a", "b", "c"], 0)


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        pytest.param((b'{"code":422,"message":"sendInitialEvents is forbidden"}',), 422, id="feature off"),
        pytest.param((b'{"code":400}',), 400, id="parameter not known"),
        pytest.param((error(500, "RequestWatchProgress is disabled"),), 200, id="etcd too old"),
        pytest.param((event("ADDED", "a", "3"),), 200, id="parameter ignored"),
        pytest.param((), 200, id="an empty watch"),
    ],
)
def test_a_server_that_does_not_stream_lists_is_asked_for_a_list(
    api: ApiServer, follow: Follow, pieces: tuple[bytes, ...], status: int
) -> None:
    api.on_stream(THINGS, *pieces, status=status)
    api.on_list(THINGS, page("5", "a", "b"))
    followed = follow()
    eventually(lambda: api.queries(THINGS, WATCH))
    [listed] = api.queries(THINGS, LIST)
    assert (listed["resourceVersion"], listed["limit"], followed.names) == ("0", "500", ["a", "b"])
    assert (len(api.queries(THINGS, STREAM)), max(followed.pauses, default=0)) == (1, 0)


def test_pages_after_the_first_have_a_token_and_no_version(api: ApiServer, follow: Follow) -> None:
    api.on_list(THINGS, page("", "a", token="t1"), page("7", "b"))
    followed = follow()
    eventually(lambda: followed.names == ["a", "b"] and followed.reflector.state.in_sync)
    second = api.queries(THINGS, LIST)[1]
    assert (second["continue"], "resourceVersion" in second, second["labelSelector"]) == ("t1", False, "a=b")
    assert api.queries(THINGS, WATCH)[0]["resourceVersion"] == "7"


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("status", [200, 410])
def test_an_expired_version_lists_again_no_older_than_what_is_known(
    api: ApiServer, follow: Follow, streams: bool, status: int
) -> None:
    api.on_list(THINGS, page("5", "a", "b"), page("9", "b", "c"))
    if streams:
        api.on_stream(THINGS, *INITIAL)
        api.on_stream(THINGS, event("ADDED", "b", "10"), event("ADDED", "c", "11"), bookmark("20", initial_end=True), None)
    api.on_watch(THINGS, error(410) if status == 200 else b'{"code":410}', status=status)
    api.on_watch(THINGS, None)
    followed = follow()
    eventually(lambda: followed.names == ["b", "c"] and followed.reflector.state.in_sync)
    again = api.queries(THINGS, STREAM if streams else LIST)[-1]
    assert (again["resourceVersion"], again["resourceVersionMatch"]) == ("9" if streams else "5", "NotOlderThan")
    assert "limit" not in again


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(504, b'{"code":504,"message":"Too large resource version: 5, current: 3"}', id="restored from a backup"),
        pytest.param(410, b'{"code":410}', id="not even the list is there"),
    ],
)
def test_a_version_that_the_server_cannot_list_is_given_up(api: ApiServer, follow: Follow, status: int, body: bytes) -> None:
    api.on_list(THINGS, page("5", "a"))
    api.on_list(THINGS, body, status=status)
    api.on_list(THINGS, page("3", "b"))
    api.on_watch(THINGS, error(410))
    api.on_watch(THINGS, None)
    followed = follow()
    eventually(lambda: followed.names == ["b"] and followed.reflector.state.in_sync)
    last = api.queries(THINGS, LIST)[-1]
    assert ("resourceVersion" in last, "resourceVersionMatch" in last, last["limit"]) == (False, False, "500")


def test_a_token_that_expires_between_pages_starts_the_list_again_as_of_now(api: ApiServer, follow: Follow) -> None:
    api.on_list(THINGS, page("", "a", "b", token="t1"))
    api.on_list(THINGS, b'{"code":410,"metadata":{"continue":"inconsistent"}}', status=410)
    api.on_list(THINGS, page("9", "b"))
    followed = follow()
    eventually(lambda: followed.names == ["b"] and followed.reflector.state.in_sync)
    asked = api.queries(THINGS, LIST)
    assert [one.get("continue") for one in asked] == [None, "t1", None]
    assert [one.get("resourceVersion") for one in asked] == ["0", None, None]


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"garbage\n", id="no JSON"),
        pytest.param(b'{"type":"ADDED","object":{"metadata":{"name":', id="cut off"),
        pytest.param(b'{"type":"ADDED","object":{"metadata":{},"size":"big"}}\n', id="another type"),
        pytest.param(b"\xff\xfe\n", id="no text"),
        pytest.param(b'{"type":"ADDED"}\n', id="no object"),
    ],
)
def test_garbage_in_a_watch_is_resumed_from_before_it(api: ApiServer, follow: Follow, garbage: bytes) -> None:
    api.on_list(THINGS, page("5", "a"))
    api.on_watch(THINGS, event("ADDED", "b", "6"), garbage)
    api.on_watch(THINGS, event("ADDED", "c", "7"), None)
    followed = follow()
    eventually(lambda: followed.names == ["a", "b", "c"] and followed.reflector.state.in_sync)
    assert [one["resourceVersion"] for one in api.queries(THINGS, WATCH)] == ["5", "6"]
    assert len(api.queries(THINGS, LIST)) == 1


def test_garbage_that_stays_is_got_over_by_a_list(api: ApiServer, follow: Follow) -> None:
    api.on_list(THINGS, page("5", "a"), page("8", "b"))
    for _ in range(watch.FRUITLESS + 1):
        api.on_watch(THINGS, b"garbage\n")
    api.on_watch(THINGS, None)
    followed = follow()
    eventually(lambda: followed.names == ["b"] and followed.reflector.state.in_sync)
    assert len(api.queries(THINGS, LIST)) == 2


@pytest.mark.parametrize("kind", [LIST, WATCH, STREAM])
@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_busy_server_is_given_the_time_that_it_asks_for(api: ApiServer, follow: Follow, kind: str, status: int) -> None:
    api.on_list(THINGS, page("5", "a"))
    busy = b'{"message":"too many requests"}'
    if kind == LIST:
        api.answers[THINGS, LIST].clear()
        api.on_list(THINGS, busy, status=status, headers={"Retry-After": "7"})
        api.on_list(THINGS, page("5", "a"))
    elif kind == WATCH:
        api.on_watch(THINGS, busy, status=status, headers={"Retry-After": "7"})
        api.on_watch(THINGS, None)
    else:
        api.on_stream(THINGS, busy, status=status, headers={"Retry-After": "7"})
        api.on_stream(THINGS, event("ADDED", "a", "3"), bookmark("5", initial_end=True), None)
    followed = follow()
    eventually(lambda: followed.names == ["a"] and followed.reflector.state.in_sync)
    [pause] = [one for one in followed.pauses if one]
    assert 7 <= pause <= 14
    assert len(api.queries(THINGS, kind)) == 2


def test_a_busy_server_may_say_so_in_an_event(api: ApiServer, follow: Follow) -> None:
    api.on_list(THINGS, page("5", "a"))
    api.on_watch(THINGS, error(429, "too busy", retry_after=3))
    api.on_watch(THINGS, None)
    followed = follow()
    eventually(lambda: len(api.queries(THINGS, WATCH)) == 2)
    assert 3 <= max(followed.pauses) <= 6
    assert len(api.queries(THINGS, LIST)) == 1


def test_a_server_that_comes_back_is_resumed_without_a_list(
    api: ApiServer, follow: Follow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(backoff, "SECONDS", (0.01, 0.05))
    api.on_stream(THINGS, *INITIAL, None)
    followed = follow()
    eventually(lambda: followed.reflector.state.in_sync)
    port = api.port
    api.stop()
    eventually(lambda: not followed.reflector.state.in_sync)
    lost = followed.reflector.state.since
    eventually(lambda: len(followed.pauses) > 10)  # long enough for the longest back-off
    assert (followed.names, followed.reflector.state.since) == (["a", "b"], lost)
    pieces = event("DELETED", "a", "30"), event("ADDED", "c", "31"), None
    again = ApiServer(port, prepare=lambda server: server.on_watch(THINGS, *pieces))
    try:
        eventually(lambda: followed.names == ["b", "c"])
        assert followed.reflector.state.in_sync
        assert [(one["resourceVersion"], one.get("sendInitialEvents")) for _, one, _ in again.asked] == [("9", None)]
    finally:
        followed.stop()
        again.stop()


def test_clients_whose_versions_expired_together_share_the_time_to_list(api: ApiServer, follow: Follow) -> None:
    api.on_list(THINGS, page("5", "a", "b", "c"), page("9"))
    api.on_watch(THINGS, error(410))
    api.on_watch(THINGS, None)
    asked: list[int] = []

    def spread(objects: int) -> float:
        asked.append(objects)
        return 1e9

    followed = follow(spread=spread)
    eventually(lambda: followed.reflector.count == 0 and followed.reflector.state.in_sync)
    assert asked == [3]
    assert 1.0 < max(followed.pauses) <= 1e9  # drawn from the whole range: 1 in 10^9 is that short


def test_timeouts_of_watches_differ(api: ApiServer, follow: Follow) -> None:
    api.on_list(THINGS, page("5"))
    for version in range(20):
        api.on_watch(THINGS, bookmark(str(version)))
    api.on_watch(THINGS, None)
    follow()
    eventually(lambda: len(api.queries(THINGS, WATCH)) == 21)
    seconds = {int(one["timeoutSeconds"]) for one in api.queries(THINGS, WATCH)}
    assert len(seconds) > 5
    assert all(watch.WATCH_SECONDS[0] <= one <= watch.WATCH_SECONDS[1] for one in seconds)


def test_lines_are_cut_wherever_pieces_end() -> None:
    assert list(lines(iter([b"a", b"b\nc", b"\n\nd\n", b"rest"]))) == [[b"ab"], [b"c", b"d"]]


def test_a_line_without_end_is_an_error() -> None:
    with pytest.raises(ApiError, match="without a newline"):
        list(lines(iter([b"x" * (LINE_LIMIT + 1)])))


def test_state_since_changes_only_when_in_sync_does() -> None:
    state = ResourceState()
    state.synced()
    since = state.since
    state.synced()
    assert (state.since, state.error) == (since, "")
    state.lost("x")
    lost = state.since
    state.lost("y")
    assert (state.since, state.error) == (lost, "y")


def test_only_a_piece_that_was_waited_for_is_lingered_after() -> None:
    lingered: list[float] = []

    def arriving() -> Iterator[bytes]:
        yield b"at once"
        time.sleep(0.02)
        yield b"waited for"
        yield b"at once again"

    assert list(gathered(arriving(), lingered.append)) == [b"at once", b"waited for", b"at once again"]
    assert lingered == [GATHER_SECONDS]
