"""How long decisions count: together they make a revocation effective within a minute."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds.

    Worst case until a revocation reaches a stream: it opens with a decision `allowed` old, and is checked `recheck` later
    with an answer that kube-apiserver itself remembers for 10 s: 20 + 25 + 10 = 55. Once open, `shared` takes the place
    of `allowed`: 10 + 25 + 10 = 45.
    """

    allowed: float = 20.0
    """A yes is good for calls that open. Dashboards ask every few seconds; each need not cost the API server a review."""
    denied: float = 10.0
    """So is a no: short, because the person who was just granted access tries again at once."""
    namespaces: float = 30.0
    """The list of namespaces. A grant in a namespace younger than this may be overlooked once."""
    recheck: tuple[float, float] = (15.0, 25.0)
    """Between two checks of an open stream: from, to; spread so that streams that opened together do not ask together."""
    shared: float = 10.0
    """Age up to which one stream's check also counts for other streams of the same token."""
    review: float = 10.0
    """For one answer of the API server, queueing included; it takes milliseconds when all is well."""
    outage: float = 300.0
    """A stream goes on without a check: an API server that restarts or is upgraded is back by then. Longer, and a person
    whose access was withdrawn might read on because of an outage, which they may even have a hand in."""


DEFAULT = Times()
