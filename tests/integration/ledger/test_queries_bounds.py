"""What people look for is found without reading every refund, on both databases."""

import pytest

from domain.ids import first_id
from engine.submit import submit
from ledger import queries
from ledger.queries import AmountRange, Filter
from tests.support.sandbox_network import SandboxBench


@pytest.fixture
def world(database_url):
    bench = SandboxBench(database_url)
    yield bench
    bench.close()


def accepted(world, number, currency="EUR"):
    payment = {"id": str(910_000 + number), "amount": 5000, "currency": currency}
    job = {"reference": f"Q-{number}", "account": "smart2pay", "payment": payment}
    refund = submit(
        world.engine, {**job, "amount": 100 * (number + 1), "currency": currency}, actor="x", via="api"
    ).refund
    world.wait(3600)
    return refund


def found(world, **wanted):
    with world.engine.ledger.read() as connection:
        return [each.reference for each in queries.page(connection, Filter(**wanted), limit=50)]


def test_a_time_an_amount_and_a_currency_narrow(world):
    made = [accepted(world, number, "USD" if number == 3 else "EUR") for number in range(4)]
    euro = AmountRange(("EUR",), 200, 301)

    assert found(world, created_after=made[2].created_at) == ["Q-3", "Q-2"]
    assert found(world, created_before=made[2].created_at) == ["Q-1", "Q-0"]
    assert found(world, created_after=made[1].created_at, created_before=made[2].created_at) == ["Q-1"]
    assert found(world, amounts=(euro,)) == ["Q-2", "Q-1"]
    assert found(world, amounts=(euro, AmountRange(("USD",), None, None))) == ["Q-3", "Q-2", "Q-1"]
    assert found(world, currencies=("USD",)) == ["Q-3"]
    assert found(world, states=("queued",)) == ["Q-3", "Q-2", "Q-1", "Q-0"]
    assert found(world, states=("queued", "review", "succeeded")) == ["Q-3", "Q-2", "Q-1", "Q-0"]
    assert found(world, states=("unknown", "review")) == []


def test_a_search_without_an_index_goes_back_so_far_and_on_from_there(world):
    made = [accepted(world, number) for number in range(4)]
    wanted = Filter(amounts=(AmountRange(("EUR",), None, None),))
    with world.engine.ledger.read() as connection:
        far = queries.horizon(connection, wanted, None, 3)
        assert far == made[1].id
        assert queries.horizon(connection, wanted, far, 3) is None
        older = Filter(created_before=made[2].created_at - 600)
        assert queries.horizon(connection, older, None, 2) == made[0].id
    assert found(world, from_id=far) == ["Q-3", "Q-2", "Q-1"]


def test_only_what_no_index_leads_to_is_a_scan():
    for indexed in ({}, {"reference": "x"}, {"anything": ("x",)}, {"states": ("review",)}, {"email_hash": "x"}):
        assert not Filter(**indexed).is_scan, indexed
    for scan in ({"states": ("succeeded",)}, {"accounts": ("x",)}, {"currencies": ("EUR",)}, {"created_after": 1.0}):
        assert Filter(**scan).is_scan, scan


def test_ids_sort_by_their_time():
    assert first_id("rf", 10.0) < first_id("rf", 10.001)
