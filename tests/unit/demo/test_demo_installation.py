"""A pod of our own image sees the installation that it is made of, also where its own tmpfs would hide it."""

from __future__ import annotations

import sys

import pytest

from flows.demo.node import containerspec


@pytest.mark.parametrize(
    ("image", "prefix", "shown"),
    [
        ("flows", "/tmp/checkout/.venv", True),
        ("flows", "/opt/flows/.venv", False),
        ("nginx", "/tmp/checkout/.venv", False),
    ],
)
def test_what_a_tmpfs_would_hide_is_mounted(image: str, prefix: str, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    assert ((prefix, prefix, True) in containerspec.installation(image)) == shown


def test_a_checkout_is_mounted_once_with_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/tmp/checkout/.venv")
    monkeypatch.setattr(containerspec, "__file__", "/tmp/checkout/demo/node/containerspec.py")
    assert containerspec.installation("flows") == [("/tmp/checkout", "/tmp/checkout", True)]
