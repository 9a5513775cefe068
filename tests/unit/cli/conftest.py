"""Fixtures of the command tests."""

from __future__ import annotations

from cli_server import serve

__all__ = ["serve"]
