"""Every answer for every state, written out; then the rules that no combination may break."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.decision import Call, Case, Cause, Decision, Failure, Step, decide, plan_recovery
from domain.outcome import (
    NO_FACTS,
    Absent,
    DeclineClass,
    Declined,
    Facts,
    NotSent,
    NotSentReason,
    Pending,
    Succeeded,
    Unknown,
)
from domain.policy import Policy, Recovery, absence_counts_from
from domain.state import FINAL, MOVES, OPEN, State

NOW = 1_000_000.0
POLICY = Policy()
CASE = Case(
    state=State.SENDING, amount=100, currency="EUR", attempts=1, since=NOW - 60, last_send_end=0.0, replay_until=None
)

OUTCOMES = {
    "succeeded": Succeeded(),
    "pending": Pending(),
    "declined": Declined(code="card_expired"),
    "declined, own": Declined(code="card_expired", own_record=True),
    "fixable": Declined(code="balance", kind=DeclineClass.FIXABLE),
    "fixable, own": Declined(code="balance", kind=DeclineClass.FIXABLE, own_record=True),
    "not sent": NotSent(reason=NotSentReason.CONNECTION),
    "throttled": NotSent(reason=NotSentReason.THROTTLED, retry_after=7.0),
    "busy": NotSent(reason=NotSentReason.BUSY),
    "ask failed": NotSent(reason=NotSentReason.ASK_FAILED),
    "paused": NotSent(reason=NotSentReason.PAUSED),
    "lease": NotSent(reason=NotSentReason.LEASE),
    "credentials": NotSent(reason=NotSentReason.CREDENTIALS),
    "stored refusal": NotSent(reason=NotSentReason.CREDENTIALS, stored=True),
    "renew handle": NotSent(reason=NotSentReason.BUSY, renew_handle=True),
    "absent": Absent(),
    "absent, early": Absent(),
    "unknown": Unknown(reason="read time-out"),
    "contradiction": Unknown(reason="two refunds", contradiction=True),
    "other amount": Succeeded(facts=Facts(amount=99)),
    "other currency": Succeeded(facts=Facts(currency="USD")),
    "pending, other": Pending(facts=Facts(amount=99)),
    "declined, other": Declined(code="card_expired", own_record=True, facts=Facts(amount=99)),
}

# Columns: the state. `?` after a state: an attempt may have moved the money (before: an earlier one, after: still so).
# A second word: the cause.
UNDER_WAY = """
                | sending                | sending?               | unknown                | unknown?
succeeded       | succeeded              | succeeded              | succeeded              | succeeded
pending         | pending                | pending                | pending                | pending
declined        | failed                 | unknown?               | failed                 | unknown?
declined, own   | failed                 | failed                 | failed                 | failed
fixable         | review fixable_decline | unknown?               | review fixable_decline | unknown?
fixable, own    | review fixable_decline | review fixable_decline | review fixable_decline | review fixable_decline
not sent        | queued                 | unknown?               | queued                 | unknown?
throttled       | queued                 | unknown?               | queued                 | unknown?
busy            | queued                 | unknown?               | queued                 | unknown?
ask failed      | queued                 | unknown?               | queued                 | unknown?
paused          | queued                 | unknown?               | queued                 | unknown?
lease           | queued                 | unknown?               | queued                 | unknown?
credentials     | queued                 | unknown?               | queued                 | unknown?
stored refusal  | review stored_refusal  | review? stored_refusal | review stored_refusal  | review? stored_refusal
renew handle    | queued                 | unknown?               | queued                 | unknown?
absent          | unknown?               | unknown?               | unknown?               | unknown?
absent, early   | unknown?               | unknown?               | unknown?               | unknown?
unknown         | unknown?               | unknown?               | unknown?               | unknown?
contradiction   | review? contradiction  | review? contradiction  | review? contradiction  | review? contradiction
other amount    | review? mismatch       | review? mismatch       | review? mismatch       | review? mismatch
other currency  | review? mismatch       | review? mismatch       | review? mismatch       | review? mismatch
pending, other  | review? mismatch       | review? mismatch       | review? mismatch       | review? mismatch
declined, other | review? mismatch       | review? mismatch       | review? mismatch       | review? mismatch
"""

WAITING = """
                | pending                | pending?               | review                 | review?
