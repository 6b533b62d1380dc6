"""Whatever happened at the provider: asking and listing find just that, each once, and nothing else."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from domain.reconcile import Kind, Source
from domain.state import State
from tests.integration.reconcile.conftest import World
from tests.integration.reconcile.test_status_and_lists import LISTING, at_provider, sound

DAY = 86_400.0
#: What happens to a refund at the provider, and what it is found as.
FOUND = {
    "forgotten": Kind.MISSING_AT_PROVIDER,
    "another amount": Kind.AMOUNT_MISMATCH,
    "another currency": Kind.CURRENCY_MISMATCH,
    "taken back": Kind.STATE_MISMATCH,
    "another one elsewhere": Kind.MISSING_HERE,
    "paid twice": Kind.DUPLICATE_AT_PROVIDER,
    "stuck": Kind.LATE,
}
HISTORY = st.lists(st.sampled_from(["paid", *FOUND]), min_size=1, max_size=6)
OTHER = {"JPY": "KRW", "EUR": "USD"}


@pytest.mark.parametrize("provider", LISTING)
@settings(max_examples=4, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(history=HISTORY)
@example(history=["paid", *FOUND])
def test_asking_and_listing_find_what_happened_and_nothing_else(migrated, provider, history):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        path.write_bytes(migrated)
        world = World(f"sqlite:///{path}")
        try:
            planted = Counter(filter(None, (_happens(world, provider, what) for what in history)))
            world.wait(6 * DAY)
            window = {"window_from": world.now - 7 * DAY, "window_to": world.now}
            asked, listed = (world.run(provider, source, **window) for source in (Source.STATUS, Source.LIST))

            # Only Smartpay says of a single refund that there is none: elsewhere a question stays without an answer.
            assert asked.unanswered == 0 or "forgotten" in history
            assert (asked.state == "complete") is (asked.unanswered == 0)
            assert listed.state == "complete"
            assert Counter((each.kind, each.refund_id) for each in world.differences()) == planted
            sound(world)
        finally:
            world.close()


def _happens(world, provider, what):
    """The difference that this is to be found as: its kind and our refund."""
    if what == "stuck":
        return _stuck(world, provider)
    refund = world.paid(provider, captured=5000)
    record, inside = at_provider(world, refund), world.network.app.state.world
    match what:
        case "forgotten":
            record.payment.refunds.remove(record)
            inside.made[record.payment.account].remove(record)
            inside.refunds.pop((record.provider, record.id), None)
        case "another amount":
            record.amount += 1
        case "another currency":
            record.payment.currency = OTHER[record.payment.currency]
        case "taken back":
            inside._flip(record, world.now)
        case "another one elsewhere" | "paid twice":
            amount = 700 if what == "another one elsewhere" else refund.amount
            asked = {"provider": provider, "payment": refund.payment_id, "amount": amount}
            world.network.control("POST", "external", asked)
            return FOUND[what], None
    return (FOUND[what], refund.id) if what in FOUND else None


def _stuck(world, provider):
    world.network.control("PUT", "faults", [{"provider": provider, "call": "refund", "fault": "stuck", "first": 1}])
    refund = world.submitted(provider)
    world.turn("send", provider)
    world.network.control("PUT", "faults", [])
    pending = world.read(refund.id).state is State.PENDING

    return (Kind.LATE, refund.id) if pending else None  # where every answer is final nothing is stuck
