"""The system under fire: the servers, a Stack whose way to the provider leads through our proxy, and its workers."""

import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.chaos.disk import Disk
from tests.chaos.proxy import Proxy
from tests.support import older
from tests.support.processes import LocalProcess
from tests.support.servers import PostgresServer, RedisServer
from tests.support.stack import ROOT, Stack

ACCOUNTS = (
    "smartpay",
    "smartretry",
    "jpm_smartpay",
    "jpm_smartpay_oauth",
    "smart2pay",
    "smart2pay_card",
    "smart_glocal",
)
LEASE = 5.0
#: Short, so that what a fault leaves behind is recovered within the run; what a test shortens elsewhere is in `QUICK`.
SETTINGS: Mapping[str, Any] = {
    "lease": LEASE,
    "retry_backoff": {"base": 0.2, "cap": 2},
    "max_attempts": 500,
    "poll_horizon": 300,
    "breaker": {"failures": 50, "window": 5, "cooldown": 2},
}


class System(Stack):
    """A Stack that knows its proxy, how often Redis has forgotten everything, and which workers ended by themselves.

    `older`: the program of the release before, with which it begins.
    """

    proxy: Proxy
    postgres: PostgresServer | None = None
    disk: Disk | None = None
    older: Path | None = None
    forgotten: int = 0
    seed: int = 0
    ended: list[str]

    def begin_with_the_older(self) -> bool:
        """Let workers and beats be of the release before, on its schema; False where the history does not have it."""
        folder = self.folder.parent / "older"
        self.older = folder if older.unpack(folder) else None
        self.root = self.older or ROOT

        return self.older is not None

    def migrate(self) -> None:
        """The ledger as the older program has it, where there is one."""
        if self.older is None:
            super().migrate()
        else:
            older.migrate(self.older, self.database_url, self.folder)

    def _start_sandbox(self) -> None:
        super()._start_sandbox()
        self.proxy = Proxy(self.sandbox.base_url.port or 80, f"{self.seed}:proxy")
        self.proxy.start()
        # The sandbox answers with the address under which it was asked.
        self.credentials = httpx.get(f"{self.proxy.url}/_sandbox/credentials").json()

    def stop(self) -> None:
        """Kill every process, then the proxy."""
        super().stop()
        if hasattr(self, "proxy"):
            self.proxy.stop()

    def release(self, worker: LocalProcess) -> None:
        """It is no longer one of the workers that ought to run."""
        self.workers.remove(worker)

    def discard(self, worker: LocalProcess) -> None:
        """Kill what is left of it and forget it."""
        with contextlib.suppress(ValueError):
            self.release(worker)
        worker.remove()
        self.processes.remove(worker)

    def upgrade(self) -> LocalProcess:
        """`refundry db upgrade`, running."""
        env = {"REFUNDRY_CONFIG": str(self.folder / "refundry.toml"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", "from cli.main import main; main()", "db", "upgrade"]
        process = LocalProcess("upgrade", command, self.folder, env=env)
        self.processes.append(process)
        process.start()

        return process

    def parts(self, worker: LocalProcess) -> list[psutil.Process]:
        """The processes below a worker's own: its pool and its companion, the oldest first."""
        try:
            found = psutil.Process(worker.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

        return sorted(found, key=lambda process: process.pid)

    def logs(self) -> Iterator[str]:
        """Every line that workers and beats wrote."""
        for file in sorted(self.folder.glob("*.log")):
            with file.open(errors="replace") as lines:
                yield from lines


@contextmanager
def system(database: str, *, seed: int, refunds: int, keep: bool = False) -> Iterator[System]:
    """Servers and a System that is not started yet; nothing is left at the end, but for the logs with `keep`."""
    folder = Path(tempfile.mkdtemp(prefix="refundry-chaos-"))
    # What Redis has acknowledged is on disk: so a crash with its data is no excuse for a lost job.
    redis = RedisServer(folder / "redis", appendfsync="always")
    postgres = PostgresServer() if database == "postgresql" else None
    disk = None if postgres else Disk(folder / "disk", 128 + refunds // 25)
    made: System | None = None
    try:
        redis.start()
        if postgres is not None:
            postgres.start()
        if disk is not None:
            disk.mount()
        url = postgres.databases.create() if postgres else f"sqlite:///{folder / 'disk' / 'refundry.db'}"
        made = System(folder / "stack", url, redis, accounts=dict.fromkeys(ACCOUNTS, SETTINGS))
        made.seed, made.postgres, made.disk, made.ended = seed, postgres, disk, []
        yield made
    finally:
        _clear_away(made, redis, postgres, disk)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _clear_away(made: System | None, redis: RedisServer, postgres: PostgresServer | None, disk: Disk | None) -> None:
    """Whatever fails on the way, the rest is ended too."""
    with contextlib.ExitStack() as rest:
        if disk is not None:
            rest.callback(disk.remove)
        if postgres is not None:
            rest.callback(postgres.remove)
        rest.callback(redis.process.remove)
        if made is not None:
            rest.callback(made.stop)


def end_in_order() -> None:
    """SIGTERM ends a run as Ctrl-C does: with everything cleared away."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
