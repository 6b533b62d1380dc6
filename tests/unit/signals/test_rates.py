import pytest
import redis

from signals.rates import Rates, Taken


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Away:
    """A Redis that is not there, and counts who asks."""

    asked = 0

    def register_script(self, _text):
        def take(**_given):
            self.asked += 1
            raise redis.ConnectionError("refused")

        return take


@pytest.fixture
def clock():
    return Clock()


def test_so_many_in_a_window_and_then_from_the_start(clock):
    rates = Rates(None, monotonic=clock)
    taken = [rates.take("a", count=2, seconds=60) for _ in range(3)]
    clock.now += 60
    again = rates.take("a", count=2, seconds=60)

    assert taken == [
        Taken(granted=True, left=1, reset=60),
        Taken(granted=True, left=0, reset=60),
        Taken(granted=False, left=0, reset=60),
    ]
    assert again == Taken(granted=True, left=1, reset=60)


def test_callers_are_counted_apart(clock):
    rates = Rates(None, monotonic=clock)

    assert [rates.take(caller, count=1, seconds=60).granted for caller in "aba"] == [True, True, False]


def test_a_redis_that_is_away_is_not_asked_each_time(clock):
    away = Away()
    rates = Rates(away, monotonic=clock)
    granted = [rates.take("a", count=3, seconds=60).granted for _ in range(5)]
    clock.now += 2.1
    rates.take("a", count=3, seconds=60)

    assert granted == [True] * 3 + [False] * 2
    assert away.asked == 2


def test_many_callers_take_no_room_for_ever(clock):
    rates = Rates(None, monotonic=clock)
    for number in range(20_005):
        rates.take(str(number), count=1, seconds=60)

    assert len(rates._alone) <= 10_001
