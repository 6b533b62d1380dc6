from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError

from domain.decision import Cause
from domain.refund import moved
from domain.state import State
from ledger import journal, refunds
from ledger.models import attempt, event, outbox, payment, refund
from ledger.refunds import AttemptEnd, AttemptStart, Change
from tests.integration.ledger.support import (
    LEASE,
    NOW,
    PAYMENT,
    a_candidate,
    accept,
    accepted,
    apply,
    claim,
    every,
    money,
    reload,
    results,
    sql,
    step,
    walk,
)


def ids(claimed):
    return [each.id for each in claimed]


def several(ledger, count, **changes):
    """That many refunds of payments of their own."""
    candidates = [
        a_candidate(payment_ref=f"q-{number}", payment_id=f"q-{number}", **changes) for number in range(count)
    ]

    return [each.refund.id for each in accept(ledger, *candidates)]


def a_start(no=1, **changes):
    values = {
        "no": no,
        "handle": "h",
        "method": "POST",
        "url": "https://api.example.com/refunds",
        "headers": "[]",
        "body": b"\x00sealed \xff bytes",
        "body_hash": "hash",
        "fingerprint": "print",
        "seen": None,
        "replay_until": NOW + 1000,
        "started_at": NOW,
        "worker": "w1",
    }

    return AttemptStart(**{**values, **changes})


# -- claiming ---------------------------------------------------------------------------------------------------------


def test_what_is_claimed_is_leased_to_the_worker_under_a_new_fence(ledger):
    before = accepted(ledger)
    (claimed,) = claim(ledger, worker="w7")

    assert claimed == replace(before, due_at=NOW + LEASE, leased_by="w7", fence=1)
    assert claimed == reload(ledger, before)


def test_what_is_leased_is_not_claimed_again(ledger):
    several(ledger, 3)

    assert len(claim(ledger)) == 3
    assert claim(ledger, worker="w2") == []
    assert claim(ledger, worker="w2", now=NOW + LEASE - 1) == []


def test_the_earliest_due_come_first_and_no_more_than_wanted(ledger):
    late, early, middle = [several(ledger, 1, due_at=NOW - age, account=f"shop-{age}")[0] for age in (1, 9, 5)]
    sql(ledger, "UPDATE refund SET account = 'shop'")

    assert ids(claim(ledger, limit=2)) == sorted([early, middle])
    assert ids(claim(ledger, limit=2)) == [late]


def test_where_few_can_be_claimed_those_come_first_whose_handle_dies_first(ledger):
    made = {}
    for name, until, age in (("never", None, 9), ("late", NOW + 500, 8), ("soon", NOW + 50, 1), ("none", None, 2)):
        refund = accepted(ledger, payment_ref=name, payment_id=name)
        walk(ledger, refund, State.SENDING, State.UNKNOWN, replay_until=until, due_at=NOW - age)
        made[name] = refund.id

    claimed = [claim(ledger, "recover", limit=1, urgent=True)[0].id for _ in range(4)]
    assert claimed == [made[name] for name in ("soon", "late", "never", "none")]


def test_nothing_is_claimed_before_it_is_due(ledger):
    several(ledger, 1, due_at=NOW + 5)

    assert claim(ledger, now=NOW + 4.9) == []
    assert len(claim(ledger, now=NOW + 5)) == 1


def test_an_account_claims_its_own(ledger):
    (other,) = several(ledger, 1, account="other")

    assert claim(ledger) == []
    assert ids(claim(ledger, account="other")) == [other]


@pytest.mark.parametrize(
    ("lane", "state"),
    [
        ("send", State.QUEUED),
        ("recover", State.SENDING),
        ("recover", State.UNKNOWN),
        ("poll", State.PENDING),
        ("poll", State.REVIEW),
    ],
)
def test_a_lane_claims_its_states(ledger, lane, state):
    whole = {
        each: several(ledger, 1, account=f"in-{each}")[0]
        for each in (State.QUEUED, State.SENDING, State.UNKNOWN, State.PENDING, State.REVIEW)
    }
    for each, refund_id in whole.items():
        sql(ledger, "UPDATE refund SET state = :state WHERE id = :id", state=each, id=refund_id)

    found = [name for name in whole if claim(ledger, lane, account=f"in-{name}")]
    assert state in found
    assert len(found) == (1 if lane == "send" else 2)