succeeded       | succeeded              | succeeded              | succeeded              | succeeded
pending         | pending                | pending                | pending                | pending
declined        | failed                 | pending?               | failed                 | review?
declined, own   | failed                 | failed                 | failed                 | failed
fixable         | review fixable_decline | pending?               | review fixable_decline | review?
fixable, own    | review fixable_decline | review fixable_decline | review fixable_decline | review fixable_decline
not sent        | pending                | pending?               | review                 | review?
throttled       | pending                | pending?               | review                 | review?
busy            | pending                | pending?               | review                 | review?
ask failed      | pending                | pending?               | review                 | review?
paused          | pending                | pending?               | review                 | review?
lease           | pending                | pending?               | review                 | review?
credentials     | pending                | pending?               | review                 | review?
stored refusal  | pending                | pending?               | review                 | review?
renew handle    | pending                | pending?               | review                 | review?
absent          | pending                | pending?               | review                 | review?
absent, early   | pending                | pending?               | review                 | review?
unknown         | pending                | pending?               | review                 | review?
contradiction   | review? contradiction  | review? contradiction  | review? contradiction  | review? contradiction
other amount    | review? mismatch       | review? mismatch       | review? mismatch       | review? mismatch
other currency  | review? mismatch       | review? mismatch       | review? mismatch       | review? mismatch
pending, other  | review? mismatch       | review? mismatch       | review? mismatch       | review? mismatch
declined, other | review? mismatch       | review? mismatch       | review? mismatch       | review? mismatch
"""

# Nothing was sent yet: the answers are those to questions. `queued?` cannot be, and a person looks if it is.
BEFORE = """
                | awaiting_approval | awaiting_approval? | queued                 | queued?
succeeded       | awaiting_approval | awaiting_approval? | review? contradiction  | review? contradiction
pending         | awaiting_approval | awaiting_approval? | review? contradiction  | review? contradiction
declined        | awaiting_approval | awaiting_approval? | failed                 | review? contradiction
declined, own   | awaiting_approval | awaiting_approval? | failed                 | review? contradiction
fixable         | awaiting_approval | awaiting_approval? | review fixable_decline | review? contradiction
fixable, own    | awaiting_approval | awaiting_approval? | review fixable_decline | review? contradiction
not sent        | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
throttled       | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
busy            | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
ask failed      | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
paused          | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
lease           | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
credentials     | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
stored refusal  | awaiting_approval | awaiting_approval? | review stored_refusal  | review? contradiction
renew handle    | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
absent          | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
absent, early   | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
unknown         | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
contradiction   | awaiting_approval | awaiting_approval? | queued                 | review? contradiction
other amount    | awaiting_approval | awaiting_approval? | review? contradiction  | review? contradiction
other currency  | awaiting_approval | awaiting_approval? | review? contradiction  | review? contradiction
pending, other  | awaiting_approval | awaiting_approval? | review? contradiction  | review? contradiction
declined, other | awaiting_approval | awaiting_approval? | failed                 | review? contradiction
"""

FINISHED = """
                | succeeded         | failed    | cancelled | reversed  | settled
