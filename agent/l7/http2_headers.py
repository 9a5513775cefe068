"""Header blocks (HPACK, RFC 7541) to what a request or an answer says, redacted; also where the beginning was not seen.

The dynamic table of a connection joined in the middle, or after a loss, is unknown; entries that come later are known, since
they are counted from the newest (section 2.3.3). A reference to what is not known gives UNKNOWN and is told, never guessed.
This table may keep entries longer than the sender's: a sender never refers to what it has evicted, so nothing goes wrong by it.
"""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import hpack
from hpack.exceptions import InvalidTableIndex, OversizedHeaderListError
from hpack.table import HeaderTable

from flows.agent.l7.http2_frames import MalformedError
from flows.agent.l7.http_headers import told
from flows.agent.store.request_columns import HOST_BYTES, METHODS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flows.agent.l7.redact import Redaction

MAX_TABLE = 65_536  # bytes as RFC 7541 counts them; browsers allow that much, nearly all others 4,096
MAX_LIST = 65_536  # bytes of all headers of one block, decoded, counted likewise
UNKNOWN = (b"", b"")  # no header has an empty name (RFC 9110, section 5.1)

_REMEMBERED = 4_096  # blocks of all connections: with those that are larger than _LARGE left out, at most about 8 MiB
_LARGE = 1_024  # bytes
_METHODS = {name.encode(): number for number, name in enumerate(METHODS) if name}
_BREAKS = re.compile(rb"[\r\n\0]")
_GRPC = re.compile(rb"application/grpc(?:[+;\s].*)?", re.DOTALL)  # and not gRPC-Web, whose trailers are in its body


class Block(NamedTuple):
    """What a header block says; nothing in it is secret any more."""

    asks: bool  # it has a request's pseudo-headers
    answers: bool  # it has :status
    unknown: bool  # fields are missing: they were in a part of the table that was not seen
    first_unknown: bool  # even the first one, so that it may have been a pseudo-header
    method: int  # index into METHODS
    path: bytes  # redacted; at most TEXT_BYTES
    cut: bool  # it was longer
    changed: bool  # something was taken out of path or host
    host: bytes  # at most one byte more than is kept
    status: int  # 0: none
    grpc: int  # grpc-status + 1; 0: none
    is_grpc: bool  # content-type says so
    other_type: bool  # content-type says something else
    kept: bytes  # "Key: value\n" of those on the allow list


class Memory:
    """What blocks said, by table state: calls of one kind repeat their blocks byte by byte. Bounded for all connections."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._blocks: dict[tuple[int, bytes], Block] = {}
        self._states = count()

    def new_state(self) -> int:
        """A number that no other state of a table has."""
        return next(self._states)

    def get(self, state: int, block: bytes) -> Block | None:
        """What this block said before, at the same state."""
        return self._blocks.get((state, block))

    def put(self, state: int, block: bytes, said: Block) -> None:
        """Remember; if it is full, begin anew."""
        if len(block) > _LARGE:
            return
        if len(self._blocks) >= _REMEMBERED:
            self._blocks.clear()
        self._blocks[state, block] = said


class _Table(HeaderTable):
    """A dynamic table that may be known in part. `whole`: all entries are known, so an index beyond them is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = False
        self.changed = False

    def get_by_index(self, index: int) -> tuple[bytes, bytes]:
        try:
            return super().get_by_index(index)
        except InvalidTableIndex:
            if self.whole or index == 0:
                raise
            return UNKNOWN

    def add(self, name: bytes, value: bytes) -> None:
        self.changed = True
        super().add(name, value)


