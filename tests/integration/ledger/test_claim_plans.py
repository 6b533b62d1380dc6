"""A claim reads the due end of one index, however long the table is and whatever the statistics say."""

import pytest
from sqlalchemy import text

from ledger import refunds
from ledger.migrate import upgrade
from ledger.session import Ledger
from tests.integration.ledger.plans import explain
from tests.integration.ledger.support import NOW

LIMIT = 64
SMALL, LARGE = 2_000, 200_000

# Of each thousand some are due in each state, a few are queued for later, the rest is done. Two share a payment.
FILL = """
INSERT INTO refund (id, account, provider, reference, payment_ref, state, amount, currency, resolved, handle, job,
                    content_hash, chain, due_at, since, created_at, updated_at, final_at)
SELECT 'rf_' || lpad(n::text, 26, '0'), :account, 'p', 'R' || n, 'p' || n / 2, state, 100, 'EUR', true, 'h' || n, '{}',
       'c', 'c', CASE WHEN state IN ('succeeded', 'failed') THEN NULL WHEN n % 1000 BETWEEN 200 AND 219 THEN :now + 1000
       ELSE :now - n / 1000.0 END, :now, :now, :now, CASE WHEN state IN ('succeeded', 'failed') THEN :now END
FROM (SELECT n, CASE WHEN n % 1000 < 220 THEN 'queued' WHEN n % 1000 < 320 THEN 'unknown'
                     WHEN n % 1000 < 340 THEN 'sending' WHEN n % 1000 < 440 THEN 'pending'
                     WHEN n % 1000 < 460 THEN 'review' WHEN n % 1000 < 960 THEN 'succeeded' ELSE 'failed' END AS state
      FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) AS n) AS made
"""
LANES = [("send", False), ("send", True), ("recover", False), ("poll", False)]
WRONG = {"Seq Scan", "Hash Join", "Merge Join", "Sort", "Incremental Sort", "Hash", "Materialize"}


def fill(ledger, account, first, last):
    with ledger.write() as connection:
        connection.execute(text(FILL), {"account": account, "now": NOW, "first": first, "last": last})


@pytest.fixture(scope="module")
def filled(postgres):
    """Two accounts, a small and a large one, nothing of them known to the planner."""
    url = postgres.create(template=postgres.template("refundry_ledger", upgrade))
    ledger = Ledger(url)
    with ledger.write() as connection:
        connection.exec_driver_sql("ALTER TABLE refund SET (autovacuum_enabled = off)")
    fill(ledger, "small", 1, SMALL)
    fill(ledger, "large", SMALL + 1, SMALL + LARGE)
    yield ledger
    ledger.dispose()
    postgres.drop(url)


@pytest.fixture(scope="module", params=["no statistics", "fresh statistics", "stale statistics"])
def account(request, filled):
    """The account to claim for, with what the planner knows of it: in this order, for knowing cannot be undone."""
    if request.param == "fresh statistics":
        with filled.write() as connection:
            connection.exec_driver_sql("ANALYZE refund")
    if request.param == "stale statistics":
        fill(filled, "new", SMALL + LARGE + 1, SMALL + LARGE + 40_000)
        return "new"

    return "large"


def plan_of(ledger, lane, account, *, alone, prepared=False):
    parameters = {"account": account, "now": NOW, "limit": LIMIT}
    if lane == "send":
        parameters["alone"] = alone
    with ledger.engine.connect() as connection, connection.begin() as transaction:
        plan = explain(connection, refunds._due_statement(lane, sqlite=False), parameters, prepared=prepared)
        transaction.rollback()

    return plan


@pytest.mark.parametrize(("lane", "alone"), LANES)
@pytest.mark.parametrize("prepared", [False, True])
def test_a_claim_reads_the_index_of_what_is_due(filled, account, lane, alone, prepared):
    plan = plan_of(filled, lane, account, alone=alone, prepared=prepared)

    others = {"ix_refund_payment"} if lane == "send" else set()
    assert plan.indexes == {f"ix_refund_due_{lane}"} | others, f"\n{plan}"
    assert not plan.kinds & WRONG, f"\n{plan}"
    assert plan.rows_read < 10 * LIMIT, f"\n{plan}"


@pytest.mark.parametrize(("lane", "alone"), LANES)
def test_a_claim_reads_as_many_rows_of_a_large_account_as_of_a_small_one(filled, account, lane, alone):
    small = plan_of(filled, lane, "small", alone=alone)
    large = plan_of(filled, lane, account, alone=alone)

    assert large.rows_read <= small.rows_read * 1.5, f"\n{small}\n{large}"


@pytest.mark.parametrize("lane", ["send", "recover", "poll"])
def test_to_see_whether_something_is_due_one_row_is_read(filled, account, lane):
    with filled.read() as connection:
        plan = explain(connection, refunds._PROBES[lane].text, {"account": account, "now": NOW})

    assert plan.indexes == {f"ix_refund_due_{lane}"}, f"\n{plan}"
    assert plan.rows_read == 1, f"\n{plan}"


@pytest.mark.parametrize("lane", ["send", "recover", "poll"])
def test_on_sqlite_too_a_claim_reads_the_index_of_what_is_due(sqlite_ledger, lane):
    parameters = {"account": "a", "now": NOW, "limit": LIMIT, "alone": True}
    statement = refunds._due_statement(lane, sqlite=True)
    with sqlite_ledger.read() as connection:
        steps = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), parameters)]

    assert any(f"SEARCH r USING INDEX ix_refund_due_{lane}" in step for step in steps), steps
    assert not any(step.startswith("SCAN") or "TEMP B-TREE" in step for step in steps), steps