@pytest.mark.parametrize(
    "state",
    [State.AWAITING_APPROVAL, State.SUCCEEDED, State.FAILED, State.CANCELLED, State.REVERSED, State.SETTLED],
)
def test_what_waits_for_nobody_is_in_no_lane(ledger, state):
    (refund_id,) = several(ledger, 1)
    sql(ledger, "UPDATE refund SET state = :state WHERE id = :id", state=state, id=refund_id)

    assert [claim(ledger, lane) for lane in ("send", "recover", "poll")] == [[], [], []]


def test_claimers_at_once_never_get_the_same_row(ledger):
    expected = several(ledger, 120)

    with ThreadPoolExecutor(6) as pool:
        batches = list(pool.map(lambda number: claim(ledger, worker=f"w{number}", limit=20), range(6)))

    claimed = [each for batch in batches for each in ids(batch)]
    rest = ids(claim(ledger))
    assert len(claimed) == len(set(claimed))
    assert sorted(claimed + rest) == sorted(expected)


def test_on_postgresql_a_claimer_does_not_wait_for_another(postgres_ledger):
    several(postgres_ledger, 10)
    with postgres_ledger.write() as first:
        half = refunds.claim(first, "send", "shop", limit=5, now=NOW, until=NOW + 60, worker="w1", alone=False)
        other = claim(postgres_ledger, worker="w2")

    assert len(half) == len(other) == 5
    assert not set(ids(half)) & set(ids(other))


def test_a_lease_that_runs_out_is_counted_and_the_fence_grows(ledger):
    accepted(ledger)
    claim(ledger, worker="w1")
    (again,) = claim(ledger, worker="w2", now=NOW + LEASE)

    assert (again.leased_by, again.fence, again.lost_leases) == ("w2", 2, 1)


def test_a_step_ends_the_count_of_lost_leases(ledger):
    accepted(ledger)
    claim(ledger)
    (claimed,) = claim(ledger, now=NOW + LEASE)
    apply(ledger, step(claimed, State.SENDING))

    assert reload(ledger, claimed).lost_leases == 0


# -- one refund per payment -------------------------------------------------------------------------------------------


def two_of_one_payment(ledger, **changes):
    answers = accept(ledger, a_candidate(**changes), a_candidate(**changes))

    return [reload(ledger, each.refund) for each in answers]


def test_refunds_of_one_payment_go_side_by_side_where_the_provider_allows_it(ledger):
    first, second = two_of_one_payment(ledger)

    assert ids(claim(ledger)) == [first.id, second.id]


def test_an_exclusive_provider_gets_one_refund_of_a_payment_at_a_time(ledger):
    first, second = two_of_one_payment(ledger)
    (claimed,) = claim(ledger, alone=True)

    assert claimed.id == first.id
    assert claimed.holds
    assert claim(ledger, alone=True, now=NOW + 1) == []
    sent = walk(ledger, claimed, State.SENDING, State.PENDING, holds=True)
    assert claim(ledger, alone=True, now=NOW + 1000) == []
    walk(ledger, sent, State.SUCCEEDED)
    assert ids(claim(ledger, alone=True, now=NOW + 1000)) == [second.id]


def test_the_elder_goes_first_even_if_the_younger_is_due_before(ledger):
    (first,) = accept(ledger, a_candidate(due_at=NOW - 1))
    accept(ledger, a_candidate(due_at=NOW - 5))

    assert ids(claim(ledger, alone=True)) == [first.refund.id]


def test_an_elder_that_is_not_due_does_not_block_the_younger(ledger):
    accept(ledger, a_candidate(due_at=NOW + 1000))
    (younger,) = accept(ledger, a_candidate())

    assert ids(claim(ledger, alone=True)) == [younger.refund.id]


