"""What the demo tells while it runs and when it is over: live on a terminal, in plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.demo.faults import WORDS
from cli.demo.proof import Check, Evidence
from domain.state import LABELS, State
from domain.words import advice_in_words, cause_in_words

LINE_EVERY = 2.0
BAR = 40
COLOURS = {
    State.QUEUED: "blue",
    State.SENDING: "cyan",
    State.PENDING: "magenta",
    State.UNKNOWN: "yellow",
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.REVIEW: "bright_yellow",
}


class Display:
    """Progress on `console`; every message stays, the bars are drawn over."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._began = time.monotonic()
        self._told = 0.0
        self._busy_since: float | None = None
        self._breaking = "nothing yet"
        # Drawn by hand: children are started from this process, and a thread that draws might hold a lock then.
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()

        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done()

    def done(self) -> None:
        """Draw no more: what is printed from now on stays below."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, words: str, *, style: str = "") -> None:
        """One line that stays."""
        self._console.print(Text(f"{self.elapsed:5.1f} s  {words}", style=style), soft_wrap=True)

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._began

    def update(self, states: Mapping[str, int], hits: int, breaking: str) -> None:
        """How things stand."""
        self._breaking = breaking or self._breaking
        if self._live is not None:
            self._live.update(self._picture(states, hits), refresh=True)
        elif self.elapsed - self._told >= LINE_EVERY:
            self._told = self.elapsed
            shown = ", ".join(f"{states[state]} {state}" for state in State if states.get(state))
            self.say(f"{shown or 'nothing accepted yet'}; {hits} faults so far")

    def _picture(self, states: Mapping[str, int], hits: int) -> RenderableType:
        bars = Table.grid(padding=(0, 1))
        for state, colour in COLOURS.items():
            count = states.get(state, 0)
            bar = "█" * round(BAR * count / max(1, self._total))
            bars.add_row(LABELS[state][0], Text(bar.ljust(BAR, "·"), style=colour), str(count))
        ended = sum(states.get(state, 0) for state in (State.SUCCEEDED, State.FAILED, State.REVIEW))
        self._busy_since = self._busy_since or self.elapsed
        rate = ended / max(self.elapsed - self._busy_since, 0.5)
        line = f"{ended} of {self._total} refunds decided, {rate:.0f} per second, {hits} faults so far"

        return Group(bars, Text(line), Text(f"Being broken right now: {self._breaking}", style="yellow"))


def closing(console: Console, evidence: Evidence, hits: Mapping[tuple[str, str], int], figures: str) -> None:
    """The tables at the end: outcomes, what went wrong on the way, what waits for a person."""
    console.print(_outcomes(evidence))
    console.print(_faults(hits))
    if any(each.state is State.REVIEW for each in evidence.refunds):
        console.print(_review(evidence))
    console.print(figures, highlight=False, soft_wrap=True)


def proof(console: Console, checks: Sequence[Check]) -> None:
    """The proof, line by line."""
    console.print("\nPROOF", style="bold")
    for check in checks:
        mark = Text("  holds  ", style="green") if check.holds else Text("  FAILS  ", style="bold red")
        console.print(mark + Text(check.says, style=""), soft_wrap=True)


def _outcomes(evidence: Evidence) -> Table:
    table = Table(title="Refunds by account and outcome", title_justify="left")
    shown = [state for state in State if any(each.state is state for each in evidence.refunds)]
    counts = Counter((each.account, each.state) for each in evidence.refunds)
    for name in ("Account", *(LABELS[state][0] for state in shown), "All", "Money moved"):
        table.add_column(name, justify="left" if name == "Account" else "right")
    for account in sorted({each.account for each in evidence.refunds}):
        of_each = [counts[account, state] for state in shown]
        table.add_row(account, *map(str, of_each), str(sum(of_each)), f"{_moved(evidence, account)} times")
    totals = [sum(each.state is state for each in evidence.refunds) for state in shown]
    table.add_section()
    table.add_row("all", *map(str, totals), str(sum(totals)), f"{len(evidence.movements)} times")

    return table


def _moved(evidence: Evidence, account: str) -> int:
    ours = {each.id for each in evidence.refunds if each.account == account}

    return sum(len(movements) for refund_id, movements in evidence.moved().items() if refund_id in ours)


def _faults(hits: Mapping[tuple[str, str], int]) -> Table:
    table = Table(title="What went wrong at the providers", title_justify="left")
    table.add_column("Times", justify="right")
    table.add_column("Asked for")
    table.add_column("Fault")
    for (call, fault), count in sorted(hits.items(), key=lambda item: -item[1]):
        if count:
            table.add_row(str(count), call, WORDS.get(fault, fault))

    return table


def _review(evidence: Evidence) -> Table:
    table = Table(title="What waits for a person", title_justify="left")
    for name in ("Refund", "Account", "Why", "Verdict"):
        table.add_column(name, overflow="fold")
    for each in evidence.refunds:
        verdict = evidence.verdicts.get(each.id)
        if each.state is State.REVIEW and verdict is not None:
            advice = f"{advice_in_words(verdict.advice)}: {'; '.join(verdict.reasons)}"
            table.add_row(each.reference, each.account, cause_in_words(each.cause), advice)

    return table
