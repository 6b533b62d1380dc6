from concurrent.futures import ThreadPoolExecutor

import pytest

from domain.decision import Cause
from domain.state import State
from ledger import external, journal, queries
from ledger.external import Kind, Result, Sighting
from ledger.models import external as table
from tests.integration.ledger.support import ACCOUNT, NOW, PAYMENT, accepted, claim, every, money, reload, walk


def a_sighting(number=1, **changes):
    values = {
        "account": ACCOUNT,
        "provider_refund_id": f"theirs-{number}",
        "payment_ref": PAYMENT,
        "kind": Kind.REFUND,
        "amount": 300,
        "currency": "EUR",
        "source": "notification",
        "evidence": {"event": "evt_1"},
    }

    return Sighting(**{**values, **changes})


def book(ledger, *seen):
    """Book them in one transaction; row ids are ex_1, ex_2, …"""

    def work(connection):
        return [
            external.book(connection, each, row_id=f"ex_{each.provider_refund_id}", actor="w1", now=NOW)
            for each in seen
        ]

    return ledger.run(work)


def withdraw(ledger, number=1):
    return ledger.run(
        lambda connection: external.withdraw(
            connection, ACCOUNT, f"theirs-{number}", why="declined", actor="w1", now=NOW
        )
    )


def adopt(ledger, **changes):
    return ledger.run(lambda connection: external.adopt(connection, actor="w1", now=NOW, **changes))


def story(ledger, row_id):
    with ledger.read() as connection:
        return [each["type"] for each in journal.story(connection, f"external/{row_id}")]


def test_what_others_refunded_counts_in_the_cap(ledger):
    accepted(ledger, amount=200)
    (booking,) = book(ledger, a_sighting())

    assert (booking.result, booking.id, booking.alert) == (Result.BOOKED, "ex_theirs-1", None)
    assert (money(ledger).reserved, money(ledger).refunded, money(ledger).refundable) == (200, 300, 500)
    assert story(ledger, "ex_theirs-1") == ["external.booked"]


def test_a_second_report_changes_nothing(ledger):
    accepted(ledger)
    book(ledger, a_sighting())
    (again,) = book(ledger, a_sighting(source="reconciliation", amount=999))

    assert again.result is Result.KNOWN
    assert money(ledger).refunded == 300
    assert story(ledger, "ex_theirs-1") == ["external.booked"]


def test_many_at_once_book_it_once(ledger):
    accepted(ledger)
    with ThreadPoolExecutor(6) as pool:
        found = [each.result for each in pool.map(lambda _: book(ledger, a_sighting())[0], range(6))]

    assert sorted(found) == sorted([Result.BOOKED, *[Result.KNOWN] * 5])
    assert money(ledger).refunded == 300


def test_a_payment_that_we_never_saw_gets_its_books(ledger):
    book(ledger, a_sighting(payment_ref="never-seen"))

    purse = money(ledger, "never-seen")
    assert (purse.captured, purse.refunded, purse.currency, purse.over_refunded) == (None, 300, "EUR", False)


def test_a_refund_of_ours_is_not_booked_as_one_of_others(ledger):
    refund = walk(ledger, accepted(ledger), State.SENDING, State.PENDING, provider_refund_id="theirs-1")
    (booking,) = book(ledger, a_sighting())

    assert (booking.result, booking.id) == (Result.OURS, refund.id)
    assert every(ledger, table) == []
    assert money(ledger).refunded == 0


def test_another_accounts_refund_of_the_same_id_is_none_of_ours(ledger):
    walk(ledger, accepted(ledger), State.SENDING, State.PENDING, provider_refund_id="theirs-1")
    (booking,) = book(ledger, a_sighting(account="elsewhere"))

    assert booking.result is Result.BOOKED


def test_what_goes_beyond_the_capture_is_recorded_and_waits_for_a_person(ledger):
    refund = walk(ledger, accepted(ledger, amount=900), State.SENDING, State.SUCCEEDED)
    (booking,) = book(ledger, a_sighting(kind=Kind.CHARGEBACK))

    assert booking.alert == "200 more than was captured is refunded or on its way"
    assert (money(ledger).refunded, money(ledger).over_refunded) == (1200, True)
    assert reload(ledger, refund).state is State.SUCCEEDED
    with ledger.read() as connection:
        assert [each["id"] for each in external.listed(connection, open_only=True)] == [booking.id]
        assert len(queries.over_refunded(connection)) == 1


