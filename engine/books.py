"""The books, as finance reads them: derived from the journal, checked against the ledger, aged, exported."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from domain.errors import Refused
from domain.money import EXPONENTS, to_major
from engine.bootstrap import Engine
from ledger import books
from ledger.books import Flaw
from ledger.journal import MARGIN

log = structlog.get_logger(__name__)

# A refund may move between two looks: what disagrees is looked at so many times.
LOOKS = 3


def derive(engine: Engine) -> int:
    """Write the postings of all that was told since the last time; answers of how many stories.

    It may run twice, or be killed half-way: an event's postings are written once. Nothing of it is on a refund's way.
    """
    now = engine.clock()
    count = 0
    with engine.ledger.read() as connection:
        since = books.place(connection) - MARGIN
        for batch in books.subjects(connection, since):
            engine.ledger.run(lambda writing, batch=batch: books.write(writing, batch))  # type: ignore[misc]
            count += len(batch)
    engine.ledger.run(lambda connection: books.move_place(connection, now))

    return count


def derive_if_due(engine: Engine) -> None:
    """What beat does: derive after so long, and look whether the books are right."""
    with engine.ledger.read() as connection:
        last = books.place(connection)
    if engine.settings.reconcile.books and engine.clock() - last >= engine.settings.reconcile.books:
        check(engine)


def check(engine: Engine) -> list[Flaw]:
    """Where the postings do not say what the payments say; what lasts over several looks is no refund on its way."""
    lasting: list[Flaw] = []
    for look in range(LOOKS):
        derive(engine)
        with engine.ledger.read() as connection:
            found = books.flaws(connection)
        lasting = found if look == 0 else [each for each in found if each in lasting]
        if not lasting:
            break
    for flaw in lasting:
        log.error("books.flaw", account=flaw.account, payment=flaw.payment_ref, what=flaw.what)

    return lasting


def ageing(engine: Engine) -> list[dict[str, Any]]:
    """Open money by account, currency and age, in minor units."""
    with engine.ledger.read() as connection:
        return books.open_money(connection, engine.clock())


def month(text: str) -> tuple[float, float]:
    """First and last moment of a month like 2026-11, in UTC. Raises Refused."""
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise Refused("month-invalid", f"month: expected like 2026-11, found {text[:20]!r}") from None
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)

    return first.timestamp(), following.timestamp()


COLUMNS = (
    "at",
    "account",
    "currency",
    "amount",
    "kind",
    "book",
    "payment",
    "refund",
    "reference",
    "provider_refund_id",
    "reconciliation_id",
    "posting",
)


def export(engine: Engine, wanted: str, accounts: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """A month's postings, one row each, amounts as exact decimals in major units."""
    start, end = month(wanted)
    derive(engine)
    with engine.ledger.read() as connection:
        for row in books.between(connection, start, end, accounts):
            yield _row(row)


def _row(row: Any) -> dict[str, Any]:
    ours = row.subject if row.subject.startswith("rf_") else None
    known = row.currency in EXPONENTS

    return {
        "at": datetime.fromtimestamp(row.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "account": row.account,
        "currency": row.currency,
        "amount": str(to_major(row.amount, row.currency)) if known else str(row.amount),
        "kind": row.kind,
        "book": row.book,
        "payment": row.payment_ref,
        "refund": ours,
        "reference": row.reference,
        "provider_refund_id": row.provider_refund_id,
        "reconciliation_id": row.reconciliation_id,
        "posting": f"{row.subject}/{row.seq}/{row.leg}",
    }
