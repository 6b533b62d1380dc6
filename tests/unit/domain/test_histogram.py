"""Durations in classes."""

from hypothesis import given
from hypothesis import strategies as st

from domain.histogram import BOUNDS, quantile

COUNTS = st.dictionaries(st.integers(0, len(BOUNDS)), st.integers(1, 1000), min_size=1)


def test_nothing_has_no_median():
    assert quantile({}, 0.5) is None


def test_a_class_is_as_if_it_was_evenly_filled():
    assert quantile({3: 10}, 0.5) == 0.35
    assert quantile({0: 1, 4: 1}, 0.5) == 0.05


def test_what_took_longer_than_all_bounds_is_no_less_than_the_last():
    assert quantile({len(BOUNDS): 3}, 0.95) == BOUNDS[-1]


@given(counts=COUNTS, shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_larger_share_lies_no_lower_and_within_the_classes_that_were_seen(counts, shares):
    low, high = (quantile(counts, share) for share in sorted(shares))

    assert low <= high
    assert high <= BOUNDS[min(max(counts), len(BOUNDS) - 1)]
