from __future__ import annotations

import pytest

from flows.proto import flows_pb2, relay_pb2
from flows.relay import notices as module
from flows.relay.notices import MOST_KINDS, SEVERAL, Notices

UP, DOWN, ERROR = relay_pb2.NODE_CONNECTED, relay_pb2.NODE_UNAVAILABLE, relay_pb2.NODE_ERROR


def said(notices: Notices) -> list[tuple[int, list[str], str]]:
    states, _ = notices.take(all_of_it=True)
    return [(status.state_change, list(status.node_names), status.message) for status in states]


def loss(node: str = "a", count: int = 1, last: int = 5, reason: str = "ring full") -> flows_pb2.Loss:
    message = flows_pb2.Loss(node=node, count=count, reason=reason)
    message.first.FromSeconds(last)
    message.last.FromSeconds(last)
    return message


def test_equal_states_are_told_together() -> None:
    notices = Notices(limited=False)
    notices.state(DOWN, ["a"], "refused")
    notices.state(DOWN, ["b"], "timeout")
    notices.state(DOWN, ["c", "a"], "refused")
    assert said(notices) == [(DOWN, ["a", "c"], "refused"), (DOWN, ["b"], "timeout")]
    assert said(notices) == []


def test_a_node_that_changes_twice_ends_with_its_last_state() -> None:
    notices = Notices(limited=False)
    for state in (DOWN, UP, DOWN):
        notices.state(state, ["a"])
    notices.state(DOWN, ["b"])
    assert said(notices) == [(DOWN, ["a"], ""), (UP, ["a"], ""), (DOWN, ["a", "b"], "")]


def test_states_are_gathered_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    notices = Notices(limited=False)
    notices.state(ERROR, ["a"])
    assert notices.take()[0] == []
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)
    assert len(notices.take()[0]) == 1


@pytest.mark.parametrize(("limited", "count", "message"), [(False, 7, "10.0.0.1 refused"), (True, 0, "")])
def test_who_is_limited_gets_no_counts_and_no_texts(limited: bool, count: int, message: str) -> None:
    notices = Notices(limited=limited)
    notices.state(DOWN, ["a"], "10.0.0.1 refused")
    notices.loss([loss(count=3), loss(count=4, last=9)])
    states, losses = notices.take(all_of_it=True)
    assert [status.message for status in states] == [message]
    assert [(one.node, one.count, one.first.seconds, one.last.seconds) for one in losses] == [("a", count, 5, 9)]


def test_losses_of_any_number_of_kinds_are_bounded_and_all_counted() -> None:
    notices = Notices(limited=False)
    notices.loss(loss(f"node-{number}") for number in range(3 * MOST_KINDS))
    _, losses = notices.take()
    assert len(losses) == MOST_KINDS + 1
    assert sum(one.count for one in losses) == 3 * MOST_KINDS
    assert losses[-1].reason == SEVERAL