succeeded       | succeeded         | succeeded | succeeded | succeeded | succeeded
pending         | succeeded         | failed    | cancelled | reversed  | settled
declined        | succeeded         | failed    | cancelled | reversed  | settled
declined, own   | reversed reversed | failed    | cancelled | reversed  | settled
fixable         | succeeded         | failed    | cancelled | reversed  | settled
fixable, own    | reversed reversed | failed    | cancelled | reversed  | settled
not sent        | succeeded         | failed    | cancelled | reversed  | settled
throttled       | succeeded         | failed    | cancelled | reversed  | settled
busy            | succeeded         | failed    | cancelled | reversed  | settled
ask failed      | succeeded         | failed    | cancelled | reversed  | settled
paused          | succeeded         | failed    | cancelled | reversed  | settled
lease           | succeeded         | failed    | cancelled | reversed  | settled
credentials     | succeeded         | failed    | cancelled | reversed  | settled
stored refusal  | succeeded         | failed    | cancelled | reversed  | settled
renew handle    | succeeded         | failed    | cancelled | reversed  | settled
absent          | succeeded         | failed    | cancelled | reversed  | settled
absent, early   | succeeded         | failed    | cancelled | reversed  | settled
unknown         | succeeded         | failed    | cancelled | reversed  | settled
contradiction   | succeeded         | failed    | cancelled | reversed  | settled
other amount    | succeeded         | failed    | cancelled | reversed  | settled
other currency  | succeeded         | failed    | cancelled | reversed  | settled
pending, other  | succeeded         | failed    | cancelled | reversed  | settled
declined, other | reversed reversed | failed    | cancelled | reversed  | settled
"""


def read(table):
    """The rows of a table: state, whether an earlier attempt is ambiguous, the outcome's name, what is expected."""
    head, *rows = [[cell.strip() for cell in line.split("|")] for line in table.strip("\n").splitlines()]
    for name, *cells in rows:
        for column, cell in zip(head[1:], cells, strict=True):
            yield State(column.rstrip("?")), column.endswith("?"), name, cell


ROWS = [row for table in (UNDER_WAY, WAITING, BEFORE, FINISHED) for row in read(table)]


def decided(case, outcome, *, policy=POLICY, now=NOW, jitter=0.5):
    return decide(case, outcome, now, policy, jitter)


def case_of(state, *, ambiguous=False, name="", **changes):
    end = NOW if name == "absent, early" else 0.0

    return replace(CASE, state=state, ambiguous=ambiguous, last_send_end=end, **changes)


def words(decision):
    return f"{decision.state}{'?' * decision.ambiguous} {decision.cause or ''}".strip()


@pytest.mark.parametrize(("state", "ambiguous", "name", "expected"), ROWS)
def test_every_state_has_its_answer_to_every_outcome(state, ambiguous, name, expected):
    decision = decided(case_of(state, ambiguous=ambiguous, name=name), OUTCOMES[name])

    assert words(decision) == expected
    assert (decision.due_at is None) == (expected in NOTHING_MORE or expected in NOTHING_TO_ASK)


# By itself nothing more happens to these, or there is nothing that could be asked.
NOTHING_MORE = {*map(str, FINAL), "reversed reversed", "awaiting_approval", "awaiting_approval?"}
NOTHING_TO_ASK = {"review fixable_decline", "review stored_refusal"}


def test_the_table_holds_every_pair_of_state_and_outcome():
    pairs = {(state, ambiguous, name) for state, ambiguous, name, _ in ROWS}
    open_pairs = {(state, ambiguous, name) for state in OPEN for ambiguous in (False, True) for name in OUTCOMES}
    final_pairs = {(state, False, name) for state in FINAL for name in OUTCOMES}

    assert pairs == open_pairs | final_pairs
    assert len(ROWS) == len(pairs)


# -- what goes with the next state ------------------------------------------------------------------------------------


def test_a_success_keeps_what_the_provider_says_and_clears_the_doubt():
    facts = Facts(provider_refund_id="re_1", status="REFUNDED", amount=100, currency="EUR", reconciliation_id="arn")
    decision = decided(case_of(State.UNKNOWN, ambiguous=True), Succeeded(facts=facts))

    assert decision == Decision(state=State.SUCCEEDED, due_at=None, ambiguous=False, facts=facts)


