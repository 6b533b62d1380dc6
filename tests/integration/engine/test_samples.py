"""What each minute came to: counted once, from the journal, however often and by however many it is asked for."""

import threading

import pytest

from engine import samples
from ledger import samples as rows
from tests.support.sandbox_network import SandboxBench


@pytest.fixture
def world(database_url):
    bench = SandboxBench(database_url)
    yield bench
    bench.close()


def minute_of(world):
    world.wait(120 - world.now % 60)
    return int(world.now)


def after(world):
    world.wait(66 - world.now % 60)


def sums(flow):
    return {name: sum(each[name] or 0 for each in flow) for name in samples.FLOW}


def test_a_minute_is_counted_once_by_what_became_of_its_refunds(world):
    start = minute_of(world)
    for _ in range(3):
        world.paid("smart2pay")
    after(world)
    assert samples.take(world.engine) > 0
    first = samples.flow(world.engine, "1h")
    assert samples.take(world.engine) == 0

    assert samples.flow(world.engine, "1h") == first
    assert sums(first) == {"accepted": 3, "succeeded": 3, "failed": 0, "uncertain": 0}
    assert next(each["accepted"] for each in first if each["at"] == start) > 0
    assert first[-1]["accepted"] is None
    took = [each for each in samples.durations(world.engine, "1h") if each["count"]]
    assert sum(each["count"] for each in took) == 3
    assert all(each["p50"] <= each["p95"] for each in took)
    assert sum(each["count"] for each in samples.latencies(world.engine, "1h", "smart2pay")) >= 3
    assert {each["p50"] for each in samples.latencies(world.engine, "1h", "smartpay")} == {None}


def test_two_who_count_at_once_count_the_same(world):
    minute_of(world)
    world.paid("smart2pay")
    after(world)
    together = [threading.Thread(target=samples.take, args=(world.engine,)) for _ in range(3)]
    for each in together:
        each.start()
    for each in together:
        each.join()

    assert sums(samples.flow(world.engine, "1h")) == {"accepted": 1, "succeeded": 1, "failed": 0, "uncertain": 0}


def test_a_silence_is_no_data_and_what_is_old_is_forgotten(world):
    minute_of(world)
    samples.take(world.engine)
    world.wait(2 * 3600)
    samples.take(world.engine)
    day = samples.flow(world.engine, "24h")
    assert {each["accepted"] for each in day} == {None, 0}
    world.wait(9 * 86_400)
    samples.take(world.engine)

    with world.engine.ledger.read() as connection:
        kept = connection.exec_driver_sql("SELECT min(at) FROM sample").scalar()
    assert kept >= world.now - samples.KEPT - 3600
    assert len(day) == 48


def test_what_waits_and_how_the_breaker_stands_is_the_last_minutes(world):
    minute_of(world)
    after(world)
    samples.take(world.engine)
    last = samples.backlog(world.engine, "1h")[-2]
    spans = samples.bands(world.engine, "1h", "smart2pay")

    assert (last["waiting"], last["overdue"]) == (0, 0)
    assert [str(each["position"]) for each in spans[-2:]] == ["closed", "None"]
    with world.engine.ledger.read() as connection:
        assert rows.last(connection) == last["at"]
