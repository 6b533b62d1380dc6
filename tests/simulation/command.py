"""The command: run seeds, on every core, until their number is reached or one fails."""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from typing import TextIO

from tests.simulation.exhaustive import paths, walk
from tests.simulation.run import MODES, Result, commit, simulate
from tests.simulation.shrink import shrink, told

SHOWN = 5


def say(words: str, where: TextIO = sys.stdout) -> None:
    """One line for whoever waits."""
    where.write(words + "\n")
    where.flush()


def main(arguments: list[str]) -> int:
    """Run what was asked for; 1 when an invariant was broken."""
    asked = parsed(arguments)
    if asked.exhaustive:
        return exhaustive(asked.jobs)
    if asked.seed is not None:
        return one(asked)

    return many(asked)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first seed")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--mode", choices=MODES, help="safety: faults never stop; liveness: they do, and all must end")
    parser.add_argument("--exhaustive", action="store_true", help="every crash point of one refund at each provider")
    parser.add_argument("--trace", action="store_true", help="with --seed: everything that happened")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")

    return parser.parse_args(arguments)


def one(asked: argparse.Namespace) -> int:
    """One seed, with what happened."""
    result = simulate(asked.seed, asked.mode)
    if asked.trace:
        for at, who, what in result.lines:
            say(f"{at:12.3f}  {who}: {what}")
    say(f"seed {result.seed} {result.mode} {result.states} trace {result.digest} in {result.seconds:.2f} s")
    if result.violation is None:
        return 0
    say(told(*shrink(result), commit()))

    return 1


def many(asked: argparse.Namespace) -> int:
    """Many seeds."""
    began = time.monotonic()
    states: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    virtual = 0.0
    steps = 0
    seeds = range(asked.first, asked.first + asked.seeds)
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        for done, result in enumerate(pool.map(_short, seeds, repeat(asked.mode), chunksize=5), 1):
            seed, mode, broken, ended, seconds, checked = result
            states.update(ended)
            virtual += seconds
            steps += checked
            if broken is not None:
                failed.append((seed, mode))
                say(f"seed {seed} {mode}: {broken}")
                if len(failed) >= SHOWN:
                    pool.shutdown(cancel_futures=True)
                    break
            if done % 250 == 0:
                say(f"{done} seeds, {time.monotonic() - began:.0f} s", sys.stderr)
    for seed, mode in failed[:1]:
        say(told(*shrink(simulate(seed, mode)), commit()))
    took = time.monotonic() - began
    say(
        f"{asked.seeds} seeds from {asked.first} in {took:.0f} s ({asked.seeds / took:.1f} per second), "
        f"{virtual / 86_400:.0f} days of virtual time, {steps} checks, {sum(states.values())} refunds: "
        f"{dict(states)}; {len(failed)} failed; commit {commit()}"
    )

    return 1 if failed else 0


def _short(seed: int, mode: str | None) -> tuple[int, str, str | None, dict[str, int], float, int]:
    result: Result = simulate(seed, mode)
    broken = None if result.violation is None else str(result.violation)

    return result.seed, result.mode, broken, result.states, result.virtual, result.steps


def exhaustive(jobs: int) -> int:
    """Every crash point."""
    began = time.monotonic()
    runs = 0
    broken = 0
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for path, walked, failed in pool.map(walk, paths()):
            runs += walked
            broken += len(failed)
            for point, words in failed:
                say(f"{path.account}, {path.kinds}, pending {path.pending:g} s, crash point {point}: {words}")
    say(f"{runs} runs in {time.monotonic() - began:.0f} s, {broken} failed; commit {commit()}")

    return 1 if broken else 0