@pytest.mark.parametrize(("kind", "state"), [(DeclineClass.FINAL, State.FAILED), (DeclineClass.FIXABLE, State.REVIEW)])
def test_a_refusal_is_told_to_the_shop(kind, state):
    decision = decided(case_of(State.SENDING), Declined(code="c1", message="no", kind=kind))

    assert decision.state is state
    assert decision.failure == Failure(code="c1", kind=kind, message="no")


def test_an_alert_of_the_adapter_is_passed_on():
    facts = Facts(alert="a status word nobody has seen")

    assert decided(case_of(State.SENDING), Pending(facts=facts)).alert == facts.alert
    assert decided(case_of(State.UNKNOWN, ambiguous=True), Unknown(reason="?", facts=facts)).alert == facts.alert
    assert decided(case_of(State.PENDING), Unknown(reason="?", facts=facts)).alert == facts.alert


@pytest.mark.parametrize(
    ("state", "ambiguous"),
    [(State.QUEUED, False)]
    + [
        (state, ambiguous)
        for state in (State.SENDING, State.UNKNOWN, State.PENDING, State.REVIEW)
        for ambiguous in (False, True)
    ],
)
def test_refused_credentials_pause_the_account(state, ambiguous):
    decision = decided(case_of(state, ambiguous=ambiguous), OUTCOMES["credentials"])

    assert decision.pause_account


@pytest.mark.parametrize("name", ["credentials", "paused", "lease"])
def test_what_is_not_the_refunds_fault_is_no_attempt(name):
    decision = decided(case_of(State.SENDING, attempts=POLICY.max_attempts + 1), OUTCOMES[name])

    assert (decision.state, decision.counts) == (State.QUEUED, False)


@pytest.mark.parametrize("name", ["not sent", "throttled", "ask failed"])
def test_attempts_that_never_left_come_to_an_end(name):
    one_left = decided(case_of(State.SENDING, attempts=POLICY.max_attempts - 1), OUTCOMES[name])
    none_left = decided(case_of(State.SENDING, attempts=POLICY.max_attempts), OUTCOMES[name])

    assert (one_left.state, one_left.counts) == (State.QUEUED, True)
    assert words(none_left) == "review attempts_exhausted"


def test_questions_before_the_first_sending_come_to_an_end():
    decision = decided(case_of(State.QUEUED, attempts=0, checks=POLICY.max_attempts), OUTCOMES["ask failed"])

    assert words(decision) == "review attempts_exhausted"


def test_a_new_handle_is_taken_only_where_nothing_is_in_doubt():
    assert decided(case_of(State.SENDING), OUTCOMES["renew handle"]).renew_handle
    assert not decided(case_of(State.SENDING, ambiguous=True), OUTCOMES["renew handle"]).renew_handle


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN, State.PENDING, State.REVIEW])
@pytest.mark.parametrize("ambiguous", [False, True])
def test_the_provider_may_say_when_to_come_again(state, ambiguous):
    decision = decided(case_of(state, ambiguous=ambiguous), OUTCOMES["throttled"])

    assert decision.due_at == NOW + 7


def test_a_stored_refusal_is_answered_with_its_reason():
    outcome = NotSent(reason=NotSentReason.CREDENTIALS, detail="TERMINAL_NOT_FOUND", stored=True)
    decision = decided(case_of(State.SENDING), outcome)

    assert decision.failure == Failure(code="credentials", kind=DeclineClass.FIXABLE, message="TERMINAL_NOT_FOUND")


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN, State.PENDING, State.REVIEW])
@pytest.mark.parametrize(
    ("facts", "note"),
    [
        (Facts(amount=99), "asked for 100, the provider answers 99"),
        (Facts(amount=0), "asked for 100, the provider answers 0"),
        (Facts(currency="USD"), "asked in EUR, the provider answers USD"),
    ],
)
def test_another_amount_or_currency_than_asked_goes_to_a_person(state, facts, note):
    for outcome in (Succeeded(facts=facts), Pending(facts=facts), Declined(code="c", facts=facts)):
        decision = decided(case_of(state), outcome)

        assert (decision.state, decision.cause, decision.note) == (State.REVIEW, Cause.MISMATCH, note)
        assert decision.ambiguous


