"""The command: options, one run, the table; exit status 1 when the judge found anything."""

import argparse
import json
import secrets
import sys
from pathlib import Path

from tests.chaos import report
from tests.chaos.faults import KINDS, available
from tests.chaos.run import Plan, Result, run
from tests.chaos.system import end_in_order

REFUNDS = 20_000
PER_SECOND = 40
SHORTEST = 60.0
SETTLE = 240.0
SHOWN = 20


def say(words: str) -> None:
    """One line for whoever waits."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run what was asked for."""
    end_in_order()
    plan, file = planned(arguments)
    say(f"seed {plan.seed}; again: {command_of(plan)}")
    try:
        result = run(plan, say)
    except BaseException:
        say(f"the run broke off; again: {command_of(plan)}")
        raise
    if file is not None:
        file.write_text(json.dumps({**result.figures, "again": command_of(plan)}, indent=2) + "\n")
    say(report.table(result.figures))
    for words in result.figures["workers_ended_by_themselves"]:
        say(f"A worker ended by itself: {words}")

    return verdict(plan, result)


def verdict(plan: Plan, result: Result) -> int:
    """The last lines, and the exit status."""
    if not result.flaws:
        say(f"every accepted refund was paid once or not at all, as its state says (seed {plan.seed})")
        return 0
    for story in result.stories:
        say(story)
    for flaw in result.flaws[:SHOWN]:
        say(f"FLAW {flaw}")
    if len(result.flaws) > SHOWN:
        say(f"… and {len(result.flaws) - SHOWN} more")
    say(f"FAILED; again: {command_of(plan)}")

    return 1


def planned(arguments: list[str]) -> tuple[Plan, Path | None]:
    """The options as a plan, and the file for the figures."""
    asked = _parser().parse_args(arguments)
    kinds = tuple(available(asked.database, asked.only, asked.without))
    seconds = max(SHORTEST, asked.refunds / PER_SECOND) if asked.seconds is None else asked.seconds
    plan = Plan(
        refunds=asked.refunds,
        seconds=seconds,
        settle=asked.settle,
        seed=secrets.randbelow(1_000_000) if asked.seed is None else asked.seed,
        workers=asked.workers,
        database=asked.database,
        kinds=kinds,
        keep=asked.keep,
    )

    return plan, asked.json


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", epilog="faults: " + ", ".join(KINDS))
    parser.add_argument("--refunds", type=_positive, default=REFUNDS, help=f"how many (default {REFUNDS})")
    parser.add_argument("--seconds", type=float, help=f"of load and faults (default: {PER_SECOND} refunds a second)")
    parser.add_argument("--settle", type=float, default=SETTLE, help="seconds that the rest may take after the faults")
    parser.add_argument("--seed", type=int, help="repeat the plan of an earlier run")
    parser.add_argument("--workers", type=_positive, default=3)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--only", type=_kinds, default=[], metavar="FAULT,…", help="no other faults than these")
    parser.add_argument("--without", type=_kinds, default=[], metavar="FAULT,…", help="all faults but these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs")

    return parser


def _positive(given: str) -> int:
    number = int(given)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")

    return number


def _kinds(given: str) -> list[str]:
    names = [name.strip() for name in given.split(",") if name.strip()]
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such fault: {', '.join(unknown)}; there are {', '.join(KINDS)}")

    return names


def command_of(plan: Plan) -> str:
    """The one command that repeats the run."""
    words = [
        f"python -m tests.chaos --refunds {plan.refunds} --seconds {plan.seconds:g} --settle {plan.settle:g}",
        f"--seed {plan.seed} --workers {plan.workers} --database {plan.database}",
    ]
    if set(plan.kinds) != set(available(plan.database, (), ())):
        words.append(f"--only {','.join(plan.kinds)}")

    return " ".join(words)
