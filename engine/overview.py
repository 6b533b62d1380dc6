"""The picture at a glance: what needs a person, what waits, what came of the latest refunds, how providers answer."""

from collections import Counter
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from domain.reconcile import Kind
from domain.state import State
from engine.bootstrap import Engine
from engine.operate import switches
from engine.tick import BEAT
from ledger import external, figures, notification, queries, reconcile, rejected, workers

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
            "differences": reconcile.open_count(connection),
            "duplicates": reconcile.open_count(connection, (Kind.DUPLICATE_AT_PROVIDER,)),
            "unmatched": notification.count_unmatched(connection),
            "external": external.count_open(connection),
            "over_refunded": len(queries.over_refunded(connection)),
            "oldest_due": queries.oldest_due(connection, engine.clock()),
        }


def ages(engine: Engine) -> list[dict[str, Any]]:
    """Open money by age and currency."""
    with engine.ledger.read() as connection:
        return figures.ages(connection, engine.clock())


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
