import pytest
from msgspec.structs import replace

from domain.decision import Cause, Decision, Failure
from domain.errors import IllegalMove
from domain.outcome import DeclineClass, Facts
from domain.refund import MUTABLE, Refund, Settlement, clean, decided, holds_payment, moved
from domain.state import FINAL, Hold, State
from tests.unit.domain.support import NOW, a_refund

LATER = NOW + 100


def after(refund, state, *, alone=False, **changes):
    values = {"due_at": None, "ambiguous": False, **changes}

    return decided(refund, Decision(state=state, **values), LATER, alone=alone)


def test_a_move_ends_the_lease_and_begins_a_stay():
    refund = a_refund(state=State.SENDING, leased_by="w", lost_leases=3, polls=4, checks=5)
    there = moved(refund, State.UNKNOWN, LATER)

    assert (there.state, there.since, there.updated_at) == (State.UNKNOWN, LATER, LATER)
    assert (there.leased_by, there.lost_leases, there.polls, there.checks) == (None, 0, 0, 0)


def test_who_stays_keeps_counting():
    refund = a_refund(state=State.UNKNOWN, polls=4, checks=5)
    there = moved(refund, State.UNKNOWN, LATER)

    assert (there.since, there.polls, there.checks, there.updated_at) == (refund.since, 4, 5, LATER)


def test_a_move_that_the_table_does_not_hold_is_a_defect():
    with pytest.raises(IllegalMove):
        moved(a_refund(state=State.PENDING), State.QUEUED, LATER)


@pytest.mark.parametrize("state", sorted(FINAL - {State.SETTLED, State.REVERSED, State.CANCELLED}))
def test_the_end_has_its_time_and_frees_the_payment(state):
    there = moved(a_refund(state=State.SENDING, holds=True), state, LATER)

    assert (there.final_at, there.holds) == (LATER, False)


def test_late_evidence_sets_a_new_end():
    failed = moved(a_refund(state=State.SENDING), State.FAILED, NOW)

    assert moved(failed, State.SUCCEEDED, LATER).final_at == LATER


def test_a_decision_keeps_what_was_known_and_adds_what_is_new():
    refund = a_refund(state=State.UNKNOWN, provider_refund_id="re_1", provider_status="OLD", reconciliation_id="arn")
    facts = Facts(provider_refund_id="re_2", status="NEW")
    there = after(refund, State.PENDING, facts=facts)

    assert (there.provider_refund_id, there.provider_status, there.reconciliation_id) == ("re_1", "NEW", "arn")


def test_what_a_provider_says_fits_into_any_database():
    long = "x" * 1000 + "\x00"
    facts = Facts(provider_refund_id=long, status=long, reconciliation_id="a\x00b", alert="\ud800 " + long)
    failure = Failure(code=long, kind=DeclineClass.FINAL, message=long)
    there = after(a_refund(state=State.SENDING), State.FAILED, facts=facts, failure=failure)

    assert (len(there.provider_refund_id), len(there.provider_status)) == (255, 255)
    assert (len(there.failure_code), len(there.failure_message), len(there.note)) == (128, 512, 512)
    assert there.reconciliation_id == "ab"
    assert there.note.startswith("? ")


@pytest.mark.parametrize(
    ("words", "kept"), [(None, None), ("", None), ("\x00", None), ("ab\x00c", "abc"), ("abcd", "abc")]
)
def test_words_are_cleaned_and_cut(words, kept):
    assert clean(words, 3) == kept


def test_a_success_forgets_an_earlier_refusal():
    refund = a_refund(state=State.REVIEW, failure_code="c", failure_class=DeclineClass.FIXABLE, failure_message="m")
    there = after(refund, State.SUCCEEDED)

    assert (there.failure_code, there.failure_class, there.failure_message) == (None, None, None)


def test_the_cause_stays_as_long_as_the_refund_is_in_review():
    refund = a_refund(state=State.REVIEW, cause=Cause.HORIZON_PASSED)

    assert after(refund, State.REVIEW, ambiguous=True).cause is Cause.HORIZON_PASSED
    assert after(refund, State.PENDING).cause is None


