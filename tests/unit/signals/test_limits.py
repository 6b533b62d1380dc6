"""Without Redis each process keeps a share of the limits to itself."""

from dataclasses import replace

import pytest

from signals.limits import Admission, Breaker, Limit, Limits


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limits(clock):
    return Limits(None, "w1", share=4, monotonic=clock)


def admit(limits, limit, want, *, in_flight=0, unused=0):
    return limits.admit("shop", limit, in_flight=in_flight, want=want, unused=unused).granted


def test_a_process_alone_takes_a_quarter_of_the_places(limits):
    narrow = Limit(concurrency=40)

    assert admit(limits, narrow, 100) == 10
    assert admit(limits, narrow, 100, in_flight=8) == 2
    assert admit(limits, narrow, 100, in_flight=50) == 0


def test_there_is_always_one_place(limits):
    assert admit(limits, Limit(concurrency=1), 100) == 1


def test_a_process_alone_takes_a_quarter_of_the_rate(limits, clock):
    rated = Limit(rate=40, concurrency=1000)
    assert [admit(limits, rated, 100), admit(limits, rated, 100)] == [10, 0]
    clock.now += 0.5

    assert admit(limits, rated, 100) == 5


def test_a_slow_rate_gives_one_at_a_time(limits, clock):
    slow = Limit(rate=1, concurrency=1000)
    assert [admit(limits, slow, 5), admit(limits, slow, 5)] == [1, 0]
    clock.now += 4

    assert admit(limits, slow, 5) == 1


def test_tokens_that_nobody_used_go_back(limits):
    rated = Limit(rate=40, concurrency=1000)
    admit(limits, rated, 10)
    admit(limits, rated, 0, unused=4)

    assert admit(limits, rated, 100) == 4


FRAGILE = Limit(failures=3, window=30, cooldown=60)


def report(limits, *, good=0, bad=0):
    return limits.report("shop", FRAGILE, good=good, bad=bad)


def test_faults_open_the_breaker_until_it_has_cooled_down(limits, clock):
    assert [report(limits, bad=2), report(limits, bad=1)] == [Breaker.CLOSED, Breaker.OPEN]
    assert limits.admit("shop", FRAGILE, in_flight=0, want=1) == Admission(1, Breaker.OPEN)
    clock.now += 60

    assert limits.breaker("shop", FRAGILE) is Breaker.HALF_OPEN


def test_faults_that_lie_apart_do_not_open_it(limits, clock):
    for _ in range(5):
        assert report(limits, bad=1) is Breaker.CLOSED
        clock.now += 16


@pytest.mark.parametrize(
    ("good", "bad", "after"),
    [(1, 0, Breaker.CLOSED), (1, 1, Breaker.OPEN), (0, 1, Breaker.OPEN), (0, 0, Breaker.HALF_OPEN)],
)
def test_the_half_open_breaker_goes_by_the_next_answer(limits, clock, good, bad, after):
    report(limits, bad=3)
    clock.now += 60

    assert report(limits, good=good, bad=bad) is after


def test_an_open_breaker_does_not_listen(limits, clock):
    report(limits, bad=3)
    clock.now += 59

    assert report(limits, good=10) is Breaker.OPEN
    assert limits.breaker("other", replace(FRAGILE)) is Breaker.CLOSED


def test_a_process_alone_leaves_a_provider_in_peace_too(limits, clock):
    limits.rest("shop", Limit(), 5)
    assert admit(limits, Limit(), 3) == 0
    clock.now += 5

    assert admit(limits, Limit(), 3) == 3
