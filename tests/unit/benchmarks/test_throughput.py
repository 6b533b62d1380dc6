from pathlib import Path

import pytest

from benchmarks.roster import OTHERS, POOLS, rated
from benchmarks.throughput import alternating, compared, rows


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
        "Celery, prefork 16": [figures(rate, rate) for rate in theirs],
        "Celery, threads 64": [figures(rate / 2, rate) for rate in theirs],
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


def test_other_queues_are_compared_with_the_same_rounds_of_ours():
    row = compared({"refundry": [figures(1000, 1000)], "arq 2 x 50": [figures(250, 250)], "RQ 16": [figures(50, 100)]})

    assert row.figure == "4.00 times the best of them (arq 2 x 50)"
    assert row.details["refundry to RQ 16"].median == 10
    assert "dramatiq 2." in row.notes[0]
    assert {each["side"] for each in row.raw} == {"refundry", "arq 2 x 50", "RQ 16"}


def test_a_peer_that_fails_is_left_out_and_the_others_go_on(monkeypatch, capsys):
    class Nothing:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def fails(_ground):
        raise AssertionError("no answer")

    monkeypatch.setattr("benchmarks.throughput.Ground", Nothing)

    taken = alternating({"refundry": lambda _: figures(1000, 1000), "ill": fails}, 2)

    assert {name: len(rounds) for name, rounds in taken.items()} == {"refundry": 2}
    assert "ill: failed, no answer" in capsys.readouterr().out


@pytest.mark.parametrize("peer", [*POOLS, *OTHERS], ids=lambda peer: peer.name)
def test_every_peer_has_a_file_a_locked_environment_and_a_choice_of_concurrencies(peer):
    assert Path(f"benchmarks/peers/{peer.module}.py").is_file()
    lock = Path(f"requirements/peers-{peer.environment}.txt").read_text()
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    assert len(peer.sizes) > 1
    assert all(str(part) for part in peer.start(peer.sizes[0]))
