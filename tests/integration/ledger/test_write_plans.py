"""A plan made while the tables were empty, as on the day of the installation, serves well when they have grown."""

import pytest
from sqlalchemy.dialects import postgresql

from engine import relay
from ledger import books, deliveries, intake, reconcile, refunds, session, settlement
from ledger.migrate import upgrade
from ledger.models import attempt
from ledger.session import Ledger, OverRows, _update_packed

MODULES = (books, deliveries, intake, reconcile, refunds, relay, settlement)
STATEMENTS = {
    f"{module.__name__}.{name}": value.reading("rows")
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, OverRows)
} | {"attempt": _update_packed(attempt, ("refund_id", "no", "outcome"), ("refund_id", "no"))}


def walked(node, *, nested=False):
    """The tables that are read without a condition for their index, once for each row of another."""
    if nested and "Relation Name" in node and not {"Index Cond", "Recheck Cond", "TID Cond"} & set(node):
        yield node["Relation Name"], node["Node Type"]
    for each in node.get("Plans", ()):
        yield from walked(each, nested=nested or node["Node Type"] == "Nested Loop")


@pytest.fixture(scope="module")
def fresh(postgres):
    """A ledger as it is installed: nobody has written to it, and so nothing analyses it."""
    url = postgres.create(template=postgres.template("refundry_ledger", upgrade))
    ledger = Ledger(url, pool_size=1)
    yield ledger
    ledger.dispose()
    postgres.drop(url)


def prepared(connection, name):
    """The statement under the name `asked`, and its arguments."""
    compiled = STATEMENTS[name].compile(dialect=postgresql.psycopg.dialect())
    given = {each: f"${number}" for number, each in enumerate(compiled.params, 1)}
    connection.exec_driver_sql(f"PREPARE asked AS {str(compiled) % given}".replace("%", "%%"))

    return ", ".join(["NULL"] * len(given))


def planned(connection, arguments):
    [(plan,)] = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE asked({arguments})")

    return list(walked(plan[0]["Plan"]))


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_batch_finds_its_rows_by_an_index_even_where_the_tables_were_empty(fresh, name):
    with fresh.write() as connection:
        arguments = prepared(connection, name)
        plan = planned(connection, arguments)
        connection.exec_driver_sql("DEALLOCATE asked")

    assert plan == []


def test_a_plan_made_while_a_table_was_known_to_be_empty_does_not_last(fresh, monkeypatch):
    """As of the outbox, which is emptied and vacuumed all the time."""
    with fresh.write() as connection:
        connection.exec_driver_sql("ALTER TABLE payment SET (autovacuum_enabled = false)")
        connection.exec_driver_sql("ANALYZE payment")
    with fresh.write() as connection:
        arguments = prepared(connection, "ledger.refunds._BOOK")
        assert planned(connection, arguments) == [("payment", "Index Scan")]
        connection.exec_driver_sql(
            "INSERT INTO payment (account, ref, created_at) SELECT 'shop', n::text, 0 FROM generate_series(1, 5000) n"
        )
    with fresh.write() as connection:
        assert planned(connection, arguments) == [("payment", "Index Scan")]
    monkeypatch.setattr(session, "_PLANS_LAST", 0.0)

    with fresh.write() as connection:
        assert planned(connection, arguments) == []
