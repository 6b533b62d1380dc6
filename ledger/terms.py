"""What a refund is known by, beside its columns with an index of their own: handles, order, hashes of its customer."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from ledger.models import refund, search_term

HASHES = ("email_hash", "name_hash", "last_name_hash", "customer_hash")
_COLUMNS = ("handle", "order_id", *HASHES)


def terms(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """The rows of `search_term` for a new refund's row."""
    return [term(row["id"], each) for each in sorted({row[name] for name in _COLUMNS} - {None})]


def term(refund_id: str, word: str) -> dict[str, str]:
    """A row of `search_term`."""
    return {"term": word, "refund_id": refund_id}


def ids_of(words: Sequence[str]) -> Select[str]:
    """The ids of the refunds that any of these lead to, now or once."""
    return select(search_term.c.refund_id).where(search_term.c.term.in_(words))


def known_by(words: Sequence[str], *columns: str) -> ColumnElement[bool]:
    """Refunds with any of these in one of the columns, found by their terms."""
    return and_(refund.c.id.in_(ids_of(words)), or_(*(refund.c[column].in_(words) for column in columns)))
