"""The peers: how each is started, and the concurrencies among which its best is looked for."""

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, create_engine, text

from benchmarks.environments import python_of
from benchmarks.ground import Ground, Memory
from tests.support.processes import wait_until

SCHEMA = Path(__file__).with_name("peers") / "schema.sql"
# Each child, thread or connection is opened by a first refund; so many for each are not counted.
WARM_UPS = 4

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What a team would build instead. `start` answers program and options for a concurrency."""

    name: str
    environment: str
    module: str
    start: Callable[[int], tuple[str, ...]]
    sizes: tuple[int, ...]
    processes: int = 1

    def described(self, size: int) -> str:
        """Its name with its concurrency."""
        return f"{self.name} {f'{self.processes} x ' if self.processes > 1 else ''}{size}"


def _celery(pool: str, *sizes: int) -> Peer:
    options = ("-A", "benchmarks.peers.plain_celery", "worker", f"--pool={pool}", "--without-mingle")
    return Peer(
        name=f"Celery, {pool}",
        environment="celery",
        module="plain_celery",
        start=lambda size: ("celery", *options, "--without-gossip", "-c", str(size)),
        sizes=sizes,
    )


POOLS = (_celery("prefork", 16, 32), _celery("threads", 32, 64), _celery("gevent", 50, 100))
OTHERS = (
    Peer(
        name="Dramatiq",
        environment="dramatiq",
        module="plain_dramatiq",
        start=lambda size: (
            *("dramatiq", "benchmarks.peers.plain_dramatiq", "--processes", "2"),
            *("--threads", str(size // 2)),
        ),
        sizes=(16, 32, 64),
    ),
    Peer(
        name="RQ",
        environment="rq",
        module="plain_rq",
        start=lambda size: (
            *("rq", "worker-pool", "refunds", "-c", "benchmarks.peers.plain_rq", "--num-workers", str(size)),
            *("--worker-class", "rq.worker.SimpleWorker", "--logging-level", "WARNING"),
        ),
        sizes=(8, 16, 32),
    ),
    Peer(
        name="Huey",
        environment="huey",
        module="plain_huey",
        start=lambda size: (
            *("huey_consumer", "benchmarks.peers.plain_huey.huey", "-k", "thread"),
            *("-w", str(size), "-q", "-m", "0.1"),
        ),
        sizes=(16, 32, 64),
    ),
    Peer(
        name="arq",
        environment="arq",
        module="plain_arq",
        start=lambda _size: ("arq", "benchmarks.peers.plain_arq.WorkerSettings"),
        sizes=(20, 50, 100),
        processes=2,
    ),
    Peer(
        name="taskiq",
        environment="taskiq",
        module="plain_taskiq",
        start=lambda size: (
            *("taskiq", "worker", "benchmarks.peers.plain_taskiq:broker", "--workers", "2"),
            *("--max-async-tasks", str(size), "--log-level", "WARNING"),
        ),
        sizes=(20, 50, 100),
    ),
    Peer(
        name="Procrastinate",
        environment="procrastinate",
        module="plain_procrastinate",
        start=lambda size: (
            *("procrastinate", "--app", "benchmarks.peers.plain_procrastinate.app", "worker"),
            *("--concurrency", str(size)),
        ),
        sizes=(20, 50),
        processes=2,
    ),
    Peer(
        name="DBOS",
        environment="dbos",
        module="plain_dbos",
        start=lambda _size: ("python", "-m", "benchmarks.peers.plain_dbos"),
        sizes=(16, 32),
        processes=2,
    ),
)


def versions(peers: Sequence[Peer]) -> str:
    """What each is locked at."""
    names = dict.fromkeys(peer.environment for peer in peers)
    locks = {name: Path(f"requirements/peers-{name}.txt").read_text() for name in names}

    found = {name: re.findall(rf"^{name}==([^ ;]+)", lock, re.MULTILINE) for name, lock in locks.items()}

    return ", ".join(f"{name} {version}" for name, (version,) in found.items())


def run(ground: Ground, peer: Peer, size: int, jobs: int) -> Figures:
    """Every refund waits in the queue before the workers start; the clock starts when the warm-up has been paid."""
    python = Path(python_of(peer.environment))
    warm_up = WARM_UPS * size * peer.processes
    url = refunds_of(ground, warm_up + jobs)
    env = {
        "PEER_BROKER": ground.redis.url,
        "PEER_DATABASE": url,
        "PEER_PROVIDER": f"{ground.provider}/v1",
        "PEER_CONCURRENCY": str(size),
    }
    program, *options = peer.start(size)
    database = create_engine(url, isolation_level="AUTOCOMMIT")
    before = ground.paid()
    _hand_in(python, peer, warm_up + jobs, env)
    with (
        ground.running([str(python.with_name(program)), *options], env=env, count=peer.processes) as workers,
        database.connect() as connection,
    ):
        wait_until(lambda: ground.paid() - before >= warm_up, timeout=90, what=f"the warm-up of {peer.name}")
        clock, early = ground.clock(*workers), ground.paid() - before
        with Memory(*workers) as memory:
            wait_until(lambda: ground.paid() - before >= warm_up + jobs, timeout=300, what="the last refund")
            wait_until(lambda: _closed(connection) == warm_up + jobs, what="the last answer")
            figures = rated(clock.read(), warm_up + jobs - early)
    database.dispose()

    return {**figures, "memory": memory.total, "doubled": ground.ask("_count")["doubled"]}


def refunds_of(ground: Ground, count: int) -> str:
    """A database of that many refunds to be paid."""
    url = ground.postgres.databases.create()
    database = create_engine(url)
    with database.begin() as connection:
        connection.exec_driver_sql(SCHEMA.read_text())
        connection.execute(
            text(
                "INSERT INTO refund SELECT 'rf_' || n, 'payment_' || n, 1000, 'JPY', 'queued', NULL, 0, 0 "
                "FROM generate_series(1, :count) AS n"
            ),
            {"count": count},
        )
    database.dispose()

    return url


def _hand_in(python: Path, peer: Peer, count: int, env: dict[str, str]) -> None:
    command = [str(python), "-m", f"benchmarks.peers.{peer.module}", "1", str(count)]
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ".", **env}, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{peer.name} could not hand in its refunds: {done.stderr.strip()[-800:]}")


def _closed(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM refund WHERE state = 'succeeded'")).scalar_one())


def rated(clock: Figures, count: int) -> Figures:
    """Rates, and CPU seconds for each refund."""
    busy = sum(clock[name] for name in ("worker", "postgres", "redis"))
    each = {name: seconds / count for name, seconds in clock.items() if name != "wall"}

    return {"wall_rate": count / clock["wall"], "core_rate": count / busy, **each}


def best_size(peer: Peer, jobs: int) -> tuple[int, dict[int, float]]:
    """The concurrency with the highest rate in one short run each, and all their rates."""
    rates: dict[int, float] = {}
    for size in peer.sizes:
        with Ground() as ground:
            rates[size] = run(ground, peer, size, jobs)["wall_rate"]

    return max(rates, key=lambda size: rates[size]), rates
