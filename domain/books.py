"""Postings: what each event of a refund's story did to the money, in legs that sum to zero."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct

from domain.refund import Settlement
from domain.state import Hold, State, hold


class Book(StrEnum):
    """Where money stands: still with the payment, kept for a refund under way, or gone back."""

    PAYMENT = "payment"
    RESERVED = "reserved"
    REFUNDED = "refunded"


class Entry(StrEnum):
    """Why it moved."""

    RESERVE = "reserve"
    SETTLE = "settle"
    RELEASE = "release"
    REVERSE = "reverse"
    EXTERNAL = "external"


class Posting(Struct, frozen=True, kw_only=True, gc=False):
    """One leg. `amount`: minor units, what the book gains."""

    subject: str
    seq: int
    leg: int
    at: float
    account: str
    payment_ref: str
    kind: Entry
    book: Book
    amount: int
    currency: str


class Told(Struct, frozen=True, kw_only=True, gc=False):
    """One event of a story: `data` as the journal has it."""

    subject: str
    seq: int
    type: str
    at: float
    data: Mapping[str, Any]


class _Stands(Struct, frozen=True, gc=False):
    """What is kept for a refund: in which book, how much, of which payment. Nothing before it has an amount."""

    book: Book = Book.PAYMENT
    amount: int = 0
    payment_ref: str = ""


_BOOKS = {Hold.RESERVED: Book.RESERVED, Hold.REFUNDED: Book.REFUNDED, Hold.RELEASED: Book.PAYMENT}
_ENTRIES = {
    (Book.PAYMENT, Book.RESERVED): Entry.RESERVE,
    (Book.RESERVED, Book.REFUNDED): Entry.SETTLE,
    (Book.PAYMENT, Book.REFUNDED): Entry.SETTLE,
    (Book.RESERVED, Book.PAYMENT): Entry.RELEASE,
    (Book.REFUNDED, Book.PAYMENT): Entry.REVERSE,
    (Book.REFUNDED, Book.RESERVED): Entry.REVERSE,
}


def of_refund(story: Iterable[Told], account: str, currency: str | None) -> Iterator[Posting]:
    """The postings of a refund's story, which begins with its acceptance."""
    stands = _Stands()
    for told in story:
        following = _following(stands, told)
        moves = _moves(stands, following)
        for leg, (kind, book, amount, ref) in enumerate(moves, 1):
            yield Posting(
                subject=told.subject,
                seq=told.seq,
                leg=leg,
                at=told.at,
                account=account,
                payment_ref=ref,
                kind=kind,
                book=book,
                amount=amount,
                currency=told.data.get("currency") or currency or "",
            )
        stands = following


def _following(stands: _Stands, told: Told) -> _Stands:
    amount, ref = stands.amount, stands.payment_ref
    if told.type in ("refund.accepted", "refund.resolved"):
        amount, ref = told.data["amount"] or 0, told.data["payment"]

    return _Stands(_book(told.data), amount, ref)


def _book(data: Mapping[str, Any]) -> Book:
    state = State(data["to"])
    if state is State.SETTLED:
        return Book.PAYMENT if data.get("outcome") == Settlement.NOT_RETURNED else Book.REFUNDED

    return _BOOKS[hold(state)]


def _moves(before: _Stands, after: _Stands) -> list[tuple[Entry, Book, int, str]]:
    """Within one payment from book to book; where payment or amount turned out otherwise, back and anew."""
    same = (before.amount, before.payment_ref) == (after.amount, after.payment_ref)
    if same:
        return _legs(before.book, after.book, after.amount, after.payment_ref)

    return [
        *_legs(before.book, Book.PAYMENT, before.amount, before.payment_ref),
        *_legs(Book.PAYMENT, after.book, after.amount, after.payment_ref),
    ]


def _legs(source: Book, target: Book, amount: int, ref: str) -> list[tuple[Entry, Book, int, str]]:
    if source is target or not amount:
        return []
    kind = _ENTRIES[source, target]

    return [(kind, source, -amount, ref), (kind, target, amount, ref)]


def of_external(story: Iterable[Told], account: str, payment_ref: str, currency: str) -> Iterator[Posting]:
    """The postings of what others moved: counted, and taken out again."""
    counted = 0
    for told in story:
        before = counted
        if told.type == "external.booked":
            counted = told.data["amount"] if told.data["counted"] else 0
        if told.type == "external.withdrawn":
            counted = 0
        moved = counted - before
        for leg, (book, sign) in enumerate(((Book.PAYMENT, -1), (Book.REFUNDED, 1)) if moved else (), 1):
            yield Posting(
                subject=told.subject,
                seq=told.seq,
                leg=leg,
                at=told.at,
                account=account,
                payment_ref=payment_ref,
                kind=Entry.EXTERNAL,
                book=book,
                amount=sign * moved,
                currency=currency,
            )
