import pytest

from domain.refund import Refund
from domain.state import State
from ledger import payments, refunds
from ledger.payments import Obstacle
from ledger.refunds import Change
from tests.integration.ledger.support import (
    NOW,
    PAYMENT,
    a_candidate,
    a_refund,
    accept,
    accepted,
    apply,
    money,
    reload,
    walk,
)

UNRESOLVED = {"resolved": False, "captured": None}


def resolve(ledger, refund, *, ref=None, **facts):
    """What the provider's facts make of an unresolved refund; on success it is carried out."""
    values = {"captured": 1000, "refunded": 0, "currency": "EUR", "expect_refundable": None, **facts}

    def work(connection):
        result = payments.resolve(
            connection, refund, payment_ref=ref or refund.payment_ref, payment_id=ref or PAYMENT, now=NOW, **values
        )
        if isinstance(result, Refund):
            change = Change(before=refund, after=result, type="refund.resolved", actor="w", fenced=False)
            assert refunds.apply(connection, [change])
        return result

    return ledger.run(work)


def an_order(ledger, **changes):
    values = {"amount": 300, "payment_ref": "order:o-1", "payment_id": None, "order_id": "o-1", "resolved": False}

    return accepted(ledger, **{"captured": None, **values, **changes})


def test_an_order_becomes_its_payment_and_takes_its_money_along(ledger):
    resolved = resolve(ledger, an_order(ledger), ref="p-9")

    assert (resolved.payment_ref, resolved.payment_id, resolved.resolved) == ("p-9", "p-9", True)
    assert reload(ledger, resolved).payment_ref == "p-9"
    assert money(ledger, "order:o-1").reserved == 0
    assert (money(ledger, "p-9").reserved, money(ledger, "p-9").captured) == (300, 1000)
    assert money(ledger, "p-9").currency == "EUR"


def test_a_missing_amount_is_what_is_left_of_the_payment(ledger):
    accepted(ledger, amount=200)
    (rest,) = accept(ledger, a_candidate(a_refund(amount=None, currency=None, resolved=False), captured=None))
    order = an_order(ledger, amount=None, currency=None)
    assert rest.refund.amount == 800
    resolved = resolve(ledger, order, ref="p-9", refunded=350)

    assert (resolved.amount, resolved.currency, resolved.whole) == (650, "EUR", False)


def test_nothing_but_the_whole_untouched_payment_is_the_whole(ledger):
    whole = resolve(ledger, an_order(ledger, amount=None), ref="a")
    part = resolve(ledger, an_order(ledger, amount=999), ref="b")
    touched = resolve(ledger, an_order(ledger, amount=900), ref="c", refunded=100)
    unknown = resolve(ledger, an_order(ledger, amount=900), ref="d", captured=None)

    assert [each.whole for each in (whole, part, touched, unknown)] == [True, False, False, False]


def test_a_payment_that_was_captured_higher_than_the_shop_says_is_not_taken_as_a_whole(ledger):
    order = an_order(ledger, amount=1000, captured=1000)
    resolved = resolve(ledger, order, ref="p-9", captured=1500)

    assert (resolved.amount, resolved.whole) == (1000, False)


def test_over_the_cap_is_refused_with_what_is_left(ledger):
    accepted(ledger, payment_ref="p-9", payment_id="p-9", amount=800)

    assert resolve(ledger, an_order(ledger), ref="p-9") == (Obstacle.OVER_CAP, "200 is refundable")
    assert money(ledger, "p-9").reserved == 800


@pytest.mark.parametrize(("captured", "refunded"), [(1000, 1000), (1000, 1200), (0, 0)])
def test_nothing_left_is_over_the_cap(ledger, captured, refunded):
    order = an_order(ledger, amount=None)
    answer = resolve(ledger, order, ref="p-9", captured=captured, refunded=refunded)

    assert answer == (Obstacle.OVER_CAP, "0 is refundable")


def test_the_lower_of_two_captured_amounts_is_the_cap(ledger):
    accepted(ledger, payment_ref="p-9", payment_id="p-9", amount=1, captured=1000)
    answer = resolve(ledger, an_order(ledger), ref="p-9", captured=200)

    assert answer == (Obstacle.OVER_CAP, "199 is refundable")


def test_what_the_shop_said_of_the_order_caps_its_payment(ledger):
    first, second = an_order(ledger, amount=800, captured=1000), an_order(ledger, amount=200)
    assert resolve(ledger, first, ref="p-9", captured=None).amount == 800
    third = an_order(ledger, amount=800)
    assert resolve(ledger, second, ref="p-9", captured=None).amount == 200

    assert resolve(ledger, third, ref="p-9", captured=None) == (Obstacle.OVER_CAP, "0 is refundable")


