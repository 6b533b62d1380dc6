"""One configured provider account: its adapter, its policy, its limits."""

from dataclasses import dataclass, field, replace

from domain.policy import Policy
from domain.settlement import Notation
from providers.base import Capabilities, Exclusive, Provider
from signals.limits import Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the engine needs to work for one account. Time-outs in seconds."""

    name: str
    provider: Provider
    policy: Policy
    limit: Limit
    connect_timeout: float
    read_timeout: float
    notation: Notation = field(default_factory=Notation)

    @property
    def capabilities(self) -> Capabilities:
        """What its provider documents."""
        return self.provider.capabilities

    @property
    def alone(self) -> bool:
        """Whether a payment takes one refund at a time."""
        return self.capabilities.exclusive is Exclusive.ALWAYS


def default_policy(capabilities: Capabilities, *, connect_timeout: float, read_timeout: float) -> Policy:
    """The policy that a provider's documents give."""
    total = connect_timeout + read_timeout
    policy = Policy(
        recovery=capabilities.recovery,
        deduplicates=capabilities.deduplicates,
        can_lookup=capabilities.lookup,
        max_replays=capabilities.max_replays,
        handle_lifetime=capabilities.handle_lifetime,
        lookup_delay=capabilities.lookup_delay,
        total_timeout=total,
        poll_schedule=capabilities.poll_schedule,
        poll_horizon=capabilities.poll_horizon,
    )

    # A conversation is at most three requests; the lease outlasts them.
    return replace(policy, lease=3 * total + 10)
