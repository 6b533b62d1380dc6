"""A whole Refundry for one test: every part a real process; the sandbox is the judge."""

import json
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.fernet import Fernet
from kombu import pools
from sqlalchemy import text

from config.settings import load_settings
from engine.bootstrap import Engine
from ledger import journal, queries
from ledger.migrate import upgrade
from signals.stream import publish_job
from tasks.app import configure
from tasks.runtime import engine_with_bells
from tests.support.processes import LocalProcess, free_port, wait_until
from tests.support.servers import RedisServer

ROOT = Path(__file__).parents[2]
QUICK: dict[str, Any] = {
    "connect_timeout": 1,
    "read_timeout": 2,
    "lookup_delay": 0.3,
    "poll_schedule": [0.5, 1],
    "retry_backoff": {"base": 0.1, "cap": 1},
    "lease": 5,
    # Faults are injected on purpose here: the breaker has tests of its own.
    "breaker": {"failures": 100_000},
}
FINAL = {"succeeded", "failed", "cancelled", "reversed", "settled"}
CURRENCIES = {"smartpay": "JPY", "smartretry": "USD"}


def toml(value: Any) -> str:
    """A value in TOML's notation."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"

    return json.dumps(value)


@dataclass
class Stack:
    """The running system. `accounts` changes settings per sandbox account, `sections` adds tables of settings.

    `environment`: what its processes find besides. `root`: where the program of the next one lies.
    """

    folder: Path
    database_url: str
    redis: RedisServer
    accounts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    root: Path = ROOT
    workers: list[LocalProcess] = field(default_factory=list)
    processes: list[LocalProcess] = field(default_factory=list)
    engine: Engine = field(init=False)
    sandbox: httpx.Client = field(init=False)
    credentials: dict[str, dict[str, Any]] = field(init=False)

    def start(self, *, workers: int = 1, beats: int = 1) -> "Stack":
        """Sandbox, ledger, settings, then the processes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._start_sandbox()
        self._write_settings()
        self.migrate()
        settings = load_settings({"REFUNDRY_CONFIG": str(self.folder / "refundry.toml")}, self.folder)
        pools.reset()
        app: Any = configure(settings)
        app._after_fork()  # forget the connections to the Redis of the test before
        self.engine = engine_with_bells(settings)
        for _ in range(workers):
            self.start_worker()
        for number in range(beats):
            self._process(f"beat{number}", "beat", "--schedule", str(self.folder / f"beat{number}"), "--pidfile=")
        for worker in self.workers:
            worker.wait_for_log("ready.", timeout=90)

        return self

    def migrate(self) -> None:
        """Make the ledger."""
        upgrade(self.database_url)

    def stop(self) -> None:
        """Kill every process."""
        for process in self.processes:
            process.remove()
        if hasattr(self, "sandbox"):
            self.sandbox.close()
        if hasattr(self, "engine"):
            self.engine.close()

    def start_worker(self, *, processes: int = 2) -> LocalProcess:
        """One more worker."""
        worker = self._process(
            f"worker{len(self.workers)}",
            "worker",
            "--pool=prefork",
            f"--concurrency={processes}",
            "--without-mingle",
            "--without-gossip",
            "--hostname=%h",
        )
        self.workers.append(worker)

        return worker

    def _process(self, name: str, *arguments: str) -> LocalProcess:
        env = {"REFUNDRY_CONFIG": str(self.folder / "refundry.toml"), "PYTHONPATH": str(self.root), **self.environment}
        command = [sys.executable, "-m", "celery", "-A", "worker.app", *arguments]
        process = LocalProcess(name, command, self.folder, env=env)
        self.processes.append(process)
        process.start()

        return process

    def _start_sandbox(self) -> None:
        port = free_port()
        command = [sys.executable, "-m", "sandbox", "--port", str(port), "--seed", "7"]
        process = LocalProcess("sandbox", command, self.folder, env={"PYTHONPATH": str(ROOT)}, port=port)
        self.processes.append(process)
        process.start()
        process.wait_for_log("sandbox listening")
        self.sandbox = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.credentials = self.sandbox.get("/_sandbox/credentials").json()

    def _write_settings(self) -> None:
        lines = [
            f'[database]\nurl = "{self.database_url}"',
            f'[redis]\nurl = "{self.redis.url}"',
            f'[security]\nencryption_keys = ["{Fernet.generate_key().decode()}"]\nindex_key = "an index key of a test"',
        ]
        for name, given in self.credentials.items():
            provider = "smart2pay" if name.startswith("smart2pay") else name.removesuffix("_oauth")
            keys = {"provider": provider, **QUICK, **given, **self.accounts.get(name, {})}
            body = "\n".join(f"{key} = {toml(value)}" for key, value in keys.items() if value is not None)
            lines.append(f"[accounts.{name}]\n{body}")
        for name, section in self.sections.items():
            lines.append("\n".join([f"[{name}]", *(f"{key} = {toml(value)}" for key, value in section.items())]))
        content = "\n".join(lines) + "\n"
        tomllib.loads(content)
        (self.folder / "refundry.toml").write_text(content)

    # -- work --------------------------------------------------------------------------------------------------------

    def faults(self, *faults: Mapping[str, Any]) -> None:
        """Replace the sandbox's faults."""
        self.sandbox.put("/_sandbox/faults", json=list(faults)).raise_for_status()

    def payments(self, provider: str, count: int = 1, amount: int = 2100, **options: Any) -> list[dict[str, Any]]:
        """Make payments at the sandbox; answers the jobs' `payment` blocks."""
        currency = options.pop("currency", CURRENCIES.get(provider, "EUR"))
        body = {"provider": provider, "count": count, "amount": amount, "currency": currency, **options}
        answer = self.sandbox.post("/_sandbox/payments", json=body)
        assert answer.status_code == 200, answer.text
        blocks: list[dict[str, Any]] = answer.json()["payments"]

        return [{key: value for key, value in block.items() if value is not None} for block in blocks]

    def jobs(self, provider: str, count: int, *, amount: int | None = 1000, tag: str = "", **options: Any) -> list[Any]:
        """Jobs over fresh payments."""
        return [
            {
                "reference": f"{tag}{provider}-{number}",
                "account": provider,
                "payment": block,
                **({} if amount is None else {"amount": amount, "currency": block["currency"]}),
            }
            for number, block in enumerate(self.payments(provider, count, **options))
        ]

    def enqueue(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Put jobs into the intake stream, as any producer does."""
        client = self.redis.client()
        for job in jobs:
            publish_job(client, json.dumps(job).encode())

    # -- looking -----------------------------------------------------------------------------------------------------

    def states(self) -> dict[str, int]:
        """How many refunds stand in each state."""
        with self.engine.ledger.read() as connection:
            return queries.by_state(connection)

    def rows(self, columns: str = "*") -> list[dict[str, Any]]:
        """Every refund."""
        with self.engine.ledger.read() as connection:
            found = connection.execute(text(f"SELECT {columns} FROM refund ORDER BY id"))
            return [dict(row._mapping) for row in found]

    def settle(self, count: int, *, timeout: float = 60, allow: frozenset[str] = frozenset()) -> dict[str, int]:
        """Wait until `count` refunds are final (or in a state of `allow`); answers the states."""
        done = FINAL | allow

        def finished() -> bool:
            states = self.states()
            return sum(states.values()) == count and all(state in done for state in states)

        try:
            wait_until(finished, timeout=timeout, what=f"{count} refunds final")
        except AssertionError as error:
            left = [row for row in self.rows() if row["state"] not in done]
            shown = [
                {key: row[key] for key in ("account", "state", "note", "attempts", "checks", "due_at")} for row in left
            ]
            raise AssertionError(f"{error}; {self.states()}; {shown[:5]}; {self._tails()}") from None

        return self.states()

    def _tails(self) -> str:
        return "\n".join(worker.tail(1500) for worker in self.workers)

    def moved(self) -> list[dict[str, Any]]:
        """The sandbox's own ledger: one entry each time money moved."""
        entries: list[dict[str, Any]] = self.sandbox.get("/_sandbox/ledger").json()

        return entries

    def requests(self, provider: str | None = None) -> list[dict[str, Any]]:
        """What the sandbox was asked."""
        params = {"provider": provider} if provider else {}
        found: list[dict[str, Any]] = self.sandbox.get("/_sandbox/requests", params=params).json()

        return found

    def assert_paid_once(self) -> None:
        """One payment for a succeeded refund, none for a failed one, at most one else; books and journal hold."""
        paid = Counter(entry["handle"] for entry in self.moved() if not entry.get("external"))
        payments = Counter((entry["provider"], entry["payment"]) for entry in self.moved())
        assert all(count == 1 for count in paid.values()), paid.most_common(3)
        for row in self.rows():
            times = paid.pop(row["handle"], 0)
            allowed = {"succeeded": {1}, "failed": {0}, "cancelled": {0}}.get(row["state"], {0, 1})
            assert times in allowed, (row["account"], row["reference"], row["state"], row["note"], times)
        assert not paid, f"money moved for no refund of ours: {paid}"
        assert payments
        with self.engine.ledger.read() as connection:
            assert queries.balances(connection) == []
            _, flaws = journal.verify(connection)
            assert flaws == []
