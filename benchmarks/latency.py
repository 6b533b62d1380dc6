"""Rows 4 and 5: how long it takes from the commit of a job until its request is at the provider, and until it is final.

    python -m benchmarks --only latency     idle from Python, 200 a second through the stream: the bars
    python -m benchmarks --only ways        every way in, idle and at 50, 200 and 500 a second

The request's arrival is noted by the stand-in under the refund's handle, all times by one clock. A refund's
`created_at` stands for its commit: it is taken before the transaction, so the figure never flatters. The end is the
entry in the stream of events, which a shop reads: it is written after the answer has been committed.

Idle: jobs one at a time, each after a pause, so that no pump is at work. Under load the arrivals are open-loop: each
job has its own moment of a timetable that waits for nobody, and the time since that moment is shown as well, so that a
slow way in cannot hide behind itself.
"""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import text

from benchmarks.ground import Ground, job, smartpay
from benchmarks.measured import Row, Spread, percentile, short, spread
from benchmarks.ways import WAYS, Send, Way, python, stream
from engine.bootstrap import Engine
from signals.stream import EVENTS
from tasks.app import configure
from tasks.runtime import engine_with_bells
from tests.support.processes import wait_until

RATE = 200
RATES = (50, 200, 500)
PAUSE = (0.12, 0.3)
WARM_UP = 20
SENDERS = 8
PERCENTS = (50, 95, 99)
IDLE_MS = 50
LOADED_MS = 250

# Milliseconds of each refund: `call` and `final` since the commit, `due_call` and `due_final` since the timetable.
Waits = dict[str, list[float]]
Timetable = Callable[[Send, int], dict[str, float]]


def measure(*, quick: bool) -> list[Row]:
    """Both rows."""
    rounds, seconds = (1, 5) if quick else (3, 8)
    with Ground() as ground:  # one for all rounds, for the doorbells' connections lead to its Redis
        idle = [waits(ground, python, one_by_one, 25 if quick else 50) for _ in range(rounds)]
        busy = [waits(ground, stream, at_rate(RATE), RATE * seconds) for _ in range(rounds)]
    medians = spread([percentile(each["call"], 50) for each in idle], "ms")
    highest = spread([percentile(each["call"], 99) for each in busy], "ms")

    return [
        Row(
            what="from commit to provider call, idle",
            figure=f"median {short(medians.median)} ms",
            bar=f"median below {IDLE_MS} ms",
            holds=medians.median < IDLE_MS,
            details=ladder(idle),
        ),
        Row(
            what=f"from commit to provider call at {RATE} per second",
            figure=f"p99 {short(highest.median)} ms",
            bar=f"p99 below {LOADED_MS} ms",
            holds=highest.median < LOADED_MS,
            details=ladder(busy),
        ),
    ]


def measure_ways(*, quick: bool) -> list[Row]:
    """A row for each load, with every way in."""
    rounds, seconds = (1, 3) if quick else (2, 8)
    loads: dict[str, tuple[Timetable, int]] = {"idle": (one_by_one, 15 if quick else 40)}
    loads |= {f"{rate} per second": (at_rate(rate), rate * seconds) for rate in RATES}
    taken: dict[str, dict[str, list[Waits]]] = {load: {way: [] for way in WAYS} for load in loads}
    with Ground() as ground:
        for _ in range(rounds):
            for load, (timetable, jobs) in loads.items():
                for name, way in WAYS.items():
                    print(f"  {name}, {load}:", end="", flush=True)
                    taken[load][name].append(waits(ground, way, timetable, jobs))

    return [_row(load, ways) for load, ways in taken.items()]


def _row(load: str, ways: dict[str, list[Waits]]) -> Row:
    medians = {
        name: spread([percentile(each["call"], 50) for each in rounds], "ms").median for name, rounds in ways.items()
    }

    return Row(
        what=f"latency by way in, {load}",
        figure="commit to call, median: " + ", ".join(f"{name} {short(each)} ms" for name, each in medians.items()),
        details={
            f"{name}: {label}": figure for name, rounds in ways.items() for label, figure in ladder(rounds).items()
        },
        raw=[
            {"way": name, "load": load, "since": since, "p": percent, "ms": percentile(values, percent)}
            for name, rounds in ways.items()
            for each in rounds
            for since, values in each.items()
            for percent in (*PERCENTS, 100)
        ],
    )


