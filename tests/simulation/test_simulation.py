"""The corpus of seeds that once failed, a fixed set of others, and what the simulator promises of itself."""

import tomllib
from pathlib import Path

import pytest

from tests.simulation.exhaustive import parameters
from tests.simulation.mutants import MUTANTS
from tests.simulation.run import simulate

CORPUS = tomllib.loads((Path(__file__).parent / "corpus.toml").read_text())["seed"]
MORE = 30
FIRST = 1_000_000


def broken(result):
    return None if result.violation is None else f"seed {result.seed} --mode {result.mode}: {result.violation}"


@pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: f"{entry['seed']}-{entry['mode']}")
def test_a_seed_that_once_failed_passes(entry):
    assert broken(simulate(entry["seed"], entry["mode"])) is None


@pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: entry["mutant"])
def test_it_still_finds_what_it_once_found(entry):
    [mutant] = [each for each in MUTANTS if each.name == entry["mutant"]]
    with mutant.put_in():
        assert broken(simulate(entry["seed"], entry["mode"])) is not None


@pytest.mark.parametrize("group", range(3))
def test_seeds_pass(group):
    first = FIRST + group * MORE // 3
    assert [broken(simulate(seed)) for seed in range(first, first + MORE // 3)] == [None] * (MORE // 3)


def test_the_same_seed_is_the_same_run():
    simulate(1)
    first = [simulate(seed) for seed in (11, 34, 58)]
    again = [simulate(seed) for seed in (11, 34, 58)]

    assert [each.digest for each in first] == [each.digest for each in again]
    assert [each.lines for each in first] == [each.lines for each in again]
    assert len({each.digest for each in first}) == len(first)


def test_a_crash_at_a_given_point_happens_once():
    given = parameters("smartpay", 20.0)
    whole = simulate(7, "liveness", only=(), parameters=given)
    crashed = simulate(7, "liveness", only=(), parameters=given, crash_at=whole.points // 2)

    assert whole.violation is None
    assert crashed.violation is None
    assert sum("crashes at" in line[2] for line in whole.lines) == 0
    assert sum("crashes at" in line[2] for line in crashed.lines) == 1
