"""Saved views: a search under a name, of one's own or shared with everybody."""

from sqlalchemy import Connection

from domain.errors import FieldError, InvalidJob, NotFound, Refused
from domain.private import masked
from engine import search
from engine.bootstrap import Engine
from engine.people import Actor, Verb, require
from ledger import journal, saved
from ledger.saved import SavedView

MOST = 50
MOST_NAME = 40
MOST_QUERY = 300


def listed(engine: Engine, actor: Actor) -> list[SavedView]:
    """One's own by name, then what others share."""
    require(actor, Verb.SEE)
    with engine.ledger.read() as connection:
        return saved.visible(connection, actor.name)


def named(engine: Engine, actor: Actor, name: str) -> SavedView:
    """The view of that name: one's own before a shared one. Raises NotFound."""
    for each in listed(engine, actor):
        if each.name == name:
            return each

    raise NotFound("not-found", f"there is no saved view {name[:MOST_NAME]!r}")


def save(engine: Engine, actor: Actor, name: str, query: str, *, shared: bool = False) -> SavedView:
    """Keep a search, in place of one's own of that name. Raises Refused; InvalidJob for what is no query."""
    require(actor, Verb.SEE)
    view = SavedView(
        owner=actor.name, name=_name(name), query=_query(engine, query), shared=shared, saved_at=engine.clock()
    )

    def work(connection: Connection) -> None:
        journal.hold(connection, f"user/{view.owner}")
        others = [each for each in saved.visible(connection, view.owner) if (each.owner, each.name) != _key(view)]
        if sum(each.owner == view.owner for each in others) >= MOST:
            raise Refused("too-many-views", f"{view.owner} has {MOST} saved views: remove one first")
        taken = [each.owner for each in others if shared and each.shared and each.name == view.name]
        if taken:
            raise Refused("view-exists", f"{taken[0]} shares a view {view.name!r} already: take another name")
        saved.put(connection, view)
        _told(connection, engine, actor, "view.saved", view)

    engine.ledger.run(work)

    return view


def remove(engine: Engine, actor: Actor, name: str, owner: str | None = None) -> None:
    """Forget a view of one's own, or, as an admin, what another shares. Raises NotFound and Forbidden."""
    require(actor, Verb.SEE)
    owner = owner or actor.name

    def work(connection: Connection) -> None:
        for each in saved.visible(connection, actor.name):
            if _key(each) == (owner, name):
                saved.drop(connection, owner, name)
                return _told(connection, engine, actor, "view.removed", each)
        raise NotFound("not-found", f"there is no saved view {name[:MOST_NAME]!r} of {owner[:MOST_NAME]}")

    if owner != actor.name:
        require(actor, Verb.ADMINISTER)
    engine.ledger.run(work)


def _key(view: SavedView) -> tuple[str, str]:
    return view.owner, view.name


def _name(given: str) -> str:
    name = " ".join(given.split())
    if not (0 < len(name) <= MOST_NAME and name.isprintable()):
        raise Refused("view-invalid", f"a view's name has 1 to {MOST_NAME} letters that can be seen")
    if masked(name) != name:
        raise Refused("view-invalid", "somebody's address or account is no name that can be kept")

    return name


def _query(engine: Engine, given: str) -> str:
    """A view is kept, and others may see it: what can be known to be about a person is refused."""
    query = given.strip()
    if not (0 < len(query) <= MOST_QUERY and query.isprintable()):
        raise Refused("view-invalid", f"a view is a search of 1 to {MOST_QUERY} letters that can be seen")
    search.parse(query, engine.vault)
    if search.names_people(query):
        why = "a view is kept, so it may not be about a person: search by name:value, but not by email, name, customer"
        raise InvalidJob(FieldError("#/query", why, "query-invalid"), code="query-invalid")

    return query


def _told(connection: Connection, engine: Engine, actor: Actor, kind: str, view: SavedView) -> None:
    data = {"name": view.name, "query": view.query, "shared": view.shared}
    journal.append(connection, f"user/{view.owner}", kind, actor=actor.name, now=engine.clock(), data=data)
