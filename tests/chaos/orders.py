"""What the shop wants refunded: drawn from the seed, over payments made at the sandbox."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.system import ACCOUNTS

WAYS = {"stream": 5, "celery": 2, "library": 3}
DOUBLED = 0.1
MOST_COPIES = 3
#: No new job so close to the end that faults could not meet it.
BUSY_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Shape:
    """Refunds of one payment: `amounts` in minor units (None: everything left), `spread` seconds between them.

    `told`: the shop says what was captured; else the worker has to ask.
    """

    weight: int
    captured: int
    amounts: tuple[int | None, ...]
    spread: float = 0.0
    told: bool = True


SHAPES = {
    "part": Shape(70, 2100, (1000,)),
    "everything": Shape(6, 2100, (None,)),
    "captured not told": Shape(6, 2100, (1000,), told=False),
    "three parts": Shape(9, 2000, (600, 600, 600), spread=2.0),
    "two racing over the cap": Shape(9, 2000, (1200, 1200)),
}


@dataclass(frozen=True, slots=True)
class Order:
    """One refund: `ways` has an entry for each time it is submitted at `at` seconds after the start."""

    reference: str
    at: float
    ways: tuple[str, ...]
    job: dict[str, Any]
    captured: int


@dataclass(frozen=True, slots=True)
class Draft:
    """The refunds of a payment that is not made yet, by the time of each."""

    account: str
    shape: str
    times: tuple[float, ...]


MakePayments = Callable[[str, int, int], list[dict[str, Any]]]


def drafts(seed: int, refunds: int, seconds: float) -> list[Draft]:
    """So many refunds over the time that there is; nothing but the seed decides."""
    chance = random.Random(f"{seed}:orders")
    names, weights = list(SHAPES), [shape.weight for shape in SHAPES.values()]
    made: list[Draft] = []
    left = refunds
    while left > 0:
        [name] = chance.choices(names, weights)
        shape = SHAPES[name]
        begin = chance.uniform(0, seconds * BUSY_SHARE)
        times = tuple(begin + chance.uniform(0, shape.spread) for _ in shape.amounts[:left])
        made.append(Draft(chance.choice(ACCOUNTS), name, times))
        left -= len(times)

    return made


def orders(seed: int, planned: Sequence[Draft], make_payments: MakePayments) -> list[Order]:
    """The drafts with payments. `make_payments(account, count, captured)` answers the jobs' `payment` blocks."""
    chance = random.Random(f"{seed}:ways")
    blocks = _payments(planned, make_payments)
    made: list[Order] = []
    for draft in planned:
        shape = SHAPES[draft.shape]
        block = blocks[draft.account, draft.shape].pop()
        for at, amount in zip(draft.times, shape.amounts, strict=False):
            reference = f"chaos-{len(made):06d}"
            job = _job(reference, draft.account, block, amount, told=shape.told)
            made.append(Order(reference, at, _ways(chance), job, shape.captured))

    return made


def _payments(planned: Sequence[Draft], make: MakePayments) -> dict[tuple[str, str], list[dict[str, Any]]]:
    counts: dict[tuple[str, str], int] = {}
    for draft in planned:
        counts[draft.account, draft.shape] = counts.get((draft.account, draft.shape), 0) + 1

    return {
        (account, shape): make(account, count, SHAPES[shape].captured) for (account, shape), count in counts.items()
    }


def _ways(chance: random.Random) -> tuple[str, ...]:
    copies = 1 + (chance.randint(1, MOST_COPIES) if chance.random() < DOUBLED else 0)

    return tuple(chance.choices(list(WAYS), list(WAYS.values()), k=copies))


def _job(reference: str, account: str, block: dict[str, Any], amount: int | None, *, told: bool) -> dict[str, Any]:
    hidden = () if told else ("amount", "currency")
    payment = {key: value for key, value in block.items() if key not in hidden}
    asked = {} if amount is None else {"amount": amount, "currency": block["currency"]}

    return {"reference": reference, "account": account, "payment": payment, **asked}
