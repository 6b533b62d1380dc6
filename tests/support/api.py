"""The HTTP API as a process of its own, over any ledger."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from config.settings import load_settings
from engine import keys
from engine.bootstrap import Engine, bootstrap
from engine.keys import Scope
from engine.people import Actor, Role
from ledger.migrate import upgrade
from tests.support.processes import LocalProcess, free_port, wait_until
from tests.support.settings import ENCRYPTION_KEY, INDEX_KEY
from tests.support.stack import ROOT, toml

ADMIN = Actor("ada", frozenset({Role.ADMIN}))
ACCOUNTS: dict[str, dict[str, Any]] = {
    name: {"provider": "smartpay", "secret_key": f"sk_test_{name}", "webhook_secret": "Gk7Qm2XvT9bLr4Zc"}
    for name in ("shop", "jp-store")
}


class ApiServer:
    """A running `python -m api`. `sections`: settings beside the accounts, such as `api`."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, **sections: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {
            "database": {"url": database_url},
            "redis": {"url": redis_url},
            "security": {"encryption_keys": [ENCRYPTION_KEY], "index_key": INDEX_KEY},
            "accounts": ACCOUNTS,
        } | sections
        config = folder / "refundry.toml"
        config.write_text("".join(f"{name} = {toml(value)}\n" for name, value in settings.items()))
        env = {"REFUNDRY_CONFIG": str(config), "PYTHONPATH": str(ROOT)}
        upgrade(database_url)
        self.engine: Engine = bootstrap(load_settings(env, folder))
        command = [sys.executable, "-m", "api", "--port", str(self.port)]
        self.process = LocalProcess("api", command, folder, env=env, port=self.port)

    def start(self) -> "ApiServer":
        """Start it, and wait until it answers."""
        self.process.start()
        wait_until(self._answers, timeout=120, what=f"an answer of {self.url}")

        return self

    def stop(self) -> None:
        """End it, and what this object opened."""
        self.process.remove()
        self.engine.close()

    def key(
        self,
        name: str = "shop",
        *,
        scopes: Sequence[Scope] = (Scope.WRITE, Scope.READ),
        accounts: Sequence[str] = (),
        lifetime: float | None = None,
    ) -> str:
        """A new API key."""
        return keys.create(self.engine, ADMIN, name, scopes=scopes, accounts=accounts, lifetime=lifetime)[1]

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        """A client with a key; the caller closes it."""
        headers = {"Authorization": f"Bearer {key or self.key()}"} | options.pop("headers", {})

        return httpx.Client(base_url=self.url, headers=headers, timeout=240, **options)

    def _answers(self) -> bool:
        assert self.process.status == "running", self.process.tail()
        try:
            return httpx.get(f"{self.url}/healthz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def job(reference: str = "R-1", **changes: Any) -> dict[str, Any]:
    """A refund job; members that are None are left out."""
    whole = {
        "reference": reference,
        "account": "shop",
        "payment": {"id": f"TX-{reference}", "order_id": "OR7B9E1D", "amount": 5000, "currency": "JPY"},
        "amount": 2500,
        "currency": "JPY",
        **changes,
    }

    return {name: value for name, value in whole.items() if value is not None}
