"""A plan made while the tables were empty, as on the day of the installation, serves well when they have grown."""

import pytest
from sqlalchemy.dialects import postgresql

from engine import relay
from ledger import books, deliveries, intake, reconcile, refunds, settlement
from ledger.models import attempt
from ledger.session import OverRows, _update_packed

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


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_batch_finds_its_rows_by_an_index_even_where_the_tables_were_empty(postgres_ledger, name):
    compiled = STATEMENTS[name].compile(dialect=postgresql.psycopg.dialect())
    given = {each: f"${number}" for number, each in enumerate(compiled.params, 1)}
    words = str(compiled) % given
    with postgres_ledger.write() as connection:
        cursor = connection.connection.driver_connection.cursor()
        cursor.execute(f"PREPARE asked AS {words}")
        arguments = ", ".join(["NULL"] * len(given))
        [(plan,)] = cursor.execute(f"EXPLAIN (FORMAT JSON) EXECUTE asked({arguments})").fetchall()
        cursor.execute("DEALLOCATE asked")

    assert list(walked(plan[0]["Plan"])) == []
