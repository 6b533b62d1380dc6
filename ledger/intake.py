"""Accepting jobs: once per reference, inside the payment's cap, all in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace
from sqlalchemy import BigInteger, Connection, Executable, FromClause, Text, func, or_, select, tuple_, update

from domain.job import canonical
from domain.refund import Refund
from ledger.models import event, outbox, payment, refund, search_term
from ledger.refunds import COLUMNS, chained, load
from ledger.session import OverRows, Overtaken, Writes, insert_new
from ledger.terms import terms


class Result(StrEnum):
    """What became of a job at the door."""

    ACCEPTED = "accepted"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    OVER_CAP = "over_cap"
    CURRENCY = "currency"
    CAPTURED_DIFFERS = "captured_differs"
    EXPECTATION = "expectation"


class Candidate(Struct, frozen=True, kw_only=True):
    """A valid job on its way in. `captured`, `currency`: of the payment, as the shop gives them.

    `key`: the Idempotency-Key that it came under.
    """

    refund: Refund
    content_hash: str
    captured: int | None
    payment_currency: str | None
    expect_refundable: int | None
    hashes: Mapping[str, str | None]
    actor: str
    via: str
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The answer to one job. `refund`: the accepted or the earlier one; `available`: what the payment has left."""

    result: Result
    refund: Refund | None = None
    available: int | None = None
    detail: str = ""


@dataclass(slots=True)
class _Purse:
    """A payment's money while a batch is admitted, under the row's lock. `known`: others have named it before."""

    currency: str | None
    captured: int | None
    used: int
    known: bool
    learned: int | None = None
    currency_learned: str | None = None
    reserved: int = 0

    @property
    def available(self) -> int | None:
        return None if self.captured is None else self.captured - self.used - self.reserved


Key = tuple[str, str]


def accept(connection: Connection, candidates: Sequence[Candidate]) -> list[Admission]:
    """Admit each candidate, or say why not, in order. Concurrent callers of one reference wait for each other.

    To be called by `Ledger.run`: raises Overtaken.
    """
    firsts: dict[Key, Candidate] = {}
    for candidate in candidates:
        firsts.setdefault(_key(candidate), candidate)
    earlier = _earlier(connection, firsts)
    fresh = [candidate for key, candidate in firsts.items() if key not in earlier]
    purses = _lock_payments(connection, fresh)
    # Whoever held a payment's lock before may have admitted a twin: then the answer is the twin's, and our own job must
    # take nothing out of the purse. Nobody held that of a new payment, as most are: for those nothing is asked.
    earlier |= _earlier(connection, [_key(each) for each in fresh if purses[_payment(each)].known])
    fresh = [each for each in fresh if _key(each) not in earlier]
    staged: dict[Key, Candidate] = {}
    answers: dict[Key, Admission] = {}
    for candidate in fresh:
        admission = _judge(candidate, purses[_payment(candidate)])
        answers[_key(candidate)] = admission
        if admission.result is Result.ACCEPTED and admission.refund is not None:
            staged[_key(candidate)] = replace(candidate, refund=admission.refund)
    _insert(connection, list(staged.values()))
    _reserve(connection, staged.values(), purses)
    again = [each for each in candidates if _deserves_its_own_answer(each, firsts, answers, earlier)]
    second = dict(zip(map(id, again), accept(connection, again) if again else (), strict=True))

    return [
        second[id(candidate)] if id(candidate) in second else _answer(candidate, firsts, answers, earlier)
        for candidate in candidates
    ]


def _deserves_its_own_answer(
    candidate: Candidate,
    firsts: Mapping[Key, Candidate],
    answers: Mapping[Key, Admission],
    earlier: Mapping[Key, tuple[Refund, str]],
) -> bool:
    """Whether the batch's first job of this reference was refused, and this one has another content."""
    key = _key(candidate)
    first = firsts[key]
    refused = key not in earlier and answers[key].result is not Result.ACCEPTED

    return refused and candidate is not first and candidate.content_hash != first.content_hash


