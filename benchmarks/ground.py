"""What every measurement stands on: fresh servers, the provider's stand-in, workers as real processes, CPU clocks."""

import contextlib
import itertools
import json
import secrets
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil
from cryptography.fernet import Fernet

from benchmarks.stand_in import AMOUNT, CURRENCY
from config.celery import QUEUES
from config.settings import Settings, load_settings
from engine.bootstrap import Engine, bootstrap
from engine.operate import pause_by_itself, resume
from engine.people import recognise
from engine.submit import submit_many
from ledger.migrate import upgrade
from tasks.app import configure
from tests.support.processes import LocalProcess, free_port, wait_until
from tests.support.servers import PostgresServer, RedisServer

LATENCY = 0.05
CHILDREN = "4"
SETTLING = 2.0
MEGABYTE = 1_000_000


class Ground:
    """PostgreSQL (durable), Redis (append-only) and a provider of 50 ms, until the end of the `with` block."""

    def __init__(self, *, latency: float = LATENCY) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="refundry-bench-"))
        self.redis = RedisServer(self.folder / "redis")
        self.postgres = PostgresServer()
        self.provider_port = free_port()
        command = [sys.executable, "-m", "benchmarks.stand_in", "--port", str(self.provider_port)]
        self.stand_in = LocalProcess(
            "stand-in", [*command, "--latency", str(latency)], self.folder, env={"PYTHONPATH": str(Path.cwd())}
        )
        self._keys = Fernet.generate_key().decode()

    def __enter__(self) -> Self:
        self.redis.start()
        self.postgres.start()
        self.stand_in.start()
        wait_until(self._provider_answers, what="the stand-in")
        self._insist_on_durability()
        return self

    def __exit__(self, *_: object) -> None:
        self.stand_in.remove()
        self.redis.process.remove()
        self.postgres.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def provider(self) -> str:
        """The stand-in's address."""
        return f"http://127.0.0.1:{self.provider_port}"

    def ask(self, path: str) -> Any:
        """What the stand-in says about itself."""
        with urllib.request.urlopen(f"{self.provider}/{path}", timeout=10) as answer:
            return json.load(answer)

    def engine(self, installation: "Installation") -> Engine:
        """An engine of this process whose bell reaches the worker at once."""
        settings = installation.load()
        app = configure(settings)

        def ring(lane: str, account: str) -> None:
            # A connection of its own: the app's pool may still lead to the servers of an earlier measurement.
            with app.connection_for_write(self.redis.url) as connection, connection.Producer() as producer:
                app.send_task(f"refunds.{lane}", args=[account], queue=f"refundry.{lane}", producer=producer)

        return bootstrap(settings, ring=ring)

    def paid(self) -> int:
        """How many refunds the stand-in has paid."""
        return int(self.ask("_count")["paid"])

    def clock(self, *workers: LocalProcess) -> "Clock":
        """Clocks on everything that runs."""
        return Clock(
            worker=workers, postgres=[self.postgres.process], redis=[self.redis.process], stand_in=[self.stand_in]
        )

    def installation(self, accounts: Mapping[str, Mapping[str, Any]], *, sqlite: bool = False) -> "Installation":
        """The product on these servers, with an empty ledger and its settings in a file."""
        database = self._sqlite() if sqlite else self.postgres.databases.create()
        upgrade(database)
        lines = [
            f'[database]\nurl = "{database}"\n[redis]\nurl = "{self.redis.url}"',
            f'[security]\nencryption_keys = ["{self._keys}"]\nindex_key = "benchmarks benchmarks"',
        ]
        for name, options in accounts.items():
            lines.append(f"[accounts.{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in options.items()]
        file = self.folder / f"refundry-{database.rpartition('/')[2]}.toml"
        file.write_text("\n".join(lines))
        return Installation(file, self.folder)

    @contextlib.contextmanager
    def worker(
        self, app: str, *options: str, env: Mapping[str, str], python: str = sys.executable
    ) -> Iterator[LocalProcess]:
        """A Celery worker that is ready for messages and has come to rest."""
        command = [python, "-m", "celery", "-A", app, "worker", "--without-mingle", "--without-gossip", *options]
        process = LocalProcess(
            "worker", command, self.folder, env={"PYTHONPATH": str(Path.cwd()), "PYTHONWARNINGS": "ignore", **env}
        )
        process.start()
        try:
            process.wait_for_log("ready.", timeout=60)
            time.sleep(SETTLING)
            yield process
        finally:
            process.remove()

    def refundry(self, installation: "Installation") -> contextlib.AbstractContextManager[LocalProcess]:
        """Our own worker, as `refundry worker` starts it."""
        return self.worker("worker.app", "--pool=prefork", "-c", CHILDREN, "-Q", ",".join(QUEUES), env=installation.env)

    @contextlib.contextmanager
    def refundries(self, installation: "Installation", count: int) -> Iterator[list[LocalProcess]]:
        """So many of our own workers."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.refundry(installation)) for _ in range(count)]

    def redis_bytes(self) -> int:
        """What Redis has in memory."""
        with self.redis.client() as client:
            return int(client.info("memory")["used_memory"])

    def logged(self) -> dict[str, float]:
        """Write transactions and bytes of write-ahead log of the ledger's server so far."""
        asked = "SELECT pg_current_xact_id()::text::bigint, pg_current_wal_lsn() - '0/0'"
        with self.postgres.databases.connect() as connection:
            found = connection.execute(asked).fetchone()
        assert found is not None
        return {"commits": float(found[0]), "wal_bytes": float(found[1])}

    @contextlib.contextmanager
    def running(
        self, command: Sequence[str], *, env: Mapping[str, str], count: int = 1
    ) -> Iterator[list[LocalProcess]]:
        """Some processes of the same command, until the end of the block."""
        env = {"PYTHONPATH": str(Path.cwd()), "PYTHONWARNINGS": "ignore", **env}
        processes = [LocalProcess("peer", command, self.folder, env=env) for _ in range(count)]
        try:
            for process in processes:
                process.start()
            yield processes
        finally:
            for process in processes:
                process.remove()

    def _sqlite(self) -> str:
        return f"sqlite:///{self.folder / f'ledger-{secrets.token_hex(4)}.db'}"

    def _provider_answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("_count"))
        return False

    def _insist_on_durability(self) -> None:
        with self.postgres.databases.connect() as connection:
            for setting in ("fsync", "synchronous_commit"):
                shown = connection.execute(f"SHOW {setting}").fetchone()
                assert shown == ("on",), f"{setting} is {shown}"


