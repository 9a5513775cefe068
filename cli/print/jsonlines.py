"""JSON: one message per line, byte for byte what Hubble's `-o jsonpb` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from flows.cli.print.escape import escape_json
from flows.flow.protojson import to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message


def json_line(stream: TextIO) -> Callable[[Message], str]:
    """The writer of one line with its newline: exact in a file or pipe, escaped on a terminal."""
    if not stream.isatty():
        return lambda message: to_json(message) + "\n"
    return lambda message: escape_json(to_json(message)) + "\n"
