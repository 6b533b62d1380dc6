"""What the demo's shop wants refunded: payments at every account, refunds in full and in part, some bad jobs."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from domain.money import exponent
from engine.account import Account

Job = dict[str, Any]
WAYS = ("stream", "celery", "engine")
TWICE_EVERY = 6
#: How a payment is taken back: shares of what was captured, None for a job that names no amount.
SPLITS: tuple[tuple[float | None, ...], ...] = ((1.0,), (0.4, 0.35), (None,), (0.25,), (0.3, 0.3, 0.4))


@dataclass(frozen=True, slots=True)
class Handing:
    """One job on one way in. `again`: it went in before, on another way."""

    job: Job
    way: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the shop hands in, in order."""

    handings: Sequence[Handing]
    bad: Sequence[bytes]
    captured: Mapping[tuple[str, str], int]
    lone: Mapping[str, Sequence[str]]

    @property
    def jobs(self) -> dict[tuple[str, str], Job]:
        """Each job once, by account and reference."""
        return {(each.job["account"], each.job["reference"]): each.job for each in self.handings}


def make_plan(sandbox: httpx.Client, accounts: Mapping[str, Account], refunds: int, seed: int) -> Plan:
    """Payments made at the sandbox, and the refunds of them that the shop will ask for."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    captured: dict[tuple[str, str], int] = {}
    lone: dict[str, list[str]] = {name: [] for name in accounts}
    jobs: list[Job] = []
    for name, count in _shares(sorted(accounts), refunds).items():
        for payment, made in _orders(sandbox, accounts[name], count, chance):
            captured[accounts[name].provider.name, payment["id"]] = payment["amount"]
            lone[name] += [payment["id"]] if len(made) == 1 else []
            jobs += made
    chance.shuffle(jobs)
    for number, job in enumerate(jobs, 1):
        job["reference"] = f"RMA-{number:04d}"

    return Plan(list(_handings(jobs)), _bad(jobs), captured, lone)


def _shares(accounts: Sequence[str], refunds: int) -> dict[str, int]:
    return {name: refunds // len(accounts) + (place < refunds % len(accounts)) for place, name in enumerate(accounts)}


def _orders(
    sandbox: httpx.Client, account: Account, refunds: int, chance: random.Random
) -> Iterator[tuple[Job, list[Job]]]:
    """Payments, each with the refunds that are asked of it, until there are `refunds` of them."""
    while refunds > 0:
        payment = _payment(sandbox, account, chance)
        made = _refunds_of(payment, account, chance)[:refunds]
        refunds -= len(made)
        yield payment, made


def _payment(sandbox: httpx.Client, account: Account, chance: random.Random) -> Job:
    currency = min(account.capabilities.currencies or {"EUR"})
    asked = {
        "provider": account.name.replace("-", "_"),
        "amount": chance.randrange(100, 1000) * (100 if exponent(currency) else 10),
        "currency": currency,
    }
    payment: Job = sandbox.post("/_sandbox/payments", json=asked).raise_for_status().json()["payments"][0]

    return payment


def _refunds_of(payment: Job, account: Account, chance: random.Random) -> list[Job]:
    shares = chance.choice(SPLITS)
    if None in shares and not account.capabilities.payment_facts:
        shares = (1.0,)
    told = {key: value for key, value in payment.items() if value is not None}

    return [_job(told, account.name, share, chance) for share in shares]


def _job(payment: Job, account: str, share: float | None, chance: random.Random) -> Job:
    job = {
        "account": account,
        "payment": payment,
        "reason": chance.choice(("requested_by_customer", "duplicate", "other")),
        "customer": {"first_name": "Lin", "last_name": "Sample", "email": "lin@example.com"},
        "metadata": {"channel": "demo"},
    }
    if share is None:
        unknown = {key: value for key, value in payment.items() if key not in ("amount", "currency")}
        return {**job, "payment": unknown}

    return {**job, "amount": round(payment["amount"] * share), "currency": payment["currency"]}


def _handings(jobs: Sequence[Job]) -> Iterator[Handing]:
    """Every job on one of the ways; each sixth once more on the next one, a few jobs later."""
    later: list[Handing] = []
    for number, job in enumerate(jobs):
        yield Handing(job, WAYS[number % len(WAYS)])
        if number % TWICE_EVERY == 0:
            later.append(Handing(job, WAYS[(number + 1) % len(WAYS)], again=True))
        if len(later) > 2:  # noqa: PLR2004 - so that the first has often been sent meanwhile
            yield later.pop(0)
    yield from later


def _bad(jobs: Sequence[Job]) -> list[bytes]:
    """Jobs that nobody can accept: not JSON, an account that does not exist, more than was paid."""
    paid = next(job for job in jobs if "amount" in job)
    greedy = {**paid, "reference": "BAD-too-much", "amount": paid["payment"]["amount"] + 1}
    lost = {**paid, "reference": "BAD-nobody", "account": "nobody"}

    return [b'{"reference": "BAD-half', msgspec.json.encode(lost), msgspec.json.encode(greedy)]
