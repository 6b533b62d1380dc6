"""The ledger under `deploy/postgresql/roles.sql`: the product works without a right that it does not need."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import inspect, make_url

from ledger.migrate import upgrade
from ledger.session import Ledger
from tests.support.stack import Stack

ROLES = (Path(__file__).parents[3] / "deploy" / "postgresql" / "roles.sql").read_text()
DENIED = psycopg.errors.InsufficientPrivilege


def as_role(url, role):
    return make_url(url).set(username=role).render_as_string(hide_password=False)


def connect(url, role):
    return psycopg.connect(as_role(url, role).replace("+psycopg", ""), autocommit=True)


def apply_roles(url):
    with connect(url, "postgres") as connection:
        connection.execute(ROLES)


@pytest.fixture
def database(postgres_url):
    """An upgraded ledger whose roles are in force, as the handbook has it: roles, upgrade, roles."""
    apply_roles(postgres_url)
    upgrade(as_role(postgres_url, "refundry"))
    apply_roles(postgres_url)
    return postgres_url


@pytest.fixture
def running(tmp_path, database, redis_server, monkeypatch):
    # The schema is there and the workers' role may not make it.
    monkeypatch.setattr("tests.support.stack.upgrade", lambda _url: None)
    stack = Stack(tmp_path / "stack", as_role(database, "refundry_app"), redis_server)
    yield stack
    stack.stop()


def test_the_whole_system_works_as_refundry_app(running):
    stack = running.start()
    stack.faults({"provider": "smartpay", "call": "refund", "fault": "answer_lost", "first": 1})
    stack.enqueue([*stack.jobs("smartpay", 3), *stack.jobs("smart2pay", 3), *stack.jobs("smartretry", 3)])

    assert stack.settle(9) == {"succeeded": 9}
    stack.assert_paid_once()
    assert "InsufficientPrivilege" not in "".join(worker.tail(100_000) for worker in stack.workers)


def test_an_auditor_reads_the_journal_and_verifies_it(database, redis_server, tmp_path):
    environ = {
        **os.environ,
        "REFUNDRY_DATABASE_URL": as_role(database, "refundry_auditor"),
        "REFUNDRY_REDIS_URL": redis_server.url,
        "REFUNDRY_ENCRYPTION_KEYS": "A" * 43 + "=",
        "REFUNDRY_INDEX_KEY": "an index key of a test",
    }
    refundry = Path(sys.executable).with_name("refundry")

    for command in (("audit", "verify"), ("audit", "list"), ("refunds", "list"), ("users", "list"), ("status",)):
        done = subprocess.run(
            [refundry, *command], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )

        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "statement", ["DELETE FROM heartbeat", "UPDATE refund SET amount = 0", "CREATE TABLE mine (a int)"]
)
def test_an_auditor_writes_nothing(database, statement):
    with connect(database, "refundry_auditor") as connection:
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(DENIED):
            connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT password FROM person",
        "SELECT * FROM person",
        "SELECT secret_hash FROM api_key",
        "SELECT digest FROM session",
        "SELECT digest FROM sign_in_link",
        "SELECT key FROM sign_in_try",
    ],
)
def test_an_auditor_sees_nothing_that_opens_a_door(database, statement):
    with connect(database, "refundry_auditor") as connection, pytest.raises(DENIED):
        connection.execute(statement)


def test_an_auditor_sees_who_there_is_and_which_keys(database):
    with connect(database, "refundry_app") as connection:
        connection.execute(
            "INSERT INTO person (name, roles, created_by, created_at, password) VALUES ('ada', 'admin', 'x', 0, 'hash')"
        )
    with connect(database, "refundry_auditor") as connection:
        assert connection.execute("SELECT name, roles, subject FROM person").fetchall() == [("ada", "admin", None)]
        assert connection.execute("SELECT id, name, scopes, revoked_at FROM api_key").fetchall() == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (a int)",
        "ALTER TABLE refund ADD COLUMN mine int",
        "DROP TABLE refund",
        "TRUNCATE event",
        "UPDATE event SET actor = 'nobody'",
        "DELETE FROM event",
        "DELETE FROM anchor",
        "UPDATE posting SET amount = 0",
        "DELETE FROM posting",
        "DELETE FROM external",
        "DELETE FROM recon_difference",
        "DELETE FROM api_key",
        "DELETE FROM webhook_endpoint",
        "DELETE FROM refund",
        "DELETE FROM attempt",
        "DELETE FROM payment",
        "UPDATE alembic_version SET version_num = 'x'",
        "CREATE ROLE mine",
    ],
)
def test_a_worker_changes_no_table_and_forgets_no_history(database, statement):
    with connect(database, "refundry_app") as connection, pytest.raises(DENIED):
        connection.execute(statement)


def test_what_a_later_migration_makes_is_reachable_at_once(database):
    with connect(database, "refundry") as connection:
        connection.execute("CREATE TABLE later (no bigint GENERATED ALWAYS AS IDENTITY, word text)")
    with connect(database, "refundry_app") as connection:
        connection.execute("INSERT INTO later (word) VALUES ('written')")
    with connect(database, "refundry_auditor") as connection:
        assert connection.execute("SELECT word FROM later").fetchall() == [("written",)]


def test_strangers_do_not_even_connect(database):
    with connect(database, "postgres") as connection:
        connection.execute("DROP ROLE IF EXISTS stranger")
        connection.execute("CREATE ROLE stranger LOGIN")
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            connect(database, "stranger")
        connection.execute("DROP ROLE stranger")


def test_every_table_belongs_to_the_owner(database):
    ledger = Ledger(database)
    with ledger.read() as connection:
        owners = connection.exec_driver_sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")

        assert owners.scalars().all() == ["refundry"]
        assert inspect(connection).get_table_names()
    ledger.dispose()
