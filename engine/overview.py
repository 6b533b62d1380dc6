"""The picture at a glance: what needs a person, what waits, what came of the latest refunds, how providers answer."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from domain.state import FINAL, State
from engine.bootstrap import Engine
from engine.ids import first_id
from engine.operate import switches
from engine.tick import BEAT
from ledger import figures, queries, rejected, workers

#: A window in seconds and the step of its chart.
WINDOWS = {"1h": (3600.0, 60.0), "24h": (86_400.0, 1800.0), "7d": (604_800.0, 14_400.0)}
# Rates over fewer answers than this say nothing.
ENOUGH = 20
_LATEST = 2000
_HUNDRED = 100


def needs(engine: Engine) -> dict[str, Any]:
    """What waits for a person, and what nobody knows yet; sums by currency, `oldest` in epoch seconds."""
    with engine.ledger.read() as connection:
        return {
            "states": figures.open_states(connection),
            "dead": figures.waiting(connection, (State.REVIEW, State.REVERSED)),
            "unknown": figures.waiting(connection, (State.UNKNOWN,)),
            "approvals": queries.open_approvals(connection),
            "rejected": rejected.count_open(connection),
            "over_refunded": len(queries.over_refunded(connection)),
            "oldest_due": queries.oldest_due(connection, engine.clock()),
        }


def ages(engine: Engine) -> list[dict[str, Any]]:
    """Open money by age and currency."""
    with engine.ledger.read() as connection:
        return figures.ages(connection, engine.clock())


def throughput(engine: Engine, window: str) -> list[dict[str, Any]]:
    """What was accepted in the window, by step: how much of it is paid, failed, not known or under way now."""
    seconds, step = WINDOWS[window]
    now = engine.clock()
    with engine.ledger.read() as connection:
        found = figures.accepted(connection, first_id("rf", now - seconds), step)
    slots: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for slot, state, count in found:
        slots[slot][_outcome(State(state))] += count
    first, last = int((now - seconds) // step) + 1, int(now // step)

    return [{"at": slot * step, **{name: slots[slot][name] for name in OUTCOMES}} for slot in range(first, last + 1)]


OUTCOMES = ("succeeded", "failed", "uncertain", "open")


def _outcome(state: State) -> str:
    if state in (State.SUCCEEDED, State.FAILED):
        return str(state)
    if state in (State.UNKNOWN, State.REVIEW, State.REVERSED):
        return "uncertain"

    return "failed" if state in FINAL else "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How an account's provider answered its latest attempts. Latencies in seconds; rates None: too few to rate."""

    count: int
    outcomes: dict[str, int]
    last_success: float | None
    p50: float | None
    p95: float | None
    p99: float | None

    def rate(self, *outcomes: str) -> float | None:
        """The share of these outcomes, in percent."""
        if self.count < ENOUGH:
            return None

        return _HUNDRED * sum(self.outcomes.get(each, 0) for each in outcomes) / self.count


def answers(engine: Engine) -> dict[str, Answers]:
    """By account: the attempts of the latest refunds of all accounts."""
    with engine.ledger.read() as connection:
        found = figures.answers(connection, _LATEST)

    return {name: _answers([each for each in found if each["account"] == name]) for name in engine.accounts}


def _answers(attempts: list[dict[str, Any]]) -> Answers:
    ended = [each for each in attempts if each["ended_at"] is not None and each["outcome"] is not None]
    seconds = sorted(each["ended_at"] - each["started_at"] for each in ended)
    cuts = quantiles(seconds, n=_HUNDRED, method="inclusive") if len(seconds) >= ENOUGH else None
    good = [each["ended_at"] for each in ended if each["outcome"] == "succeeded"]

    return Answers(
        count=len(ended),
        outcomes=dict(Counter(each["outcome"] for each in ended)),
        last_success=max(good, default=None),
        p50=cuts[49] if cuts else None,
        p95=cuts[94] if cuts else None,
        p99=cuts[98] if cuts else None,
    )


def accounts(engine: Engine) -> list[dict[str, Any]]:
    """Every account: its switches, its breaker, how its provider answers."""
    given = answers(engine)
    held = switches(engine)

    return [
        {
            "account": account,
            "switch": held[name],
            "forced": switch.forced(engine.clock()) if (switch := held[name]) else None,
            "breaker": engine.limits.breaker(name, account.limit),
            "answers": given[name],
        }
        for name, account in engine.accounts.items()
    ]


def crew(engine: Engine) -> dict[str, Any]:
    """Who works: workers, and when beat was last heard."""
    with engine.ledger.read() as connection:
        return {"beat": workers.last_beat(connection, BEAT), "workers": workers.listed(connection)}