class Installation:
    """The product, set up by a file."""

    def __init__(self, file: Path, folder: Path) -> None:
        self._file = file
        self._folder = folder

    @property
    def env(self) -> dict[str, str]:
        """What its processes are told."""
        return {"REFUNDRY_CONFIG": str(self._file)}

    def load(self) -> Settings:
        """Its settings, for use in this process."""
        return load_settings(self.env, self._folder)


def smartpay(base: str, **options: Any) -> dict[str, Any]:
    """An account whose refunds are final in one answer."""
    return {"provider": "smartpay", "base_url": base, "secret_key": "sk_test_benchmark", **options}


class Clock:
    """The CPU seconds of process trees and the wall clock, since it was made."""

    def __init__(self, **trees: Sequence[LocalProcess]) -> None:
        self._pids = {name: [process.pid for process in tree] for name, tree in trees.items()}
        self._wall = time.perf_counter()
        self._before = self._seconds()

    def read(self) -> dict[str, float]:
        """Seconds by tree, and `wall`."""
        wall = time.perf_counter() - self._wall
        after = self._seconds()
        return {"wall": wall, **{name: after[name] - before for name, before in self._before.items()}}

    def _seconds(self) -> dict[str, float]:
        return {name: sum(map(tree_seconds, pids)) for name, pids in self._pids.items()}


def tree_seconds(pid: int) -> float:
    """CPU of a process and its descendants, those that have ended among them."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


class Memory:
    """The peak memory of some process trees while the block runs, in megabytes; looked at twice a second.

    `total`: all processes, what they share counted once. `largest`: the resident set of the largest one.
    """

    LOOK = 0.5

    def __init__(self, *roots: LocalProcess) -> None:
        self._pids = [root.pid for root in roots]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.total = self.largest = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self._look()
            if self._stop.wait(self.LOOK):
                return

    def _look(self) -> None:
        total = 0
        for process in (each for pid in self._pids for each in tree(pid)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                seen = process.memory_full_info()
                total += seen.pss
                self.largest = max(self.largest, seen.rss / MEGABYTE)
        self.total = max(self.total, total / MEGABYTE)


def job(account: str, number: int, *, payment: str | None = None, captured: int = 2 * AMOUNT) -> dict[str, Any]:
    """One refund, by default of a payment of its own, what was captured given."""
    return {
        "reference": f"{account}-{number}",
        "account": account,
        "payment": {"id": payment or f"payment_{account}_{number}", "amount": captured, "currency": CURRENCY},
        "amount": AMOUNT,
        "currency": CURRENCY,
    }


def fill(engine: Engine, account: str, jobs: int, *, first: int = 0) -> None:
    """Pause the account and have that many jobs accepted, numbered from the first on."""
    pause_by_itself(engine, account, reason="benchmark")
    hand_in(engine, (job(account, number) for number in range(first, first + jobs)))


def hand_in(engine: Engine, jobs: Iterable[dict[str, Any]], *, batch: int = 500) -> None:
    """Have the jobs accepted."""
    left = iter(jobs)
    while wanted := list(itertools.islice(left, batch)):
        receipts = submit_many(engine, wanted, actor="benchmark", via="benchmark")
        assert all(receipt.refund is not None for receipt in receipts)


def release(engine: Engine, account: str) -> None:
    """Let the account send."""
    resume(engine, recognise(engine, None), account, reason="benchmark")