def test_an_amount_that_is_absent_or_equal_is_no_mismatch():
    for facts in (NO_FACTS, Facts(amount=100), Facts(currency="EUR"), Facts(amount=100, currency="EUR")):
        assert decided(case_of(State.SENDING), Succeeded(facts=facts)).state is State.SUCCEEDED


# -- a look-up that finds nothing -------------------------------------------------------------------------------------


def lost(**changes):
    """A refund whose only answer was lost long ago."""
    return replace(CASE, state=State.UNKNOWN, ambiguous=True, **changes)


def test_absence_counts_only_after_the_last_possible_send_the_time_out_and_the_propagation_delay():
    matures = absence_counts_from(POLICY, NOW)
    early = decided(lost(last_send_end=NOW), Absent(), now=matures - 0.001)
    mature = decided(lost(last_send_end=NOW), Absent(), now=matures)

    assert matures == NOW + POLICY.total_timeout + POLICY.lookup_delay
    assert (early.state, early.absent) == (State.UNKNOWN, False)
    assert early.due_at <= matures
    assert (mature.state, mature.absent, mature.due_at) == (State.UNKNOWN, True, matures)


@pytest.mark.parametrize(
    ("changes", "policy", "cause"),
    [
        ({"replay_until": NOW}, POLICY, Cause.HANDLE_EXPIRED),
        ({"replay_until": NOW - 1}, POLICY, Cause.HANDLE_EXPIRED),
        ({"fingerprint_matches": False}, POLICY, Cause.FINGERPRINT_CHANGED),
        ({"attempts": POLICY.max_attempts}, POLICY, Cause.ATTEMPTS_EXHAUSTED),
        ({}, Policy(deduplicates=False), Cause.CANNOT_REPEAT),
        ({}, Policy(deduplicates=False, recovery=Recovery.LOOKUP), Cause.CANNOT_REPEAT),
        ({"since": NOW - POLICY.recovery_horizon}, Policy(deduplicates=False), Cause.HORIZON_PASSED),
    ],
)
def test_absence_where_the_same_bytes_may_not_go_again_is_for_a_person(changes, policy, cause):
    decision = decided(lost(**changes), Absent(), policy=policy)

    assert (decision.state, decision.cause, decision.ambiguous) == (State.REVIEW, cause, True)
    assert decision.absent


def test_a_refund_whose_id_is_known_and_that_is_not_found_is_not_sent_again():
    decision = decided(lost(provider_refund_id="re_1"), Absent())

    assert words(decision) == "review? cannot_repeat"


def test_in_review_absence_is_remembered_once_it_counts():
    late = decided(replace(lost(last_send_end=0.0), state=State.REVIEW), Absent())
    early = decided(replace(lost(last_send_end=NOW), state=State.REVIEW), Absent())

    assert (late.state, late.absent, late.ambiguous) == (State.REVIEW, True, True)
    assert (early.state, early.absent, early.ambiguous) == (State.REVIEW, False, True)


# -- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pending", "not sent", "absent", "unknown", "declined"])
def test_a_pending_refund_is_asked_about_by_its_schedule(name):
    case = case_of(State.PENDING, ambiguous=name == "declined", polls=2, since=NOW - 60)

    assert decided(case, OUTCOMES[name]).due_at == NOW + POLICY.poll_schedule[2]


def test_the_schedule_begins_when_the_provider_has_accepted():
    assert decided(case_of(State.SENDING, polls=9), Pending()).due_at == NOW + POLICY.poll_schedule[0]


@pytest.mark.parametrize("name", ["pending", "not sent", "absent", "unknown", "declined"])
@pytest.mark.parametrize("known", [None, "re_1"])
def test_a_refund_that_stays_pending_too_long_is_for_a_person(name, known):
    case = case_of(
        State.PENDING, ambiguous=name == "declined", since=NOW - POLICY.poll_horizon, provider_refund_id=known
    )
    decision = decided(case, OUTCOMES[name])

    assert (decision.state, decision.cause) == (State.REVIEW, Cause.HORIZON_PASSED)
    assert decision.ambiguous == (known is None)
    assert decision.due_at == NOW + POLICY.review_poll


