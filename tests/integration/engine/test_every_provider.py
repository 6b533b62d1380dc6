"""Each provider, as the sandbox plays it in process: a lost answer, then trouble of every kind, is one payment."""

import httpx
import pytest

from domain.outcome import NotSent, NotSentReason
from domain.state import State
from tests.support.sandbox_network import CUT, PROVIDERS, SandboxBench

REFUSED = NotSent(reason=NotSentReason.CONNECTION, detail="refused")
THROTTLED = httpx.Response(429, headers={"retry-after": "1"})


def lost_after(_answer):
    """The provider has done it; nobody hears of it."""
    return CUT


@pytest.fixture
def world(tmp_path):
    bench = SandboxBench(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield bench
    bench.close()


AFTERWARDS = {
    "nothing else": [],
    "a refused connection": [REFUSED],
    "a throttled attempt": [THROTTLED],
    "refused connections again and again": [REFUSED] * 5,
    "one more lost answer": [lost_after],
    "an error that may be anything": [httpx.Response(503), httpx.Response(409, json={})],
}


@pytest.mark.parametrize("afterwards", AFTERWARDS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_lost_answer_ends_succeeded_with_one_payment_whatever_comes_next(world, provider, afterwards):
    refund = world.submitted(provider)
    world.network.trouble = [lost_after, *AFTERWARDS[afterwards]]
    done = world.work(provider, refund)
    moved = world.network.control("GET", "ledger")

    assert done.state is State.SUCCEEDED, (done.cause, done.note)
    assert [(entry["amount"], entry["handle"]) for entry in moved] == [(1000, refund.handle)]
    assert len(set(world.network.bodies)) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_request_that_never_arrived_is_sent_again_and_paid_once(world, provider):
    refund = world.submitted(provider)
    world.network.trouble = [CUT]
    done = world.work(provider, refund)

    assert done.state is State.SUCCEEDED, (done.cause, done.note)
    assert len(world.network.control("GET", "ledger")) == 1
    assert len(set(world.network.bodies)) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_refusal_that_our_own_first_payment_caused_does_not_fail_the_refund(world, provider):
    """The whole payment is refunded, the answer lost, and the repeat meets a payment with nothing left."""
    currency = {"smartpay": "JPY", "smartretry": "USD"}.get(provider, "EUR")
    made = world.network.control("POST", "payments", {"provider": provider, "amount": 2100, "currency": currency})
    payment = {key: value for key, value in made["payments"][0].items() if value is not None}
    refund = world.refund(provider, payment=payment, amount=2100, currency=currency)
    world.network.trouble = [lost_after]
    done = world.work(provider, refund)

    assert done.state is State.SUCCEEDED, (done.cause, done.note)
    assert [entry["amount"] for entry in world.network.control("GET", "ledger")] == [2100]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_everything_left_is_refunded_when_the_shop_gives_no_amount(world, provider):
    currency = {"smartpay": "JPY", "smartretry": "USD"}.get(provider, "EUR")
    made = world.network.control("POST", "payments", {"provider": provider, "amount": 2100, "currency": currency})
    block = made["payments"][0]
    names = ("id", "order_id", "method", "capture_id")
    payment = {name: block[name] for name in names if block.get(name) is not None}
    refund = world.refund(provider, payment=payment, amount=None, currency=currency)
    done = world.work(provider, refund)

    assert done.state is State.SUCCEEDED, (done.cause, done.note)
    assert done.amount == 2100
    assert [entry["amount"] for entry in world.network.control("GET", "ledger")] == [2100]
