"""Personal data taken out of refunds that are final, and out of all that belongs to them; the ledger itself stays."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, insert, not_, or_, select, tuple_, update

from ledger.models import (
    approval,
    attempt,
    bookmark,
    notification,
    recon_difference,
    refund,
    rejected,
    search_term,
    webhook_attempt,
    webhook_delivery,
)
from ledger.session import update_rows
from ledger.terms import HASHES, known_by

#: A refund is looked at by nobody any more. `reversed` is final too, and waits for a person.
STATES = ("succeeded", "failed", "cancelled", "settled")
BATCH = 200
#: Free text that a shop may have put a customer into.
WORDS = ("description", "metadata")

_ASKED = select(approval.c.id).where(approval.c.refund_id == refund.c.id, approval.c.status == "open").exists()
_DIFFERS = (
    select(recon_difference.c.id)
    .where(recon_difference.c.refund_id == refund.c.id, recon_difference.c.state != "closed")
    .exists()
)


class Found(msgspec.Struct, frozen=True):
    """A refund, and why its personal data is still needed; None: it is not. `erased`: it is gone already."""

    id: str
    needed: str | None
    erased: bool


def _ready(before: float) -> ColumnElement[bool]:
    """Final before then, and nobody is to decide about it."""
    return and_(refund.c.state.in_(STATES), refund.c.final_at < before, not_(_ASKED), not_(_DIFFERS))


def _seen(before: float) -> Select[Any]:
    needed = case(
        (_ready(before), None),
        (_ASKED, "a request for approval is open"),
        (_DIFFERS, "a difference of reconciliation is open"),
        (refund.c.state.in_(STATES), "it was final only lately"),
        else_="it is " + refund.c.state,
    )

    return select(refund.c.id, needed, refund.c.erased_at.is_not(None)).order_by(refund.c.id).limit(BATCH)


def page(connection: Connection, *, after: str, until: str, before: float) -> list[Found]:
    """The next refunds by id between `after` and `until`, that are to be final before `before`."""
    query = _seen(before).where(refund.c.id > after, refund.c.id < until)

    return [Found(*row) for row in connection.execute(query)]


def of_customer(connection: Connection, digest: str, *, after: str, before: float) -> list[Found]:
    """The next refunds of whoever has this hash of an e-mail address or of the shop's reference."""
    query = _seen(before).where(refund.c.id > after, known_by([digest], "email_hash", "customer_hash"))

    return [Found(*row) for row in connection.execute(query)]


def erase(connection: Connection, ids: Sequence[str], *, before: float, now: float) -> list[str]:
    """Take personal data out of those that are ready, and that nobody holds; answers which."""
    query = (
        select(refund.c.id, refund.c.job, *(refund.c[name] for name in HASHES))
        .where(refund.c.id.in_(ids), _ready(before), refund.c.erased_at.is_(None))
        .order_by(refund.c.id)
        .with_for_update(of=refund, skip_locked=True)
    )
    held = connection.execute(query).all()
    gone = [str(row.id) for row in held]
    if gone:
        terms = {(digest, row.id) for row in held for digest in row[2:] if digest is not None}
        connection.execute(delete(search_term).where(tuple_(*search_term.primary_key).in_(sorted(terms))))
        nothing = {"personal": None, **dict.fromkeys(HASHES)}
        connection.execute(update(refund).where(refund.c.id.in_(gone)).values(**nothing, erased_at=now))
        jobs = [{"id": row.id, "job": _without_words(row.job)} for row in held]
        update_rows(connection, refund, jobs, keys=("id",))
        _erase_around(connection, gone)

    return gone


def _without_words(job: str) -> str:
    kept = {name: value for name, value in msgspec.json.decode(job).items() if name not in WORDS}

    return msgspec.json.encode(kept, order="sorted").decode()


def _erase_around(connection: Connection, ids: Sequence[str]) -> None:
    """Frozen requests, answers, receivers' answers and evidence. A request without its body can be sent by nobody."""
    sent = select(webhook_delivery.c.id).where(webhook_delivery.c.refund_id.in_(ids))
    connection.execute(update(attempt).where(attempt.c.refund_id.in_(ids)).values(body=b"", answer=None))
    connection.execute(update(webhook_attempt).where(webhook_attempt.c.delivery.in_(sent)).values(answer=None))
    connection.execute(update(approval).where(approval.c.refund_id.in_(ids)).values(evidence=None))


def erase_notifications(connection: Connection, ids: Sequence[str]) -> None:
    """Take out the bodies of notifications about these refunds. Reads all that are kept: those of some weeks."""
    about = or_(*(notification.c.refunds.like(f'%"{refund_id}"%') for refund_id in ids))
    connection.execute(update(notification).where(about, notification.c.due_at.is_(None)).values(body=b""))


def erase_rejected(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Take out the bodies of these rejected jobs, where somebody has closed them; answers which."""
    query = update(rejected).where(rejected.c.id.in_(ids), rejected.c.closed_at.is_not(None)).values(body=None)

    return list(connection.execute(query.returning(rejected.c.id)).scalars())


def erase_closed(connection: Connection, before: float) -> int:
    """Take out the bodies of rejected jobs that were closed before then; answers how many."""
    query = update(rejected).where(rejected.c.closed_at < before, rejected.c.body.is_not(None)).values(body=None)

    return connection.execute(query).rowcount


# -- how far the purge has come ----------------------------------------------------------------------------------------

NAME = "purge"


def place(connection: Connection) -> str:
    """Every refund up to this id has been erased."""
    return str(connection.execute(select(bookmark.c.place).where(bookmark.c.name == NAME)).scalar() or "")


def move_place(connection: Connection, to: str, now: float) -> None:
    """The purge has come so far, as soon as this transaction is committed."""
    if connection.execute(update(bookmark).where(bookmark.c.name == NAME).values(place=to, at=now)).rowcount == 0:
        connection.execute(insert(bookmark).values(name=NAME, place=to, at=now))
