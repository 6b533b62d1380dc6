import pytest
import redis

from signals.client import connect
from signals.stream import EVENTS, GROUP, INTAKE, REJECTED, Entry, Intake, publish_events, publish_job


@pytest.fixture
def intake(client):
    stream = Intake(client, "c1")
    stream.prepare()
    return stream


@pytest.fixture
def other(client, intake):
    return Intake(client, "c2")


def jobs(entries):
    return [entry.job for entry in entries]


def pending(client):
    return client.xpending(INTAKE, GROUP)["pending"]


def test_a_job_is_read_as_it_was_written(client, intake):
    number = publish_job(client, b'{"a": "\xc3\x9f"}', "00-trace")
    publish_job(client, b"\x00\xff no JSON")

    first, second = intake.read(10, block=1)
    assert first == Entry(number, b'{"a": "\xc3\x9f"}', "00-trace")
    assert (second.job, second.traceparent) == (b"\x00\xff no JSON", None)


def test_a_job_that_was_there_before_any_worker_is_read(client):
    publish_job(client, b"early")
    stream = Intake(client, "c1")
    stream.prepare()

    assert jobs(stream.read(10, block=1)) == [b"early"]


def test_nothing_to_read_is_an_empty_list(intake):
    assert intake.read(10, block=1) == []
    assert intake.mine(10) == []
    assert intake.abandoned(10, idle=0) == []


def test_each_job_goes_to_one_consumer_in_order(client, intake, other):
    for number in range(5):
        publish_job(client, str(number).encode())

    assert jobs(intake.read(3, block=1)) == [b"0", b"1", b"2"]
    assert jobs(other.read(3, block=1)) == [b"3", b"4"]


def test_reading_does_not_remove(client, intake):
    publish_job(client, b"job")
    intake.read(10, block=1)

    assert intake.waiting() == 1
    assert pending(client) == 1


def test_what_the_ledger_has_leaves_the_stream(client, intake):
    publish_job(client, b"job")
    intake.done([entry.id for entry in intake.read(10, block=1)])

    assert intake.waiting() == 0
    assert pending(client) == 0


def test_what_was_refused_is_copied_before_it_leaves(client, intake):
    publish_job(client, b"bad")
    (entry,) = intake.read(10, block=1)
    intake.done([entry.id], [{"id": "rj_1", "errors": "[]", "job": b"\x00bad"}])

    assert intake.waiting() == 0
    ((_, kept),) = client.xrange(REJECTED)
    assert kept == {b"id": b"rj_1", b"errors": b"[]", b"job": b"\x00bad"}


def test_nothing_done_says_nothing(client, intake):
    intake.done([], [{"id": "rj_1"}])

    assert not client.exists(REJECTED)


def test_a_consumer_that_starts_again_finds_what_it_had_not_finished(client, intake):
    publish_job(client, b"one")
    publish_job(client, b"two")
    first, _ = intake.read(10, block=1)
    intake.done([first.id])

    assert jobs(Intake(client, "c1").mine(10)) == [b"two"]


def test_the_jobs_of_a_dead_consumer_are_taken_over(client, intake, other):
    publish_job(client, b"job")
    intake.read(10, block=1)

    assert other.abandoned(10, idle=60_000) == []
    (taken,) = other.abandoned(10, idle=0)
    assert taken.job == b"job"
    assert intake.mine(10) == []
    other.done([taken.id])
    assert intake.waiting() == 0


def test_an_entry_that_was_removed_by_hand_is_nobodys(client, intake, other):
    number = publish_job(client, b"job")
    intake.read(10, block=1)
    client.xdel(INTAKE, number)

    assert intake.mine(10) == []
    assert other.abandoned(10, idle=0) == []


def test_to_prepare_twice_is_harmless(client, intake):
    publish_job(client, b"job")
    intake.prepare()

    assert jobs(intake.read(10, block=1)) == [b"job"]


def test_after_redis_forgot_everything_to_prepare_again_is_enough(client, intake):
    publish_job(client, b"lost")
    client.flushall()
    with pytest.raises(redis.ResponseError, match="NOGROUP"):
        intake.read(10, block=1)

    intake.prepare()
    publish_job(client, b"new")
    assert jobs(intake.read(10, block=1)) == [b"new"]


def test_what_was_read_survives_a_restart_of_redis(redis_server):
    with connect(redis_server.url) as connected:
        stream = Intake(connected, "c1")
        stream.prepare()
        publish_job(connected, b"one")
        publish_job(connected, b"two")
        assert jobs(stream.read(1, block=1)) == [b"one"]
        redis_server.restart()

        assert jobs(stream.mine(10)) == [b"one"]
        assert jobs(stream.read(10, block=1)) == [b"two"]


def test_a_foreign_entry_without_a_job_is_an_empty_one(client, intake):
    client.xadd(INTAKE, {"other": "field", "traceparent": b"\xff" * 100})
    (entry,) = intake.read(10, block=1)

    assert entry.job == b""
    assert len(entry.traceparent) <= 64


def test_state_changes_are_told_in_order(client):
    changes = [{"refund_id": f"rf_{number}", "state": "queued", "version": number} for number in range(3)]
    publish_events(client, changes, max_age=60, now=client.time()[0])

    told = [fields for _, fields in client.xrange(EVENTS)]
    assert [fields[b"refund_id"] for fields in told] == [b"rf_0", b"rf_1", b"rf_2"]
    assert told[2] == {b"refund_id": b"rf_2", b"state": b"queued", b"version": b"2"}


def test_old_state_changes_are_trimmed(client):
    client.config_set("stream-node-max-entries", 10)
    now = client.time()[0]
    for number in range(50):
        client.xadd(EVENTS, {"n": number}, id=f"{(now - 1000) * 1000}-{number + 1}")
    publish_events(client, [{"n": 99}], max_age=60, now=now)

    assert client.xlen(EVENTS) < 20
    assert client.xrevrange(EVENTS, count=1)[0][1] == {b"n": b"99"}
