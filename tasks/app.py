"""The Celery app. Importing it reads nothing; `configure` gives it the settings."""

from typing import Any

from celery import Celery
from celery.signals import setup_logging

from config.celery import celery_options
from config.logging import configure as configure_logging
from config.settings import Settings
from engine.account import Account
from engine.bootstrap import build_accounts
from tasks.broker import install

install()
app = Celery("refundry", include=["tasks.jobs"])
app.set_default()


def configure(settings: Settings) -> Celery:
    """The app with its options. Raises ConfigurationError or ValueError for settings that cannot work."""
    accounts = build_accounts(settings.accounts).values()
    app.conf.update(celery_options(settings, longest_call(list(accounts))))

    @setup_logging.connect(weak=False)
    def _logging(**_kwargs: Any) -> None:
        configure_logging(settings.logging.level)

    return app


def longest_call(accounts: list[Account]) -> float:
    """The longest total time-out of any account, in seconds."""
    return max((account.policy.total_timeout for account in accounts), default=40.0)
