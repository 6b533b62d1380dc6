"""What the console shows on every page: how much stands where, how much money that is, and how old it is."""

import pytest

from domain.state import State
from engine.health import status
from engine.overview import needs
from ledger import figures, queries
from ledger.models import refund as table
from tests.support.one_process import Bench

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def world(database_url):
    bench = Bench(database_url)
    yield bench
    bench.close()


def standing(world, state, amount, *, age=0.0, currency="JPY", **columns):
    """A refund that stands so, accepted and last moved `age` seconds ago."""
    made = world.refund("shop", amount=amount)
    at = world.now - age
    given = {"state": state, "currency": currency, "created_at": at, "since": at, **columns}
    world.engine.ledger.run(lambda c: c.execute(table.update().where(table.c.id == made.id).values(**given)))


def test_what_stands_where_and_how_much_money_it_is(world):
    due = {"due_at": world.now}
    standing(world, State.QUEUED, 100, **due)
    standing(world, State.PENDING, 200, age=2 * HOUR, **due)
    standing(world, State.UNKNOWN, 300, age=2 * DAY, **due)
    standing(world, State.REVIEW, 400, age=8 * DAY, due_at=world.now)
    standing(world, State.REVIEW, 500, age=9 * DAY, currency="EUR", due_at=None)
    standing(world, State.REVERSED, 600, age=3 * DAY, due_at=None)
    standing(world, State.AWAITING_APPROVAL, 700, age=2 * HOUR, due_at=None)
    standing(world, State.SUCCEEDED, 800, due_at=None)
    found = needs(world.engine)

    assert not found["more"]
    assert {state: count for state, count in found["states"].items() if count} == {
        "queued": 1,
        "pending": 1,
        "unknown": 1,
        "review": 2,
        "reversed": 1,
        "awaiting_approval": 1,
    }
    assert found["dead"] == [
        {"currency": "EUR", "count": 1, "amount": 500, "oldest": world.now - 9 * DAY},
        {"currency": "JPY", "count": 2, "amount": 1000, "oldest": world.now - 8 * DAY},
    ]
    assert [(each["currency"], each["amount"]) for each in found["unknown"]] == [("JPY", 300)]
    with world.engine.ledger.read() as connection:
        counted = queries.by_state(connection)
    assert {state: count for state, count in status(world.engine)["states"].items() if count} == counted
    assert [(each["age"], each["currency"], each["count"], each["amount"]) for each in found["ages"]] == [
        ("under 1 h", "JPY", 1, 100),
        ("1 h to 24 h", "JPY", 2, 900),
        ("1 d to 7 d", "JPY", 1, 300),
        ("over 7 d", "EUR", 1, 500),
        ("over 7 d", "JPY", 1, 400),
    ]


@pytest.mark.parametrize("state", [State.QUEUED, State.PENDING])
def test_of_what_may_be_a_million_no_more_is_looked_at_than_is_shown(world, state, monkeypatch):
    monkeypatch.setattr(figures, "MOST", 2)
    for _ in range(5):
        standing(world, state, 100, due_at=world.now)
    for _ in range(4):
        standing(world, State.REVIEW, 100)
    found = needs(world.engine)

    assert (found["states"][state], found["states"]["review"], found["more"]) == (3, 4, True)
    assert sum(each["count"] for each in found["ages"]) == 7
