"""Escaping: text from the network made harmless for a terminal.

Names, addresses, summaries and error messages come from outside. A control character among them could move
the cursor, forge a line, or run an escape sequence; a bidirectional one could make a name read as another.
Hubble escapes ESC and CR only; these look here as they do there (`^[`, `\\r`), the others similar.
"""

from __future__ import annotations

import re

# C0, DEL, C1; the bidirectional controls of Unicode 6.3 (UAX #9); the line and paragraph separators.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    """The text with each control character as visible ASCII; a text without any comes back as it is."""
    return text if text.isprintable() else CONTROLS.sub(_visible, text)


def escape_json(line: str) -> str:
    """A line of JSON with control characters as \\uXXXX: the same value, safe on a terminal."""
    return line if line.isprintable() else CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


def _visible(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    if char in _NAMED:
        return _NAMED[char]
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_GO_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f",
    "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip


def go_quote(text: str) -> str:
    """The text as Go's strconv.Quote writes it: in double quotes, what is not printable escaped."""
    return '"' + "".join(map(_go_char, text)) + '"'


def _go_char(char: str) -> str:
    if char in _GO_ESCAPES:
        return _GO_ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
