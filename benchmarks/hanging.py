"""Row 8: a provider account that never answers, beside one that does. What does the healthy one lose?

    python -m benchmarks --only hanging

The same backlog of the healthy account is worked off alone and beside an account with as large a backlog whose provider
accepts connections and stays silent. The hanging account starts first and has filled its places before the clock runs.
"""

import time

from benchmarks.ground import Ground, fill, release, smartpay
from benchmarks.measured import Row, short, spread
from tests.support.processes import wait_until

HEAD_START = 4.0
# The machine is shared: runs of the very same work differ by this much.
NOISE = 0.1


def measure(*, quick: bool) -> list[Row]:
    """The row."""
    jobs, rounds = (2000, 1) if quick else (8000, 3)
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(rounds):
        for hanging, rates in ((False, alone), (True, beside)):
            rates.append(healthy_rate(jobs, hanging=hanging))
            print(f"  healthy {'beside a hanging account' if hanging else 'alone'}: {short(rates[-1])}/s", flush=True)
    kept = spread([100 * with_it / without for with_it, without in zip(beside, alone, strict=True)], "%")

    return [
        Row(
            what="one hanging provider account",
            figure=f"the healthy one keeps {short(kept.median)} % of its throughput",
            bar="no loss (rounds of the same work differ by a tenth)",
            holds=kept.median >= 100 * (1 - NOISE),
            details={
                "kept, round by round": kept,
                "healthy alone": spread(alone, "/s"),
                "healthy beside a hanging account": spread(beside, "/s"),
            },
        )
    ]


def healthy_rate(jobs: int, *, hanging: bool) -> float:
    """Refunds per second of the healthy account."""
    with Ground() as ground:
        installation = ground.installation(
            {"healthy": smartpay(f"{ground.provider}/v1"), "hanging": smartpay(f"{ground.provider}/hang/v1")}
        )
        engine = ground.engine(installation)
        fill(engine, "healthy", jobs)
        fill(engine, "hanging", jobs if hanging else 0)
        with ground.refundry(installation):
            release(engine, "hanging")
            time.sleep(HEAD_START)
            started = time.perf_counter()
            release(engine, "healthy")
            wait_until(lambda: ground.paid() == jobs, timeout=180, what="the last refund")
            rate = jobs / (time.perf_counter() - started)
        engine.close()

    return rate
