"""What a command works with: the settings, the engine, who acts, where results go."""

import json
import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from cli import embedded
from cli.errors import Unusable
from cli.output import Format, Printer
from config import RELEASE
from config.logging import configure as configure_logging
from config.settings import Settings, load_settings
from config.sources import Tree
from engine import tracing
from engine.bootstrap import Engine
from engine.health import undurable
from engine.people import Actor, Verb, recognise, require
from ledger import migrate
from tasks.app import configure
from tasks.runtime import engine_with_bells

SANDBOX_ACCOUNTS = "sandbox.json"
NO_REDIS = "no Redis is configured: set REFUNDRY_REDIS_URL or [redis] url, or start `refundry up` in this folder"


class Session:
    """One command's surroundings. Nothing is read or opened before it is asked for."""

    def __init__(self, output: Format, actor: str | None) -> None:
        self.out = Printer(output)
        self._actor = actor or os.environ.get("REFUNDRY_ACTOR") or None

    @cached_property
    def settings(self) -> Settings:
        """The settings; what is missing comes from a running `refundry up` of this folder."""
        settings = load_settings(defaults=embedded_defaults())
        configure_logging("ERROR", json=False, stream=sys.stderr)

        return settings

    @cached_property
    def engine(self) -> Engine:
        """The engine over a database that is up to date."""
        self.require_redis()
        engine = self.bare_engine
        require_current(engine)
        require_durable(engine)

        return engine

    @cached_property
    def bare_engine(self) -> Engine:
        """The engine, whatever the state of database and Redis."""
        if self.settings.redis.url is not None:
            configure(self.settings)
        tracing.start("cli", RELEASE)

        return engine_with_bells(self.settings)

    def require_redis(self) -> None:
        """Raises Unusable where no Redis is known."""
        if self.settings.redis.url is None:
            raise Unusable(NO_REDIS)

    def actor(self, verb: Verb) -> Actor:
        """Who acts, if they may. Raises Forbidden."""
        someone = recognise(self.engine, self._actor)
        require(someone, verb)

        return someone

    def close(self) -> None:
        """Close what was opened."""
        engine = self.__dict__.get("bare_engine")
        if engine is not None:
            engine.close()
            tracing.stop()


def embedded_defaults(folder: Path = embedded.FOLDER) -> Tree:
    """Redis, keys and sandbox accounts of a `refundry up` that runs in this folder."""
    defaults: Tree = {}
    keys = embedded.read_keys(folder)
    if keys:
        defaults["security"] = keys
    url = None if "REFUNDRY_REDIS_URL" in os.environ else embedded.running_url(folder)
    if url is not None:
        defaults["redis"] = {"url": url}
        defaults["accounts"] = _sandbox_accounts(folder / SANDBOX_ACCOUNTS)

    return defaults


def _sandbox_accounts(path: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}

    return found


def environment(settings: Settings) -> dict[str, str]:
    """The environment for a worker or beat: what they would not find out by themselves."""
    keys = ",".join(key.get_secret_value() for key in settings.security.encryption_keys)

    return {
        **os.environ,
        "REFUNDRY_REDIS_URL": str(settings.redis.url),
        "REFUNDRY_ENCRYPTION_KEYS": keys,
        "REFUNDRY_INDEX_KEY": settings.security.index_key.get_secret_value(),
    }


def require_current(engine: Engine) -> None:
    """Raises Unusable where the database lacks what this program was written for."""
    if engine.ledger.sqlite and not Path(engine.ledger.url.database or "").exists():
        raise Unusable("there is no database yet: run `refundry db upgrade`")
    if migrate.fit(engine.ledger.engine) is migrate.Fit.BEHIND:
        raise Unusable("the database's schema is not up to date: run `refundry db upgrade`")


def require_durable(engine: Engine) -> None:
    """Raises Unusable where the database may forget what it has committed."""
    with engine.ledger.read() as connection:
        wrong = undurable(engine, connection)
    if wrong:
        raise Unusable(f"the database may forget what it has committed, and a refund be paid twice: {wrong}")
