import pytest
from hypothesis import given
from msgspec.structs import replace

from domain.decision import Case, Cause
from domain.policy import Policy, Recovery, absence_counts_from
from domain.state import State
from domain.verdict import Advice, verdict
from tests.unit.domain.test_decision import CASES, POLICIES

NOW = 1_000_000.0
CASE = Case(state=State.REVIEW, amount=100, currency="EUR", attempts=1, since=NOW - 60)
# What an age of the handle means for `replay_until`.
AGES = {"lives for ever": None, "lives": NOW + 1, "just dead": NOW, "dead": NOW - 1}
ALIVE = ("lives for ever", "lives")
CAPABILITIES = {
    "replays and finds": Policy(),
    "replays only": Policy(can_lookup=False),
    "finds only": Policy(deduplicates=False, recovery=Recovery.LOOKUP),
    "neither": Policy(deduplicates=False, can_lookup=False, recovery=Recovery.LOOKUP),
}
CONTRADICTED = {Cause.MISMATCH, Cause.CONTRADICTION, Cause.TWO_HANDLES, Cause.OVER_REFUNDED, Cause.REVERSED}
REFUSED = {Cause.FIXABLE_DECLINE, Cause.STORED_REFUSAL}

# By capability: in doubt with a living handle, in doubt with a dead one.
IN_DOUBT = {
    "replays and finds": (Advice.CHECK_FIRST, Advice.CHECK_FIRST),
    "replays only": (Advice.SAFE, Advice.HUMAN_ONLY),
    "finds only": (Advice.CHECK_FIRST, Advice.CHECK_FIRST),
    "neither": (Advice.HUMAN_ONLY, Advice.HUMAN_ONLY),
}
# The same once a look-up has found nothing.
IN_DOUBT_AND_ABSENT = {
    "replays and finds": (Advice.SAFE, Advice.HUMAN_ONLY),
    "replays only": (Advice.SAFE, Advice.HUMAN_ONLY),
    "finds only": (Advice.HUMAN_ONLY, Advice.HUMAN_ONLY),
    "neither": (Advice.HUMAN_ONLY, Advice.HUMAN_ONLY),
}


def advice(case, cause, policy=CAPABILITIES["replays and finds"], now=NOW):
    found = verdict(case, cause, now, policy)
    assert found.reasons

    return found.advice


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("absent", [False, True])
def test_in_doubt_the_age_of_the_handle_and_the_provider_decide(cause, age, capability, absent):
    case = replace(CASE, ambiguous=True, replay_until=AGES[age], absent=absent)
    table = IN_DOUBT_AND_ABSENT if absent else IN_DOUBT
    expected = Advice.HUMAN_ONLY if cause in CONTRADICTED else table[capability][age not in ALIVE]

    assert advice(case, cause, CAPABILITIES[capability]) is expected


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_without_doubt_the_cause_decides(cause, age, capability):
    case = replace(CASE, ambiguous=False, replay_until=AGES[age])
    expected = Advice.HUMAN_ONLY if cause in CONTRADICTED else Advice.NEW_HANDLE if cause in REFUSED else Advice.SAFE

    assert advice(case, cause, CAPABILITIES[capability]) is expected


@pytest.mark.parametrize("cause", sorted(set(Cause) - CONTRADICTED - REFUSED))
@pytest.mark.parametrize("ambiguous", [False, True])
def test_a_refund_whose_id_is_known_is_asked_about(cause, ambiguous):
    case = replace(CASE, ambiguous=ambiguous, provider_refund_id="re_1")

    assert advice(case, cause) is Advice.CHECK_FIRST


def test_a_repeat_under_another_account_is_nobodys_to_allow_alone():
    case = replace(CASE, ambiguous=True, absent=True, fingerprint_matches=False)

    assert advice(case, Cause.FINGERPRINT_CHANGED) is Advice.HUMAN_ONLY


def test_nothing_is_safe_while_the_last_request_may_still_be_on_its_way():
    policy = CAPABILITIES["replays only"]
    case = replace(CASE, ambiguous=True, last_send_end=NOW)
    matures = absence_counts_from(policy, NOW)

    assert advice(case, Cause.ATTEMPTS_EXHAUSTED, policy, matures - 0.001) is Advice.CHECK_FIRST
    assert advice(case, Cause.ATTEMPTS_EXHAUSTED, policy, matures) is Advice.SAFE


@given(case=CASES, policy=POLICIES)
def test_in_doubt_only_the_same_bytes_under_a_living_handle_are_called_safe(case, policy):
    for cause in Cause:
        if verdict(replace(case, ambiguous=True), cause, NOW, policy).advice is Advice.SAFE:
            assert policy.deduplicates
            assert case.fingerprint_matches
            assert case.replay_until is None or case.replay_until > NOW
            assert case.provider_refund_id is None
            assert cause not in CONTRADICTED


@given(case=CASES, policy=POLICIES)
def test_a_new_handle_is_never_advised_in_doubt(case, policy):
    for cause in Cause:
        assert verdict(replace(case, ambiguous=True), cause, NOW, policy).advice is not Advice.NEW_HANDLE
