"""How long to wait, how often to try, when to stop: one account's policy. Durations in seconds."""

from dataclasses import dataclass
from enum import StrEnum


class Recovery(StrEnum):
    """What to do first when an answer was lost."""

    REPLAY = "replay"
    LOOKUP = "lookup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of one account: what its provider documents, changed where the account's settings say so."""

    recovery: Recovery = Recovery.REPLAY
    deduplicates: bool = True
    can_lookup: bool = True
    max_replays: int | None = None
    handle_lifetime: float | None = None
    lookup_delay: float = 5.0
    total_timeout: float = 40.0
    lease: float = 60.0
    max_attempts: int = 50
    backoff_base: float = 1.0
    backoff_cap: float = 900.0
    poll_schedule: tuple[float, ...] = (2.0, 5.0, 15.0, 60.0)
    poll_horizon: float = 86_400.0
    recovery_horizon: float = 259_200.0
    max_lost_leases: int = 5
    review_poll: float = 3_600.0


def backoff(policy: Policy, tries: int, jitter: float) -> float:
    """Full jitter: `jitter` in [0, 1) of the exponential step, at least a tenth of the base."""
    step = min(policy.backoff_cap, policy.backoff_base * 2.0 ** min(max(tries - 1, 0), 30))

    return max(policy.backoff_base / 10, step * jitter)


def poll_delay(policy: Policy, polls: int) -> float:
    """Seconds until the next question, after `polls` of them; the schedule's last step repeats."""
    return policy.poll_schedule[min(polls, len(policy.poll_schedule) - 1)]


def replay_until(policy: Policy, first_send: float) -> float | None:
    """Until when the handle of a first send at `first_send` may be replayed; None: the provider never forgets.

    A tenth of the lifetime and the total time-out are kept back, so that the last replay arrives in time.
    """
    if policy.handle_lifetime is None:
        return None

    return first_send + policy.handle_lifetime * 0.9 - policy.total_timeout


def absence_counts_from(policy: Policy, last_send_end: float) -> float:
    """From when a look-up that finds nothing means something."""
    return last_send_end + policy.total_timeout + policy.lookup_delay