def _key(candidate: Candidate) -> Key:
    return candidate.refund.account, candidate.refund.reference


def _payment(candidate: Candidate) -> Key:
    return candidate.refund.account, candidate.refund.payment_ref


def _answer(
    candidate: Candidate,
    firsts: Mapping[Key, Candidate],
    answers: Mapping[Key, Admission],
    earlier: Mapping[Key, tuple[Refund, str]],
) -> Admission:
    key = _key(candidate)
    if key in earlier:
        found, content = earlier[key]
        same = content == candidate.content_hash
        return Admission(result=Result.REPLAYED if same else Result.CONFLICT, refund=found)
    if firsts[key] is candidate:
        return answers[key]
    first = answers[key]
    if first.result is not Result.ACCEPTED:
        return first
    same = firsts[key].content_hash == candidate.content_hash

    return Admission(result=Result.REPLAYED if same else Result.CONFLICT, refund=first.refund)


_EARLIER = OverRows(
    {"account": Text(), "reference": Text()},
    lambda values: select(*COLUMNS, refund.c.content_hash).where(
        refund.c.account == values.c.account, refund.c.reference == values.c.reference
    ),
)


def _earlier(connection: Connection, keys: Iterable[Key]) -> dict[Key, tuple[Refund, str]]:
    wanted = [{"account": account, "reference": reference} for account, reference in keys]
    if not wanted:
        return {}

    return {(row.account, row.reference): (load(row), row.content_hash) for row in _EARLIER.run(connection, wanted)}


_PAYMENT = payment.c.account + "/" + payment.c.ref
_LOCKED_PAYMENTS = OverRows(
    {"account": Text(), "ref": Text()},
    lambda values: (
        select(payment)
        .where(payment.c.account == values.c.account, payment.c.ref == values.c.ref)
        .order_by(payment.c.account, payment.c.ref)
        .with_for_update(of=payment)
    ),
)


def _lock_payments(connection: Connection, candidates: Sequence[Candidate]) -> dict[Key, _Purse]:
    """The candidates' payments, made where missing, locked in one order."""
    wanted = {_payment(each): each.refund.created_at for each in candidates}
    if not wanted:
        return {}
    values = [{"account": account, "ref": ref, "created_at": at} for (account, ref), at in sorted(wanted.items())]
    new = insert_new(connection, payment, values, ("account", "ref"), _PAYMENT)
    found = _LOCKED_PAYMENTS.run(connection, values)

    return {
        (row.account, row.ref): _Purse(
            row.currency, row.captured, row.reserved + row.refunded, known=f"{row.account}/{row.ref}" not in new
        )
        for row in found
    }


def _judge(candidate: Candidate, purse: _Purse) -> Admission:
    """Whether the payment can carry this refund; on yes, the purse is charged."""
    wanted = candidate.refund
    currency = purse.currency or candidate.payment_currency
    if candidate.payment_currency and purse.currency and candidate.payment_currency != purse.currency:
        return Admission(result=Result.CURRENCY, detail=purse.currency)
    if currency and wanted.currency and currency != wanted.currency:
        return Admission(result=Result.CURRENCY, detail=currency)
    if candidate.captured is not None and purse.captured is not None and candidate.captured != purse.captured:
        return Admission(result=Result.CAPTURED_DIFFERS, detail=str(purse.captured))
    captured = purse.captured if purse.captured is not None else candidate.captured
    if captured is not None:
        available = captured - purse.used - purse.reserved
        if candidate.expect_refundable is not None and candidate.expect_refundable != available:
            return Admission(result=Result.EXPECTATION, available=available)
        amount = available if wanted.amount is None else wanted.amount
        if amount <= 0 or amount > available:
            return Admission(result=Result.OVER_CAP, available=max(available, 0))
        wanted = replace(
            wanted,
            amount=amount,
            currency=wanted.currency or currency,
            resolved=wanted.payment_id is not None,
        )
    if purse.captured is None and candidate.captured is not None:
        purse.captured = purse.learned = candidate.captured
    if purse.currency is None and currency:
        purse.currency = purse.currency_learned = currency
    purse.reserved += wanted.amount or 0

    return Admission(result=Result.ACCEPTED, refund=wanted)