LABELS = {
    "call": "commit to call",
    "due_call": "timetable to call",
    "final": "commit to final",
    "due_final": "timetable to final",
}


def ladder(rounds: list[Waits]) -> dict[str, Spread]:
    """Some percentiles of each round."""
    return {
        f"{label}, p{percent}": spread([percentile(each[since], percent) for each in rounds], "ms")
        for since, label in LABELS.items()
        for percent in PERCENTS
    }


def waits(ground: Ground, way: Way, timetable: Timetable, jobs: int) -> Waits:
    """One round."""
    with ground.redis.client() as client:
        client.flushall()
    installation = ground.installation({"shop": smartpay(f"{ground.provider}/v1")})
    settings = installation.load()
    configure(settings)
    engine = engine_with_bells(settings)
    before = ground.paid()
    with ground.refundry(installation), way(engine) as send:
        for number in range(WARM_UP):
            send(job("warm-up", number) | {"account": "shop"})
        wait_until(lambda: ground.paid() == before + WARM_UP, what="the first refunds")
        due = timetable(send, jobs)
        wait_until(lambda: ground.paid() == before + WARM_UP + jobs, timeout=180, what="the last refund")
        wait_until(lambda: len(told(ground)) == WARM_UP + jobs, timeout=60, what="the last event")
        figures = since(due, created(engine), ground.ask("_arrivals"), told(ground))
    engine.close()
    shown = ", ".join(f"p{percent} {short(percentile(figures['call'], percent))}" for percent in PERCENTS)
    print(f"  {shown} ms from commit to call", flush=True)

    return figures


def since(
    due: dict[str, float],
    created_at: dict[str, tuple[str, float]],
    arrivals: dict[str, float],
    finals: dict[str, float],
) -> Waits:
    """Milliseconds, from the moments of each reference: of the timetable, commit, arrival (by handle) and end."""
    figures: Waits = {name: [] for name in LABELS}
    for reference, moment in due.items():
        handle, committed = created_at[reference]
        for name, end in (("call", arrivals[handle]), ("final", finals[reference])):
            figures[name].append(1000 * (end - committed))
            figures[f"due_{name}"].append(1000 * (end - moment))

    return figures


def created(engine: Engine) -> dict[str, tuple[str, float]]:
    """By reference: the handle, and when the refund was accepted."""
    with engine.ledger.read() as connection:
        found = connection.execute(text("SELECT reference, handle, created_at FROM refund")).all()

    return {reference: (handle, created_at) for reference, handle, created_at in found}


def told(ground: Ground) -> dict[str, float]:
    """By reference: when the stream of events said that the refund has succeeded."""
    with ground.redis.client(decode_responses=True) as client:
        entries: Any = client.xrange(EVENTS)

    return {
        fields["reference"]: int(number.partition("-")[0]) / 1000
        for number, fields in entries
        if fields["state"] == "succeeded"
    }


def one_by_one(send: Send, jobs: int) -> dict[str, float]:
    """Each job into a system at rest; the moment of each reference."""
    due: dict[str, float] = {}
    for number in range(jobs):
        time.sleep(random.uniform(*PAUSE))
        wanted = job("shop", number)
        due[wanted["reference"]] = time.time()
        send(wanted)

    return due


def at_rate(rate: float) -> Timetable:
    """Each job at its moment, whatever became of those before it."""

    def timetable(send: Send, jobs: int) -> dict[str, float]:
        start = time.time() + 0.5
        due: dict[str, float] = {}
        with ThreadPoolExecutor(SENDERS) as senders:
            handed_in = []
            for number in range(jobs):
                wanted, moment = job("shop", number), start + number / rate
                due[wanted["reference"]] = moment
                time.sleep(max(0.0, moment - time.time()))
                handed_in.append(senders.submit(send, wanted))
        for each in handed_in:
            each.result()

        return due

    return timetable
