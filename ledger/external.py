"""Money that others moved: refunds made elsewhere and chargebacks, booked into their payment as facts.

What is booked counts against the payment's cap. It is booked once, however often and by whomever it is reported, and
taken out again when it turns out to be a refund of ours, or when the provider says that it came to nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, and_, case, func, insert, literal, or_, select, text, update

from domain.decision import Cause
from domain.job import canonical
from domain.refund import Refund, moved
from domain.state import Hold, State
from ledger import journal
from ledger.models import external, payment, refund
from ledger.payments import Standing, standing
from ledger.refunds import COLUMNS, Change, apply, load


class Kind(StrEnum):
    """What others did."""

    REFUND = "refund"
    CHARGEBACK = "chargeback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One movement that is not known to be ours. `amount`: minor units. `payment_ref`: the payment's id.

    `source`: who told us, such as "notification" or "reconciliation". `evidence`: what was said, without personal data.
    """

    account: str
    provider_refund_id: str
    payment_ref: str
    kind: Kind
    amount: int
    currency: str | None
    source: str
    evidence: Mapping[str, Any]


class Result(StrEnum):
    """What became of a sighting."""

    BOOKED = "booked"
    KNOWN = "known"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class Booking:
    """`id`: of the row, or of our own refund (OURS). `alert`: what a person must look at, if anything."""

    result: Result
    id: str
    alert: str | None = None


def book(connection: Connection, seen: Sighting, *, row_id: str, actor: str, now: float) -> Booking:
    """Count what others moved; a second report of it changes nothing, nor does one of a refund of ours.

    The payment's row is locked first: sightings of one payment wait for each other.
    """
    purse = _locked(connection, seen, now)
    found = get(connection, seen.account, seen.provider_refund_id)
    if found is not None and (found["booked"] or found["refund_id"] is not None):
        return Booking(Result.KNOWN, found["id"])
    ours = _our_refund(connection, seen.account, seen.provider_refund_id)
    if ours is not None:
        return Booking(Result.OURS, ours)
    counts = seen.currency is None or purse.currency in (None, seen.currency)
    alert = _alert(purse, seen, counts=counts)
    values = {"booked": counts, "alert": alert, "closed_at": None, "closed_by": None, "closed_reason": None}
    if found is None:
        connection.execute(insert(external).values(**_row(seen), id=row_id, first_seen=now, **values))
    else:
        connection.execute(update(external).where(external.c.id == found["id"]).values(**_row(seen), **values))
    row_id = row_id if found is None else found["id"]
    if counts:
        _count(connection, seen, seen.amount)
    data = {**_row(seen), "counted": counts, "alert": alert}
    journal.append(connection, f"external/{row_id}", "external.booked", actor=actor, now=now, data=data)
    if alert is not None or (purse.captured is None and seen.kind is Kind.CHARGEBACK):
        _hold_back(connection, seen, alert, actor=actor, now=now)

    return Booking(Result.BOOKED, row_id, alert)


def withdraw(
    connection: Connection, account: str, provider_refund_id: str, *, why: str, actor: str, now: float
) -> bool:
    """Take it out again: the provider says that it came to nothing. False if it is not counted."""
    found = _lock(connection, external.c.account == account, external.c.provider_refund_id == provider_refund_id)

    return bool(found) and _take_out(connection, found[0], why, None, actor=actor, now=now)


def link(connection: Connection, seen: Sighting, ours: Refund, *, row_id: str, actor: str, now: float) -> bool:
    """A person says that it is this refund of ours: it is not counted, nor will it be. False where that is known."""
    _locked(connection, seen, now)
    found = _lock(
        connection, external.c.account == seen.account, external.c.provider_refund_id == seen.provider_refund_id
    )
    if found:
        return _take_out(connection, found[0], f"linked to {ours.id}", ours.id, actor=actor, now=now)
    values = {"booked": False, "refund_id": ours.id, "alert": None, "first_seen": now}
    connection.execute(insert(external).values(**_row(seen), id=row_id, **values))
    data = {**_row(seen), "refund": ours.id}
    journal.append(connection, f"external/{row_id}", "external.linked", actor=actor, now=now, data=data)

    return True


def fits(row: Mapping[str, Any], ours: Refund) -> bool:
    """Whether what is on record can be this refund of ours: the same money, and not another of ours."""
    return (row["payment_ref"], row["amount"], row["kind"]) == (ours.payment_ref, ours.amount, Kind.REFUND) and (
        row["refund_id"] in (None, ours.id)
    )