@pytest.mark.parametrize("name", ["pending", "not sent", "absent", "unknown", "declined"])
def test_in_review_the_provider_is_asked_slowly(name):
    case = case_of(State.REVIEW, ambiguous=True, provider_refund_id="re_1")
    decision = decided(case, OUTCOMES[name])

    assert (decision.state, decision.due_at) == (State.REVIEW, NOW + POLICY.review_poll)


def test_a_person_is_not_promised_an_answer_that_nobody_can_ask_for():
    blind = Policy(can_lookup=False)
    without_id = decided(case_of(State.SENDING), OUTCOMES["contradiction"], policy=blind)
    with_id = decided(case_of(State.SENDING, provider_refund_id="re_1"), OUTCOMES["contradiction"], policy=blind)

    assert without_id.due_at is None
    assert with_id.due_at == NOW + blind.review_poll


def test_an_approval_is_never_given_by_an_answer():
    for outcome in OUTCOMES.values():
        assert decided(case_of(State.AWAITING_APPROVAL), outcome).state is State.AWAITING_APPROVAL


# -- late evidence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(FINAL - {State.SUCCEEDED}))
def test_a_late_success_is_booked_and_raises_an_alarm(state):
    decision = decided(case_of(state), Succeeded(facts=Facts(provider_refund_id="re_1", amount=100)))

    assert decision.state is State.SUCCEEDED
    assert decision.alert == f"the provider paid a refund that stood as {state}"


def test_a_success_that_is_taken_back_opens_a_dead_letter():
    decision = decided(case_of(State.SUCCEEDED), Declined(code="returned", message="account closed", own_record=True))

    assert (decision.state, decision.cause) == (State.REVERSED, Cause.REVERSED)
    assert decision.failure == Failure(code="returned", kind=DeclineClass.FINAL, message="account closed")
    assert decision.alert == "the provider took back a refund that had succeeded"


# -- recovery ---------------------------------------------------------------------------------------------------------

LOOKUP_FIRST = Policy(recovery=Recovery.LOOKUP)
NO_DEDUPLICATION = Policy(recovery=Recovery.LOOKUP, deduplicates=False)
ONE_REPLAY = Policy(max_replays=1)
BLIND = Policy(can_lookup=False)
UNRECOVERABLE = Policy(recovery=Recovery.LOOKUP, deduplicates=False, can_lookup=False)
LONG_AGO = {"since": NOW - POLICY.recovery_horizon}