def test_claimers_at_once_get_one_refund_of_an_exclusive_payment(ledger):
    accept(ledger, *(a_candidate(amount=1) for _ in range(6)))

    with ThreadPoolExecutor(6) as pool:
        batches = list(pool.map(lambda number: claim(ledger, worker=f"w{number}", alone=True), range(6)))

    assert sum(map(len, batches)) == 1


def test_a_worker_that_dies_before_sending_keeps_its_place(ledger):
    first, _ = two_of_one_payment(ledger)
    claim(ledger, alone=True, worker="w1")

    assert ids(claim(ledger, alone=True, worker="w2", now=NOW + LEASE)) == [first.id]


def test_an_unresolved_refund_holds_its_payment_until_it_is_resolved(ledger):
    (unresolved,) = accept(ledger, a_candidate(captured=None, amount=None, resolved=False))
    (claimed,) = claim(ledger)
    (other,) = accept(ledger, a_candidate(captured=None, amount=10))

    assert claimed.id == unresolved.refund.id
    assert claimed.holds
    assert claim(ledger) == []
    walk(ledger, claimed, State.FAILED, due_at=None)
    assert ids(claim(ledger)) == [other.refund.id]


def test_unresolved_refunds_of_one_payment_go_one_after_the_other(ledger):
    unresolved = {"captured": None, "amount": None, "currency": None, "resolved": False}
    first, second = accept(ledger, a_candidate(**unresolved), a_candidate(**unresolved))

    assert ids(claim(ledger)) == [first.refund.id]
    sql(ledger, "UPDATE refund SET holds = false, due_at = :late, leased_by = NULL WHERE holds", late=NOW + 9)
    assert ids(claim(ledger, now=NOW + 1)) == [second.refund.id]


def test_while_a_refund_is_unknown_no_other_of_its_payment_is_sent(ledger):
    first, second = two_of_one_payment(ledger)
    walk(ledger, first, State.SENDING, State.UNKNOWN)

    assert claim(ledger) == []
    walk(ledger, reload(ledger, first), State.SUCCEEDED, ambiguous=False)
    assert ids(claim(ledger)) == [second.id]


def test_another_payments_unknown_refund_blocks_nobody(ledger):
    walk(ledger, accepted(ledger, payment_ref="a", payment_id="a"), State.SENDING, State.UNKNOWN)
    free = accepted(ledger, payment_ref="b", payment_id="b")

    assert ids(claim(ledger)) == [free.id]


def test_two_refunds_cannot_hold_one_payment(ledger):
    first, second = two_of_one_payment(ledger)
    walk(ledger, first, State.SENDING, holds=True)

    with pytest.raises(IntegrityError):
        apply(ledger, step(second, State.SENDING, fenced=False, holds=True))


def test_the_lanes_that_have_work_are_found(ledger):
    accepted(ledger, payment_ref="a", payment_id="a")
    walk(ledger, accepted(ledger, payment_ref="b", payment_id="b", account="other"), State.SENDING, State.UNKNOWN)
    walk(ledger, accepted(ledger, payment_ref="c", payment_id="c"), State.SENDING, State.PENDING, due_at=NOW + 9)

    def look(now):
        with ledger.read() as connection:
            return refunds.due_lanes(connection, ["shop", "other", "idle"], now)

    assert sorted(look(NOW)) == [("other", "recover"), ("shop", "send")]
    assert ("shop", "poll") in look(NOW + 9)
    assert look(NOW - 1) == []


# -- changes ----------------------------------------------------------------------------------------------------------


