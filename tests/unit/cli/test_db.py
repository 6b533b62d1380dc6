import sqlite3

from ledger.migrate import head


def test_a_database_is_made_and_brought_up_to_date(home, refundry):
    (home / "ledger.db").unlink()

    before = refundry("db", "current", "-o", "json").json()
    made = refundry("db", "upgrade", "-o", "json").json()
    again = refundry("db", "upgrade")

    assert before == {"current": None, "head": head(), "up_to_date": False}
    assert (made["before"], made["current"]) == (None, head())
    assert again.status == 0
    assert "up to date" in again.out
    assert refundry("db", "current").out.strip() == head()


def test_what_is_wanted_is_said(home, refundry):
    (home / "ledger.db").unlink()

    told = refundry("db", "current")

    assert told.status == 0
    assert "refundry db upgrade" in told.out


def test_a_database_of_a_newer_program_is_left_alone_and_worked_with(home, refundry):
    with sqlite3.connect(home / "ledger.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()

    made = refundry("db", "upgrade")
    told = refundry("db", "current")

    assert (made.status, told.status) == (0, 0)
    assert f"9999, of a newer program than this one, which has {head()}" in made.out
    assert told.out == made.out
    assert refundry("refunds", "list").status == 0


def test_a_database_that_is_away_has_a_status_of_its_own(home, refundry, monkeypatch):
    monkeypatch.setenv("REFUNDRY_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")

    assert refundry("db", "upgrade").status == 6
