import pytest
from sqlalchemy import text, update

from domain.decision import Cause
from engine.health import Finding, Grade
from ledger import workers
from ledger.models import refund


def test_nothing_to_do_is_fine(home, refundry):
    told = refundry("status", "-o", "json")

    assert told.status == 0
    assert told.json()["grade"] == "fine"
    assert "fine" in refundry("status").out


def test_a_dead_letter_needs_a_person(review, refundry):
    review("R-1", Cause.MISMATCH)

    assert refundry("status").status == 1
    assert "a person is needed" in refundry("status").out


def test_what_is_long_overdue_is_unhealthy(create, engine, refundry):
    create("R-1")
    engine.ledger.run(lambda connection: connection.execute(update(refund).values(due_at=engine.clock() - 3600)))

    assert refundry("status").status == 2


def test_those_who_work_are_named(home, engine, refundry):
    engine.ledger.run(lambda connection: workers.beat(connection, "vm:1", "worker", engine.clock(), {}))

    assert "vm:1" in refundry("status").out


def test_status_csv_and_jsonl_parse(home, refundry):
    assert len(refundry("status", "-o", "csv").out.splitlines()) == 2
    assert refundry("status", "-o", "jsonl").json()["states"]["queued"] == 0


def test_a_watch_cannot_be_one_json_document(home, refundry):
    assert refundry("status", "--watch", "-o", "json").status == 2


@pytest.fixture
def no_calls(monkeypatch):
    async def answer(account):
        return Finding(f"account {account.name}", Grade.FINE, "answers")

    monkeypatch.setattr("engine.health._account", answer)


def test_a_doctor_sees_that_redis_is_away_and_nobody_works(home, no_calls, refundry):
    told = refundry("doctor", "-o", "json")

    assert told.status == 2
    grades = {each["what"]: each["grade"] for each in told.json()}
    assert grades["redis"] == "unhealthy"
    assert grades["workers"] == "unhealthy"
    assert grades["migrations"] == "fine"
    assert grades["account shop"] == "fine"


def test_a_doctor_says_what_is_missing_instead_of_failing(home, no_calls, refundry):
    (home / "ledger.db").unlink()

    told = refundry("doctor")

    assert told.status == 2
    assert "refundry db upgrade" in told.out


def test_a_doctor_sees_programs_of_two_releases(home, engine, no_calls, refundry):
    for name, release in (("vm:1", "0.1.0"), ("vm:2", "0.1.0"), ("vm:3", "0.2.0")):
        details = {"release": release, "schema": "0007"}
        engine.ledger.run(lambda c, name=name, d=details: workers.beat(c, name, "worker", engine.clock(), d))
    engine.ledger.run(lambda c: workers.beat(c, "vm:4", "worker", engine.clock(), {"pid": 1}))
    engine.ledger.run(lambda c: workers.beat(c, "vm:5", "worker", engine.clock() - 60, {"release": "0.0.1"}))

    (found,) = [each for each in refundry("doctor", "-o", "json").json() if each["what"] == "releases"]

    assert found["grade"] == "attention"
    assert found["says"].startswith("2 of 0.1.0 (schema 0007), 1 of 0.2.0 (schema 0007), 1 of ? (schema ?): an upgrade")


def test_a_doctor_sees_a_schema_that_is_ahead(home, engine, no_calls, refundry):
    engine.ledger.run(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))

    (found,) = [each for each in refundry("doctor", "-o", "json").json() if each["what"] == "migrations"]

    assert found["grade"] == "attention"
    assert "newer program" in found["says"]


def test_a_doctor_looks_at_a_database_that_is_away(home, no_calls, refundry, monkeypatch):
    monkeypatch.setenv("REFUNDRY_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")

    assert refundry("doctor").status == 2
