"""Fixtures of the command tests."""

from __future__ import annotations

import sys
from pathlib import Path

from cli_server import serve

sys.path.append(str(Path(__file__).parents[1] / "answers"))  # answer_samples, answer_feeds

__all__ = ["serve"]