def _insert(connection: Connection, candidates: Sequence[Candidate]) -> None:
    if not candidates:
        return
    staged = [_created(candidate) for candidate in candidates]
    created = insert_new(connection, refund, [row for row, _ in staged], ("account", "reference"), refund.c.id)
    if len(created) < len(staged):
        # Others have just admitted one of the references for another payment, whose lock was not ours; and the purses
        # were charged for it before the others were judged.
        raise Overtaken
    writes = Writes(connection)
    writes.insert(event, [told for _, told in staged])
    writes.insert(search_term, [term for row, _ in staged for term in terms(row)])
    writes.insert(
        outbox,
        [
            {
                "refund_id": row["id"],
                "reference": row["reference"],
                "account": row["account"],
                "state": row["state"],
                "version": 1,
                "at": row["created_at"],
            }
            for row, _ in staged
        ],
    )
    writes.carry_out()


def _created(candidate: Candidate) -> tuple[dict[str, Any], dict[str, Any]]:
    """The refund's row and its first event."""
    row = asdict(candidate.refund)
    data = canonical(
        {
            "to": row["state"],
            "via": candidate.via,
            "amount": row["amount"],
            "currency": row["currency"],
            "payment": row["payment_ref"],
            "content": candidate.content_hash,
        }
    ).decode()
    head = chained("", row["id"], 1, "refund.accepted", row["created_at"], candidate.actor, data)
    told = {
        "subject": row["id"],
        "seq": 1,
        "type": "refund.accepted",
        "at": row["created_at"],
        "actor": candidate.actor,
        "data": data,
        "hash": head,
    }

    return {**row, **candidate.hashes, "content_hash": candidate.content_hash, "chain": head, "version": 1}, told


def _charged(values: FromClause) -> Executable:
    captured = func.coalesce(payment.c.captured, values.c.captured)

    return (
        update(payment)
        .values(
            reserved=payment.c.reserved + values.c.amount,
            captured=captured,
            currency=func.coalesce(payment.c.currency, values.c.currency),
        )
        .where(
            payment.c.account == values.c.account,
            payment.c.ref == values.c.ref,
            or_(captured.is_(None), payment.c.reserved + payment.c.refunded + values.c.amount <= captured),
        )
        .returning(payment.c.ref)
    )


_CHARGED = OverRows(
    {"account": Text(), "ref": Text(), "amount": BigInteger(), "captured": BigInteger(), "currency": Text()}, _charged
)


class CapBroken(RuntimeError):
    """The conditional reservation found less money than the lock had shown: a defect."""


def _reserve(connection: Connection, accepted: Iterable[Candidate], purses: Mapping[Key, _Purse]) -> None:
    """Charge the payments; the cap is a condition of the UPDATE, not a sum read before it."""
    sums: dict[Key, int] = {}
    for candidate in accepted:
        key = candidate.refund.account, candidate.refund.payment_ref
        sums[key] = sums.get(key, 0) + (candidate.refund.amount or 0)
    if not sums:
        return
    charged = _CHARGED.run(
        connection,
        [
            {
                "account": account,
                "ref": ref,
                "amount": amount,
                "captured": purses[account, ref].learned,
                "currency": purses[account, ref].currency_learned,
            }
            for (account, ref), amount in sorted(sums.items())
        ],
    ).all()
    if len(charged) != len(sums):
        raise CapBroken(f"reserved on {len(charged)} payments of {len(sums)}")


def find(connection: Connection, keys: Sequence[Key]) -> dict[Key, Refund]:
    """Refunds by (account, reference)."""
    query = select(*COLUMNS).where(tuple_(refund.c.account, refund.c.reference).in_(list(keys)))

    return {(row.account, row.reference): load(row) for row in connection.execute(query)}
