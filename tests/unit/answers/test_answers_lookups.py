"""Lookups: however they are found, queries belong together as if each were compared with all lookups before."""

from __future__ import annotations

from answer_reference import plain_lookups
from answer_samples import SECOND, START, Query
from hypothesis import given
from hypothesis import strategies as st

from flows.flow.answers.asker import Asker
from flows.flow.answers.lookups import Lookups
from flows.flow.answers.requests import Request
from flows.flow.answers.view import view_of
from flows.proto.extension_pb2 import ANSWER_CUT, TRUNCATED

NAMES = ("x.demo.svc.cluster.local", "x.svc.cluster.local", "x.corp.example", "x", "x.y", "x.y.demo.svc.cluster.local")
APART = st.sampled_from([0.0, 0.001, 0.002, 0.5, 0.95, 2.0, 5.0, 6.5])


def request(query: Query) -> Request:
    """As its agent tells of it, answered or given up."""
    asked, *told = (view_of(flow) for flow in query.flows())
    assert asked is not None
    for view in told:
        assert view is not None
        asked.merge(view)
    return Request(at_client=asked)


@st.composite
def queries(draw: st.DrawFn) -> list[Request]:
    made, at = [], 0.0
    for number in range(draw(st.integers(0, 40))):
        at += draw(APART)
        took = draw(st.sampled_from([0.0005, 0.0005, 0.0005, 0.7, 7.0, None]))
        rcode, attempt = draw(st.sampled_from([0, 3, 3, 2])), draw(st.sampled_from([1, 1, 1, 1, 2]))
        ips = draw(st.sampled_from([(), ("10.0.0.1",)]))
        query = Query(
            draw(st.sampled_from(NAMES)), at=at, took=took, gave_up=None if took else 5.0, rcode=rcode, ips=ips, number=number,
            qtype=draw(st.sampled_from(["A", "AAAA", "SRV"])), attempt=attempt, over_tcp=draw(st.booleans()),
            marks=draw(st.sampled_from([(), (), (TRUNCATED,), (ANSWER_CUT,)])),
        )  # fmt: skip
        made.append(request(query))
    return made


@given(queries())
def test_queries_belong_together_as_if_all_were_compared(asked: list[Request]) -> None:
    lookups = Lookups()
    for each in asked:
        lookups.add(each)
    found = [each.tries for each in sorted(lookups.end(), key=lambda each: each.number)]
    assert found == plain_lookups(asked)


def test_lookups_that_are_over_are_not_looked_at_again() -> None:
    """A process that looks for the same name all the time: only what lacks an answer is compared with each query."""
    lookups = Lookups()
    for number in range(200):
        for qtype in ("A", "AAAA"):
            lookups.add(request(Query("x", at=number / 100, qtype=qtype, number=number)))
    list(lookups.done(START + 12 * SECOND))
    (asker,) = lookups._open.values()
    assert isinstance(asker, Asker)
    assert len(asker) == 200
    assert len(asker._young) <= 2
    list(lookups.done(START + 60 * SECOND))
    assert lookups._open == {}
