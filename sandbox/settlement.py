"""Settlement files: the sandbox's own ledger as a provider would send it, with differences planted on request."""

import csv
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from sandbox.core import Json, Refund, World
from sandbox.money import exponent
from sandbox.when import millis_z

COLUMNS = ("provider_refund_id", "handle", "payment_id", "amount", "currency", "status", "at")
#: Another currency with the same decimals.
OTHER = {"JPY": "KRW", "USD": "EUR"}
KINDS = ("missing", "amount", "currency", "state", "unknown", "duplicate")


@dataclass(frozen=True, slots=True)
class Line:
    """One refund as the file shows it."""

    provider_refund_id: str
    handle: str | None
    payment_id: str
    amount: int
    currency: str
    status: str
    at: float


def settlement(world: World, account: str, seed: int, wanted: dict[str, int]) -> Json:
    """The account's file as text, and what is planted in it: the kind and the refund of each difference.

    `wanted`: how many of each kind; fewer where there are too few refunds, for each refund bears one difference.
    """
    world.settle()
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    paid = [each for each in world.made.get(account, []) if each.entry is not None and not each.flipped]
    free = [each for each in paid if not each.external]
    chance.shuffle(free)
    lines = {each.id: [_line(each)] for each in paid}
    planted: list[Json] = []
    for kind in KINDS:
        for _ in range(min(wanted.get(kind, 0), len(free))):
            refund = free.pop()
            lines[refund.id] = PLANTED[kind](lines[refund.id][0], world)
            planted.append({"kind": kind, "refund_id": refund.id, "handle": refund.handle})

    return {"csv": _csv([line for each in lines.values() for line in each]), "planted": planted}


def _line(refund: Refund) -> Line:
    entry = refund.entry
    assert entry is not None

    return Line(refund.id, refund.handle, entry.payment, entry.amount, entry.currency, "paid", entry.at)


def _made_up(line: Line, world: World) -> Line:
    number = world.next_number()

    return replace(line, provider_refund_id=f"made-up-{number}", handle=None, payment_id=f"nobody-{number}")


def _again(line: Line, world: World) -> Line:
    return replace(line, provider_refund_id=f"again-{world.next_number()}")


PLANTED: dict[str, Callable[[Line, World], list[Line]]] = {
    "missing": lambda _line, _world: [],
    "amount": lambda line, _world: [replace(line, amount=line.amount + 1)],
    "currency": lambda line, _world: [replace(line, currency=OTHER.get(line.currency, "USD"))],
    "state": lambda line, _world: [replace(line, status="failed")],
    "unknown": lambda line, world: [line, _made_up(line, world)],
    "duplicate": lambda line, world: [line, _again(line, world)],
}


def _csv(lines: list[Line]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for each in lines:
        amount = Decimal(each.amount).scaleb(-exponent(each.currency))
        named = (each.provider_refund_id, each.handle or "", each.payment_id)
        writer.writerow([*named, f"{amount:f}", each.currency, each.status, millis_z(each.at)])

    return text.getvalue()