@pytest.mark.parametrize(
    ("policy", "changes", "expected"),
    [
        (POLICY, {}, (Step.REPLAY, None)),
        (POLICY, {"replays": 30}, (Step.REPLAY, None)),
        (POLICY, {"provider_refund_id": "re_1"}, (Step.STATUS, None)),
        (POLICY, {"provider_refund_id": "re_1", **LONG_AGO}, (Step.REVIEW, Cause.HORIZON_PASSED)),
        (POLICY, {"replay_until": NOW + 1}, (Step.REPLAY, None)),
        (POLICY, {"replay_until": NOW}, (Step.LOOKUP, None)),
        (POLICY, {"replay_until": NOW, "absent": True}, (Step.REVIEW, Cause.HANDLE_EXPIRED)),
        (POLICY, {"replay_until": NOW, **LONG_AGO}, (Step.REVIEW, Cause.HANDLE_EXPIRED)),
        (POLICY, {"fingerprint_matches": False}, (Step.LOOKUP, None)),
        (POLICY, {"fingerprint_matches": False, "absent": True}, (Step.REVIEW, Cause.FINGERPRINT_CHANGED)),
        (POLICY, {"attempts": 50}, (Step.LOOKUP, None)),
        (POLICY, {"attempts": 50, "absent": True}, (Step.REVIEW, Cause.ATTEMPTS_EXHAUSTED)),
        (POLICY, {"attempts": 50, **LONG_AGO}, (Step.REVIEW, Cause.ATTEMPTS_EXHAUSTED)),
        (ONE_REPLAY, {}, (Step.REPLAY, None)),
        (ONE_REPLAY, {"replays": 1}, (Step.LOOKUP, None)),
        (ONE_REPLAY, {"replays": 1, "absent": True}, (Step.REPLAY, None)),
        (ONE_REPLAY, {"replays": 1, **LONG_AGO}, (Step.REVIEW, Cause.HORIZON_PASSED)),
        (LOOKUP_FIRST, {}, (Step.LOOKUP, None)),
        (LOOKUP_FIRST, {"absent": True}, (Step.REPLAY, None)),
        (LOOKUP_FIRST, {"absent": True, "replay_until": NOW - 1}, (Step.REVIEW, Cause.HANDLE_EXPIRED)),
        (NO_DEDUPLICATION, {}, (Step.LOOKUP, None)),
        (NO_DEDUPLICATION, {"absent": True}, (Step.REVIEW, Cause.CANNOT_REPEAT)),
        (BLIND, {}, (Step.REPLAY, None)),
        (BLIND, {"replay_until": NOW}, (Step.REVIEW, Cause.HANDLE_EXPIRED)),
        (Policy(can_lookup=False, max_replays=1), {"replays": 1}, (Step.REPLAY, None)),
        (UNRECOVERABLE, {}, (Step.REVIEW, Cause.CANNOT_REPEAT)),
    ],
)
def test_recovery_asks_before_it_repeats_and_repeats_only_what_cannot_pay_twice(policy, changes, expected):
    assert plan_recovery(lost(**changes), NOW, policy) == expected


# -- rules that no combination may break ------------------------------------------------------------------------------

TIMES = st.floats(0, NOW + 1e6)
FACTS = st.builds(
    Facts,
    provider_refund_id=st.sampled_from([None, "re_1", "re_2"]),
    status=st.sampled_from([None, "OK"]),
    amount=st.sampled_from([None, 100, 99]),
    currency=st.sampled_from([None, "EUR", "USD"]),
)
KINDS = st.sampled_from(DeclineClass)
ANSWERS = st.one_of(
    st.builds(Succeeded, facts=FACTS),
    st.builds(Pending, facts=FACTS),
    st.builds(Declined, code=st.just("c"), kind=KINDS, own_record=st.booleans(), facts=FACTS),
    st.builds(
        NotSent,
        reason=st.sampled_from(NotSentReason),
        retry_after=st.none() | st.floats(0, 1e6),
        stored=st.booleans(),
        renew_handle=st.booleans(),
    ),
    st.just(Absent()),
    st.builds(Unknown, reason=st.just("r"), contradiction=st.booleans(), facts=FACTS),
)
CASES = st.builds(
    Case,
    state=st.sampled_from(State),
    amount=st.sampled_from([None, 100]),
    currency=st.sampled_from([None, "EUR"]),
    ambiguous=st.booleans(),
    attempts=st.integers(0, 60),
    replays=st.integers(0, 60),
    checks=st.integers(0, 60),
    polls=st.integers(0, 60),
    replay_until=st.none() | TIMES,
    last_send_end=TIMES,
    since=TIMES,
    provider_refund_id=st.sampled_from([None, "re_1"]),
    absent=st.booleans(),
    fingerprint_matches=st.booleans(),
)
POLICIES = st.builds(
    Policy,
    recovery=st.sampled_from(Recovery),
    deduplicates=st.booleans(),
    can_lookup=st.booleans(),
    max_replays=st.none() | st.integers(0, 5),
    max_attempts=st.integers(1, 50),
)
JITTERS = st.floats(0, 1, exclude_max=True)


