import pytest

from benchmarks.check import TRIES, alternating, holds, main, ratios


def measuring(*tries):
    left = list(tries)
    return lambda: left.pop(0)


def test_the_median_of_the_bursts_decides():
    assert holds(measuring([2.0, 7.1, 30.0]), wanted=7, tries=1)
    assert not holds(measuring([2.0, 6.9, 30.0]), wanted=7, tries=1)


def test_a_pump_that_has_become_slower_fails_the_check():
    assert not holds(measuring(*[[5.0, 5.1, 5.2]] * TRIES))


def test_one_miss_is_measured_again():
    assert holds(measuring([5.0], [7.5]), wanted=7)


def test_after_a_pass_nothing_is_measured_again():
    assert holds(measuring([7.0]), wanted=7)


def test_who_begins_alternates():
    begun = []

    def bursts(name, rates):
        def burst():
            begun.append(name)
            return rates.pop(0)

        return [burst, burst]

    rates = alternating(
        {"ours": bursts("ours", [(80.0, 8.0), (40.0, 4.0)]), "theirs": bursts("theirs", [(10.0, 1.0), (5.0, 1.0)])}
    )

    assert rates == {"ours": [(80.0, 8.0), (40.0, 4.0)], "theirs": [(10.0, 1.0), (5.0, 1.0)]}
    assert begun == ["ours", "theirs", "theirs", "ours"]


@pytest.mark.parametrize(("by_cpu", "found"), [(False, [8.0, 8.0, 10.0]), (True, [5.0, 5.0, 6.0])])
def test_the_ratio_is_taken_round_by_round_to_the_better_pool(by_cpu, found):
    rates = {
        "ours": [(80.0, 50.0), (40.0, 50.0), (60.0, 60.0)],
        "prefork": [(5.0, 10.0), (2.0, 10.0), (9.0, 10.0)],
        "threads": [(10.0, 1.0), (5.0, 1.0), (6.0, 1.0)],
    }

    assert ratios(rates, by_cpu=by_cpu) == pytest.approx(found)


@pytest.mark.parametrize("by_cpu", [False, True])
def test_a_slow_pump_fails_the_whole_check(monkeypatch, by_cpu):
    slow = {"refundry": [(600.0, 600.0)], "prefork": [(100.0, 100.0)]}
    monkeypatch.setattr("benchmarks.check.measured_alone", lambda: ratios(slow, by_cpu=by_cpu))

    assert main() == 1
