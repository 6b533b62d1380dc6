"""Rows 1 and 2: refunds per second and CPU per refund, against a plain Celery task per refund and Celery's no-op.

    python -m benchmarks --only throughput

Both sides start from rows in a durable PostgreSQL and end with every refund final. The clock runs from the first
doorbell or message until the provider's stand-in has answered the last one and the ledger knows; CPU is counted over
every process tree: workers with their parents and companions, PostgreSQL, Redis. The stand-in's own is shown apart.

What counts is the clock on the wall with everything on one machine: workers, PostgreSQL, Redis, the stand-in. The
rounds of all sides alternate. Beside it stands the rate per second of CPU, which other work on the machine moves less.
"""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import Connection, create_engine, text

from benchmarks import plain_celery
from benchmarks.ground import Ground, fill, release, smartpay
from benchmarks.measured import Row, Spread, short, spread
from engine.bootstrap import Engine
from tests.support.processes import LocalProcess, wait_until

CONCURRENCY = 400
RIVALS = (("prefork", "32"), ("threads", "64"), ("gevent", "100"))
# Each child or thread opens its connections with its first refund; that is not counted.
WARM_UPS = 4
NO_OPS = (("solo", "1"), ("prefork", "4"))

Figures = dict[str, float]


def measure(*, quick: bool) -> list[Row]:
    """Both rows."""
    ours, theirs, nothing, rounds = (4000, 200, 1500, 1) if quick else (8000, 600, 3000, 3)
    python = None if quick else gevent_python()
    rivals = [each for each in RIVALS if python or each[0] != "gevent"]
    rivals = [("prefork", "32")] if quick else rivals
    sides: dict[str, Callable[[Ground], Figures]] = {"refundry": lambda ground: refundry(ground, ours)}
    for pool, size in rivals:
        name = f"plain Celery, {pool} {size}"
        interpreter = python if pool == "gevent" and python else sys.executable
        sides[name] = lambda ground, p=pool, s=size, i=interpreter: plain(ground, p, s, theirs, i)
    for pool, size in NO_OPS:
        sides[f"Celery no-op, {pool}"] = lambda ground, p=pool, s=size: no_op(ground, p, s, nothing)
    taken: dict[str, list[Figures]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            with Ground() as ground:
                taken[name].append(side(ground))
            print(f"  round {number + 1}, {name}: {described(taken[name][-1])}", flush=True)

    return rows(taken)


def described(figures: Figures) -> str:
    """One round in one line."""
    parts = (f"{name} {short(1000 * figures[name])}" for name in ("worker", "postgres", "redis", "stand_in"))
    return f"{short(figures['wall_rate'])}/s, {short(figures['core_rate'])} per CPU second; ms each: {', '.join(parts)}"


def rows(taken: dict[str, list[Figures]]) -> list[Row]:
    """The table's lines out of all rounds."""
    ours = taken["refundry"]
    plains = {name: each for name, each in taken.items() if name.startswith("plain")}
    plain_best = fastest(plains)
    no_op_best = fastest({name: each for name, each in taken.items() if "no-op" in name})
    times, over = ratios(ours, taken[plain_best]), ratios(ours, taken[no_op_best])
    times_cpu = ratios(ours, taken[fastest(plains, "core_rate")], "core_rate")
    details: dict[str, Spread] = {}
    for name, figures in taken.items():
        details[f"{name}: per CPU second"] = spread([each["core_rate"] for each in figures], "/s")
        details[f"{name}: wall clock"] = spread([each["wall_rate"] for each in figures], "/s")
    for part in ("worker", "postgres", "redis", "stand_in"):
        details[f"refundry: CPU of {part.replace('_', ' ')}"] = spread([1000 * each[part] for each in ours], "ms")
    worker = details["refundry: CPU of worker"]

    return [
        Row(
            what="refunds per second, all processes included",
            figure=f"{short(times.median)} times the best plain pool ({plain_best.partition(', ')[2]}), "
            f"{short(over.median)} times Celery's no-op; per CPU second {short(times_cpu.median)} times",
            bar="at least 10 times; above the no-op",
            holds=times.median >= 10 and over.median > 1,  # noqa: PLR2004 - the bar
            details={
                "refundry to the best plain pool": times,
                "refundry to Celery's no-op": over,
                "refundry to the best plain pool, per CPU second": times_cpu,
                **details,
            },
        ),
        Row(
            what="CPU per refund in the worker",
            figure=f"{short(worker.median)} ms",
            bar="below 0.8 ms",
            holds=worker.median < 0.8,  # noqa: PLR2004 - the bar
            details={"parent, children and companion": worker},
        ),
    ]


def fastest(taken: dict[str, list[Figures]], rate: str = "wall_rate") -> str:
    """The side with the highest rate: by the clock on the wall, or `core_rate`, by the second of CPU."""
    return max(taken, key=lambda name: spread([each[rate] for each in taken[name]]).median)


def ratios(ours: list[Figures], theirs: list[Figures], rate: str = "wall_rate") -> Spread:
    """Our rate over theirs, round by round."""
    return spread([mine[rate] / other[rate] for mine, other in zip(ours, theirs, strict=True)], "times")


# -- ours ----------------------------------------------------------------------------------------------------------


def refundry(ground: Ground, jobs: int) -> Figures:
    """Submitted beforehand to a paused account; the clock starts when it may send."""
    installation = ground.installation({"shop": smartpay(f"{ground.provider}/v1", concurrency=CONCURRENCY)})
    engine = ground.engine(installation)
    fill(engine, "shop", jobs)
    with ground.refundry(installation) as worker:
        wait_until(lambda: told(engine), what="an empty outbox")
        clock = ground.clock(worker)
        release(engine, "shop")
        wait_until(lambda: ground.paid() >= jobs, timeout=300, what="the last refund")
        wait_until(lambda: final(engine) == jobs, what="the last answer in the ledger")
        wall = clock.read()["wall"]
        wait_until(lambda: told(engine), what="an empty outbox")
        figures = clock.read()
        assert ground.ask("_count")["doubled"] == 0
    engine.close()

    return rated({**figures, "wall": wall}, jobs)


def final(engine: Engine) -> int:
    """Refunds that have succeeded."""
    with engine.ledger.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM refund WHERE state = 'succeeded'")).scalar_one())


def told(engine: Engine) -> bool:
    """Whether every change of state has left the outbox."""
    with engine.ledger.read() as connection:
        return connection.execute(text("SELECT 1 FROM outbox LIMIT 1")).first() is None


def rated(clock: dict[str, float], count: int) -> Figures:
    """Rates, and CPU seconds for each refund."""
    busy = sum(clock[name] for name in ("worker", "postgres", "redis"))
    each = {name: seconds / count for name, seconds in clock.items() if name != "wall"}
    return {"wall_rate": count / clock["wall"], "core_rate": count / busy, **each}


# -- theirs --------------------------------------------------------------------------------------------------------


def plain(ground: Ground, pool: str, size: str, jobs: int, python: str) -> Figures:
    """One message per refund; the clock starts with the first message."""
    url = ground.postgres.databases.create()
    database = create_engine(url, isolation_level="AUTOCOMMIT")
    warm_up = WARM_UPS * int(size)
    with database.begin() as connection:
        connection.exec_driver_sql(plain_celery.SCHEMA)
        connection.execute(
            text(
                "INSERT INTO refund SELECT 'rf_' || n, 'payment_' || n, 1000, 'JPY', 'queued', NULL, 0, 0 "
                "FROM generate_series(1, :jobs) AS n"
            ),
            {"jobs": warm_up + jobs},
        )
    env = {"PLAIN_DATABASE": url, "PLAIN_PROVIDER": f"{ground.provider}/v1"}
    ids = [f"rf_{number}" for number in range(1, warm_up + jobs + 1)]
    with celery_worker(ground, pool, size, env, python) as worker, database.connect() as connection:
        publish(ground, "refund", ids[:warm_up])
        wait_until(lambda: closed(connection) == warm_up, timeout=60, what="the warm-up")
        clock = ground.clock(worker)
        publish(ground, "refund", ids[warm_up:])
        wait_until(lambda: ground.paid() == len(ids), timeout=300, what="the last refund")
        wait_until(lambda: closed(connection) == len(ids), what="the last answer")
        figures = rated(clock.read(), jobs)
    database.dispose()

    return figures


def closed(connection: Connection) -> int:
    """Refunds that have succeeded."""
    return int(connection.execute(text("SELECT count(*) FROM refund WHERE state = 'succeeded'")).scalar_one())


def no_op(ground: Ground, pool: str, size: str, messages: int) -> Figures:
    """Messages that do nothing."""
    with celery_worker(ground, pool, size, {}, sys.executable) as worker:
        clock = ground.clock(worker)
        publish(ground, "nothing", list(range(messages)))
        with ground.redis.client() as client:
            wait_until(
                lambda: client.llen("celery") == 0 and client.hlen("unacked") == 0, timeout=300, what="the last message"
            )

        return rated(clock.read(), messages)


def celery_worker(
    ground: Ground, pool: str, size: str, env: dict[str, str], python: str
) -> AbstractContextManager[LocalProcess]:
    """A rival's worker."""
    env = {"PLAIN_BROKER": ground.redis.url, **env}
    return ground.worker("benchmarks.plain_celery", f"--pool={pool}", "-c", size, env=env, python=python)


def publish(ground: Ground, task: str, arguments: list[object]) -> None:
    """Send the messages; what that costs is the sender's, not the worker's."""
    plain_celery.app.conf.broker_url = ground.redis.url
    with plain_celery.app.connection_for_write(ground.redis.url) as connection, connection.Producer() as producer:
        for argument in arguments:
            plain_celery.app.send_task(task, args=[argument], producer=producer)


# -- gevent's own environment --------------------------------------------------------------------------------------

ENVIRONMENT = Path(".venv-bench")
LOCK = Path(__file__).with_name("requirements.txt")


def gevent_python() -> str | None:
    """An environment with gevent beside the project's own; None, and said so, where it cannot be made."""
    python = ENVIRONMENT / "bin" / "python"
    probe = [str(python), "-c", "import gevent, celery, psycopg, httpx, sqlalchemy"]
    if python.exists() and subprocess.run(probe, check=False, capture_output=True).returncode == 0:
        return str(python.absolute())
    print("  making .venv-bench for gevent ...", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=False, capture_output=True)
    if made.returncode == 0:
        (ENVIRONMENT / ".gitignore").write_text("*\n")
    project = Path("requirements/run.txt")
    command = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(project), "-r", str(LOCK)]
    if made.returncode or subprocess.run(command, check=False, capture_output=True).returncode:
        print("  gevent could not be installed: measured without it", flush=True)
        return None

    return str(python.absolute())
