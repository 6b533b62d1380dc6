import pytest

from benchmarks.throughput import rated, rows


def figures(core_rate, wall_rate, worker=0.0005):
    return {
        "core_rate": core_rate,
        "wall_rate": wall_rate,
        "worker": worker,
        "postgres": 0.0002,
        "redis": 0.00001,
        "stand_in": 0.00002,
    }


def taken(ours, theirs, nothing):
    return {
        "refundry": [figures(rate, rate) for rate in ours],
        "plain Celery, prefork 16": [figures(rate, rate) for rate in theirs],
        "plain Celery, threads 64": [figures(rate / 2, rate) for rate in theirs],
        "Celery no-op, solo": [figures(rate, rate) for rate in nothing],
    }


def test_cpu_of_the_stand_in_is_not_held_against_anybody():
    measured = rated({"wall": 2.0, "worker": 1.0, "postgres": 0.5, "redis": 0.5, "stand_in": 8.0}, 1000)

    assert measured["core_rate"] == 500
    assert measured["wall_rate"] == 500
    assert measured["stand_in"] == 0.008


def test_the_bar_is_ten_times_the_best_pool_round_by_round():
    throughput, _ = rows(taken([1000, 1200, 1100], [100, 100, 100], [600, 600, 600]))

    assert throughput.holds
    assert throughput.details["refundry to the best plain pool"].median == pytest.approx(11)
    assert "prefork 16" in throughput.figure


@pytest.mark.parametrize(("ours", "nothing"), [(990, 600), (1100, 1200)])
def test_below_ten_times_or_below_the_no_op_the_bar_is_missed(ours, nothing):
    throughput, _ = rows(taken([ours], [100], [nothing]))

    assert not throughput.holds


def test_the_worker_s_cpu_has_a_bar_of_its_own():
    measured = taken([1100], [100], [600])
    measured["refundry"] = [figures(1100, 1100, worker=0.0009)]

    assert not rows(measured)[1].holds