def test_a_step_is_state_attempt_event_money_and_announcement(ledger):
    accepted(ledger)
    (claimed,) = claim(ledger)
    change = replace(step(claimed, State.SENDING), start=a_start(), data={"handle": "h"})
    (sending,) = results(ledger, change)
    assert sending == reload(ledger, claimed)
    end = AttemptEnd(no=1, ended_at=NOW + 1, outcome="succeeded", http_status=201, answer=b"\x00\xff", note="Größe")
    done = replace(step(sending, State.SUCCEEDED, at=NOW + 1), end=end)
    (final,) = results(ledger, done)
    assert final == reload(ledger, claimed)

    assert (final.state, final.version, final.final_at) == (State.SUCCEEDED, 3, NOW + 1)
    assert (money(ledger).reserved, money(ledger).refunded) == (0, 100)
    assert [row.state for row in every(ledger, outbox, outbox.c.no)] == ["queued", "sending", "succeeded"]
    with ledger.read() as connection:
        story = journal.story(connection, claimed.id)
    assert [told["type"] for told in story] == ["refund.accepted", "refund.sending", "refund.succeeded"]
    assert story[1]["data"] == {"from": "queued", "to": "sending", "handle": "h"}
    (row,) = every(ledger, attempt)
    assert (row.body, row.answer, row.note, row.http_status, row.fence) == (
        b"\x00sealed \xff bytes",
        b"\x00\xff",
        "Größe",
        201,
        1,
    )


def test_who_lost_the_lease_changes_nothing(ledger):
    accepted(ledger)
    (stale,) = claim(ledger, worker="w1")
    (current,) = claim(ledger, worker="w2", now=NOW + LEASE)
    before = [every(ledger, table) for table in (refund, event, outbox, attempt, payment)]
    late = replace(step(stale, State.SENDING), start=a_start())

    assert apply(ledger, late) == set()
    assert [every(ledger, table) for table in (refund, event, outbox, attempt, payment)] == before
    assert reload(ledger, current) == current


@pytest.mark.parametrize("late_first", [True, False])
def test_who_lost_the_lease_gains_nothing_from_a_batch_with_who_took_it(ledger, late_first):
    accepted(ledger)
    (stale,) = claim(ledger, worker="w1")
    (current,) = claim(ledger, worker="w2", now=NOW + LEASE)
    late = replace(step(stale, State.CANCELLED), data={"who": "late"})
    quiet = Change(before=current, after=replace(current, checks=7), type=None, actor="w2")
    changes = [late, quiet] if late_first else [quiet, late]

    assert results(ledger, *changes) == [None if each is late else quiet.after for each in changes]
    assert len(every(ledger, event)) == 1
    assert reload(ledger, current) == quiet.after
    assert money(ledger).reserved == 100


def test_who_read_an_older_version_changes_nothing(ledger):
    old = accepted(ledger)
    walk(ledger, old, State.CANCELLED)
    before = [every(ledger, table) for table in (refund, event, outbox, payment)]

    assert apply(ledger, step(old, State.FAILED, fenced=False)) == set()
    assert [every(ledger, table) for table in (refund, event, outbox, payment)] == before


def test_of_two_who_change_a_refund_at_once_one_wins(ledger):
    old = accepted(ledger)
    ways = [step(old, State.CANCELLED, fenced=False), step(old, State.FAILED, fenced=False)]

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(lambda change: apply(ledger, change), ways))

    assert sorted(map(len, won)) == [0, 1]
    assert len(every(ledger, event)) == 2
    assert money(ledger).reserved == 0


def test_the_losers_of_a_batch_do_not_hold_up_the_winners(ledger):
    first, second = two_of_one_payment(ledger)
    walk(ledger, first, State.CANCELLED)

    assert apply(ledger, step(first, State.FAILED, fenced=False), step(second, State.FAILED, fenced=False)) == {
        second.id
    }
    assert money(ledger).reserved == 0


def test_a_person_needs_no_lease(ledger):
    accepted(ledger)
    (claimed,) = claim(ledger)

    assert apply(ledger, step(replace(claimed, fence=99), State.CANCELLED, fenced=False)) == {claimed.id}


