"""One-sided connections: those of which the opener's node tells, and the other end's node, which would know, does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from flows.proto import extension_pb2, flows_pb2, relay_pb2
from flows.proto.extension_pb2 import Connection
from flows.relay.join import PATH_NS

if TYPE_CHECKING:
    from flows.flow.batch import Batch
    from flows.relay.connections import Numbers
    from flows.relay.inquiry import Answer
    from flows.relay.join import Clocks
    from flows.relay.remote_ends import Tables

# A node answers so without a socket, or a router on the way: no view at the other end, and nothing amiss with that.
_ANSWERED_WITHOUT_SOCKET = (extension_pb2.EVENT_UNKNOWN, extension_pb2.REFUSED, extension_pb2.UNREACHABLE, extension_pb2.RESET)
# Said after the opener waited: what the other end saw it saw before.
_LATE = (extension_pb2.UNANSWERED, extension_pb2.TIMED_OUT)
# Flows that lack names are there all the same.
_HARMLESS = (flows_pb2.UNNAMED,)


def not_seen(batch: Batch, rows: Numbers, answer: Answer, answered: Batch, tables: Tables, clocks: Clocks) -> list[int]:
    """Those of the rows, which have no partner, of which it is certain that the asked node has no view.

    That says: it was asked, it could answer for all of the life that the row tells of, without a gap and to the last
    moment, its clock and that of the row's node were measured, and it has no flow of that opener at all. It holds for TCP if
    no handshake was completed by a socket there (a SYN alone leaves no record), for UDP if no socket there had a packet.
    Nothing can be said

    - of rows that a refusal, a reset or an ICMP error ended: a kernel without a socket answers so, and leaves no record;
    - of what did not go to a pod's own address: on the way to a Service or a node the opener may be translated, and is then
      not found (Kubernetes promises that pods are reached without translation, and nothing else);
    - of connections older than the opener's agent.
    """
    coverage = next(iter(answer.message.coverage.nodes), None)
    clock = answer.question.peer.clock
    if coverage is None or clock is None or coverage.state != relay_pb2.NODE_CONNECTED or answer.message.losses:
        return []
    seen = np.unique(answered.opener[answered.at_source == 0])
    asked = rows[(batch.at_source[rows] != 0) & (batch.start_ns[rows] != 0) & ~np.isin(batch.opener[rows], seen)]
    found = []
    for row in asked.tolist():
        if not tables.ends[int(batch.destination[row])].end.endpoint.pod_name or not batch.connections[row]:
            continue
        node = batch.node[row]
        error = int(clocks.error_ns[node]) + clock.error_ns
        shift = clock.offset_ns - int(clocks.offset_ns[node])
        life = int(batch.start_ns[row]) + shift - error, int(batch.time_ns[row]) + shift + error
        if _tells(batch.connections[row], coverage, life):
            found.append(row)
    return found


def _tells(connection: bytes, coverage: flows_pb2.NodeCoverage, life: tuple[int, int]) -> bool:
    """Whether the connection's event and the node's coverage of its life allow to say anything."""
    try:
        event = Connection.FromString(connection).event
    except DecodeError:
        return False
    first, last = life[0], life[1] + (0 if event in _LATE else PATH_NS)
    return event not in _ANSWERED_WITHOUT_SOCKET and _covers(coverage, first, last)


def _covers(coverage: flows_pb2.NodeCoverage, first: int, last: int) -> bool:
    """Whether a node could answer for all of the time between, by its own clock."""
    if not coverage.HasField("from") or not coverage.HasField("to"):
        return False
    since: int = getattr(coverage, "from").ToNanoseconds()
    if since > first or coverage.to.ToNanoseconds() < last:
        return False
    return not any(
        getattr(gap, "from").ToNanoseconds() <= last and (not gap.HasField("to") or gap.to.ToNanoseconds() >= first)
        for gap in coverage.gaps
        if gap.reason not in _HARMLESS
    )
