"""Whatever a refund is known by leads to it without a walk through the table, and still does when that changes."""

import pytest
from msgspec.structs import replace
from sqlalchemy import select, text

from domain.state import State
from ledger import queries
from ledger.migrate import upgrade
from ledger.models import search_term
from ledger.queries import Filter
from ledger.refunds import COLUMNS, Change, apply, claim
from ledger.session import Ledger
from tests.integration.ledger.plans import explain
from tests.integration.ledger.support import ACCOUNT, NOW, accepted

KNOWN, ROWS = 10_000, 100_000
FILL = """
INSERT INTO refund (id, account, provider, reference, payment_ref, payment_id, order_id, state, amount, currency,
                    resolved, handle, job, content_hash, email_hash, chain, since, created_at, updated_at, final_at)
SELECT 'rf_' || lpad(n::text, 26, '0'), 'shop', 'p', 'R' || n, 'p' || n, 'p' || n, 'o' || n / 2, 'succeeded',
       100, 'EUR', true, 'h' || n, '{}', 'c', 'e' || n / 3, 'c', :now, :now, :now, :now
FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) AS n
"""
TERMS = """
INSERT INTO search_term SELECT handle, id FROM refund UNION SELECT order_id, id FROM refund
UNION SELECT email_hash, id FROM refund ON CONFLICT DO NOTHING
"""


def fill(connection, first, last):
    connection.execute(text(FILL), {"now": NOW, "first": first, "last": last})
    connection.execute(text(TERMS))


@pytest.fixture(scope="module", params=["fresh statistics", "stale statistics"])
def filled(request, postgres):
    url = postgres.create(template=postgres.template("refundry_ledger", upgrade))
    ledger = Ledger(url)
    with ledger.write() as connection:
        for table in ("refund", "search_term"):
            connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        fill(connection, 1, KNOWN)
        if request.param == "fresh statistics":
            fill(connection, KNOWN + 1, ROWS)
        connection.exec_driver_sql("ANALYZE refund, search_term")
        if request.param == "stale statistics":
            fill(connection, KNOWN + 1, ROWS)
    yield ledger
    ledger.dispose()
    postgres.drop(url)


def plan_of(ledger, condition):
    query = select(*COLUMNS).where(condition).order_by(COLUMNS[0].desc()).limit(50)
    statement = query.compile(ledger.engine, compile_kwargs={"literal_binds": True})
    with ledger.read() as connection:
        return explain(connection, str(statement).replace(":", r"\:"), {})


@pytest.mark.parametrize("word", ["rf_00000000000000000000004242", "R4242", "p4242", "o2121", "h4242", "nothing"])
def test_any_kind_of_id_is_looked_up(filled, word):
    plan = plan_of(filled, queries._anything(word, ["e1414"]))

    assert "Seq Scan" not in plan.kinds, f"\n{plan}"
    assert plan.rows_read < 100, f"\n{plan}"


@pytest.mark.parametrize("wanted", [Filter(order_id="o2121"), Filter(email_hash="e1414"), Filter(name_hash="e1414")])
def test_a_qualifier_is_looked_up(filled, wanted):
    (condition,) = queries._clauses(wanted)
    plan = plan_of(filled, condition)

    assert "Seq Scan" not in plan.kinds, f"\n{plan}"
    assert plan.rows_read < 100, f"\n{plan}"


def test_a_refund_with_a_new_handle_is_found_by_both(ledger):
    refund = accepted(ledger)
    after = replace(refund, state=State.REVIEW, handle="another", handle_no=2, updated_at=NOW)
    change = Change(before=refund, after=after, type="refund.review", actor="test", fenced=False)
    ledger.run(lambda connection: apply(connection, [change]))

    with ledger.read() as connection:
        for handle in (refund.handle, "another"):
            assert [each.id for each in queries.find(connection, handle)] == [refund.id]


def test_a_step_of_a_refund_leaves_its_terms_alone(ledger):
    refund = accepted(ledger)
    given = {"limit": 1, "now": NOW, "until": NOW + 60, "worker": "w", "alone": False}
    assert ledger.run(lambda connection: claim(connection, "send", ACCOUNT, **given))

    with ledger.read() as connection:
        assert connection.execute(select(search_term.c.term, search_term.c.refund_id)).all() == [
            (refund.handle, refund.id)
        ]
