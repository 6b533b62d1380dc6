"""Each provider, as the sandbox plays it in process: a lost answer, then trouble of every kind, is one payment."""

import httpx
import pytest

from domain.outcome import NotSent, NotSentReason
from domain.state import FINAL, State
from tests.support.one_process import Bench
from tests.support.sandbox_network import CUT, PROVIDERS, SandboxNetwork

REFUSED = NotSent(reason=NotSentReason.CONNECTION, detail="refused")
THROTTLED = httpx.Response(429, headers={"retry-after": "1"})


def lost_after(_answer):
    """The provider has done it; nobody hears of it."""
    return CUT


@pytest.fixture
def world(request, tmp_path):
    bench = None
    network = SandboxNetwork(lambda: bench.now if bench else 1_800_000_000.0)
    bench = Bench(f"sqlite:///{tmp_path / 'ledger.db'}", **network.accounts())
    bench.network = network
    yield bench
    bench.close()


def submitted(bench, provider):
    currency = {"smartpay": "JPY", "smartretry": "USD"}.get(provider, "EUR")
    made = bench.network.control("POST", "payments", {"provider": provider, "amount": 2100, "currency": currency})
    [block] = made["payments"]
    payment = {key: value for key, value in block.items() if value is not None}

    return bench.refund(provider, payment=payment, amount=1000, currency=currency)


def work(bench, account, refund, rounds=60):
    for _ in range(rounds):
        state = bench.read(refund.id)
        if state.state in FINAL or state.state is State.REVIEW:
            return state
        bench.now = max(bench.now + 0.01, state.due_at or 0.0)
        for lane in ("send", "recover", "poll"):
            bench.turn(lane, account)

    return bench.read(refund.id)


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
    refund = submitted(world, provider)
    world.network.trouble = [lost_after, *AFTERWARDS[afterwards]]
    done = work(world, provider, refund)
    moved = world.network.control("GET", "ledger")

    assert done.state is State.SUCCEEDED, (done.cause, done.note)
    assert [(entry["amount"], entry["handle"]) for entry in moved] == [(1000, refund.handle)]
    assert len(set(world.network.bodies)) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_request_that_never_arrived_is_sent_again_and_paid_once(world, provider):
    refund = submitted(world, provider)
    world.network.trouble = [CUT]
    done = work(world, provider, refund)

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
    done = work(world, provider, refund)

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
    done = work(world, provider, refund)

    assert done.state is State.SUCCEEDED, (done.cause, done.note)
    assert done.amount == 2100
    assert [entry["amount"] for entry in world.network.control("GET", "ledger")] == [2100]