def test_a_quiet_step_moves_the_clock_and_nothing_else(ledger):
    pending = walk(ledger, accepted(ledger), State.SENDING, State.PENDING)
    quiet = Change(
        before=pending,
        after=replace(pending, due_at=NOW + 60, polls=3, updated_at=NOW + 1),
        type=None,
        actor="w1",
        fenced=False,
    )
    events = len(every(ledger, event))

    assert apply(ledger, quiet) == {pending.id}
    assert reload(ledger, pending) == replace(pending, due_at=NOW + 60, polls=3, updated_at=NOW + 1)
    assert len(every(ledger, event)) == events


def test_an_event_without_a_change_of_state_is_not_announced(ledger):
    pending = walk(ledger, accepted(ledger), State.SENDING, State.PENDING)
    announced = len(every(ledger, outbox))
    noted = Change(before=pending, after=replace(pending, note="seen"), type="refund.noted", actor="anna", fenced=False)

    assert apply(ledger, noted) == {pending.id}
    assert reload(ledger, pending).version == pending.version + 1
    assert len(every(ledger, outbox)) == announced


def test_a_success_after_a_failure_is_booked_even_beyond_the_cap_and_shown(ledger):
    first, second = two_of_one_payment(ledger, amount=500)
    walk(ledger, first, State.SENDING, State.FAILED)
    third = accepted(ledger, amount=500)
    for each in (second, third):
        walk(ledger, each, State.SENDING, State.SUCCEEDED)
    assert not money(ledger).over_refunded
    walk(ledger, reload(ledger, first), State.SUCCEEDED)

    assert (money(ledger).refunded, money(ledger).over_refunded, money(ledger).refundable) == (1500, True, 0)


def test_a_reversal_gives_the_money_back_to_the_payment(ledger):
    done = walk(ledger, accepted(ledger, amount=1000), State.SENDING, State.SUCCEEDED)
    walk(ledger, done, State.REVERSED)

    assert (money(ledger).refunded, money(ledger).reserved, money(ledger).refundable) == (0, 0, 1000)


@pytest.mark.parametrize(
    ("settlement", "refunded"), [("returned", 100), ("not_returned", 0), ("returned_elsewhere", 100)]
)
def test_a_settlement_books_what_its_evidence_says(ledger, settlement, refunded):
    review = walk(ledger, accepted(ledger), State.SENDING, State.REVIEW, ambiguous=True)
    walk(ledger, review, State.SETTLED, settlement=settlement, ambiguous=False)

    assert (money(ledger).reserved, money(ledger).refunded) == (0, refunded)


def test_a_batch_books_each_payment_once_with_the_sum(ledger):
    made = [reload(ledger, each.refund) for each in accept(ledger, *(a_candidate(amount=100) for _ in range(8)))]
    won = apply(ledger, *(step(each, State.CANCELLED, fenced=False) for each in made[:5]))

    assert len(won) == 5
    assert money(ledger).reserved == 300


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE payment SET reserved = -1",
        "UPDATE payment SET refunded = -1",
        "UPDATE payment SET captured = -1",
        "UPDATE payment SET reserved = 1001",
        "UPDATE payment SET refunded = 901",
        "UPDATE refund SET amount = 0",
        "UPDATE refund SET amount = -5",
        "UPDATE refund SET amount = NULL",
        "UPDATE refund SET state = 'lost'",
    ],
)
def test_the_database_itself_refuses_books_that_cannot_be(ledger, statement):
    accepted(ledger)

    with pytest.raises(IntegrityError):
        sql(ledger, statement)


def test_a_provider_refund_belongs_to_one_refund(ledger):
    first, second = two_of_one_payment(ledger)
    walk(ledger, first, State.SENDING, State.SUCCEEDED, provider_refund_id="re_1")
    sending = walk(ledger, second, State.SENDING)

    with pytest.raises(IntegrityError):
        apply(ledger, step(sending, State.SUCCEEDED, fenced=False, provider_refund_id="re_1"))
    assert money(ledger).refunded == 100


