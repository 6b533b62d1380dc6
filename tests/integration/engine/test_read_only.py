"""A database that is read-only for a moment, as in a failover, costs no job, and makes none a dead letter."""

import json
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from celery.exceptions import Reject
from sqlalchemy import func, select, text
from sqlalchemy.exc import DataError, InternalError

from api.refunds import accept
from engine import inbox
from engine.door import Knock
from engine.inbox import take, take_one
from engine.keys import Machine, Scope
from ledger import models
from ledger.migrate import upgrade
from signals.client import connect
from signals.stream import Intake, publish_job
from tasks import jobs
from tests.unit.engine.support import JPY, Rung, an_engine


@pytest.fixture
def url(postgres):
    made = postgres.create(template=postgres.template("refundry_ledger", upgrade))
    yield made
    postgres.drop(made)


@pytest.fixture
def engine(url):
    made = an_engine(url, Rung(), migrated=True)
    yield made
    made.close()


@pytest.fixture
def read_only(postgres, url, engine):
    """A context in which nothing can be written. Whatever ends with the old connections has ended."""

    class ReadOnly:
        def __enter__(self):
            self._while = postgres.read_only(url)
            self._while.__enter__()
            engine.ledger.dispose()

        def __exit__(self, *error):
            self._while.__exit__(*error)
            engine.ledger.dispose()

    return ReadOnly()


@pytest.fixture
def nearly_over(read_only, monkeypatch):
    """The same, where it has passed before anything can be kept as a dead letter."""
    keep = inbox.keep

    with ExitStack() as outage:

        def kept(*given):
            outage.close()
            keep(*given)

        outage.enter_context(read_only)
        monkeypatch.setattr(inbox, "keep", kept)
        yield outage


@pytest.fixture
def stream(redis_url):
    with connect(redis_url) as client:
        made = Intake(client, "c1")
        made.prepare()
        made.publish = lambda **changes: publish_job(client, json.dumps({**JPY, **changes}).encode())
        yield made


@pytest.fixture
def submit(engine, monkeypatch):
    """The task, as a worker of this engine runs it."""
    monkeypatch.setattr(jobs, "runtime", lambda: SimpleNamespace(engine=engine))
    monkeypatch.setattr(jobs, "LEDGER_AWAY", 0)
    return jobs.submit


def counts(engine):
    """Refunds and dead letters."""
    with engine.ledger.read() as connection:
        return tuple(
            connection.scalar(select(func.count()).select_from(each)) for each in (models.refund, models.rejected)
        )


def poisoned(engine, reference):
    """A job that makes the server fail inside, each time, while others are accepted."""
    with engine.ledger.write() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE 'broken' USING ERRCODE = 'XX000'; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE TRIGGER broken BEFORE INSERT ON refund FOR EACH ROW "
                f"WHEN (NEW.reference = '{reference}') EXECUTE FUNCTION broken()"
            )
        )


def knock(reference):
    machine = Machine(client="shop", key_id="rk_1", scopes=frozenset({Scope.WRITE}), accounts=None)
    job = {**JPY, "reference": reference, "payment": {**JPY["payment"], "id": reference}}
    return Knock(machine, json.dumps(job).encode(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None)


@pytest.mark.parametrize("job", [JPY, {**JPY, "amount": -1}], ids=["good", "bad"])
def test_a_message_is_given_back(engine, read_only, job):
    def take_it():
        return take_one(engine, job, "celery:1", actor="celery", via="celery")

    with read_only, pytest.raises(InternalError, match="read-only"):
        take_it()
    assert counts(engine) == (0, 0)

    take_it()
    assert counts(engine) == ((1, 0) if job is JPY else (0, 1))


def test_a_good_message_is_no_dead_letter_because_the_database_is_back(engine, nearly_over):
    with pytest.raises(InternalError, match="read-only"):
        take_one(engine, JPY, "celery:1", actor="celery", via="celery")
    nearly_over.close()

    assert counts(engine) == (0, 0)


def test_a_good_entry_is_no_dead_letter_because_the_database_is_back(engine, stream, nearly_over):
    stream.publish()
    with pytest.raises(InternalError, match="read-only"):
        take(engine, stream, stream.read(10, block=1))
    nearly_over.close()

    assert (stream.waiting(), counts(engine)) == (1, (0, 0))


def test_a_task_is_queued_again(engine, read_only, submit):
    for given in ((JPY,), (JPY, "another argument")):
        with read_only, pytest.raises(Reject) as rejected:
            submit(*given)
        assert rejected.value.requeue
    assert counts(engine) == (0, 0)

    submit(JPY)
    assert counts(engine) == (1, 0)


def test_a_task_whose_job_could_not_even_be_kept_is_queued_again(submit, monkeypatch):
    def broken(*_):
        raise DataError("INSERT", {}, Exception("out of range"))

    monkeypatch.setattr(inbox, "keep", broken)
    with pytest.raises(Reject) as rejected:
        submit({**JPY, "amount": -1})
    assert rejected.value.requeue


def test_entries_stay_in_the_stream(engine, read_only, stream):
    stream.publish()
    stream.publish(reference="R-2", amount=-1)
    entries = stream.read(10, block=1)
    with read_only, pytest.raises(InternalError, match="read-only"):
        take(engine, stream, entries)
    assert (stream.waiting(), counts(engine)) == (2, (0, 0))

    assert take(engine, stream, stream.mine(10)) == 1
    assert (stream.waiting(), counts(engine)) == (0, (1, 1))


def test_requests_of_one_moment_are_asked_for_once(engine, read_only, monkeypatch):
    tried = []
    run = type(engine.ledger).run
    monkeypatch.setattr(type(engine.ledger), "run", lambda *given: tried.append(1) or run(*given))
    with read_only:
        answers = accept(engine, [knock(f"R-{number}") for number in range(20)])

    assert {type(each) for each in answers} == {InternalError}
    assert len(tried) == 1


def test_a_job_that_alone_breaks_the_server_stops_no_other_and_a_person_is_told(engine, stream, submit):
    poisoned(engine, "R-2")
    for number in (1, 2, 3):
        stream.publish(reference=f"R-{number}", amount=1)

    assert take(engine, stream, stream.read(10, block=1)) == 2
    assert (stream.waiting(), counts(engine)) == (0, (2, 1))
    answers = accept(engine, [knock("R-4"), knock("R-2"), knock("R-5")])
    assert [isinstance(each, InternalError) for each in answers] == [False, True, False]
    submit({**JPY, "reference": "R-2"})
    assert counts(engine) == (4, 2)