def test_without_any_captured_amount_the_provider_keeps_the_cap(ledger):
    resolved = resolve(ledger, an_order(ledger, amount=10**9), ref="p-9", captured=None, refunded=None)

    assert resolved.amount == 10**9
    assert money(ledger, "p-9").captured is None


def test_without_amount_and_cap_nobody_knows_what_to_send(ledger):
    obstacle, _ = resolve(ledger, an_order(ledger, amount=None), ref="p-9", captured=None, refunded=None)

    assert obstacle is Obstacle.AMOUNT_UNKNOWN


@pytest.mark.parametrize("theirs", ["USD", "JPY"])
def test_another_currency_at_the_provider_is_refused(ledger, theirs):
    assert resolve(ledger, an_order(ledger), ref="p-9", currency=theirs) == (
        Obstacle.CURRENCY,
        f"the payment is in {theirs}",
    )


def test_another_currency_in_the_books_is_refused(ledger):
    accepted(ledger, payment_ref="p-9", payment_id="p-9", currency="EUR")
    order = an_order(ledger, refund=a_refund(currency="USD", **ORDER), currency=None)

    assert resolve(ledger, order, ref="p-9", currency=None)[0] is Obstacle.CURRENCY


def test_the_providers_currency_counts_even_where_the_books_agree_with_the_shop(ledger):
    accepted(ledger, payment_ref="p-9", payment_id="p-9", currency="EUR")

    assert resolve(ledger, an_order(ledger), ref="p-9", currency="USD")[0] is Obstacle.CURRENCY


ORDER = {"payment_ref": "order:o-1", "payment_id": None, "order_id": "o-1", "resolved": False}


@pytest.mark.parametrize(
    ("expected", "refunded", "obstacle"),
    [(1000, 0, None), (700, 300, None), (1000, 300, Obstacle.EXPECTATION), (999, 0, Obstacle.EXPECTATION)],
)
def test_an_expectation_is_held_against_what_the_provider_says(ledger, expected, refunded, obstacle):
    answer = resolve(ledger, an_order(ledger), ref="p-9", refunded=refunded, expect_refundable=expected)

    assert (answer[0] if isinstance(answer, tuple) else None) is obstacle


def test_an_expectation_cannot_be_held_against_nothing(ledger):
    answer = resolve(ledger, an_order(ledger), ref="p-9", captured=None, expect_refundable=5)

    assert isinstance(answer, Refund)


def test_what_was_refunded_elsewhere_counts_against_the_cap(ledger):
    done = walk(ledger, accepted(ledger, payment_ref="p-9", payment_id="p-9", amount=100), State.SENDING)
    walk(ledger, done, State.SUCCEEDED)
    order = an_order(ledger, amount=None)

    assert resolve(ledger, order, ref="p-9", refunded=450).amount == 550


def test_what_we_refunded_ourselves_is_not_counted_twice(ledger):
    done = walk(ledger, accepted(ledger, payment_ref="p-9", payment_id="p-9", amount=100), State.SENDING)
    walk(ledger, done, State.SUCCEEDED)

    assert resolve(ledger, an_order(ledger, amount=None), ref="p-9", refunded=100).amount == 900


def test_a_payment_given_by_its_id_keeps_its_own_reservation(ledger):
    refund = accepted(ledger, amount=400, **UNRESOLVED)
    resolved = resolve(ledger, refund)

    assert (resolved.amount, resolved.resolved) == (400, True)
    assert (money(ledger).reserved, money(ledger).captured) == (400, 1000)


def test_a_payment_whose_other_refund_is_unknown_is_waited_for(ledger):
    other = accepted(ledger, payment_ref="p-9", payment_id="p-9")
    walk(ledger, other, State.SENDING, State.UNKNOWN)

    assert resolve(ledger, an_order(ledger), ref="p-9")[0] is Obstacle.BUSY
    walk(ledger, reload(ledger, other), State.SUCCEEDED, ambiguous=False)
    assert isinstance(resolve(ledger, an_order(ledger), ref="p-9"), Refund)


def test_a_payment_nobody_knows_has_no_standing(ledger):
    with ledger.read() as connection:
        assert payments.standing(connection, "shop", "none") is None


def test_an_excess_leaves_nothing_refundable(ledger):
    first, second = (accepted(ledger, amount=500) for _ in range(2))
    failed = walk(ledger, first, State.SENDING, State.FAILED)
    third = accepted(ledger, amount=500)
    for each in (second, third):
        walk(ledger, each, State.SENDING, State.SUCCEEDED)
    walk(ledger, failed, State.SUCCEEDED)

    assert money(ledger).refundable == 0
    (more,) = accept(ledger, a_candidate(amount=1))
    assert more.available == 0
    assert apply(ledger) == set()