def unnamed(connection: Connection, account: str, provider_refund_id: str, payment_ref: str, amount: int) -> str | None:
    """The refund of ours, counted already, that this may be: so much of the payment, its id at the provider unknown.

    None where this is on record: counted, or linked to one of ours.
    """
    found = get(connection, account, provider_refund_id)
    if found is not None and (found["booked"] or found["refund_id"] is not None):
        return None
    linked = select(external.c.id).where(
        external.c.payment_ref == refund.c.payment_ref,
        external.c.account == refund.c.account,
        external.c.refund_id == refund.c.id,
    )
    query = select(*COLUMNS).where(
        refund.c.payment_ref == payment_ref,
        refund.c.account == account,
        refund.c.provider_refund_id.is_(None),
        refund.c.amount == amount,
        ~linked.exists(),
    )
    ours = map(load, connection.execute(query.order_by(refund.c.id)))

    return next((each.id for each in ours if each.hold is Hold.REFUNDED), None)


# How many are taken out in one transaction; the next round goes on.
BATCH = 200


def adopt(connection: Connection, *, actor: str, now: float, since: float = 0.0) -> list[str]:
    """Take out what turned out to be ours, so that it is not counted twice; answers the ids of those rows.

    A refund's own answer may name the id only after somebody else has reported it. `since`: of those first seen later.
    They are taken in the order of their payments, so that two who do it never wait for each other crosswise.
    """
    ours = select(refund.c.id).where(_same_refund())
    found = connection.execute(
        select(external.c.id, ours.limit(1).scalar_subquery().label("refund_id"))
        .where(external.c.refund_id.is_(None), external.c.first_seen >= since, ours.exists())
        .order_by(external.c.account, external.c.payment_ref, external.c.id)
        .limit(BATCH)
    ).all()
    for row_id, refund_id in found:
        (row,) = _lock(connection, external.c.id == row_id)
        _take_out(connection, row, "it is a refund of ours", refund_id, actor=actor, now=now)

    return [row_id for row_id, _ in found]


def get(connection: Connection, account: str, provider_refund_id: str) -> dict[str, Any] | None:
    """One movement of others, by the provider's id."""
    query = select(external).where(external.c.account == account, external.c.provider_refund_id == provider_refund_id)
    row = connection.execute(query).first()

    return None if row is None else dict(row._mapping)  # noqa: SLF001 - the documented way


def listed(connection: Connection, *, limit: int = 100, open_only: bool = False) -> list[dict[str, Any]]:
    """Movements of others, newest first; `open_only`: those that a person must look at."""
    query = select(external).order_by(external.c.first_seen.desc()).limit(limit)
    if open_only:
        query = query.where(OPEN)

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001


def of_payment(connection: Connection, account: str, payment_ref: str) -> list[dict[str, Any]]:
    """What others moved of a payment, the oldest first."""
    query = select(external).where(external.c.payment_ref == payment_ref, external.c.account == account)

    return [dict(row._mapping) for row in connection.execute(query.order_by(external.c.first_seen))]  # noqa: SLF001


def of_payments(connection: Connection, payments: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[Any]]:
    """What others moved of these payments (account and ref), the oldest first; none of what is a refund of ours."""
    refs = sorted({ref for _, ref in payments})
    query = select(external).where(external.c.payment_ref.in_(refs), external.c.refund_id.is_(None))
    found: dict[tuple[str, str], list[Any]] = {}
    for row in connection.execute(query.order_by(external.c.first_seen)) if refs else ():
        if (row.account, row.payment_ref) in payments:
            found.setdefault((row.account, row.payment_ref), []).append(dict(row._mapping))  # noqa: SLF001

    return found


def count_open(connection: Connection) -> int:
    """How many wait for a person."""
    return int(connection.execute(select(func.count()).select_from(external).where(OPEN)).scalar_one())


def close(connection: Connection, row_id: str, *, actor: str, reason: str, now: float) -> bool:
    """A person has looked at it; the money stays counted. False if nothing was open."""
    done = connection.execute(
        update(external)
        .where(external.c.id == row_id, OPEN)
        .values(closed_at=now, closed_by=actor, closed_reason=reason[:512])
    )
    if done.rowcount == 0:
        return False
    data = {"reason": reason}
    journal.append(connection, f"external/{row_id}", "external.closed", actor=actor, now=now, data=data)

    return True


