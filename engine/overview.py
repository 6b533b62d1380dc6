"""The picture at a glance: what needs a person, what waits, what came of the latest refunds, how providers answer."""

from collections import Counter
from dataclasses import dataclass
from math import inf
from statistics import quantiles
from typing import Any

from domain.reconcile import Kind
from domain.state import OPEN, State
from engine.bootstrap import Engine
from engine.operate import switches
from engine.tick import BEAT
from ledger import external, figures, notification, queries, reconcile, rejected, workers

# Rates over fewer answers than this say nothing.
ENOUGH = 20
_LATEST = 2000
_HUNDRED = 100
_DEAD = (State.REVIEW, State.REVERSED)
_STANDING = (*sorted(OPEN), State.REVERSED)


def needs(engine: Engine) -> dict[str, Any]:
    """What waits for a person, and what nobody knows yet; sums by currency, `oldest` in epoch seconds.

    `ages`: what is open by age and currency. Of refunds that are queued or pending at most `figures.MOST` + 1 count;
    `more`: there are more.
    """
    now = engine.clock()
    with engine.ledger.read() as connection:
        standing = figures.standing(connection, now)
        dead = [each for each in standing if each["state"] in _DEAD]
        unknown = [each for each in standing if each["state"] == State.UNKNOWN]
        owed = [each for each in standing if each["state"] in OPEN]
        states = {state: sum(each["count"] for each in standing if each["state"] == state) for state in _STANDING}

        return {
            "states": states,
            "more": max(states[State.QUEUED], states[State.PENDING]) > figures.MOST,
            "dead": _summed(dead, "currency"),
            "unknown": _summed(unknown, "currency"),
            "ages": sorted(_summed(owed, "age", "currency"), key=lambda each: figures.BY_AGE.index(each["age"])),
            "approvals": queries.open_approvals(connection),
            "rejected": rejected.count_open(connection),
            "differences": reconcile.open_count(connection),
            "duplicates": reconcile.open_count(connection, (Kind.DUPLICATE_AT_PROVIDER,)),
            "unmatched": notification.count_unmatched(connection),
            "external": external.count_open(connection),
            "over_refunded": len(queries.over_refunded(connection)),
            "oldest_due": queries.oldest_due(connection, now),
        }


def _summed(rows: list[dict[str, Any]], *key: str) -> list[dict[str, Any]]:
    """Rows with the same key as one."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        place = tuple(row[name] for name in key)
        sums = found.setdefault(place, dict(zip(key, place, strict=True)) | {"count": 0, "amount": 0, "oldest": inf})
        sums["count"] += row["count"]
        sums["amount"] += row["amount"]
        sums["oldest"] = min(sums["oldest"], row["oldest"])

    return sorted(found.values(), key=lambda each: str(each["currency"]))


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
