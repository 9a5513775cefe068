"""Fixtures of the reader's tests."""

from __future__ import annotations

from typing import Any

import pytest
from reader_fakes import Enricher, Kernel

from flows.agent.probe.settings import ProbeSettings
from flows.agent.reader import Reader
from flows.agent.store.store import FlowStore


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def enricher() -> Enricher:
    return Enricher()


@pytest.fixture
def reader(kernel: Kernel, enricher: Enricher) -> Reader:
    names: Any = enricher
    return Reader(kernel, names, FlowStore(16), ProbeSettings())
