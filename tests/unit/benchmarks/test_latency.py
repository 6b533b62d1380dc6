import time
from itertools import pairwise

import pytest

from benchmarks.latency import at_rate, ladder, since


def test_a_slow_way_in_cannot_slow_the_timetable_down():
    started = []

    def send(_job):
        started.append(time.time())
        time.sleep(0.05)

    due = list(at_rate(200)(send, 40).values())

    steps = [later - earlier for earlier, later in pairwise(due)]
    assert steps == pytest.approx([0.005] * 39, rel=1e-3)
    assert len(started) == 40


def test_what_a_job_waited_before_it_was_handed_in_counts():
    figures = since({"shop-1": 10.0}, {"shop-1": ("handle", 10.5)}, {"handle": 10.6}, {"shop-1": 10.75})

    assert figures["call"] == pytest.approx([100])
    assert figures["due_call"] == pytest.approx([600])
    assert figures["final"] == pytest.approx([250])
    assert figures["due_final"] == pytest.approx([750])


def test_the_ladder_has_each_percentile_of_each_wait():
    steps = ladder([{name: [1.0, 2.0] for name in ("call", "due_call", "final", "due_final")}])

    assert steps["commit to call, p50"].median == 1.0
    assert steps["timetable to final, p99"].median == 2.0
    assert len(steps) == 12
