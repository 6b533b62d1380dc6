import pytest

from domain.errors import IllegalMove
from domain.state import FINAL, LABELS, MOVES, OPEN, Hold, State, advance, hold

# What the architecture says in words, once more: from each state, where to.
ALLOWED = {
    "awaiting_approval": "queued cancelled",
    "queued": "sending failed cancelled review",
    "sending": "succeeded pending failed unknown queued review",
    "unknown": "succeeded pending failed queued review",
    "pending": "succeeded failed review",
    "succeeded": "reversed",
    "failed": "succeeded",
    "cancelled": "succeeded",
    "reversed": "succeeded settled",
    "review": "succeeded failed pending unknown queued cancelled settled",
    "settled": "succeeded",
}
PAIRS = [(current, target) for current in State for target in State]


@pytest.mark.parametrize(("current", "target"), PAIRS)
def test_a_state_changes_only_as_the_table_says(current, target):
    stays = current is target and current in OPEN
    if target in ALLOWED[current].split() or stays:
        assert advance(current, target) is target
    else:
        with pytest.raises(IllegalMove, match=f"a refund cannot go from {current} to {target}"):
            advance(current, target)


def test_every_state_has_its_moves_its_label_and_its_hold():
    assert set(MOVES) == set(LABELS) == set(ALLOWED) == set(State)
    for state in set(State) - {State.SETTLED}:
        assert hold(state) in Hold


def test_money_that_may_have_moved_stays_reserved():
    for state in OPEN:
        assert hold(state) is Hold.RESERVED


def test_only_success_counts_as_refunded():
    assert [state for state in set(State) - {State.SETTLED} if hold(state) is Hold.REFUNDED] == [State.SUCCEEDED]


def test_the_evidence_and_not_the_state_says_what_a_settled_refund_did_to_the_money():
    with pytest.raises(KeyError):
        hold(State.SETTLED)


def test_no_final_state_is_left_but_by_late_evidence():
    for state in FINAL:
        assert MOVES[state] <= {State.SUCCEEDED, State.REVERSED, State.SETTLED}


def test_what_is_pending_never_goes_back_to_the_queue():
    assert State.QUEUED not in MOVES[State.PENDING]


def test_every_state_can_be_reached_and_every_open_one_can_end():
    reached = {State.AWAITING_APPROVAL, State.QUEUED}
    while more := {target for state in reached for target in MOVES[state]} - reached:
        reached |= more

    assert reached == set(State)
    assert all(MOVES[state] for state in OPEN)
