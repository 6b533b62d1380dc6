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
    first = samples.charts(world.engine, "1h").flow
    assert samples.take(world.engine) == 0

    assert samples.charts(world.engine, "1h").flow == first
    assert sums(first) == {"accepted": 3, "succeeded": 3, "failed": 0, "uncertain": 0}
    assert next(each["accepted"] for each in first if each["at"] == start) > 0
    assert first[-1]["accepted"] is None
    took = [each for each in samples.charts(world.engine, "1h").durations if each["count"]]
    assert sum(each["count"] for each in took) == 3
    assert all(each["p50"] <= each["p95"] for each in took)
    assert sum(each["count"] for each in samples.account_charts(world.engine, "1h", "smart2pay")[0]) >= 3
    assert {each["p50"] for each in samples.account_charts(world.engine, "1h", "smartpay")[0]} == {None}


def test_two_who_count_at_once_count_the_same(world):
    minute_of(world)
    world.paid("smart2pay")
    after(world)
    together = [threading.Thread(target=samples.take, args=(world.engine,)) for _ in range(3)]
    for each in together:
        each.start()
    for each in together:
        each.join()

    assert sums(samples.charts(world.engine, "1h").flow) == {"accepted": 1, "succeeded": 1, "failed": 0, "uncertain": 0}


def test_a_silence_is_no_data_and_what_is_old_is_forgotten(world):
    minute_of(world)
    samples.take(world.engine)
    world.wait(2 * 3600)
    samples.take(world.engine)
    day = samples.charts(world.engine, "24h").flow
    assert {each["accepted"] for each in day} == {None, 0}
    world.wait(9 * 86_400)
    samples.take(world.engine)

    with world.engine.ledger.read() as connection:
        kept = connection.exec_driver_sql("SELECT min(at) FROM sample").scalar()
    assert kept >= world.now - samples.KEPT - 3600
    assert len(day) == 48


def test_a_week_reads_hours_and_what_has_none_yet_by_the_minute(world):
    minute_of(world)
    world.wait(3600 - world.now % 3600)
    began = int(world.now)
    for _ in range(3):
        world.paid("smart2pay")
        world.wait(3600 - world.now % 3600)
        samples.take(world.engine)
    world.paid("smart2pay")
    after(world)
    samples.take(world.engine)
    week, day = samples.charts(world.engine, "7d"), samples.charts(world.engine, "24h")
    latencies, spans = samples.account_charts(world.engine, "7d", "smart2pay")

    assert sums(week.flow) == sums(day.flow) == {"accepted": 4, "succeeded": 4, "failed": 0, "uncertain": 0}
    assert sum(each["count"] for each in week.durations) == sum(each["count"] for each in day.durations) == 4
    assert sum(each["count"] for each in latencies) >= 4
    assert "closed" in {str(each["position"]) for each in spans}
    assert {each["waiting"] for each in week.backlog} == {None, 0}
    over = int(world.now) // 3600 * 3600
    world.engine.ledger.run(lambda c: c.exec_driver_sql(f"DELETE FROM sample WHERE at < {over}"))
    assert sums(samples.charts(world.engine, "7d").flow) == sums(week.flow)
    assert over - began >= 3 * 3600


def test_hours_are_summed_up_once_and_the_largest_of_what_stands_counts(world):
    names = (rows.COUNTED, rows.WAITING)
    figures = [rows.row(name, 60 * n, n) for n in range(120) for name in names]

    def work(connection):
        rows.keep(connection, figures)
        assert list(rows.hours(connection, 7199)) == [0]
        for _ in range(2):
            rows.sum_up(connection, hour=0)
        assert list(rows.hours(connection, 7200)) == [3600]

        return rows.read(connection, names, 0, 3600)

    assert world.engine.ledger.run(work) == {
        (0, "counted"): {0: sum(range(60))},
        (0, "waiting"): {0: 59},
        (3600, "counted"): {0: sum(range(60, 120))},
        (3600, "waiting"): {0: 119},
    }


def test_what_waits_and_how_the_breaker_stands_is_the_last_minutes(world):
    minute_of(world)
    after(world)
    samples.take(world.engine)
    last = samples.charts(world.engine, "1h").backlog[-2]
    spans = samples.account_charts(world.engine, "1h", "smart2pay")[1]

    assert (last["waiting"], last["overdue"]) == (0, 0)
    assert [str(each["position"]) for each in spans[-2:]] == ["closed", "None"]
    with world.engine.ledger.read() as connection:
        assert rows.last(connection) == last["at"]
