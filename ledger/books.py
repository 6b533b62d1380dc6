"""The books: postings derived from the journal, each event once, and what they say of the money."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Connection, and_, case, func, insert, or_, select, text, true, update
from sqlalchemy.dialects.postgresql import insert as insert_or_leave

from domain.books import Book, Posting, Told, of_external, of_refund
from domain.state import OPEN
from ledger.models import FOR_PEOPLE, LANES, bookmark, event, external, lane_predicate, payment, posting, refund
from ledger.session import OverRows

NAME = "postings"
BATCH = 1_000
_AGES = (("1h", 3_600.0), ("1d", 86_400.0), ("5d", 432_000.0), ("30d", 2_592_000.0))

_INSERT = OverRows(
    {column.name: column.type for column in posting.c},
    lambda values: (
        insert_or_leave(posting)
        .from_select(list(posting.c), select(*(values.c[column.name] for column in posting.c)).where(true()))
        .on_conflict_do_nothing()
    ),
)


def place(connection: Connection) -> float:
    """Every event that was committed before this moment has its postings."""
    found: float | None = connection.execute(select(bookmark.c.at).where(bookmark.c.name == NAME)).scalar()

    return found or 0.0


def move_place(connection: Connection, at: float) -> None:
    """The books are written up to `at`; never back."""
    moved = connection.execute(update(bookmark).where(bookmark.c.name == NAME, bookmark.c.at <= at).values(at=at))
    if moved.rowcount == 0 and place(connection) == 0.0:
        connection.execute(insert(bookmark).values(name=NAME, at=at, place=""))


def subjects(connection: Connection, since: float) -> Iterator[Sequence[str]]:
    """Refunds and movements of others of which something was told since then, in batches."""
    told = (
        select(event.c.subject)
        .where(
            event.c.at >= since, or_(event.c.subject.like("rf\\_%", escape="\\"), event.c.subject.like("external/%"))
        )
        .group_by(event.c.subject)
        .order_by(event.c.subject)
        .execution_options(yield_per=BATCH)
    )
    for batch in connection.execute(told).scalars().partitions(BATCH):
        yield [str(subject) for subject in batch]


def write(connection: Connection, batch: Sequence[str]) -> None:
    """The postings of these subjects' stories; those that are there already stay as they are."""
    stories: dict[str, list[Told]] = {subject: [] for subject in batch}
    query = (
        select(event.c.subject, event.c.seq, event.c.type, event.c.at, event.c.data)
        .where(event.c.subject.in_(batch))
        .order_by(event.c.subject, event.c.seq)
    )
    for row in connection.execute(query):
        told = Told(subject=row.subject, seq=row.seq, type=row.type, at=row.at, data=msgspec.json.decode(row.data))
        stories[row.subject].append(told)
    found = [*_of_refunds(connection, stories), *_of_others(connection, stories)]
    if found:
        _INSERT.run(connection, [msgspec.structs.asdict(each) for each in found])


def _of_refunds(connection: Connection, stories: dict[str, list[Told]]) -> Iterator[Posting]:
    query = select(refund.c.id, refund.c.account, refund.c.currency).where(refund.c.id.in_(list(stories)))
    for refund_id, account, currency in connection.execute(query):
        yield from of_refund(stories[refund_id], account, currency)


def _of_others(connection: Connection, stories: dict[str, list[Told]]) -> Iterator[Posting]:
    ids = [subject.removeprefix("external/") for subject in stories if subject.startswith("external/")]
    query = (
        select(external.c.id, external.c.account, external.c.payment_ref, external.c.currency, payment.c.currency)
        .join(payment, and_(payment.c.account == external.c.account, payment.c.ref == external.c.payment_ref))
        .where(external.c.id.in_(ids))
    )
    for row_id, account, ref, said, currency in connection.execute(query) if ids else ():
        yield from of_external(stories[f"external/{row_id}"], account, ref, said or currency or "XXX")


# -- what they say ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flaw:
    """A payment whose postings do not say what its row says, or a sum that is not zero; minor units."""

    account: str
    payment_ref: str | None
    what: str
    booked: int
    stands: int


