from dataclasses import replace
from itertools import pairwise

import pytest

from benchmarks import scaling
from benchmarks.scaling import Plant, Station, curve, first_to_saturate, measured, plant_of, rate, rendered
from engine import pump

PLANT = Plant(worker=0.001, postgres=0.0005, redis=0.00002, relay=0.0001, commits=0.05, flush=0.001, wal_bytes=5000)


def test_the_model_has_the_window_of_the_pump():
    assert scaling.WINDOW == pump.WINDOW


def test_alone_a_refund_takes_its_own_time_and_no_more():
    assert rate([Station("one", 0.01, 4)], 0.05, 1) == pytest.approx(1 / 0.06)


def test_one_queue_and_no_latency_is_busy_from_the_first_on():
    assert rate([Station("one", 0.01)], 0.0, 50) == pytest.approx(100)


def test_two_equal_queues_share_as_theory_says():
    # Balanced closed network: N / (N + K - 1) of the capacity.
    assert rate([Station("a", 0.01), Station("b", 0.01)], 0.0, 3) == pytest.approx(100 * 3 / 4)


def test_no_part_serves_more_than_its_capacity():
    assert rate(PLANT.stations(), 0.05, 5000) <= first_to_saturate(PLANT).capacity * (1 + 1e-9)


def test_more_machines_help_until_something_shared_is_full():
    found = curve(PLANT)
    rates = list(found.values())

    assert all(more >= fewer * (1 - 1e-9) for fewer, more in pairwise(rates))
    assert found[2] == pytest.approx(2 * found[1], rel=0.05)
    assert found[100] == pytest.approx(10_000, rel=0.01)
    assert first_to_saturate(replace(PLANT, machines=100)).name == "the relay of events"


def kept():
    details = {
        f"{count} workers: {name}": value
        for count in (1, 2, 4)
        for name, value in {
            "refunds per second": 1800.0,
            "CPU of worker for each": 0.7,
            "CPU of postgres for each": 0.2,
            "CPU of redis for each": 0.02,
            "CPU of stand in for each": 0.03,
            "commits for each": 0.05,
            "write-ahead log for each": 6000.0,
        }.items()
    }
    details["changes told by the relay"] = 30_000.0
    spreads = {name: {"median": value, "low": value, "high": value, "unit": ""} for name, value in details.items()}
    flushes = {"commits over 1 connection": {"median": 1000.0, "low": 1.0, "high": 1.0, "unit": "/s"}}
    return {
        "parts": {
            "scaleout": {"machine": {"cores": 2}, "rows": [{"details": spreads}]},
            "limits": {"machine": {"cores": 2}, "rows": [{"details": flushes}]},
        }
    }


def test_the_plant_is_what_was_measured():
    plant = plant_of(kept())

    assert plant.worker == pytest.approx(0.0007)
    assert plant.flush == pytest.approx(0.001)
    assert plant.relay == pytest.approx(0.0001)


def test_the_page_says_what_saturates_first_with_figures_of_the_data():
    page = rendered(kept())

    assert "**First to saturate: the relay of events**" in page
    assert "1,800" in page
    assert "$" not in page


def test_without_its_measurements_there_is_no_page():
    assert not measured({"parts": {"scaleout": {}}})
