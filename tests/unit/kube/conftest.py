"""Fixtures of the Kubernetes client's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from api_server import ApiServer, serving
from kube_samples import Followed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """A server that knows nothing yet."""
    with serving() as server:
        yield server


@pytest.fixture
def follow(api: ApiServer, tmp_path: Path) -> Iterator[Callable[..., Followed]]:
    """Follow THINGS of the server; pauses are taken note of and cut to 20 ms."""
    made: list[Followed] = []

    def make(**arguments: Any) -> Followed:
        made.append(Followed(api, tmp_path, **arguments))
        return made[-1]

    yield make
    for one in made:
        one.stop()
