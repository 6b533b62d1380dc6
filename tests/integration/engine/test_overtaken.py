"""Others take a payment's money while our refund of it is on its way: it is not sent once more."""

import pytest

from domain.decision import Cause
from domain.outcome import NotSent, NotSentReason
from domain.state import State
from ledger import external, payments
from ledger.external import Kind, Sighting
from tests.support.sandbox_network import CUT, SandboxBench

REFUSED = NotSent(reason=NotSentReason.CONNECTION, detail="refused")


@pytest.fixture
def world(tmp_path):
    bench = SandboxBench(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield bench
    bench.close()


def charged_back(world, account, refund, amount):
    """A chargeback that was made while the refund was under way: nothing is held back."""
    seen = Sighting(
        account=account,
        provider_refund_id="theirs",
        payment_ref=refund.payment_ref,
        kind=Kind.CHARGEBACK,
        amount=amount,
        currency=refund.currency,
        source="test",
        evidence={},
    )
    world.engine.ledger.run(
        lambda connection: external.book(connection, seen, row_id="ex_1", actor="w1", now=world.now)
    )


def sent(world):
    return len(world.network.bodies)


@pytest.mark.parametrize("provider", ["smart_glocal", "smart2pay", "smartpay"])
@pytest.mark.parametrize(("answer", "state"), [(REFUSED, State.QUEUED), (CUT, State.UNKNOWN)])
def test_what_was_overtaken_goes_to_a_person(world, provider, answer, state):
    refund = world.submitted(provider)
    world.network.trouble = [answer]
    real = world.network.send

    async def send_and_charge_back(request):
        answered = await real(request)
        if answered is answer:
            charged_back(world, provider, refund, 2100)
        return answered

    world.network.send = send_and_charge_back
    world.turn("send", provider)
    assert world.read(refund.id).state is state

    stands = world.work(provider, refund)

    assert (stands.state, stands.cause) == (State.REVIEW, Cause.OVER_REFUNDED)
    assert sent(world) == 1
    with world.engine.ledger.read() as connection:
        purse = payments.standing(connection, provider, refund.payment_ref)
    assert (purse.reserved, purse.refunded, purse.excess) == (1000, 2100, 1000)


def test_what_still_fits_is_sent_again(world):
    refund = world.submitted("smart2pay")
    world.network.trouble = [REFUSED]
    world.turn("send", "smart2pay")
    charged_back(world, "smart2pay", refund, 1100)

    assert world.work("smart2pay", refund).state is State.SUCCEEDED
