"""Rows 6 and 7: a million refunds waiting, in the worker's and in Redis's memory; a million pending ones, polled.

    python -m benchmarks --only million

The rows are made inside PostgreSQL, for what waits in the ledger has left nothing in Redis; the stream of events, which
is trimmed by age, is counted apart. The waiting ones are then sent for some seconds: the worker's figure is the peak of
its largest process while they wait and while they are sent.

The pending ones are due one after another over an hour, as a schedule leaves them; the lag is the time from each one's
moment until the question about it reaches the provider. Beat does not run here: the workers ring for themselves, each
second, so a lag of up to a second is the timetable's and no more than that.
"""

import time

from benchmarks.ground import MEGABYTE, Ground, Memory, release, smartpay
from benchmarks.growth import make_rows
from benchmarks.measured import Row, percentile, short, spread
from benchmarks.throughput import CONCURRENCY
from engine.operate import pause_by_itself
from signals.stream import EVENTS

MANY = 1_000_000
FEW = 50_000
HOUR = 3600.0
WORKER_MB = 200
REDIS_MB = 10
LOOKING = 5.0
#: What became due later than this many seconds before the end may not have been asked about yet.
IN_TIME = 2.0


def measure(*, quick: bool) -> list[Row]:
    """Memory with its two bars, and the polling."""
    count, seconds = (FEW, 5.0) if quick else (MANY, 30.0)

    return [*_waiting(count, seconds), _polling(count, seconds)]


def _waiting(count: int, seconds: float) -> list[Row]:
    with Ground() as ground:
        installation = ground.installation({"shop": smartpay(f"{ground.provider}/v1", concurrency=CONCURRENCY)})
        make_rows(ground, installation, f"{count:,} waiting", queued=count)
        engine = ground.engine(installation)
        pause_by_itself(engine, "shop", reason="benchmark")
        with ground.refundry(installation) as worker, Memory(worker) as memory:
            time.sleep(LOOKING)
            waiting = ground.redis_bytes() / MEGABYTE
            resting = memory.largest
            release(engine, "shop")
            started = time.perf_counter()
            time.sleep(seconds)
            sent = ground.paid() / (time.perf_counter() - started)
            with ground.redis.client() as client:
                told, size = int(client.xlen(EVENTS)), int(client.memory_usage(EVENTS, samples=0) or 0)
        engine.close()

    return [
        Row(
            what=f"worker memory, {count:,} refunds waiting",
            figure=f"{short(memory.largest)} MB in the largest process",
            bar=f"below {WORKER_MB} MB per process",
            holds=memory.largest < WORKER_MB,
            details={
                "largest process while they wait": spread([resting], "MB"),
                "largest process while they are sent": spread([memory.largest], "MB"),
                "all processes, what they share counted once": spread([memory.total], "MB"),
                "sent meanwhile": spread([sent], "/s"),
            },
        ),
        Row(
            what=f"Redis memory, {count:,} refunds waiting",
            figure=f"{short(waiting)} MB",
            bar=f"below {REDIS_MB} MB",
            holds=waiting < REDIS_MB,
            details={"the stream of events, for each change": spread([size / max(told, 1)], "bytes")},
        ),
    ]


def _polling(count: int, seconds: float) -> Row:
    with Ground() as ground:
        options = {"concurrency": CONCURRENCY, "poll_schedule": [HOUR], "poll_horizon": "30d"}
        installation = ground.installation({"shop": smartpay(f"{ground.provider}/v1", **options)})
        # The hour begins when they have been made, which takes about as long as a minute for each million.
        first, spacing = time.time() + 20 + count / 8000, HOUR / count
        make_rows(ground, installation, f"{count:,} pending", pending=count, due=first, spacing=spacing)
        with ground.refundry(installation) as worker, Memory(worker) as memory:
            time.sleep(max(0.0, first - time.time()))
            began, clock = time.time(), ground.clock(worker)
            time.sleep(seconds)
            figures = clock.read()
            asked = ground.ask("_asked")
            until = time.time()
    lags = [1000 * (at - (first + int(name.removeprefix("refund_")) * spacing)) for name, at in asked.items()]
    fresh = lags if began - first < 1 else lags[int((began - first) / spacing) :]
    due = int((until - first - IN_TIME) / spacing)
    in_time = sum(int(name.removeprefix("refund_")) <= due for name in asked)

    return Row(
        what=f"{count:,} pending refunds polled, each once an hour",
        figure=f"{short(100 * in_time / due)} % asked within {IN_TIME:g} s, p99 {short(percentile(fresh, 99))} ms "
        "after its moment",
        details={
            "due": spread([1 / spacing], "/s"),
            "asked": spread([len(asked) / (until - first)], "/s"),
            **{f"lag, p{percent}": spread([percentile(fresh, percent)], "ms") for percent in (50, 95, 99)},
            "CPU of worker for each": spread([1000 * figures["worker"] / max(len(asked), 1)], "ms"),
            "CPU of postgres for each": spread([1000 * figures["postgres"] / max(len(asked), 1)], "ms"),
            "largest process": spread([memory.largest], "MB"),
        },
    )
