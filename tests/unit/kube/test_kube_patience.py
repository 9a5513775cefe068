"""How long a request waits for a busy, silent or closed end, and what it sends, gives and gives back."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from kube_samples import THINGS, eventually

from flows.kube import backoff, client
from flows.kube.client import ApiClient
from flows.kube.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from api_server import ApiServer

POSTS = "/apis/authentication.k8s.io/v1/tokenreviews"


@pytest.fixture
def plain(api: ApiServer, tmp_path: Path) -> Iterator[ApiClient]:
    made = ApiClient(api.kubeconfig(tmp_path), program="flows-test")
    yield made
    made.close()


def test_a_post_sends_and_gives_json(api: ApiServer, plain: ApiClient) -> None:
    api.on_list(POSTS, {"status": {"authenticated": True}}, status=201)
    assert json.loads(plain.post(POSTS, b'{"spec":{}}')) == {"status": {"authenticated": True}}
    headers = api.asked[0][2]
    assert (headers["Content-Type"], headers["User-Agent"]) == ("application/json", "flows-test")


@pytest.mark.parametrize("status", [429, 503])
def test_a_post_waits_for_a_busy_server(api: ApiServer, plain: ApiClient, status: int) -> None:
    api.on_list(POSTS, b"{}", status=status, headers={"Retry-After": "1"})
    api.on_list(POSTS, b'{"kind":"TokenReview"}', status=201)
    began = time.monotonic()
    assert plain.post(POSTS, b"{}") == b'{"kind":"TokenReview"}'
    assert 1.0 <= time.monotonic() - began < 3.0


@pytest.mark.parametrize(
    ("status", "headers", "retry_after"),
    [
        pytest.param(429, {"Retry-After": "60"}, 60.0, id="longer than anybody waits"),
        pytest.param(429, {}, None, id="not for how long"),
        pytest.param(500, {"Retry-After": "1"}, 1.0, id="it may have been done"),
        pytest.param(403, {}, None, id="refused"),
    ],
)
def test_a_post_that_has_no_answer_in_time_is_an_error_at_once(
    api: ApiServer, plain: ApiClient, status: int, headers: dict[str, str], retry_after: float | None
) -> None:
    api.on_list(POSTS, b"{}", status=status, headers=headers)
    began = time.monotonic()
    with pytest.raises(ApiError, match=f"POST {POSTS}") as refused:
        plain.post(POSTS, b"{}")
    assert (refused.value.code, refused.value.retry_after) == (status, retry_after)
    assert (time.monotonic() - began < 1.0, len(api.asked)) == (True, 1)


def test_closing_ends_what_waits(api: ApiServer, plain: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE_SECONDS", 600.0)
    api.on_list(POSTS, b"{}", status=429, headers={"Retry-After": "100"})
    api.on_watch(THINGS, b"{}\n", None)
    ended: list[ApiError] = []

    def wait(request: Callable[[], Any]) -> None:
        try:
            request()
        except ApiError as error:
            ended.append(error)

    requests: list[Callable[[], Any]] = [
        lambda: plain.post(POSTS, b"{}"),
        lambda: list(plain.stream(THINGS, {"watch": "1"}, silence=100)),
    ]
    threads = [threading.Thread(target=wait, args=(one,)) for one in requests]
    for thread in threads:
        thread.start()
    eventually(lambda: len(api.asked) == 2)
    time.sleep(0.05)
    plain.close()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(ApiError, match="was closed"):
        plain.read(THINGS, {})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("5", 5.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("9" * 400, 999_999_999.0),
        (format_datetime(datetime(2001, 1, 1, tzinfo=UTC)), 0.0),
    ],
)
def test_retry_after_headers(header: str | None, seconds: float | None) -> None:
    assert client._seconds(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    found = client._seconds(format_datetime(datetime.now(UTC) + timedelta(seconds=90)))
    assert found is not None
    assert 80 < found <= 90
    assert found <= backoff.RETRY_AFTER_LIMIT


def test_a_silent_list_is_given_up(api: ApiServer, plain: ApiClient) -> None:
    api.on_watch(THINGS, b"x\n", None)
    began = time.monotonic()
    with pytest.raises(ApiError, match="timed out"):
        list(plain.stream(THINGS, {"watch": "1"}, silence=0.2))
    assert time.monotonic() - began < 5


def test_descriptors_of_ended_answers_are_given_back(api: ApiServer, plain: ApiClient) -> None:
    api.on_list(THINGS, b"x" * 100_000, status=500)
    with pytest.raises(ApiError):
        plain.read(THINGS, {})
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - descriptors are no paths
    for _ in range(30):
        with pytest.raises(ApiError):
            plain.read(THINGS, {})
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + 4)  # noqa: PTH208
