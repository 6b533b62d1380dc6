import pytest

from benchmarks.growth import rows_of

SIZES = ["10 thousand", "10 million"]


def taken(small, large):
    return {
        "claim of 256 to send": {SIZES[0]: small, SIZES[1]: large},
        "submit one": {SIZES[0]: [2.0], SIZES[1]: [3.0]},
    }


@pytest.mark.parametrize(("large", "holds"), [([11.9, 12.0, 90.0], True), ([12.1], False)])
def test_a_claim_may_cost_a_fifth_more_in_the_largest_ledger(large, holds):
    claim, _ = rows_of(taken([10.0], large), SIZES)

    assert claim.holds is holds


def test_every_cost_is_shown_at_every_size():
    _, costs = rows_of(taken([10.0], [11.0]), SIZES)

    assert costs.details["submit one, 10 million"].median == 3.0
    assert "submit one 1.50 times" in costs.figure
    assert {(each["what"], each["rows"]) for each in costs.raw} == {
        (what, size) for what in ("claim of 256 to send", "submit one") for size in SIZES
    }
