"""A working engine on a SQLite ledger, with a clock that stands still and a doorbell that is only heard."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.bootstrap import Engine, bootstrap
from ledger.models import metadata
from providers.base import Provider
from tests.support.settings import make_settings

NOW = 1_700_000_000.0
JPY = {
    "reference": "R-1",
    "account": "jp",
    "payment": {"id": "payment-1", "amount": 2100, "currency": "JPY"},
    "amount": 1000,
    "currency": "JPY",
}
USD = {
    "reference": "R-1",
    "account": "us",
    "payment": {"id": "TX8A3F2C", "order_id": "OR7B9E1D"},
    "amount": 2500,
    "currency": "USD",
}
ACCOUNTS = {
    "jp": {
        "provider": "smartpay",
        "secret_key": "sk_test_SecretOfSmartpay",
        "webhook_secret": "Gk7Qm2XvT9bLr4ZcWd1HyNs8PfJx5AuEo3RtVi6K",
    },
    "us": {
        "provider": "smartretry",
        "api_key": "sk_test_SecretOfSmartRetry",
        "terminal_id": "ABC123",
        "webhook_secret": "whsec_SecretOfSmartRetry",
    },
}


@dataclass
class Rung:
    """Who was rung."""

    heard: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, lane: str, account: str) -> None:
        self.heard.append((lane, account))


def an_engine(
    database: Path | str, rung: Callable[[str, str], None], *, migrated: bool = False, **sections: Any
) -> Engine:
    """An engine whose ledger has its tables."""
    url = database if isinstance(database, str) else f"sqlite:///{database}"
    settings = make_settings(database={"url": url}, accounts=ACCOUNTS, **sections)
    engine = replace(bootstrap(settings, ring=rung), clock=lambda: NOW, worker="tester")
    if not migrated:
        with engine.ledger.write() as connection:
            metadata.create_all(connection)

    return engine


class Limited:
    """A provider that can do less than it documents."""

    def __init__(self, provider: Provider, **capabilities: Any) -> None:
        self._provider = provider
        self.capabilities = replace(provider.capabilities, **capabilities)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)


def limited(engine: Engine, name: str, **capabilities: Any) -> Engine:
    """The engine with one account whose provider can do less."""
    account = engine.accounts[name]
    less = replace(account, provider=Limited(account.provider, **capabilities))  # type: ignore[arg-type]

    return replace(engine, accounts={**engine.accounts, name: less})
