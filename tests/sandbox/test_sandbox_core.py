"""The world by itself, in virtual time."""

import pytest

from sandbox.core import Payment, RefundState, World
from sandbox.faults import Fault, Rule

START = 1_700_000_000.0


@pytest.fixture
def clock():
    return [START]


@pytest.fixture
def world(clock):
    return World(clock=lambda: clock[0], pending_seconds=10)


@pytest.fixture
def payment(world):
    made = Payment(
        provider="smart_glocal",
        account="smart_glocal",
        id="ps_1",
        number=0,
        amount=1000,
        currency="EUR",
        created_at=START,
        state="accepted",
    )
    world.add_payment(made)
    return made


def refund(world, payment, amount=400, rule=None):
    draft = world.draft(payment, f"rf_{world.next_number()}", amount, handle="h")
    return world.open_refund(draft, rule, at_once=False)


def test_a_pending_refund_moves_money_when_it_falls_due(world, payment, clock):
    made = refund(world, payment)
    clock[0] += 9.9
    before = list(world.movements())
    clock[0] += 60

    (entry,) = world.movements()
    assert before == []
    assert made.state is RefundState.SUCCEEDED
    assert (entry.at, entry.amount, entry.handle) == (START + 10, 400, "h")


def test_what_is_pending_counts_against_the_payment_and_what_failed_does_not(world, payment, clock):
    refund(world, payment, 400)
    refund(world, payment, 500, Rule(Fault.DECLINE))
    before = payment.remaining()
    clock[0] += 10
    world.settle()

    assert (before, payment.remaining()) == (100, 600)


def test_a_flip_reverses_the_entry_and_gives_the_amount_back(world, payment, clock):
    refund(world, payment, rule=Rule(Fault.LATE_FLIP, seconds=5))
    clock[0] += 14
    between = payment.remaining()
    clock[0] += 1

    (entry,) = world.movements()
    assert between == 600
    assert (entry.at, entry.reversed_at) == (START + 10, START + 15)
    assert payment.remaining() == 1000


def test_stuck_never_falls_due(world, payment, clock):
    made = refund(world, payment, rule=Rule(Fault.STUCK))
    clock[0] += 10**9

    assert list(world.movements()) == []
    assert made.state is RefundState.PENDING
    assert world.next_due() is None


@pytest.mark.parametrize(
    ("fault", "state", "moved"),
    [
        (Fault.DECLINE, RefundState.DECLINED, 0),
        (Fault.STUCK, RefundState.PENDING, 0),
        (Fault.LATE_FLIP, RefundState.DECLINED, 1),
        (Fault.SLOW, RefundState.SUCCEEDED, 1),
    ],
)
def test_a_reading_call_may_decide_a_pending_refund(world, payment, clock, fault, state, moved):
    made = refund(world, payment)
    world.bend(made, Rule(fault))
    clock[0] += 60

    assert len(list(world.movements())) == moved
    assert made.state is state


def test_a_reading_call_may_take_back_a_success_but_not_decline_it(world, payment, clock):
    kept, flipped = refund(world, payment), refund(world, payment)
    clock[0] += 10
    world.settle()
    world.bend(kept, Rule(Fault.DECLINE))
    world.bend(flipped, Rule(Fault.LATE_FLIP, seconds=1))
    clock[0] += 1
    world.settle()

    assert (kept.state, flipped.state) == (RefundState.SUCCEEDED, RefundState.DECLINED)