def test_a_change_that_breaks_a_rule_takes_its_batch_with_it_and_leaves_no_trace(ledger):
    first, second = two_of_one_payment(ledger)
    walk(ledger, first, State.SENDING, State.SUCCEEDED, provider_refund_id="re_1")
    sending = walk(ledger, second, State.SENDING)
    other = accepted(ledger)
    before = [every(ledger, table) for table in (refund, event, outbox, payment)]

    with pytest.raises(IntegrityError):
        apply(
            ledger,
            step(other, State.CANCELLED, fenced=False),
            step(sending, State.SUCCEEDED, fenced=False, provider_refund_id="re_1"),
        )
    assert [every(ledger, table) for table in (refund, event, outbox, payment)] == before


def test_all_that_a_refund_can_change_is_written(ledger):
    sending = walk(ledger, accepted(ledger), State.SENDING)
    changed = moved(
        sending,
        State.REVIEW,
        NOW + 2.5,
        due_at=NOW + 3,
        payment_ref=PAYMENT,
        whole=True,
        holds=True,
        handle="h-2",
        handle_no=2,
        attempts=3,
        uncounted=1,
        replays=2,
        ambiguous=True,
        absent=True,
        last_send_end=NOW + 1,
        replay_until=NOW + 9,
        provider_refund_id="re_1",
        provider_status="ODD",
        reconciliation_id="arn",
        failure_code="c",
        failure_class="fixable",
        failure_message="Ünïcode ☃ 'quotes' \"and\" \\ %s :name",
        cause=Cause.MISMATCH,
        note="n",
        assignee="anna",
    )
    change = Change(before=sending, after=changed, type="refund.review", actor="w", fenced=False)

    assert results(ledger, change) == [reload(ledger, sending)]
    kept = reload(ledger, sending)
    assert kept == replace(changed, version=sending.version + 1, chain=kept.chain)


def test_the_newest_attempt_is_the_one_that_is_repeated(ledger):
    refund_ids = several(ledger, 2)
    for refund_id in refund_ids:
        claimed = reload(ledger, refund_id)
        apply(ledger, replace(step(claimed, State.SENDING, fenced=False), start=a_start(1)))
        sending = reload(ledger, refund_id)
        apply(ledger, replace(step(sending, State.UNKNOWN, fenced=False), start=a_start(2, body=b"second")))
    with ledger.read() as connection:
        found = refunds.last_attempts(connection, [*refund_ids, "rf_none"])

    assert {key: (value.no, value.body) for key, value in found.items()} == dict.fromkeys(refund_ids, (2, b"second"))


def test_an_attempt_is_never_written_twice(ledger):
    sending = accepted(ledger)
    apply(ledger, replace(step(sending, State.SENDING, fenced=False), start=a_start(1)))
    again = reload(ledger, sending)

    with pytest.raises(IntegrityError):
        apply(ledger, replace(step(again, State.UNKNOWN, fenced=False), start=a_start(1)))


def test_the_count_of_changes_does_not_change_the_number_of_statements(postgres_ledger, count_statements):
    made = [reload(postgres_ledger, refund_id) for refund_id in several(postgres_ledger, 200)]
    changes = [replace(step(each, State.SENDING, fenced=False), start=a_start()) for each in made]
    few = count_statements(lambda: apply(postgres_ledger, *changes[:2]))
    many = count_statements(lambda: apply(postgres_ledger, *changes[2:]))

    assert few == many


def test_no_changes_ask_nothing_of_the_database(postgres_ledger, count_statements):
    with_nothing = count_statements(lambda: postgres_ledger.run(lambda _: None))
    assert count_statements(lambda: apply(postgres_ledger)) == with_nothing


def test_a_refund_that_is_not_there_is_none(ledger):
    with ledger.read() as connection:
        assert refunds.get(connection, "rf_none") is None


def test_an_event_tells_before_and_after(ledger):
    walk(ledger, accepted(ledger), State.CANCELLED)
    told = every(ledger, event, event.c.seq)[-1]

    assert msgspec.json.decode(told.data) == {"from": "queued", "to": "cancelled"}
    assert (told.seq, told.actor, told.at) == (2, "w1", NOW)