OPEN = and_(external.c.alert.is_not(None), external.c.closed_at.is_(None))


def _row(seen: Sighting) -> dict[str, Any]:
    return {
        "account": seen.account,
        "provider_refund_id": seen.provider_refund_id,
        "payment_ref": seen.payment_ref,
        "kind": seen.kind,
        "amount": seen.amount,
        "currency": seen.currency,
        "source": seen.source,
        "evidence": canonical(seen.evidence).decode(),
    }


def _locked(connection: Connection, seen: Sighting, now: float) -> Standing:
    connection.execute(
        text("INSERT INTO payment (account, ref, created_at) VALUES (:account, :ref, :now) ON CONFLICT DO NOTHING"),
        {"account": seen.account, "ref": seen.payment_ref, "now": now},
    )
    purse = standing(connection, seen.account, seen.payment_ref, lock=True)
    assert purse is not None

    return purse


def _our_refund(connection: Connection, account: str, provider_refund_id: str) -> str | None:
    query = select(refund.c.id).where(refund.c.provider_refund_id == provider_refund_id, refund.c.account == account)

    return connection.execute(query).scalar()


def _same_refund() -> Any:
    return and_(refund.c.provider_refund_id == external.c.provider_refund_id, refund.c.account == external.c.account)


def _alert(purse: Standing, seen: Sighting, *, counts: bool) -> str | None:
    if not counts:
        return f"in {seen.currency}, and the payment is in {purse.currency}: it is not counted"
    if purse.captured is None:
        return None
    beyond = purse.reserved + purse.refunded + seen.amount - purse.captured

    return f"{beyond} more than was captured is refunded or on its way" if beyond > 0 else None


def _count(connection: Connection, seen: Any, amount: int) -> None:
    """Add what others moved (or take it off) and say whether the payment is over its capture now."""
    total = payment.c.reserved + payment.c.refunded + amount
    over = and_(payment.c.captured.is_not(None), total > payment.c.captured)
    # What is taken off may end an excess; what is added never does.
    marked = or_(payment.c.over_refunded, over) if amount > 0 else and_(payment.c.over_refunded, over)
    known = case((payment.c.currency.is_(None), literal(seen.currency)), else_=payment.c.currency)
    connection.execute(
        update(payment)
        .where(payment.c.account == seen.account, payment.c.ref == seen.payment_ref)
        .values(refunded=payment.c.refunded + amount, over_refunded=marked, currency=known)
    )


def _hold_back(connection: Connection, seen: Sighting, alert: str | None, *, actor: str, now: float) -> None:
    """Refunds of the payment that were never sent wait for a person: the customer may have the money already."""
    waiting = connection.execute(
        select(*COLUMNS)
        .where(
            refund.c.payment_ref == seen.payment_ref,
            refund.c.account == seen.account,
            refund.c.state == State.QUEUED,
        )
        .order_by(refund.c.id)
        .with_for_update()
    )
    note = f"a {seen.kind} of {seen.amount} was made elsewhere: {alert or 'what was captured is not known'}"
    changes = [
        Change(
            before=each,
            after=moved(each, State.REVIEW, now, due_at=None, holds=False, cause=Cause.OVER_REFUNDED, note=note[:512]),
            type="refund.review",
            actor=actor,
            data={"cause": Cause.OVER_REFUNDED, "external": seen.provider_refund_id},
            fenced=False,
        )
        for each in map(load, waiting)
    ]
    apply(connection, changes)


def _lock(connection: Connection, *which: Any) -> list[Any]:
    """The rows with their payments locked first, as `book` does it."""
    payments = select(external.c.account, external.c.payment_ref).where(*which)
    for account, ref in connection.execute(payments).all():
        standing(connection, account, ref, lock=True)

    return list(connection.execute(select(external).where(*which)).all())


def _take_out(connection: Connection, row: Any, why: str, refund_id: str | None, *, actor: str, now: float) -> bool:
    if not row.booked and (refund_id is None or row.refund_id is not None):
        return False
    closed = {"closed_at": now, "closed_by": actor, "closed_reason": why} if row.alert and not row.closed_at else {}
    connection.execute(
        update(external).where(external.c.id == row.id).values(booked=False, refund_id=refund_id, **closed)
    )
    if row.booked:
        _count(connection, row, -row.amount)
    data = {"why": why, "refund": refund_id}
    journal.append(connection, f"external/{row.id}", "external.withdrawn", actor=actor, now=now, data=data)

    return True
