import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text

from domain.refund import Refund
from domain.state import State
from ledger import intake, refunds
from ledger.intake import CapBroken, Result
from ledger.models import event, outbox, payment, refund
from tests.integration.ledger.support import (
    NOW,
    PAYMENT,
    a_candidate,
    a_refund,
    accept,
    accepted,
    every,
    money,
    reload,
    renamed,
)


def results(admissions):
    return [each.result for each in admissions]


def at_once(count, work):
    """What `work(number)` answers in that many threads that begin together."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def test_an_accepted_job_is_a_row_an_event_an_announcement_and_a_reservation(ledger):
    candidate = a_candidate(reference="R")
    (admission,) = accept(ledger, candidate)

    assert admission.result is Result.ACCEPTED
    stored = reload(ledger, candidate.refund.id)
    assert stored == renamed(admission.refund, version=1, chain=stored.chain)
    (told,) = every(ledger, event)
    assert (told.subject, told.seq, told.type, told.actor, told.hash) == (
        stored.id,
        1,
        "refund.accepted",
        "tester",
        stored.chain,
    )
    (out,) = every(ledger, outbox)
    assert (out.refund_id, out.reference, out.state, out.version) == (stored.id, "R", "queued", 1)
    assert (money(ledger).captured, money(ledger).reserved, money(ledger).currency) == (1000, 100, "EUR")


def test_the_same_job_again_is_the_same_refund(ledger):
    first = accepted(ledger, reference="R", content="same")
    (again,) = accept(ledger, a_candidate(reference="R", content="same"))

    assert (again.result, again.refund) == (Result.REPLAYED, first)
    assert money(ledger).reserved == 100
    assert len(every(ledger, event)) == len(every(ledger, outbox)) == 1


def test_another_content_under_the_same_reference_is_a_conflict(ledger):
    first = accepted(ledger, reference="R", content="one")
    (other,) = accept(ledger, a_candidate(reference="R", content="two", amount=200))

    assert (other.result, other.refund) == (Result.CONFLICT, first)
    assert money(ledger).reserved == 100


def test_a_reference_belongs_to_its_account(ledger):
    answers = accept(ledger, a_candidate(reference="R"), a_candidate(reference="R", account="other"))

    assert results(answers) == [Result.ACCEPTED] * 2


def test_ten_submitters_of_one_job_get_one_refund(ledger):
    answers = at_once(10, lambda _: accept(ledger, a_candidate(reference="R", content="same"))[0])

    assert sorted(results(answers)) == [Result.ACCEPTED] + [Result.REPLAYED] * 9
    assert len({answer.refund.id for answer in answers}) == 1
    assert money(ledger).reserved == 100
    assert len(every(ledger, refund)) == len(every(ledger, event)) == 1


def test_a_twin_that_takes_the_whole_payment_is_not_over_its_own_cap(ledger):
    answers = at_once(10, lambda _: accept(ledger, a_candidate(reference="R", content="same", amount=1000))[0])

    assert sorted(results(answers)) == [Result.ACCEPTED] + [Result.REPLAYED] * 9
    assert money(ledger).refundable == 0


def test_of_two_jobs_of_one_reference_submitted_at_once_one_is_a_conflict(ledger):
    answers = at_once(2, lambda number: accept(ledger, a_candidate(reference="R", content=str(number)))[0])

    assert sorted(results(answers)) == [Result.ACCEPTED, Result.CONFLICT]
    assert money(ledger).reserved == 100


def behind(ledger, first, *candidates):
    """What the candidates are answered whose transaction has read the references before that of `first` commits."""
    with ThreadPoolExecutor(1) as pool:
        with ledger.write() as connection:
            assert results(intake.accept(connection, [first])) == [Result.ACCEPTED]
            answers = pool.submit(accept, ledger, *candidates)
            until_somebody_waits(ledger)
        return answers.result(10)


def until_somebody_waits(ledger):
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    until = time.monotonic() + 10
    while True:
        with ledger.read() as connection:
            if connection.execute(waiting).scalar():
                return
        assert time.monotonic() < until, "nobody waits for a lock"
        time.sleep(0.01)


@pytest.mark.parametrize("used", [0, 40])
@pytest.mark.parametrize(
    ("second", "amount"), [({"amount": 40}, 40), ({"amount": None}, 60), ({"amount": 40, "expect": 60}, 40)]
)
def test_a_twin_that_is_admitted_meanwhile_takes_nothing_from_the_others(postgres_ledger, used, second, amount):
    if used:
        accepted(postgres_ledger, captured=100 + used, amount=used)
    twin = {"reference": "R-1", "content": "same", "captured": 100 + used, "amount": 40}
    answers = behind(
        postgres_ledger,
        a_candidate(**twin),
        a_candidate(**twin),
        a_candidate(reference="R-2", captured=100 + used, **second),
    )

    assert results(answers) == [Result.REPLAYED, Result.ACCEPTED]
    assert answers[1].refund.amount == amount
    assert money(postgres_ledger).reserved == used + 40 + amount


def test_nothing_is_learned_from_a_job_whose_reference_was_taken_meanwhile_for_another_payment(postgres_ledger):
    theirs = a_candidate(reference="R-1", content="theirs", payment_ref="a", payment_id="a")
    ours = {"payment_ref": "b", "payment_id": "b"}
    answers = behind(
        postgres_ledger,
        theirs,
        a_candidate(reference="R-1", content="ours", captured=500, **ours),
        a_candidate(captured=None, currency=None, refund=a_refund(amount=None, currency=None, resolved=False, **ours)),
    )

    assert results(answers) == [Result.CONFLICT, Result.ACCEPTED]
    assert (answers[1].refund.amount, answers[1].refund.currency) == (None, None)
    stands = money(postgres_ledger, "b")
    assert (stands.captured, stands.currency, stands.reserved) == (None, None, 0)


def test_new_payments_are_not_asked_for_twins(postgres_ledger, count_statements):
    def of(payment):
        return lambda: accept(postgres_ledger, a_candidate(payment_ref=payment, payment_id=payment))

    assert count_statements(of("a")) == count_statements(of("b")) < count_statements(of("a"))


def test_partial_refunds_that_race_stay_inside_the_cap(ledger):
    answers = at_once(8, lambda _: accept(ledger, a_candidate(amount=300))[0])

    assert sorted(results(answers)) == [Result.ACCEPTED] * 3 + [Result.OVER_CAP] * 5
    assert (money(ledger).reserved, money(ledger).refundable) == (900, 100)
    assert {answer.available for answer in answers if answer.result is Result.OVER_CAP} == {100}


def test_batches_that_name_the_same_payments_in_other_orders_do_not_lock_each_other_out(ledger):
    names = [f"p-{number}" for number in range(20)]

    def one(number):
        order = random.Random(number).sample(names, len(names))
        return accept(ledger, *(a_candidate(payment_ref=name, payment_id=name, amount=10) for name in order))

    answers = at_once(6, one)

    assert {result for answer in answers for result in results(answer)} == {Result.ACCEPTED}
    assert {money(ledger, name).reserved for name in names} == {60}


def test_a_missing_amount_is_the_rest_of_what_was_captured(ledger):
    accepted(ledger, amount=300)
    (rest,) = accept(ledger, a_candidate(amount=None, currency="EUR", resolved=False))

    assert (rest.refund.amount, rest.refund.currency, rest.refund.resolved, rest.refund.whole) == (
        700,
        "EUR",
        True,
        False,
    )
    assert money(ledger).refundable == 0
    assert results(accept(ledger, a_candidate(amount=None, resolved=False))) == [Result.OVER_CAP]


def test_the_shops_word_for_the_captured_amount_never_leaves_the_amount_out_on_the_wire(ledger):
    (without, given, more) = accept(
        ledger,
        a_candidate(amount=None, resolved=False, payment_ref="a", payment_id="a"),
        a_candidate(amount=1000, payment_ref="b", payment_id="b"),
        a_candidate(amount=999, payment_ref="c", payment_id="c"),
    )

    assert [each.refund.whole for each in (without, given, more)] == [False, False, False]


def test_without_a_captured_amount_there_is_no_cap_and_nothing_is_resolved(ledger):
    first = accepted(ledger, captured=None, amount=10**9)
    (second,) = accept(ledger, a_candidate(captured=None, amount=None, currency=None, resolved=False))

    assert (first.amount, first.whole) == (10**9, False)
    assert (second.result, second.refund.amount, second.refund.resolved) == (Result.ACCEPTED, None, False)
    assert (money(ledger).captured, money(ledger).refundable, money(ledger).reserved) == (None, None, 10**9)


def test_the_captured_amount_is_learned_from_the_first_who_knows_it(ledger):
    accepted(ledger, captured=None, amount=300)
    accepted(ledger, captured=1000, amount=300)
    (over,) = accept(ledger, a_candidate(captured=None, amount=500))

    assert (over.result, over.available) == (Result.OVER_CAP, 400)
    assert money(ledger).captured == 1000


def test_a_captured_amount_below_what_is_reserved_already_is_refused(ledger):
    accepted(ledger, captured=None, amount=300)
    (refused,) = accept(ledger, a_candidate(captured=200, amount=100))

    assert (refused.result, refused.available) == (Result.OVER_CAP, 0)
    assert money(ledger).captured is None


def test_another_captured_amount_is_refused_with_the_known_one(ledger):
    accepted(ledger)
    (refused,) = accept(ledger, a_candidate(captured=2000))

    assert (refused.result, refused.detail) == (Result.CAPTURED_DIFFERS, "1000")


@pytest.mark.parametrize(("payment_currency", "currency"), [("USD", "USD"), ("USD", None), (None, "USD")])
def test_another_currency_is_refused_with_the_known_one(ledger, payment_currency, currency):
    accepted(ledger)
    wanted = a_refund(currency=currency, amount=100 if currency else None)
    (refused,) = accept(ledger, a_candidate(wanted, captured=None, currency=payment_currency))

    assert (refused.result, refused.detail) == (Result.CURRENCY, "EUR")


def test_a_refund_takes_the_currency_of_its_payment(ledger):
    accepted(ledger)
    (rest,) = accept(ledger, a_candidate(a_refund(amount=None, currency=None, resolved=False), currency=None))

    assert rest.refund.currency == "EUR"


@pytest.mark.parametrize(("expected", "result"), [(700, Result.ACCEPTED), (1000, Result.EXPECTATION)])
def test_an_expectation_is_held_against_what_is_left(ledger, expected, result):
    accepted(ledger, amount=300)
    (answer,) = accept(ledger, a_candidate(amount=100, expect=expected))

    assert answer.result is result
    assert answer.available == (700 if result is Result.EXPECTATION else None)


def test_the_order_of_a_payment_that_must_be_looked_up_waits_for_that(ledger):
    order = a_refund(payment_ref="order:o-1", payment_id=None, order_id="o-1", resolved=False, amount=None)
    (answer,) = accept(ledger, a_candidate(order))

    assert (answer.refund.amount, answer.refund.resolved) == (1000, False)


def test_a_batch_answers_each_of_its_jobs_in_order(ledger):
    accepted(ledger, reference="old", content="old", amount=100)
    answers = accept(
        ledger,
        a_candidate(reference="a", content="a", amount=400),
        a_candidate(reference="b", content="b", amount=600),
        a_candidate(reference="a", content="a", amount=400),
        a_candidate(reference="a", content="x", amount=500),
        a_candidate(reference="b", content="b", amount=600),
        a_candidate(reference="old", content="old"),
        a_candidate(reference="old", content="new"),
        a_candidate(reference="c", content="c", amount=500),
        a_candidate(reference="d", content="d", amount=1),
    )

    assert results(answers) == [
        Result.ACCEPTED,
        Result.OVER_CAP,
        Result.REPLAYED,
        Result.CONFLICT,
        Result.OVER_CAP,
        Result.REPLAYED,
        Result.CONFLICT,
        Result.ACCEPTED,
        Result.OVER_CAP,
    ]
    assert answers[2].refund.id == answers[3].refund.id == answers[0].refund.id
    assert money(ledger).reserved == 1000


def test_a_thousand_mixed_jobs_leave_books_that_add_up(ledger):
    dice = random.Random(7)
    jobs = [
        a_candidate(
            reference=f"R-{dice.randrange(800)}",
            content=dice.choice(["one", "one", "two"]),
            payment_ref=(name := f"p-{dice.randrange(60)}"),
            payment_id=name,
            amount=dice.choice([50, 100, 250, 400]),
            captured=dice.choice([1000, 1000, None]),
        )
        for _ in range(1000)
    ]
    answers = accept(ledger, *jobs[:500]) + accept(ledger, *jobs[500:])

    taken = [answer.refund for answer in answers if answer.result is Result.ACCEPTED]
    assert {*results(answers)} == {Result.ACCEPTED, Result.REPLAYED, Result.CONFLICT, Result.OVER_CAP}
    assert len({(each.account, each.reference) for each in taken}) == len(taken) == len(every(ledger, refund))
    assert len(every(ledger, event)) == len(every(ledger, outbox)) == len(taken)
    for row in every(ledger, payment):
        assert row.reserved == sum(each.amount for each in taken if each.payment_ref == row.ref)
        assert row.captured is None or row.reserved <= row.captured


def test_no_jobs_change_nothing(ledger):
    assert accept(ledger) == []
    assert every(ledger, refund) == []


def test_a_transaction_that_fails_leaves_no_trace(ledger):
    def work(connection):
        intake.accept(connection, [a_candidate()])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.run(work)

    assert [len(every(ledger, table)) for table in (refund, payment, event, outbox)] == [0, 0, 0, 0]


def test_the_cap_is_a_condition_of_the_reservation_and_not_only_of_the_sum_before_it(ledger, monkeypatch):
    accepted(ledger, amount=900)
    lock = intake._lock_payments

    def stale(connection, candidates):
        purses = lock(connection, candidates)
        for purse in purses.values():
            purse.used = 0
        return purses

    monkeypatch.setattr(intake, "_lock_payments", stale)
    with pytest.raises(CapBroken):
        accept(ledger, a_candidate(amount=200))

    assert money(ledger).reserved == 900


def test_refunds_are_found_by_account_and_reference(ledger):
    first = accepted(ledger, reference="R")
    with ledger.read() as connection:
        found = intake.find(connection, [("shop", "R"), ("shop", "none")])

    assert found == {("shop", "R"): first}


def test_a_row_holds_all_that_the_value_holds(ledger):
    whole = a_refund(
        personal=b"\x00sealed\xff",
        job='{"description": "Größe ☃"}',
        state=State.AWAITING_APPROVAL,
        due_at=None,
        traceparent="00-abc",
        order_id="o-1",
        created_at=NOW + 0.123456,
    )
    stored = accepted(ledger, refund=whole)

    assert stored == renamed(whole, chain=stored.chain)
    assert isinstance(stored, Refund)


def test_the_count_of_rows_does_not_change_the_number_of_statements(postgres_ledger, count_statements):
    few = count_statements(lambda: accept(postgres_ledger, *(a_candidate(amount=1) for _ in range(2))))
    many = count_statements(lambda: accept(postgres_ledger, *(a_candidate(amount=1) for _ in range(300))))

    assert many <= few + 2
    with postgres_ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(refund)).scalar() == 302


def test_an_admitted_refund_can_be_claimed_at_once(ledger):
    first = accepted(ledger)

    def work(connection):
        return refunds.claim(connection, "send", "shop", limit=5, now=NOW, until=NOW + 60, worker="w", alone=False)

    assert [each.id for each in ledger.run(work)] == [first.id]
    assert first.payment_ref == PAYMENT
