"""Saved views: searches under names, of one person or shared with everybody."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, or_, select

from ledger.models import saved_view


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    """`query`: in the words of the search box. `shared`: everybody sees it; it is still its owner's."""

    owner: str
    name: str
    query: str
    shared: bool
    saved_at: float


def visible(connection: Connection, owner: str) -> list[SavedView]:
    """One's own first, then what others share; each by name."""
    query = select(saved_view).where(or_(saved_view.c.owner == owner, saved_view.c.shared))
    found = [SavedView(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001

    return sorted(found, key=lambda each: (each.owner != owner, each.name, each.owner))


def put(connection: Connection, view: SavedView) -> None:
    """Keep it, in place of what its owner had under that name."""
    drop(connection, view.owner, view.name)
    connection.execute(
        insert(saved_view).values(
            owner=view.owner, name=view.name, query=view.query, shared=view.shared, saved_at=view.saved_at
        )
    )


def drop(connection: Connection, owner: str, name: str) -> None:
    """Forget it."""
    connection.execute(delete(saved_view).where(saved_view.c.owner == owner, saved_view.c.name == name))
