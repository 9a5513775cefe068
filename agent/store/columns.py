"""Which columns a stored flow has: 128 bytes, strings and endpoints by number."""

from __future__ import annotations

import numpy as np

# Column, dtype, shape of one value. Those named as in RECORD are copied from it; the others are made at ingest.
COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "time": ("i8", ()),  # ns since 1970
    "start": ("i8", ()),  # ns since 1970; 0: before the agent
    "conn_id": ("u8", ()),
    "sent_bytes": ("u8", ()),
    "received_bytes": ("u8", ()),
    "local_addr": ("u1", (16,)),
    "remote_addr": ("u1", (16,)),
    "sent_packets": ("u4", ()),
    "received_packets": ("u4", ()),
    "pid": ("u4", ()),
    "rtt_us": ("u4", ()),
    "handshake_us": ("u4", ()),
    "retransmits": ("u4", ()),
    "local_port": ("u2", ()),
    "remote_port": ("u2", ()),
    "event": ("u1", ()),
    "protocol": ("u1", ()),
    "initiator": ("u1", ()),
    "flags_sent": ("u1", ()),
    "flags_received": ("u1", ()),
    "error": ("u1", ()),
    "icmp_type": ("u1", ()),
    "icmp_code": ("u1", ()),  # TCP: what is spoken, flows.v1.Spoken, as far as it was known
    "netns": ("u4", ()),  # inode; 0: unknown
    "local": ("u4", ()),  # endpoint number
    "remote": ("u4", ()),  # endpoint number
    "process": ("u2", ()),  # process name's number
    # Events of requests: the request's number in the RequestStore, modulo 2^32. Others: the acceptor's public name and where it
    # is from, see public_names.py; 0: none.
    "detail": ("u4", ()),
}
MADE = ("time", "start", "local", "remote", "process", "detail")
COPIED = tuple(name for name in COLUMNS if name not in MADE)
BYTES_PER_FLOW = sum(np.dtype((dtype, shape)).itemsize for dtype, shape in COLUMNS.values())
