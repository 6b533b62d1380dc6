"""Rows 4 and 5: how long it takes from the commit of a job until its request is at the provider.

    python -m benchmarks --only latency

The arrival's time is taken by the stand-in under the refund's handle, all times by one clock.

Idle: jobs are submitted one at a time through `engine.submit`, with doorbells as Celery messages, each after a pause,
so that no pump is at work. The commit's time is taken when the doorbell is about to ring.

Under load: 200 a second through the intake stream, each at its own moment of a timetable that waits for nobody. The
refund's `created_at` stands for its commit: it is taken before the transaction, so the figure never flatters. The time
since the timetable's moment is shown as well, so that a slow intake cannot hide behind itself.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
from kombu import pools
from sqlalchemy import text

from benchmarks.ground import Ground, job, smartpay
from benchmarks.measured import Row, Spread, percentile, short, spread
from engine.bootstrap import Engine
from engine.submit import submit
from signals.client import connect
from signals.stream import publish_job
from tasks.app import configure
from tasks.runtime import engine_with_bells
from tests.support.processes import wait_until

RATE = 200
PAUSE = (0.12, 0.3)
WARM_UP = 20


class Submitter:
    """Submits jobs, and remembers by handle when each was committed."""

    def __init__(self, engine: Engine) -> None:
        self._moment = threading.local()
        self._ring = engine.ring
        self.engine = replace(engine, ring=self._stamped)
        self.committed: dict[str, float] = {}

    def _stamped(self, lane: str, account: str) -> None:
        self._moment.at = time.time()
        self._ring(lane, account)

    def submit(self, number: int) -> str:
        """Submit one job; answers its handle."""
        receipt = submit(self.engine, job("shop", number), actor="benchmark", via="benchmark")
        assert receipt.refund is not None
        self.committed[receipt.refund.handle] = self._moment.at
        return receipt.refund.handle

    def look(self) -> dict[str, str]:
        """The handle of each reference; what came through the stream counts as committed when it was created."""
        with self.engine.ledger.read() as connection:
            found = connection.execute(text("SELECT reference, handle, created_at FROM refund")).all()
        for _, handle, created_at in found:
            self.committed.setdefault(handle, created_at)
        return {reference: handle for reference, handle, _ in found}


def measure(*, quick: bool) -> list[Row]:
    """Both rows."""
    rounds = 1 if quick else 3
    with Ground() as ground:  # one for all rounds, for the doorbells' connections lead to its Redis
        idle = [waits(ground, one_by_one, 25 if quick else 50) for _ in range(rounds)]
        busy = [waits(ground, by_timetable, RATE * (5 if quick else 8)) for _ in range(rounds)]
    medians = spread([percentile(each["commit"], 50) for each in idle], "ms")
    highest = spread([percentile(each["commit"], 99) for each in busy], "ms")

    return [
        Row(
            what="from commit to provider call, idle",
            figure=f"median {short(medians.median)} ms",
            bar="median below 50 ms",
            holds=medians.median < 50,  # noqa: PLR2004 - the bar
            details=ladder(idle, "commit"),
        ),
        Row(
            what=f"from commit to provider call at {RATE} per second",
            figure=f"p99 {short(highest.median)} ms",
            bar="p99 below 250 ms",
            holds=highest.median < 250,  # noqa: PLR2004 - the bar
            details=ladder(busy, "commit") | ladder(busy, "timetable"),
        ),
    ]


def ladder(rounds: list[dict[str, list[float]]], since: str) -> dict[str, Spread]:
    """Some percentiles of each round."""
    return {
        f"p{percent} since the {since}": spread([percentile(each[since], percent) for each in rounds], "ms")
        for percent in (50, 90, 99, 100)
    }


def waits(
    ground: Ground, submit_all: Callable[[Submitter, int], dict[str, float]], jobs: int
) -> dict[str, list[float]]:
    """Milliseconds from commit and from timetable to arrival, one round."""
    with ground.redis.client() as client:
        client.flushall()
    installation = ground.installation({"shop": smartpay(f"{ground.provider}/v1")})
    settings = installation.load()
    pools.reset()
    app: Any = configure(settings)
    app._after_fork()  # noqa: SLF001 - the pool may still lead to the servers of an earlier measurement
    engine = engine_with_bells(settings)
    before = ground.paid()
    with ground.refundry(installation):
        submitter = Submitter(engine)
        for number in range(WARM_UP):
            submitter.submit(number)
        wait_until(lambda: ground.paid() == before + WARM_UP, what="the first refunds")
        due = submit_all(submitter, jobs)
        wait_until(lambda: ground.paid() == before + WARM_UP + jobs, timeout=120, what="the last refund")
        arrivals = ground.ask("_arrivals")
    engine.close()
    figures = {
        "commit": [1000 * (arrivals[handle] - submitter.committed[handle]) for handle in due],
        "timetable": [1000 * (arrivals[handle] - moment) for handle, moment in due.items()],
    }
    shown = ", ".join(f"p{percent} {short(percentile(figures['commit'], percent))}" for percent in (50, 99))
    print(f"  {submit_all.__name__}: {shown} ms since the commit", flush=True)

    return figures


def one_by_one(submitter: Submitter, jobs: int) -> dict[str, float]:
    """Each job into a system at rest."""
    due: dict[str, float] = {}
    for number in range(WARM_UP, WARM_UP + jobs):
        time.sleep(random.uniform(*PAUSE))
        moment = time.time()
        due[submitter.submit(number)] = moment

    return due


def by_timetable(submitter: Submitter, jobs: int) -> dict[str, float]:
    """Each job at its moment, whatever became of those before it."""
    stream = connect(str(submitter.engine.settings.redis.url))
    bodies = [msgspec.json.encode(job("shop", WARM_UP + number)) for number in range(jobs)]
    start = time.time() + 0.5
    for number, body in enumerate(bodies):
        time.sleep(max(0.0, start + number / RATE - time.time()))
        publish_job(stream, body)
    stream.close()
    wait_until(lambda: len(submitter.look()) == WARM_UP + jobs, timeout=120, what="the last job in the ledger")
    handles = submitter.look()

    return {handles[job("shop", WARM_UP + number)["reference"]]: start + number / RATE for number in range(jobs)}