def is_evidence(case, outcome):
    """Whether an answer is the provider's own word about this very refund."""
    return (
        isinstance(outcome, (Succeeded, Pending))
        or (isinstance(outcome, Declined) and outcome.own_record)
        or case.provider_refund_id is not None
    )


@given(case=CASES, outcome=ANSWERS, policy=POLICIES, jitter=JITTERS)
def test_no_decision_is_a_move_that_the_table_does_not_hold(case, outcome, policy, jitter):
    decision = decide(case, outcome, NOW, policy, jitter)

    assert decision.state is case.state or decision.state in MOVES[case.state]


@given(case=CASES, outcome=ANSWERS, policy=POLICIES, jitter=JITTERS)
def test_while_in_doubt_nothing_is_released_or_sent_anew_but_by_the_providers_own_record(case, outcome, policy, jitter):
    decision = decide(replace(case, ambiguous=True), outcome, NOW, policy, jitter)
    own = isinstance(outcome, Declined) and outcome.own_record

    if case.state in OPEN:
        assert decision.state not in (State.QUEUED, State.CANCELLED)
        assert decision.state is not State.FAILED or own
    assert not decision.renew_handle


@given(case=CASES, outcome=ANSWERS, policy=POLICIES, jitter=JITTERS)
def test_doubt_is_cleared_by_evidence_alone(case, outcome, policy, jitter):
    decision = decide(replace(case, ambiguous=True), outcome, NOW, policy, jitter)

    if not decision.ambiguous:
        assert is_evidence(case, outcome)


@given(case=CASES, outcome=ANSWERS, policy=POLICIES, jitter=JITTERS)
def test_a_final_state_waits_for_nothing_and_an_open_one_is_never_forgotten(case, outcome, policy, jitter):
    decision = decide(case, outcome, NOW, policy, jitter)

    if decision.state in FINAL or decision.state is State.AWAITING_APPROVAL:
        assert decision.due_at is None
    elif decision.state is not State.REVIEW:
        assert decision.due_at is not None
        assert decision.due_at >= NOW
    if decision.state is State.REVIEW and case.state is not State.REVIEW:
        assert decision.cause is not None


@given(case=CASES, outcome=ANSWERS, policy=POLICIES, jitter=JITTERS)
def test_success_and_failure_need_the_providers_word(case, outcome, policy, jitter):
    decision = decide(case, outcome, NOW, policy, jitter)

    if decision.state is State.SUCCEEDED and case.state is not State.SUCCEEDED:
        assert isinstance(outcome, Succeeded)
        assert outcome.facts.amount in (None, case.amount) or case.amount is None
    if decision.state is State.FAILED and case.state is not State.FAILED:
        assert isinstance(outcome, Declined)
        assert outcome.kind is DeclineClass.FINAL


@given(case=CASES, policy=POLICIES, now=TIMES)
def test_a_replay_never_goes_out_where_it_could_pay_twice(case, policy, now):
    step, cause = plan_recovery(case, now, policy)

    if step is Step.REPLAY:
        assert policy.deduplicates
        assert case.fingerprint_matches
        assert case.replay_until is None or now < case.replay_until
        assert case.attempts < policy.max_attempts
        assert case.provider_refund_id is None
    if step is Step.LOOKUP:
        assert policy.can_lookup
    assert (step is Step.REVIEW) == (cause is not None)


@given(case=CASES, policy=POLICIES, jitter=JITTERS)
def test_after_an_absence_the_next_step_is_another_one_or_waits(case, policy, jitter):
    case = replace(case, state=State.UNKNOWN, ambiguous=True)
    decision = decide(case, Absent(), NOW, policy, jitter)

    if decision.state is State.UNKNOWN and decision.due_at == NOW:
        assert plan_recovery(replace(case, absent=decision.absent), NOW, policy)[0] is Step.REPLAY


def test_the_calls_are_those_of_the_port():
    assert set(Call) == {"move", "status", "lookup"}
