import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from sqlalchemy import BigInteger, Boolean, Double, Text, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from ledger import session
from ledger.models import heartbeat, outbox, rejected
from ledger.session import Ledger, OverRows, Writes, insert_rows, update_rows
from tests.integration.ledger.support import NOW, accepted, every

TYPES = {"name": Text(), "big": BigInteger(), "exact": Double(), "flag": Boolean(), "none": Text()}


def test_a_table_can_be_made_of_a_parameter(ledger):
    values = [
        {"name": "Größe ☃ '\"\\ :x %s", "big": 10**15, "exact": 1_700_000_000.123456, "flag": True, "none": None},
        {"name": "", "big": -1, "exact": 0.0, "flag": False, "none": None},
    ]
    with ledger.read() as connection:
        asked = OverRows(TYPES, lambda table: select(*(table.c[name] for name in TYPES)))
        found = asked.run(connection, values).all()

    assert [{**row._mapping, "flag": bool(row.flag)} for row in found] == values


def test_a_machine_that_is_cut_off_keeps_no_lock(postgres_ledger):
    """The server ends a transaction whose client says nothing more, sooner where it may hold locks."""
    asked = text("SELECT current_setting('idle_in_transaction_session_timeout')")
    with postgres_ledger.write() as writing, postgres_ledger.read() as reading:
        assert (writing.scalar(asked), reading.scalar(asked)) == ("10s", "10min")


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


MOVE = OverRows(
    {"was": Text(), "is_": Text()},
    lambda values: update(outbox).values(state=values.c.is_).where(outbox.c.state == values.c.was),
)


def written_together(ledger, beat="w"):
    def work(connection):
        writes = Writes(connection)
        writes.insert(
            heartbeat, [{"name": name, "kind": "x", "started_at": 0.5, "beat_at": NOW} for name in ("v", beat)]
        )
        writes.insert(rejected, [])
        writes.update(rejected, [{"id": "rj_1", "body": b"\x00\xff", "size": 2}], keys=("id",))
        writes.over(MOVE, [{"was": "queued", "is_": "sending"}])
        writes.carry_out()

    ledger.run(work)


def test_what_is_written_together_is_all_there(ledger):
    row = {"id": "rj_1", "at": NOW, "source": "s", "errors": "[]", "body": None, "size": 0, "body_hash": "h"}
    ledger.run(lambda connection: insert_rows(connection, rejected, [row]))
    ledger.run(lambda connection: insert_rows(connection, outbox, [a_row(1), a_row(2, state="failed")]))
    written_together(ledger)

    assert [each.name for each in every(ledger, heartbeat, heartbeat.c.name)] == ["v", "w"]
    assert [(each.body, each.size) for each in every(ledger, rejected)] == [(b"\x00\xff", 2)]
    assert [each.state for each in every(ledger, outbox, outbox.c.no)] == ["sending", "failed"]


def test_of_what_is_written_together_nothing_stays_when_one_part_fails(ledger):
    ledger.run(lambda connection: insert_rows(connection, outbox, [a_row(1)]))
    with pytest.raises(IntegrityError):
        written_together(ledger, beat="v")

    assert every(ledger, heartbeat) == []
    assert [each.state for each in every(ledger, outbox)] == ["queued"]


def test_what_is_written_together_is_one_statement(postgres_ledger, count_statements):
    assert count_statements(lambda: written_together(postgres_ledger)) == 1


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


@pytest.mark.parametrize(
    ("given", "used"), [("off", "on"), ("local", "on"), ("on", "on"), ("remote_write", "remote_write")]
)
def test_what_is_committed_outlives_a_crash_whatever_the_servers_default(postgres, given, used):
    url = postgres.create()
    with postgres.connect() as connection:
        connection.execute(f'ALTER DATABASE "{url.rpartition("/")[2]}" SET synchronous_commit = {given}')
    ledger = Ledger(url)
    with ledger.write() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == used
    ledger.dispose()
    postgres.drop(url)


PLANS = (
    "plan_cache_mode",
    "enable_seqscan",
    "enable_hashjoin",
    "enable_mergejoin",
    "enable_material",
    "cpu_tuple_cost",
)


def plans(connection):
    return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in PLANS]


def test_postgresql_plans_a_question_for_the_tables_as_they_are_now_and_a_write_once(postgres_ledger):
    for _ in range(2):
        with postgres_ledger.read() as connection:
            assert plans(connection) == ["force_custom_plan", *4 * ["on"], "0.01"]
        with postgres_ledger.write() as connection:
            assert plans(connection) == ["force_generic_plan", *4 * ["off"], "1"]


def backend_of(ledger):
    """The server's process behind the connection that rests in the pool."""
    return ledger.run(lambda connection: connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())


def kill(ledger, backend):
    with ledger.write() as connection:
        connection.exec_driver_sql(f"SELECT pg_terminate_backend({backend}, 60000)")


@pytest.fixture
def alone(postgres_ledger):
    """A pool of one connection, so that the one that a test ends is the one that it uses next."""
    ledger = Ledger(postgres_ledger.url.render_as_string(hide_password=False), pool_size=1)
    yield ledger
    ledger.dispose()


def test_a_connection_that_ended_while_it_rested_is_made_anew(postgres_ledger, alone, monkeypatch):
    monkeypatch.setattr(session, "_SURELY_THERE", 0.0)
    alone.run(lambda connection: insert_rows(connection, outbox, [a_row(1)]))
    kill(postgres_ledger, backend_of(alone))
    alone.run(lambda connection: insert_rows(connection, outbox, [a_row(2)]))

    assert [row.version for row in every(postgres_ledger, outbox, outbox.c.no)] == [1, 2]


def test_one_that_was_used_just_now_is_not_asked_and_costs_a_fault_when_it_is_gone(postgres_ledger, alone, monkeypatch):
    monkeypatch.setattr(session, "_SURELY_THERE", 3600.0)
    alone.run(lambda connection: insert_rows(connection, outbox, [a_row(1)]))
    kill(postgres_ledger, backend_of(alone))
    with pytest.raises(DBAPIError):
        alone.run(lambda connection: insert_rows(connection, outbox, [a_row(2)]))
    alone.run(lambda connection: insert_rows(connection, outbox, [a_row(3)]))

    assert [row.version for row in every(postgres_ledger, outbox, outbox.c.no)] == [1, 3]


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