def flaws(connection: Connection, limit: int = 100) -> list[Flaw]:
    """Where postings and payments do not agree, and where legs do not sum to zero. Always empty."""
    return [*_unbalanced(connection), *_disagreeing(connection, limit)]


def _unbalanced(connection: Connection) -> Iterator[Flaw]:
    query = (
        select(posting.c.account, posting.c.currency, func.sum(posting.c.amount))
        .group_by(posting.c.account, posting.c.currency)
        .having(func.sum(posting.c.amount) != 0)
    )
    for account, currency, total in connection.execute(query):
        yield Flaw(account, None, f"the postings in {currency} do not sum to zero", int(total), 0)


def _sum(book: Book) -> Any:
    return func.coalesce(func.sum(case((posting.c.book == book, posting.c.amount), else_=0)), 0)


def _disagreeing(connection: Connection, limit: int) -> Iterator[Flaw]:
    sums = (
        select(
            posting.c.account,
            posting.c.payment_ref,
            _sum(Book.RESERVED).label("reserved"),
            _sum(Book.REFUNDED).label("refunded"),
        )
        .group_by(posting.c.account, posting.c.payment_ref)
        .subquery()
    )
    here = and_(sums.c.account == payment.c.account, sums.c.payment_ref == payment.c.ref)
    booked = {name: func.coalesce(sums.c[name], 0) for name in ("reserved", "refunded")}
    query = (
        select(payment.c.account, payment.c.ref, payment.c.reserved, payment.c.refunded, *booked.values())
        .outerjoin(sums, here)
        .where(or_(payment.c.reserved != booked["reserved"], payment.c.refunded != booked["refunded"]))
        .limit(limit)
    )
    for account, ref, reserved, refunded, booked_reserved, booked_refunded in connection.execute(query):
        if reserved != booked_reserved:
            yield Flaw(account, ref, "reserved", int(booked_reserved), reserved)
        if refunded != booked_refunded:
            yield Flaw(account, ref, "refunded", int(booked_refunded), refunded)


def open_money(connection: Connection, now: float) -> list[dict[str, Any]]:
    """Money of refunds that are not final, by account, currency and the age of their acceptance."""
    age = now - refund.c.created_at
    bucket = case(*((age < limit, name) for name, limit in _AGES), else_="older")
    found = or_(*(text(f"({lane_predicate(lane)})") for lane in LANES), text(f"({FOR_PEOPLE})"))
    columns = [
        func.coalesce(func.sum(case((bucket == name, refund.c.amount), else_=0)), 0).cast(BigInteger).label(name)
        for name in (*(name for name, _ in _AGES), "older")
    ]
    query = (
        select(
            refund.c.account,
            refund.c.currency,
            func.count().label("count"),
            func.coalesce(func.sum(refund.c.amount), 0).cast(BigInteger).label("amount"),
            *columns,
        )
        .where(found, refund.c.state.in_(OPEN))
        .group_by(refund.c.account, refund.c.currency)
        .order_by(refund.c.account, refund.c.currency)
    )

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - the documented way


def between(connection: Connection, start: float, end: float, accounts: Sequence[str] = ()) -> Iterator[Any]:
    """The postings of a time with what finance looks for beside them, in their order."""
    query = (
        select(
            posting,
            refund.c.reference,
            refund.c.provider_refund_id,
            refund.c.reconciliation_id,
        )
        .outerjoin(refund, refund.c.id == posting.c.subject)
        .where(posting.c.at >= start, posting.c.at < end)
        .order_by(posting.c.at, posting.c.subject, posting.c.seq, posting.c.leg)
        .execution_options(yield_per=BATCH)
    )
    if accounts:
        query = query.where(posting.c.account.in_(accounts))

    return iter(connection.execute(query))


def sums(connection: Connection, start: float, end: float) -> list[dict[str, Any]]:
    """What each book gained in a time, by account and currency."""
    query = (
        select(
            posting.c.account,
            posting.c.currency,
            posting.c.kind,
            posting.c.book,
            func.sum(posting.c.amount).cast(BigInteger).label("amount"),
        )
        .where(posting.c.at >= start, posting.c.at < end)
        .group_by(posting.c.account, posting.c.currency, posting.c.kind, posting.c.book)
        .order_by(posting.c.account, posting.c.currency, posting.c.kind, posting.c.book)
    )

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001
