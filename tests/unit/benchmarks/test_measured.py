import pytest

from benchmarks.measured import Spread, percentile, short, spread


def test_the_spread_is_the_median_and_both_ends():
    assert spread([3.0, 1.0, 2.0], "ms") == Spread(2.0, 1.0, 3.0, "ms")


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (0.5, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent, value):
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == value


def test_the_p99_of_a_few_values_is_the_highest():
    assert percentile([1.0, 2.0, 9.0], 99) == 9.0


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234.5, "1,234"), (12.34, "12.3"), (0.12345, "0.123"), (0.0021, "0.00210")]
)
def test_three_figures_are_shown(value, text):
    assert short(value) == text


def test_a_spread_reads_as_a_figure_with_its_ends():
    assert str(Spread(2.0, 1.5, 30.0, "ms")) == "2.00 ms (1.50 to 30.0)"
