"""The scaler's figure is the one that `refundry status` shows."""

import random
import time
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

from domain.state import State
from ledger import queries
from ledger.accounts import EVERY, set_switch
from ledger.migrate import upgrade
from ledger.session import Ledger
from tests.integration.ledger.support import ACCOUNT, accepted

FILE = Path(__file__).parents[3] / "deploy" / "kubernetes" / "overlays" / "example" / "scaledobject.yaml"
SCALED, AUTHENTICATION = yaml.safe_load_all(FILE.read_text())
(TRIGGER,) = SCALED["spec"]["triggers"]
WORKING = (State.QUEUED, State.SENDING, State.UNKNOWN, State.PENDING)


@pytest.fixture
def ledger(postgres_url):
    upgrade(postgres_url)
    ledger = Ledger(postgres_url)
    yield ledger
    ledger.dispose()


def asked(ledger):
    """What the scaler sees, and what the product says at the same moment."""
    with ledger.read() as connection:
        scaler = connection.execute(text(TRIGGER["metadata"]["query"])).scalar()
        now = connection.execute(text("SELECT EXTRACT(EPOCH FROM now())::float8")).scalar()
        return float(scaler), queries.oldest_due(connection, now)


def test_nothing_due_is_zero(ledger):
    assert asked(ledger) == (0.0, None)


def test_the_oldest_that_is_due_decides(ledger):
    now = time.time()
    accepted(ledger, due_at=now - 50, payment_ref="a")
    accepted(ledger, due_at=now - 80, payment_ref="b")
    scaler, product = asked(ledger)

    assert scaler == pytest.approx(product, abs=0.01)
    assert scaler >= 80


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_the_product_in_every_mixture(ledger, seed):
    chance = random.Random(seed)
    now = time.time()
    for number in range(20):
        refund = accepted(ledger, due_at=now - chance.uniform(-100, 400), payment_ref=f"payment-{number % 7}")
        with ledger.write() as connection:
            connection.execute(
                text("UPDATE refund SET state = :state, leased_by = :holder, holds = :holds WHERE id = :id"),
                {
                    "state": str(chance.choice(WORKING)),
                    "holder": chance.choice([None, None, "vm:1"]),
                    "holds": False,
                    "id": refund.id,
                },
            )
    scaler, product = asked(ledger)

    assert scaler == pytest.approx(product or 0.0, abs=0.01)


@pytest.mark.parametrize("paused", [ACCOUNT, EVERY])
def test_what_is_paused_rests_and_what_was_sent_does_not(ledger, paused):
    now = time.time()
    accepted(ledger, due_at=now - 80, payment_ref="a")
    with ledger.write() as connection:
        set_switch(connection, paused, actor="lin", now=now, paused=True)
    assert asked(ledger) == (0.0, None)

    sent = accepted(ledger, due_at=now - 50, payment_ref="b")
    with ledger.write() as connection:
        connection.execute(text("UPDATE refund SET state = 'unknown' WHERE id = :id"), {"id": sent.id})
    scaler, product = asked(ledger)

    assert scaler == pytest.approx(product, abs=0.01)
    assert 50 <= scaler < 80


def test_its_parts_name_each_other():
    assert TRIGGER["authenticationRef"]["name"] == AUTHENTICATION["metadata"]["name"]
    assert SCALED["spec"]["scaleTargetRef"]["name"] == "refundry-worker"
    assert TRIGGER["metricType"] == "Value"
    assert all(isinstance(value, str) for value in TRIGGER["metadata"].values())
