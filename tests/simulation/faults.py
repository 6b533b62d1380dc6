"""What may go wrong in a run: each kind of fault has its own stream of chance, so that one can be taken away alone."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

#: Of our own processes and machines.
OWN = (
    "bell_lost",
    "bell_doubled",
    "bell_late",
    "crash",
    "freeze",
    "clock",
    "db_slow",
    "db_before",
    "db_after",
    "redis_gone",
    "no_beat",
    "deploy",
)
#: On the way to the provider and back.
WAY = ("refused", "lost_before", "late_arrival", "lost_after", "slow_answer", "outage")
#: Of the provider; the names of the sandbox.
PROVIDER = (
    "error_500_before",
    "error_500_after",
    "html",
    "truncated",
    "throttled",
    "unknown_status",
    "wrong_amount",
    "decline",
    "stuck",
    "late_flip",
    "hang",
)
#: Of people and of other systems.
PEOPLE = (
    "check",
    "retry",
    "cancel",
    "note",
    "assign",
    "settle",
    "new_handle",
    "same_person",
    "pause",
    "breaker",
    "external",
    "chargeback",
    "resubmit",
)
#: Of what providers tell; `told`: they tell anything at all.
TOLD = ("told", "told_early", "told_late", "told_never", "told_twice", "forged")
KINDS = (*OWN, *WAY, *PROVIDER, *PEOPLE, *TOLD)


@dataclass
class Faults:
    """Which kinds act in this run, and how often. `active` is false once the faults have stopped."""

    seed: int
    without: Collection[str] = ()
    only: Collection[str] | None = None
    given: Mapping[str, float] | None = None
    active: bool = True
    rates: dict[str, float] = field(default_factory=dict)
    hits: dict[str, int] = field(default_factory=dict)
    _streams: dict[str, random.Random] = field(default_factory=dict)

    def __post_init__(self) -> None:
        swarm = self.stream("swarm")
        busy = swarm.choice((0.15, 0.3, 0.5))
        for kind in KINDS:
            chosen, rate = swarm.random() < busy, swarm.choice((0.03, 0.1, 0.3))
            wanted = chosen if self.only is None else kind in self.only
            if wanted and kind not in self.without:
                self.rates[kind] = rate if self.given is None else self.given.get(kind, rate)

    def stream(self, name: str) -> random.Random:
        """The chance of one purpose."""
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = random.Random(f"{self.seed}:{name}")

        return found

    def on(self, kind: str) -> bool:
        """Whether a kind belongs to this run at all."""
        return kind in self.rates

    def strikes(self, kind: str, share: float = 1.0) -> bool:
        """Whether it happens here and now."""
        rate = self.rates.get(kind)
        if rate is None or not self.active or self.stream(kind).random() >= rate * share:
            return False
        self.hits[kind] = self.hits.get(kind, 0) + 1

        return True