class HeaderDecoder(hpack.Decoder):
    """One direction's decoder. Unknown until `begin`."""

    def __init__(self, rules: Redaction, memory: Memory) -> None:
        """rules: what is redacted; memory: shared by all decoders."""
        super().__init__(MAX_LIST)
        self._rules, self._memory = rules, memory
        self.max_allowed_table_size = 1 << 32  # what the other side allows is for the peer to enforce: see allow()
        self.table = self.header_table = _Table()
        self.forget()

    @property
    def header_table_size(self) -> int:
        """Bytes that the table may have. An update in a block is clipped: what would be beyond is then unknown."""
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        self.table.changed = True
        self.table.whole &= value <= MAX_TABLE
        self.table.maxsize = min(value, MAX_TABLE)

    @property
    def bytes_kept(self) -> int:
        """About what the table takes in memory."""
        return 200 * len(self.table.dynamic_entries) + self.table._current_size

    def begin(self) -> None:
        """The connection begins: the table is known to be empty, with the default size (RFC 9113, section 6.5.2)."""
        self.forget()
        self.table.maxsize = HeaderTable.DEFAULT_SIZE
        self.table.whole = True

    def forget(self) -> None:
        """Blocks were lost: nothing of the table is known, not even its size."""
        self.table.maxsize = 0
        self.table.maxsize = MAX_TABLE
        self.table.whole = False
        self._state = self._memory.new_state()

    def allow(self, size: int) -> None:
        """The receiver allows a table of so many bytes (SETTINGS_HEADER_TABLE_SIZE); the sender may use less."""
        if size > self.table.maxsize:
            self.header_table_size = size
            self._state = self._memory.new_state()

    def read(self, block: bytes) -> Block:
        """What a whole header block says. Raises MalformedError: then nothing of the table is known any more."""
        said = self._memory.get(self._state, block)
        if said is not None:
            return said
        self.table.changed = False
        said = _said(self._fields(block), self._rules)
        if self.table.changed:
            self._state = self._memory.new_state()
        else:
            self._memory.put(self._state, block, said)
        return said

    def _fields(self, block: bytes) -> Sequence[tuple[bytes, bytes]]:
        try:
            return [(bytes(name), bytes(value)) for name, value in self.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise MalformedError("http2_header_lists_too_large") from None
        except (hpack.HPACKError, IndexError, ValueError):
            raise MalformedError("http2_blocks_malformed") from None


def _said(fields: Sequence[tuple[bytes, bytes]], rules: Redaction) -> Block:
    known: dict[bytes, bytes] = {}
    for name, value in fields:
        known.setdefault(name, value)
    raw = known.get(b":path", b"")
    path = rules.path(raw)
    content = known.get(b"content-type", b"").lower()
    authority = known.get(b":authority") or known.get(b"host", b"")
    host, (lines, redacted) = rules.host(authority), _kept(fields, rules)
    return Block(
        asks=not known.keys().isdisjoint((b":method", b":path", b":scheme", b":authority")),
        answers=b":status" in known,
        unknown=b"" in known,
        first_unknown=bool(fields) and fields[0][0] == b"",
        method=_METHODS.get(known.get(b":method", b""), 0),
        path=path.text,
        cut=path.cut,
        changed=host != authority or redacted or not raw.startswith(path.text) or (not path.cut and path.text != raw),
        host=host[: HOST_BYTES + 1],
        status=_number(known.get(b":status", b""), 100, 999),
        grpc=_number(known.get(b"grpc-status", b""), 0, 254, absent=-1) + 1,
        is_grpc=_GRPC.fullmatch(content) is not None,
        other_type=bool(content) and not _GRPC.fullmatch(content),
        kept=b"".join(lines),
    )


def _number(text: bytes, low: int, high: int, absent: int = 0) -> int:
    value = int(text) if text.isdigit() and len(text) <= 3 else absent
    return value if low <= value <= high else absent


def _kept(fields: Iterable[tuple[bytes, bytes]], rules: Redaction) -> tuple[list[bytes], bool]:
    """Lines of those that are kept, and whether something was taken from them; a value with a line end is no value (RFC 9113,
    section 8.2.1)."""
    if not rules.keeps_headers:
        return [], False
    return told(((name, value) for name, value in fields if name[:1] != b":" and not _BREAKS.search(value)), rules)
