import pytest

from domain.bulk import IN_WORDS, SCOPE, Kind, too_many_failed
from domain.state import FINAL, State


@pytest.mark.parametrize(
    ("tried", "failed", "percent", "stops"),
    [
        (19, 19, 5, False),
        (20, 1, 5, False),
        (20, 2, 5, True),
        (100, 5, 5, False),
        (100, 6, 5, True),
        (20, 1, 0, True),
        (5000, 5000, 100, False),
    ],
)
def test_more_than_the_limit_of_enough_tries_stops_an_operation(tried, failed, percent, stops):
    assert too_many_failed(tried, failed, percent) is stops


def test_every_kind_has_words_and_acts_on_what_is_open():
    assert set(IN_WORDS) == set(SCOPE) == set(Kind)
    for states in SCOPE.values():
        assert not set(states) & (FINAL - {State.REVERSED})
