"""`refundry demo`: refunds at five simulated providers under faults, and the proof that each was paid once."""

from typing import Annotated

import typer

from cli.demo.run import Wishes, run
from cli.errors import Status
from cli.output import make_console

FEWEST = 30
MOST = 2000


def show_demo(
    *,
    refunds: Annotated[int, typer.Option(min=FEWEST, max=MOST, help="How many refunds.")] = 240,
    seed: Annotated[int, typer.Option(help="The same seed: the same payments, jobs and faults.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the ledger, the settings and the logs to look at.")
    ] = False,
) -> None:
    """Pay refunds under faults, and prove each was paid once.

    Five simulated providers lose answers, cut connections, answer nonsense; the worker is killed on the way. Everything
    is private and of its own: a Redis, a SQLite ledger, the providers, worker and beat. Exit status 0 only if the proof
    holds.
    """
    holds = run(Wishes(refunds, seed, keep), make_console())
    raise typer.Exit(Status.DONE if holds else Status.REFUSED)
