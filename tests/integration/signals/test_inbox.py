"""From the stream into the ledger: an entry leaves the one only when it is in the other."""

import json

import pytest
import redis
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from engine.inbox import take
from ledger import rejected
from ledger.models import refund
from signals.client import connect
from signals.stream import GROUP, INTAKE, REJECTED, Intake, publish_job
from tests.unit.engine.support import JPY, Rung, an_engine


@pytest.fixture
def engine(tmp_path):
    made = an_engine(tmp_path / "refundry.db", Rung())
    yield made
    made.close()


@pytest.fixture
def stream(client):
    made = Intake(client, "c1")
    made.prepare()
    return made


def publish(client, **changes):
    return publish_job(client, json.dumps({**JPY, **changes}).encode())


def refunds(engine):
    with engine.ledger.read() as connection:
        return connection.execute(select(func.count()).select_from(refund)).scalar()


def dead_letters(engine):
    with engine.ledger.read() as connection:
        return rejected.listed(connection)


def test_a_job_becomes_a_refund_and_leaves_the_stream(engine, client, stream):
    publish(client)

    assert take(engine, stream, stream.read(10, block=1)) == 1
    assert refunds(engine) == 1
    assert stream.waiting() == 0
    assert client.xpending(INTAKE, GROUP)["pending"] == 0


def test_what_cannot_be_accepted_is_kept_with_its_reasons_in_both_places(engine, client, stream):
    number = publish(client, amount=1.5)
    publish(client)
    publish_job(client, b"no JSON \x00\xff")

    assert take(engine, stream, stream.read(10, block=1)) == 1
    kept = {each["source"]: json.loads(each["errors"]) for each in dead_letters(engine)}
    assert kept[f"stream:{number}"]["errors"][0]["pointer"] == "#/amount"
    assert {fields[b"source"].decode() for _, fields in client.xrange(REJECTED)} == set(kept)
    assert len(kept) == 2
    assert stream.waiting() == 0


def test_a_ledger_that_is_away_leaves_everything_in_the_stream(engine, client, stream, monkeypatch):
    publish(client)
    entries = stream.read(10, block=1)

    def away(*_arguments):
        raise OperationalError("INSERT", {}, Exception("gone"))

    with monkeypatch.context() as broken:
        broken.setattr(engine.ledger, "run", away)
        with pytest.raises(OperationalError):
            take(engine, stream, entries)
    assert stream.waiting() == 1

    assert take(engine, stream, stream.mine(10)) == 1
    assert stream.waiting() == 0


def test_a_job_whose_acknowledgement_was_lost_is_not_accepted_twice(engine, client, stream, monkeypatch):
    publish(client)
    publish(client, reference="bad", amount=-1)
    entries = stream.read(10, block=1)

    def lost(*_arguments):
        raise redis.ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(Intake, "done", lost)
        with pytest.raises(redis.ConnectionError):
            take(engine, stream, entries)
    assert stream.waiting() == 2

    take(engine, Intake(client, "c2"), Intake(client, "c2").abandoned(10, idle=0))
    assert refunds(engine) == 1
    assert len(dead_letters(engine)) == 1
    assert stream.waiting() == 0


def test_a_redis_that_dies_during_the_work_costs_nothing(engine, redis_server):
    with connect(redis_server.url) as own:
        stream = Intake(own, "c1")
        stream.prepare()
        publish(own)
        entries = stream.read(10, block=1)
        redis_server.kill()
        with pytest.raises(redis.RedisError):
            take(engine, stream, entries)
        redis_server.start()
        stream.prepare()
        # What the companion does. A server that was killed may have forgotten that the entry had been read.
        take(engine, stream, stream.mine(10))
        take(engine, stream, stream.read(10, block=1))

        assert refunds(engine) == 1
        assert stream.waiting() == 0


def test_an_entry_that_says_it_is_of_another_form_is_kept_and_not_read(engine, client, stream):
    client.xadd(INTAKE, {"job": json.dumps(JPY), "form": "2"})
    publish(client, reference="R-2")

    assert take(engine, stream, stream.read(10, block=1)) == 1
    assert (refunds(engine), stream.waiting()) == (1, 0)
    (kept,) = dead_letters(engine)
    assert "newer program" in kept["errors"]