def test_a_person_closes_it_once_and_the_money_stays_counted(ledger):
    walk(ledger, accepted(ledger, amount=900), State.SENDING, State.SUCCEEDED)
    book(ledger, a_sighting())
    close = [
        ledger.run(lambda connection: external.close(connection, "ex_theirs-1", actor="anna", reason="agreed", now=NOW))
        for _ in range(2)
    ]

    assert close == [True, False]
    assert money(ledger).refunded == 1200
    with ledger.read() as connection:
        assert external.listed(connection, open_only=True) == []
    assert story(ledger, "ex_theirs-1") == ["external.booked", "external.closed"]


def test_refunds_that_were_never_sent_wait_when_the_cap_is_passed(ledger):
    waiting, sent = accepted(ledger, amount=500), accepted(ledger, amount=400)
    sent = walk(ledger, sent, State.SENDING, State.PENDING)
    book(ledger, a_sighting(kind=Kind.CHARGEBACK))

    held = reload(ledger, waiting)
    assert (held.state, held.cause, held.due_at, held.leased_by) == (State.REVIEW, Cause.OVER_REFUNDED, None, None)
    assert reload(ledger, sent).state is State.PENDING
    assert claim(ledger) == []
    assert money(ledger).reserved == 900


def test_a_claimed_one_that_is_not_sent_yet_is_taken_out_of_the_workers_hands(ledger):
    accepted(ledger, amount=1000)
    (mine,) = claim(ledger)
    book(ledger, a_sighting())

    assert reload(ledger, mine).state is State.REVIEW
    assert reload(ledger, mine).version == mine.version + 1


def test_a_chargeback_of_unknown_reach_holds_back_what_was_not_sent(ledger):
    refund = accepted(ledger, captured=None)
    book(ledger, a_sighting(1, kind=Kind.REFUND))
    assert reload(ledger, refund).state is State.QUEUED
    book(ledger, a_sighting(2, kind=Kind.CHARGEBACK))

    assert reload(ledger, refund).state is State.REVIEW


def test_another_currency_is_shown_and_not_counted(ledger):
    accepted(ledger)
    (booking,) = book(ledger, a_sighting(currency="USD"))

    assert booking.alert == "in USD, and the payment is in EUR: it is not counted"
    assert money(ledger).refunded == 0


def test_what_came_to_nothing_is_taken_out_and_may_come_again(ledger):
    walk(ledger, accepted(ledger, amount=900), State.SENDING, State.SUCCEEDED)
    book(ledger, a_sighting())
    gone = [withdraw(ledger), withdraw(ledger), withdraw(ledger, 9)]

    assert gone == [True, False, False]
    assert (money(ledger).refunded, money(ledger).over_refunded) == (900, False)
    with ledger.read() as connection:
        assert external.listed(connection, open_only=True) == []
    (again,) = book(ledger, a_sighting())
    assert (again.result, money(ledger).refunded) == (Result.BOOKED, 1200)
    assert story(ledger, "ex_theirs-1") == ["external.booked", "external.withdrawn", "external.booked"]


def test_what_turns_out_to_be_ours_is_not_counted_twice(ledger):
    refund = walk(ledger, accepted(ledger, amount=300), State.SENDING)
    book(ledger, a_sighting(), a_sighting(2, amount=50))
    walk(ledger, refund, State.SUCCEEDED, provider_refund_id="theirs-1")
    assert money(ledger).refunded == 650

    adopted = [adopt(ledger, since=NOW + 1), adopt(ledger), adopt(ledger)]

    assert adopted == [[], ["ex_theirs-1"], []]
    assert money(ledger).refunded == 350
    (row,) = [row for row in every(ledger, table) if row.id == "ex_theirs-1"]
    assert (row.refund_id, bool(row.booked)) == (refund.id, False)
    assert book(ledger, a_sighting())[0].result is Result.KNOWN


@pytest.mark.parametrize("changes", [{"amount": 0}, {"amount": -5}])
def test_an_amount_is_above_nothing(ledger, changes):
    from sqlalchemy.exc import IntegrityError

    with pytest.raises(IntegrityError):
        book(ledger, a_sighting(**changes))

    assert every(ledger, table) == []


def test_the_audit_chain_holds_all_of_it(ledger):
    accepted(ledger, amount=900)
    book(ledger, a_sighting())
    withdraw(ledger)
    with ledger.read() as connection:
        count, flaws = journal.verify(connection)

    assert (count, flaws) == (4, [])