@pytest.mark.parametrize("state", [State.REVIEW, State.REVERSED, State.CANCELLED])
def test_an_answer_that_explains_nothing_leaves_the_words_that_stand(state):
    refund = a_refund(state=state, cause=Cause.MISMATCH, note="asked for 100, the provider answers 99")
    quiet = after(refund, state, ambiguous=True)
    told = after(refund, state, facts=Facts(alert="an odd word"))
    another = after(refund, state, cause=Cause.FIXABLE_DECLINE)

    assert (quiet.cause, quiet.note) == (refund.cause, refund.note)
    assert (told.cause, told.note) == (refund.cause, "an odd word")
    assert (another.cause, another.note) == (Cause.FIXABLE_DECLINE, None)


@pytest.mark.parametrize(
    ("state", "then"),
    [(each, each) for each in (State.QUEUED, State.UNKNOWN, State.PENDING)]
    + [(State.REVIEW, State.PENDING), (State.REVERSED, State.SUCCEEDED)],
)
def test_what_goes_on_by_itself_has_the_words_of_its_last_answer_alone(state, then):
    there = after(a_refund(state=state, cause=Cause.REVERSED, note="not found yet"), then)

    assert (there.cause, there.note) == (None, None)


@pytest.mark.parametrize("state", [State.UNKNOWN, State.PENDING, State.REVIEW, State.SUCCEEDED])
def test_a_handle_that_was_used_keeps_its_end(state):
    refund = a_refund(state=State.SENDING, replay_until=LATER)

    assert after(refund, state).replay_until == LATER


def test_only_what_is_proven_unsent_starts_a_new_lifetime():
    assert after(a_refund(state=State.SENDING, replay_until=LATER), State.QUEUED).replay_until is None


@pytest.mark.parametrize(
    ("state", "changes", "holds"),
    [
        (State.QUEUED, {}, False),
        (State.AWAITING_APPROVAL, {}, False),
        (State.SENDING, {}, True),
        (State.UNKNOWN, {"ambiguous": True}, True),
        (State.PENDING, {}, True),
        (State.REVIEW, {"ambiguous": True}, True),
        (State.REVIEW, {"provider_refund_id": "re_1"}, True),
        (State.REVIEW, {}, False),
        (State.SUCCEEDED, {}, False),
        (State.FAILED, {}, False),
    ],
)
def test_a_refund_holds_its_payment_from_the_first_sending_to_the_end(state, changes, holds):
    refund = a_refund(state=state, **changes)

    assert holds_payment(refund, alone=True) is holds
    assert holds_payment(refund, alone=False) is False


@pytest.mark.parametrize(
    ("state", "settlement", "hold"),
    [
        (State.QUEUED, None, Hold.RESERVED),
        (State.REVIEW, None, Hold.RESERVED),
        (State.SUCCEEDED, None, Hold.REFUNDED),
        (State.FAILED, None, Hold.RELEASED),
        (State.SETTLED, Settlement.RETURNED, Hold.REFUNDED),
        (State.SETTLED, Settlement.RETURNED_ELSEWHERE, Hold.REFUNDED),
        (State.SETTLED, Settlement.NOT_RETURNED, Hold.RELEASED),
    ],
)
def test_the_evidence_decides_what_a_settled_refund_did_to_the_money(state, settlement, hold):
    assert a_refund(state=state, settlement=settlement).hold is hold


@pytest.mark.parametrize(
    ("state", "ambiguous", "certain"),
    [
        (State.QUEUED, False, True),
        (State.SENDING, False, False),
        (State.UNKNOWN, True, False),
        (State.PENDING, False, False),
        (State.REVIEW, True, False),
        (State.REVIEW, False, True),
    ],
)
def test_it_is_said_whether_the_outcome_is_certain(state, ambiguous, certain):
    assert a_refund(state=state, ambiguous=ambiguous).outcome_certain is certain


def test_the_rules_read_the_refund_and_not_what_was_no_attempt():
    refund = a_refund(state=State.UNKNOWN, attempts=5, uncounted=2, ambiguous=True, replays=1, replay_until=LATER)
    case = refund.case(ambiguous=False, fingerprint_matches=False)

    assert (case.attempts, case.ambiguous, case.fingerprint_matches) == (3, False, False)
    assert (case.state, case.replays, case.replay_until) == (State.UNKNOWN, 1, LATER)
    assert refund.case().ambiguous


def test_what_is_fixed_at_the_door_is_not_written_again():
    fixed = set(Refund.__struct_fields__) - set(MUTABLE)

    assert fixed == {
        *("id", "account", "provider", "reference", "order_id", "job", "personal", "traceparent", "created_at"),
        *("fence", "version", "chain"),
    }
    assert replace(a_refund(), handle="h2").handle == "h2"
