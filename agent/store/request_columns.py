"""Which columns a stored request has: who asked whom, what, and what the answer was."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np

TEXT_BYTES = 160  # paths, DNS names and SNI; what is longer is cut, and marked so
HOST_BYTES = 64
HEADER_BYTES = 96
ANSWER_BYTES = 256  # the beginning of a DNS answer's message, as it came


class Kind(IntEnum):
    """What was spoken."""

    HTTP1 = 1
    HTTP2 = 2
    GRPC = 3
    DNS = 4
    TLS = 5  # a ClientHello with its ServerHello


class State(IntEnum):
    """What became of it."""

    ASKED = 0  # no answer yet
    ANSWERED = 1
    UNANSWERED = 2  # the time for an answer is over; a late one makes it ANSWERED, with Flag.LATE
    ALONE = 3  # an answer whose request was not seen: `time` is 0, and of the request nothing is known


class Flag(IntFlag):
    """What else is to be said of it."""

    CUT = 1  # path or name is longer than what is kept
    HOST_CUT = 2
    ANSWER_CUT = 4  # the answer's message is longer than what is kept
    TRUNCATED = 8  # DNS: the server's TC bit
    LATE = 16  # the answer came after the request had been given up
    PIPELINED = 32  # HTTP/1: more requests came before the answer; DNS: repeated before it: which one was answered is not known
    REDACTED = 64  # something was taken out (query string, user info, ...)
    MIDDLE = 128  # HTTP/2: joined in the middle, so headers may be missing
    HOST_UNKNOWN = 256  # no Host was seen in what was captured
    UPGRADED = 512  # 101: what follows is not HTTP
    CONNECTION_END = 1024  # given up since its connection ended


# Index is the number in the column `method`; 0 stands for any other, or none.
METHODS = (
    "", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "PURGE", "QUERY",
)  # fmt: skip

# Column, dtype, shape of one value.
COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "time": ("i8", ()),  # ns since 1970, of the request; 0: not seen
    "answered": ("i8", ()),  # ns since 1970, of the answer's first bytes; 0: none
    "conn_id": ("u8", ()),
    "cgroup_id": ("u8", ()),
    "local_addr": ("u1", (16,)),
    "remote_addr": ("u1", (16,)),
    "comm": ("S16", ()),
    "pid": ("u4", ()),
    "netns": ("u4", ()),
    "local_port": ("u2", ()),
    "remote_port": ("u2", ()),
    "protocol": ("u1", ()),
    "client": ("u1", ()),  # 1: the local end asked
    "origin": ("u1", ()),  # Origin
    "kind": ("u1", ()),
    "state": ("u1", ()),
    "flags": ("u2", ()),
    "method": ("u1", ()),  # index into METHODS
    "version": ("u2", ()),  # HTTP: 10, 11 or 20; TLS: 0x0303, 0x0304, ...: the server's choice, else the client's best
    "status": ("u2", ()),  # of an answer only: HTTP status, DNS rcode, TLS cipher suite
    "grpc": ("u1", ()),  # grpc-status + 1; 0: none seen
    "qtype": ("u2", ()),  # DNS
    "query_id": ("u2", ()),  # DNS
    "attempt": ("u1", ()),  # DNS: 1 for the first query of a question, 2 for its first repetition, ...
    "first": ("i8", ()),  # DNS: number of the question's first query
    "request_bytes": ("u4", ()),  # of the packet that began it
    "response_bytes": ("i8", ()),  # -1: not known (yet)
    "text": ("u1", (TEXT_BYTES,)),  # path (redacted), or the name asked for: lower case, dots, no dot at the end
    "host": ("u1", (HOST_BYTES,)),  # TLS: offered ALPN protocols, separated by commas
    "headers": ("u1", (HEADER_BYTES,)),  # those on the allow list, as header_lines has them: "Key: value\n" each, as they came
    "answer": ("u1", (ANSWER_BYTES,)),  # DNS: the answer's message from its first byte on
    "answer_bytes": ("u2", ()),  # of them that are kept
}
BYTES_PER_REQUEST = sum(np.dtype((dtype, shape)).itemsize for dtype, shape in COLUMNS.values())
