"""Command lines of `flows observe`, understood or refused."""

from __future__ import annotations

import pytest

from flows.cli.flags import parse_observe
from flows.cli.options import ObserveOptions, UsageError

NOW = 10**18


def parse(*arguments: str, **env: str) -> ObserveOptions:
    return parse_observe(arguments, env=env, now_ns=NOW)


def refusal(*arguments: str, **env: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(*arguments, **env)
    message = str(caught.value)
    assert message.isprintable()
    return message
