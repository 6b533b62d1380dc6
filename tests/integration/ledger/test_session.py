import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from sqlalchemy import BigInteger, Boolean, Double, Text, select
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from ledger.models import heartbeat, outbox
from ledger.session import Ledger, insert_rows, packed, rows, update_rows
from tests.integration.ledger.support import NOW, accepted, every

TYPES = {"name": Text(), "big": BigInteger(), "exact": Double(), "flag": Boolean(), "none": Text()}


def test_a_table_can_be_made_of_a_parameter(ledger):
    values = [
        {"name": "Größe ☃ '\"\\ :x %s", "big": 10**15, "exact": 1_700_000_000.123456, "flag": True, "none": None},
        {"name": "", "big": -1, "exact": 0.0, "flag": False, "none": None},
    ]
    with ledger.read() as connection:
        table = rows(connection, TYPES)
        found = connection.execute(select(*(table.c[name] for name in TYPES)), packed(values)).all()

    assert [{**row._mapping, "flag": bool(row.flag)} for row in found] == values


def a_row(number, **changes):
    return {
        "refund_id": f"rf_{number}",
        "reference": "R",
        "account": "shop",
        "state": "queued",
        "version": number,
        "at": NOW,
        **changes,
    }


def test_rows_are_inserted_and_updated_by_their_keys(ledger):
    def work(connection):
        insert_rows(connection, outbox, [a_row(number) for number in range(3)])
        update_rows(
            connection,
            outbox,
            [
                {"refund_id": "rf_1", "version": 1, "state": "failed"},
                {"refund_id": "rf_2", "version": 9, "state": "no"},
            ],
            keys=("refund_id", "version"),
        )
        insert_rows(connection, outbox, [])
        update_rows(connection, outbox, [], keys=("refund_id",))

    ledger.run(work)

    assert [row.state for row in every(ledger, outbox, outbox.c.version)] == ["queued", "failed", "queued"]


def test_a_block_that_fails_leaves_no_trace(ledger):
    with pytest.raises(ZeroDivisionError), ledger.write() as connection:  # noqa: PT012 - the block is the thing
        insert_rows(connection, outbox, [a_row(1)])
        raise ZeroDivisionError

    assert every(ledger, outbox) == []


def test_what_the_database_undid_to_break_a_deadlock_is_done_again(postgres_ledger):
    for name in ("a", "b"):
        postgres_ledger.run(
            lambda connection, name=name: connection.execute(
                heartbeat.insert().values(name=name, kind="worker", started_at=0, beat_at=0)
            )
        )
    both = threading.Barrier(2, timeout=10)
    tries = []

    def work(connection, order):
        tries.append(order)
        for position, name in enumerate(order):
            connection.execute(heartbeat.update().where(heartbeat.c.name == name).values(beat_at=NOW))
            if position == 0 and len(tries) <= 2:
                both.wait()

    threads = [
        threading.Thread(target=postgres_ledger.run, args=(lambda connection, order=order: work(connection, order),))
        for order in ("ab", "ba")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(tries) == 3
    assert {row.beat_at for row in every(postgres_ledger, heartbeat)} == {NOW}


def test_a_fault_of_the_work_is_not_tried_again(ledger):
    tries = []

    def work(connection):
        tries.append(1)
        insert_rows(connection, heartbeat, [{"name": "w", "kind": "x", "started_at": 0.0, "beat_at": 0.0}])
        insert_rows(connection, heartbeat, [{"name": "w", "kind": "x", "started_at": 0.0, "beat_at": 0.0}])

    with pytest.raises(IntegrityError):
        ledger.run(work)
    assert tries == [1]


def test_a_deadlock_that_does_not_end_is_reported(ledger):
    class Deadlock(Exception):
        sqlstate = "40P01"

    tries = []

    def work(_connection):
        tries.append(1)
        raise OperationalError("UPDATE", {}, Deadlock())

    with pytest.raises(DBAPIError):
        ledger.run(work, tries=3)
    assert len(tries) == 3


def test_sqlite_is_durable_and_keeps_its_references(sqlite_ledger):
    with sqlite_ledger.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_postgresql_plans_for_the_tables_as_they_are_now(postgres_ledger):
    with postgres_ledger.read() as connection:
        assert connection.exec_driver_sql("SHOW plan_cache_mode").scalar() == "force_custom_plan"


def test_readers_do_not_wait_for_a_writer(ledger, second):
    accepted(ledger)
    with ledger.write() as writing:
        insert_rows(writing, outbox, [a_row(99)])
        seen = [row.version for row in every(second, outbox)]

    assert seen == [1]
    assert [row.version for row in every(second, outbox, outbox.c.no)] == [1, 99]


def test_a_ledger_that_is_not_there_says_so():
    ledger = Ledger("postgresql+psycopg://nobody@127.0.0.1:1/none")

    with pytest.raises(OperationalError), ledger.read():
        pass
    ledger.dispose()


def test_processes_that_open_a_new_file_at_once_all_get_in(tmp_path):
    with ProcessPoolExecutor(6, mp_context=get_context("spawn")) as pool:
        opened = list(pool.map(open_each, [str(tmp_path)] * 6))

    assert opened == [FILES] * 6


FILES = 200


def open_each(folder):
    """Open that many new files, beside others who do the same; before ours waited, one in a few hundred was refused."""
    for number in range(FILES):
        ledger = Ledger(f"sqlite:///{folder}/{number}.db")
        with ledger.write() as connection:
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (a INTEGER)")
        ledger.dispose()

    return FILES
