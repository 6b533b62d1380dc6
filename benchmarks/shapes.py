"""Row by shape of the work: payments with a thousand refunds each; one account to five hundred, two of them ill.

    python -m benchmarks --only payments
    python -m benchmarks --only accounts

The same number of refunds in every shape. The ill accounts are one whose provider accepts connections and stays silent,
and one whose provider always answers 429; each has as large a backlog as all healthy ones together, and a head start.
"""

import time
from collections.abc import Sequence

from sqlalchemy import text

from benchmarks.ground import Ground, hand_in, job, smartpay
from benchmarks.measured import Row, short, spread
from benchmarks.stand_in import AMOUNT
from benchmarks.throughput import CONCURRENCY
from engine.bootstrap import Engine
from engine.operate import pause_by_itself
from tests.support.processes import wait_until

REFUNDS_OF_ONE = 1000
COUNTS = (1, 10, 100, 500)
HEAD_START = 3.0
ILL = {"hanging": "hang", "throttled": "throttle"}


def measure_payments(*, quick: bool) -> list[Row]:
    """A refund per payment, and a thousand."""
    jobs, rounds = (2000, 1) if quick else (8000, 3)
    taken: dict[int, list[float]] = {1: [], REFUNDS_OF_ONE: []}
    for _ in range(rounds):
        for of_one, rates in taken.items():
            rates.append(_paid_by_payment(jobs, of_one))
            print(f"  {of_one} of each payment: {short(rates[-1])}/s", flush=True)
    single, many = taken[1], taken[REFUNDS_OF_ONE]
    kept = spread([100 * few / each for few, each in zip(many, single, strict=True)], "%")

    return [
        Row(
            what=f"payments with {REFUNDS_OF_ONE:,} refunds each",
            figure=f"{short(kept.median)} % of the throughput with one refund each",
            details={
                "kept, round by round": kept,
                **{f"{of_one:,} of each payment": spread(rates, "/s") for of_one, rates in taken.items()},
            },
        )
    ]


def _paid_by_payment(jobs: int, of_one: int) -> float:
    with Ground() as ground:
        installation = ground.installation({"shop": smartpay(f"{ground.provider}/v1", concurrency=CONCURRENCY)})
        engine = ground.engine(installation)
        pause_by_itself(engine, "shop", reason="benchmark")
        payments = (f"payment_{number // of_one}" for number in range(jobs))
        captured = 2 * AMOUNT * of_one
        hand_in(engine, (job("shop", n, payment=each, captured=captured) for n, each in enumerate(payments)))
        with ground.refundry(installation):
            rate = _rate(ground, engine, ["shop"], jobs)
        engine.close()

    return rate


def measure_accounts(*, quick: bool) -> list[Row]:
    """More and more accounts, with and without two ill ones."""
    jobs, rounds, counts = (1000, 1, (1, 20)) if quick else (6000, 2, COUNTS)
    taken: dict[tuple[int, bool], list[float]] = {(count, ill): [] for count in counts for ill in (False, True)}
    for _ in range(rounds):
        for (count, ill), rates in taken.items():
            rates.append(_healthy_rate(jobs, count, ill=ill))
            beside = " beside two ill ones" if ill else ""
            print(f"  {count} accounts{beside}: {short(rates[-1])}/s", flush=True)
    kept = {
        count: spread([100 * b / a for a, b in zip(taken[count, False], taken[count, True], strict=True)], "%")
        for count in counts
    }

    return [
        Row(
            what="accounts, two of them ill: one hanging, one throttled",
            figure=", ".join(f"{count}: {short(each.median)} %" for count, each in kept.items())
            + " of the healthy throughput kept",
            details={
                **{f"{count} accounts: kept": each for count, each in kept.items()},
                **{
                    f"{count} accounts: {'beside two ill ones' if ill else 'alone'}": spread(rates, "/s")
                    for (count, ill), rates in taken.items()
                },
            },
            raw=[
                {"accounts": count, "ill": int(ill), "rate": rate}
                for (count, ill), rates in taken.items()
                for rate in rates
            ],
        )
    ]


def _healthy_rate(jobs: int, count: int, *, ill: bool) -> float:
    with Ground() as ground:
        healthy = [f"shop-{number}" for number in range(count)]
        accounts = {name: smartpay(f"{ground.provider}/v1") for name in healthy}
        accounts |= {name: smartpay(f"{ground.provider}/{path}/v1") for name, path in ILL.items()}
        installation = ground.installation(accounts)
        engine = ground.engine(installation)
        for name in accounts:
            pause_by_itself(engine, name, reason="benchmark")
        hand_in(engine, (job(healthy[number % count], number) for number in range(jobs)))
        if ill:
            hand_in(engine, (job(name, number) for name in ILL for number in range(jobs)))
        with ground.refundry(installation):
            _release(engine, list(ILL))
            time.sleep(HEAD_START)
            rate = _rate(ground, engine, healthy, jobs)
        engine.close()

    return rate


def _rate(ground: Ground, engine: Engine, accounts: Sequence[str], jobs: int) -> float:
    started = time.perf_counter()
    _release(engine, accounts)
    wait_until(lambda: ground.paid() >= jobs, timeout=300, what="the last refund")

    return jobs / (time.perf_counter() - started)


def _release(engine: Engine, accounts: Sequence[str]) -> None:
    """All at once: one after the other, the first of many would be done before the last had begun."""
    with engine.ledger.write() as connection:
        statement = text("UPDATE account SET paused = false WHERE name = ANY(:names)")
        connection.execute(statement, {"names": list(accounts)})
    for account in accounts:
        engine.ring("send", account)
