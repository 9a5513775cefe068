"""Names that may not be stored: a rule's answer in their place, and messages without them."""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.agent.l7.dns_wire import ANSWER, names_are_read, parse
from flows.agent.store.request_columns import ANSWER_BYTES, TEXT_BYTES, Flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from flows.agent.l7.dns_wire import Message

    NameRule = Callable[[bytes], bytes]

MEMO: Final = 4_096  # names whose answer is remembered; all are forgotten when there are more
HIDDEN: Final = b"HUBBLE_REDACTED"


class RedactedNames:
    """Applies a rule to each name once. Only with a rule does Python see each answer: else nobody could find the names in it."""

    def __init__(self, rule: NameRule) -> None:
        self._rule = rule
        self._memo: dict[bytes, bytes] = {}

    def redact(self, text: NDArray[np.uint8], cut: NDArray[np.bool_], flags: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Names (n, TEXT_BYTES) as they may be stored; Flag.REDACTED where they changed. cut: which are not whole (n,).

        Of a name that is cut, the end is not known, so that no rule could be tried on it: it is hidden.
        """
        redacted = text.copy()
        for row, name in enumerate(text.view(f"S{TEXT_BYTES}")[:, 0].tolist()):
            kept = HIDDEN if cut[row] else self._kept(name)
            if kept != name:
                redacted[row] = np.frombuffer(kept[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0"), np.uint8)
                flags[row] |= Flag.REDACTED.value
        return redacted

    def redact_messages(self, messages: NDArray[np.uint8], sizes: NDArray[np.uint16], flags: NDArray[np.uint16]) -> None:
        """Take the names out of messages (n, ANSWER_BYTES), in place, where one of them is not to be stored."""
        for row, size in enumerate(sizes.tolist()):
            message = parse(messages[row, :size].tobytes())
            if not flags[row] & Flag.REDACTED and self._may_stay(message):
                rest = messages[row, :size].tobytes()[: message.end]  # what could not be read could have names
            else:
                rest = _addresses(messages[row, :12].tobytes(), message)
                flags[row] |= Flag.REDACTED.value
            flags[row] |= 0 if len(rest) == size else Flag.ANSWER_CUT.value
            messages[row] = np.frombuffer(rest.ljust(ANSWER_BYTES, b"\0"), np.uint8)
            sizes[row] = len(rest)

    def _may_stay(self, message: Message) -> bool:
        names = {as_asked(name) for record in message.records for name in (record.name, *record.names)}
        known = all(names_are_read(record.type) for record in message.records)
        return known and all(self._kept(name) == name for name in names)

    def _kept(self, name: bytes) -> bytes:
        kept = self._memo.get(name)
        if kept is None:
            if len(self._memo) == MEMO:
                self._memo.clear()
            kept = self._memo[name] = self._rule(name)
        return kept


def as_asked(name: str) -> bytes:
    """A name of a message as `text` has it: lower case, no dot at the end."""
    return name.lower().removesuffix(".").encode()


def _addresses(header: bytes, message: Message) -> bytes:
    """The message with its addresses only, all of the root: what it says without any name."""
    records = [record for record in message.records if record.section == ANSWER and record.address]
    parts = [b"\0" + pack(">HHIH", record.type, record.dns_class, record.ttl, len(record.address)) + record.address
             for record in records]  # fmt: skip
    question = b"\0" + pack(">HH", message.qtype, message.qclass)
    return header[:4] + pack(">4H", 1, len(records), 0, 0) + question + b"".join(parts)
