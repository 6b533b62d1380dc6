"""Jobs per second over every way in, until the ledger has committed them; on PostgreSQL and on SQLite.

    python -m benchmarks --only intake

The account is paused, so that nothing else works. What goes through Redis is there before the worker may read it, so
the sender's cost is not the worker's; the command line's figure includes its start and the reading of its file.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from sqlalchemy import text

from benchmarks.ground import Ground, Installation, hand_in, job, smartpay
from benchmarks.measured import Row, short, spread
from engine.bootstrap import Engine
from engine.operate import pause_by_itself
from signals.stream import INTAKE
from tasks.app import app
from tests.support.processes import wait_until

BATCH = 500
DATABASES = ("PostgreSQL", "SQLite")


def measure(*, quick: bool) -> list[Row]:
    """A row for each database."""
    rounds = 1 if quick else 2
    taken: dict[tuple[str, str], list[float]] = {}
    for _, database in itertools.product(range(rounds), DATABASES):
        for way, (take, few, many) in WAYS.items():
            jobs = few if quick else many
            with Ground() as ground:
                installation = ground.installation(
                    {"shop": smartpay(f"{ground.provider}/v1")}, sqlite=database == "SQLite"
                )
                engine = ground.engine(installation)
                pause_by_itself(engine, "shop", reason="benchmark")
                seconds = take(ground, installation, engine, jobs)
                assert accepted(engine) == jobs
                engine.close()
            taken.setdefault((database, way), []).append(jobs / seconds)
            print(f"  {database}, {way}: {short(jobs / seconds)}/s", flush=True)

    return [_row(database, taken) for database in DATABASES]


def _row(database: str, taken: dict[tuple[str, str], list[float]]) -> Row:
    rates = {way: spread(values, "/s") for (where, way), values in taken.items() if where == database}

    return Row(
        what=f"jobs accepted per second, {database}",
        figure=", ".join(f"{way} {short(rate.median)}" for way, rate in rates.items()),
        details=rates,
        raw=[
            {"database": where, "way": way, "rate": rate}
            for (where, way), values in taken.items()
            if where == database
            for rate in values
        ],
    )


def accepted(engine: Engine) -> int:
    """How many refunds the ledger has."""
    with engine.ledger.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM refund")).scalar_one())


def _stream(ground: Ground, installation: Installation, engine: Engine, jobs: int) -> float:
    """One pipeline writes them all while the worker's companion begins to read: that takes a small part of the time."""
    bodies = [msgspec.json.encode(job("shop", number)) for number in range(jobs)]
    with ground.refundry(installation), ground.redis.client() as client:
        started = time.perf_counter()
        pipeline = client.pipeline(transaction=False)
        for body in bodies:
            pipeline.xadd(INTAKE, {"job": body})
        pipeline.execute()
        wait_until(lambda: accepted(engine) == jobs, timeout=300, what="the last job")
        return time.perf_counter() - started


def _celery_task(ground: Ground, installation: Installation, engine: Engine, jobs: int) -> float:
    """Handed in under a name that the worker does not read yet."""
    queue = "refundry.intake"
    with app.connection_for_write(ground.redis.url) as connection, connection.Producer() as producer:
        for number in range(jobs):
            app.send_task("refunds.submit", kwargs={"job": job("shop", number)}, queue=queue, producer=producer)
    with ground.redis.client() as client:
        client.rename(queue, "held")
        with ground.refundry(installation):
            started = time.perf_counter()
            client.rename("held", queue)
            wait_until(lambda: accepted(engine) == jobs, timeout=300, what="the last job")
            return time.perf_counter() - started


def _command_line(ground: Ground, installation: Installation, _engine: Engine, jobs: int) -> float:
    file = ground.folder / "jobs.jsonl"
    with file.open("wb") as out:
        out.writelines(msgspec.json.encode(job("shop", number)) + b"\n" for number in range(jobs))
    command = [str(Path(sys.executable).with_name("refundry")), "submit", str(file)]
    started = time.perf_counter()
    subprocess.run(command, env={**os.environ, **installation.env}, check=True, capture_output=True, timeout=600)

    return time.perf_counter() - started


def _python(_ground: Ground, _installation: Installation, engine: Engine, jobs: int) -> float:
    wanted = [job("shop", number) for number in range(jobs)]
    started = time.perf_counter()
    hand_in(engine, wanted, batch=BATCH)

    return time.perf_counter() - started


Take = Callable[[Ground, Installation, Engine, int], float]
#: How each is done, for how many jobs quickly and in full.
WAYS: dict[str, tuple[Take, int, int]] = {
    "stream": (_stream, 2000, 20_000),
    "Celery task": (_celery_task, 500, 4000),
    "command line": (_command_line, 2000, 100_000),
    "Python batch": (_python, 2000, 20_000),
}
