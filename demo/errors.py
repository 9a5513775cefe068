"""The demo's own errors: each is a sentence for the person at the terminal.

DemoError
    UsageError: the command line or a manifest makes no sense
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Text with what a terminal would obey written out: names and messages come from whoever wrote a manifest."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class DemoError(Exception):
    """What was being done, on what, and the cure, in one line. Exit code 1."""


class UsageError(DemoError):
    """Bad input: what was expected and what was given. Exit code 2."""
