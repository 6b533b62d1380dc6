from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from domain.books import Book, Told, of_external, of_refund
from domain.state import FINAL, MOVES, State


def story(*states, amount=100, payment="p", resolved=None):
    events = [("refund.accepted", {"to": states[0], "amount": amount, "payment": payment, "currency": "EUR"})]
    if resolved is not None:
        events.append(("refund.resolved", {"to": states[0], "amount": resolved[0], "payment": resolved[1]}))
    events += [(f"refund.{state}", {"to": state, "outcome": "returned"}) for state in states[1:]]

    return [Told(subject="rf_1", seq=no, type=kind, at=0.0, data=data) for no, (kind, data) in enumerate(events, 1)]


def books(postings):
    found = Counter()
    for each in postings:
        found[each.book, each.payment_ref] += each.amount

    return {key: amount for key, amount in found.items() if amount}


def shown(*states, **options):
    return books(of_refund(story(*states, **options), "shop", "EUR"))


def test_money_is_reserved_settled_released_and_reversed():
    assert shown("queued") == {(Book.RESERVED, "p"): 100, (Book.PAYMENT, "p"): -100}
    assert shown("queued", "sending", "succeeded") == {(Book.REFUNDED, "p"): 100, (Book.PAYMENT, "p"): -100}
    assert shown("queued", "sending", "failed") == {}
    assert shown("queued", "sending", "succeeded", "reversed") == {}
    assert shown("queued", "sending", "failed", "succeeded") == {(Book.REFUNDED, "p"): 100, (Book.PAYMENT, "p"): -100}


def test_a_payment_that_turns_out_to_be_another_one_takes_the_money_with_it():
    assert shown("queued", payment="order:1", resolved=(100, "p"))[Book.RESERVED, "p"] == 100
    assert (Book.RESERVED, "order:1") not in shown("queued", payment="order:1", resolved=(100, "p"))
    assert shown("queued", amount=None, resolved=(70, "p")) == {(Book.RESERVED, "p"): 70, (Book.PAYMENT, "p"): -70}


@given(st.data())
def test_whatever_happens_the_legs_of_every_event_sum_to_zero(data):
    states = [State.QUEUED]
    while len(states) < 8 and MOVES[states[-1]]:
        states.append(data.draw(st.sampled_from(sorted(MOVES[states[-1]]))))
    sums = Counter()
    for each in of_refund(story(*states), "shop", "EUR"):
        sums[each.seq] += each.amount

    assert not any(sums.values())
    assert (Book.RESERVED in {book for book, _ in shown(*states)}) == (states[-1] not in FINAL)


def test_what_others_moved_is_counted_and_taken_out_again():
    told = [
        Told(subject="external/1", seq=1, type="external.booked", at=0.0, data={"counted": True, "amount": 7}),
        Told(subject="external/1", seq=2, type="external.withdrawn", at=0.0, data={}),
    ]

    assert books(of_external(told[:1], "shop", "p", "EUR")) == {(Book.PAYMENT, "p"): -7, (Book.REFUNDED, "p"): 7}
    assert books(of_external(told, "shop", "p", "EUR")) == {}
