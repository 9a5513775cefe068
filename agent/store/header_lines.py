"""Column `headers` of requests: lines of the request's, an empty line, and lines of its answer's."""

from __future__ import annotations


def pairs(text: str, *, answered: bool) -> list[tuple[str, str]]:
    """Names and values, in their order; answered: also those of the answer."""
    asked, _, answer = f"\n{text}".partition("\n\n")
    lines = [*asked.split("\n"), *answer.split("\n")] if answered else asked.split("\n")
    return [(name, value) for name, colon, value in (line.partition(": ") for line in lines) if colon]
