"""The composition root: settings in, a working engine out. The only module of the core that sees settings."""

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import redis
from redis import Redis

from config.settings import AccountSettings, Settings, SettlementSettings
from domain.errors import ConfigurationError, FieldError, InvalidJob
from domain.policy import Policy, replay_until
from domain.reconcile import Verdict
from domain.settlement import Notation
from engine.account import Account, default_policy
from engine.finals import Finals
from engine.meter import Meter
from engine.refusals import Refusals
from ledger.session import Ledger
from ledger.vault import Vault
from providers.registry import build
from signals.bell import Bell
from signals.client import connect
from signals.limits import Limit, Limits
from signals.rates import Rates

LEASE_MARGIN = 1.0
# How long a request waits for Redis, which decides nothing about it.
QUICK = 0.25

Ring = Callable[[str, str], None]


def silent(_lane: str, _account: str) -> None:
    """A doorbell that nobody hears: beat's round finds the work."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What a use case needs, built once per process. `ring(lane, account)` calls a worker; `clock` is epoch time."""

    settings: Settings
    ledger: Ledger
    vault: Vault
    accounts: Mapping[str, Account]
    ring: Ring = silent
    clock: Callable[[], float] = time.time
    worker: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")

    @cached_property
    def redis(self) -> "redis.Redis | None":
        """The Redis connection; None where no server is configured."""
        url = self.settings.redis.url

        return None if url is None else connect(str(url))

    @cached_property
    def limits(self) -> Limits:
        """The accounts' shared limits."""
        return Limits(self.redis, self.worker)

    @cached_property
    def quick(self) -> "Redis | None":
        """A connection for what nobody waits for; None where no server is configured."""
        url = self.settings.redis.url

        return None if url is None else connect(str(url), timeout=QUICK)

    @cached_property
    def rates(self) -> Rates:
        """How often each caller asks."""
        return Rates(self.quick)

    @cached_property
    def meter(self) -> Meter:
        """What this process counts."""
        return Meter(self.ledger)

    @cached_property
    def finals(self) -> Finals:
        """How many refunds are final."""
        return Finals()

    @cached_property
    def refusals(self) -> Refusals:
        """Refused notifications that are only counted."""
        return Refusals(self.ledger)

    @cached_property
    def bell(self) -> Bell | None:
        """The doorbells' debounce."""
        return None if self.quick is None else Bell(self.quick)

    def account(self, name: str) -> Account:
        """A configured account; InvalidJob naming the field where there is none."""
        try:
            return self.accounts[name]
        except KeyError:
            raise InvalidJob(FieldError("#/account", f"there is no account {name[:63]!r}", "unknown-account")) from None

    def close(self) -> None:
        """Close every connection."""
        refusals: Refusals | None = self.__dict__.get("refusals")
        if refusals is not None:
            refusals.close()
        meter: Meter | None = self.__dict__.get("meter")
        if meter is not None:
            meter.close()
        self.ledger.dispose()
        for name in ("redis", "quick"):
            client: Redis | None = self.__dict__.get(name)
            if client is not None:
                client.close()


def bootstrap(settings: Settings, *, ring: Ring = silent, pool_size: int = 5) -> Engine:
    """Build the engine. Raises ConfigurationError naming every setting that cannot work."""
    security = settings.security

    return Engine(
        settings=settings,
        ledger=Ledger(settings.database.url, pool_size=pool_size),
        vault=Vault(
            [key.get_secret_value() for key in security.encryption_keys], security.index_key.get_secret_value()
        ),
        accounts=build_accounts(settings.accounts),
        ring=ring,
    )


def build_accounts(configured: Mapping[str, AccountSettings]) -> dict[str, Account]:
    """The accounts of the settings, or every fault of all of them."""
    accounts: dict[str, Account] = {}
    faults: list[str] = []
    for name, settings in configured.items():
        try:
            accounts[name] = build_account(name, settings)
        except ConfigurationError as error:
            faults.extend(error.lines)
    if faults:
        raise ConfigurationError(*faults)

    return accounts


def build_account(name: str, settings: AccountSettings) -> Account:
    """One account: the provider's documented figures, changed where the settings say so."""
    provider = build(settings.provider, _options(settings), f"accounts.{name}")
    capabilities = provider.capabilities
    connect_timeout = settings.connect_timeout or capabilities.connect_timeout
    read_timeout = settings.read_timeout or capabilities.read_timeout
    policy = default_policy(capabilities, connect_timeout=connect_timeout, read_timeout=read_timeout)
    changed: dict[str, Any] = {
        "lease": settings.lease,
        "poll_schedule": settings.poll_schedule,
        "poll_horizon": settings.poll_horizon,
        "handle_lifetime": settings.handle_lifetime,
        "lookup_delay": settings.lookup_delay,
        "max_attempts": settings.max_attempts,
        "backoff_base": settings.retry_backoff.base,
        "backoff_cap": settings.retry_backoff.cap,
    }
    policy = replace(policy, **{key: value for key, value in changed.items() if value is not None})
    _outlasts(name, policy)

    return Account(
        name=name,
        provider=provider,
        policy=policy,
        limit=_limit(settings, capabilities.rate_limit),
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        notation=_notation(settings.settlement),
    )


def _notation(settings: SettlementSettings) -> Notation:
    """How the account's settlement files are written; columns that are not named keep their generic headings."""
    given = settings.model_dump(exclude={"columns", "only", "verdicts", "amounts"}, exclude_none=True)

    return Notation(
        **given,
        columns={**Notation().columns, **dict[str, str](settings.columns.items())},
        only=settings.only,
        minor=settings.amounts == "minor",
        verdicts={word: Verdict(verdict) for word, verdict in settings.verdicts.items()},
    )


def _outlasts(name: str, policy: Policy) -> None:
    """A claim and a handle must outlast the call that they cover, or nothing could ever be sent."""
    least = policy.total_timeout + LEASE_MARGIN
    if policy.lease < least:
        raise ConfigurationError(
            f"accounts.{name}.lease: expected at least {least:g} s, the total time-out and a margin, "
            f"found {policy.lease:g} s"
        )
    until = replay_until(policy, 0.0)
    if until is not None and until <= 0:
        raise ConfigurationError(
            f"accounts.{name}.handle_lifetime: expected more than the total time-out of {policy.total_timeout:g} s "
            f"leaves room for, found {policy.handle_lifetime:g} s"
        )


def _options(settings: AccountSettings) -> dict[str, Any]:
    """The adapter's own keys, and the common ones that adapters read."""
    shared: dict[str, Any] = {
        "base_url": settings.base_url,
        "currency_exponents": settings.currency_exponents or None,
        "status_map": settings.status_map,
    }

    return {**settings.options, **{key: value for key, value in shared.items() if value is not None}}


def _limit(settings: AccountSettings, documented: float | None) -> Limit:
    given = settings.breaker
    rate = settings.rate_limit.per_second if settings.rate_limit else documented
    changed: dict[str, Any] = {
        "concurrency": settings.concurrency,
        "failures": given.failures,
        "window": given.window,
        "cooldown": given.cooldown,
    }

    return replace(Limit(rate=rate), **{key: value for key, value in changed.items() if value is not None})
