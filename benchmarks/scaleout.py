"""One worker, two and four on this machine, and what a refund asks of each part: the measured side of docs/scaling.md.

    python -m benchmarks --only scaleout

A worker is four processes. All of them, PostgreSQL, Redis and the provider's stand-in share the machine's cores, so
more workers cannot be faster here than one that fills them: what is measured is that more workers do not get in each
other's way, and what a refund costs each part when they share the ledger. The relay that tells the changes of state is
one at a time for all workers; it is measured alone, with its backlog made inside PostgreSQL.
"""

import time

from sqlalchemy import text

from benchmarks.ground import Ground, smartpay
from benchmarks.measured import Row, short, spread
from benchmarks.scaling import WORKERS
from benchmarks.throughput import Figures, described, refundry
from engine.bootstrap import bootstrap
from engine.relay import relay
from signals.client import connect

SHARES = {"worker": "ms", "postgres": "ms", "redis": "ms", "stand_in": "ms"}


def measure(*, quick: bool) -> list[Row]:
    """One row, with a detail for each number of workers."""
    jobs, rounds = (2000, 1) if quick else (8000, 3)
    taken: dict[int, list[Figures]] = {count: [] for count in WORKERS}
    for _ in range(rounds):
        for count, figures in taken.items():
            with Ground() as ground:
                figures.append(refundry(ground, jobs, workers=count))
            print(f"  {count} workers: {described(figures[-1])}", flush=True)
    rates = {count: spread([each["wall_rate"] for each in figures], "/s") for count, figures in taken.items()}
    details = {f"{count} workers: refunds per second": rate for count, rate in rates.items()}
    for count, figures in taken.items():
        for part, unit in SHARES.items():
            name = f"{count} workers: CPU of {part.replace('_', ' ')} for each"
            details[name] = spread([1000 * each[part] for each in figures], unit)
        details[f"{count} workers: commits for each"] = spread([each["commits"] for each in figures])
        details[f"{count} workers: write-ahead log for each"] = spread([each["wal_bytes"] for each in figures], "bytes")

    told = [relayed(10_000 if quick else 50_000) for _ in range(rounds)]
    details["changes told by the relay"] = spread(told, "/s")

    return [
        Row(
            what="workers on one machine",
            figure=", ".join(f"{count}: {short(rate.median)}/s" for count, rate in rates.items()),
            details=details,
            raw=[{"workers": count, **each} for count, figures in taken.items() for each in figures],
        )
    ]


def relayed(count: int) -> float:
    """Changes of state per second that one relay takes from the ledger to Redis."""
    with Ground() as ground:
        installation = ground.installation({"shop": smartpay(f"{ground.provider}/v1")})
        engine = bootstrap(installation.load())
        with engine.ledger.write() as connection:
            connection.execute(
                text(
                    "INSERT INTO outbox (refund_id, reference, account, state, version, at) SELECT 'rf_' || n, "
                    "'shop-' || n, 'shop', 'succeeded', 3, 1700000000 + n FROM generate_series(1, :count) AS n"
                ),
                {"count": count},
            )
        client = connect(ground.redis.url)
        started = time.perf_counter()
        while relay(engine, client):
            pass
        rate = count / (time.perf_counter() - started)
        client.close()
        engine.close()

    return rate
