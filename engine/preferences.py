"""What each person prefers to see: kept on the server, so that it is the same in every browser."""

from sqlalchemy import Connection

from domain.errors import Refused
from engine.bootstrap import Engine
from engine.people import Actor, Verb, require
from ledger import journal, preferences

MOST = 512


def preferred(engine: Engine, actor: Actor) -> dict[str, str]:
    """By name, what they have chosen."""
    with engine.ledger.read() as connection:
        return preferences.get(connection, actor.name)


def prefer(engine: Engine, actor: Actor, **chosen: str) -> None:
    """Keep a choice; an empty one is the default again."""
    require(actor, Verb.SEE)
    if any(len(value) > MOST for value in chosen.values()):
        raise Refused("preference-invalid", f"a choice has at most {MOST} characters")

    def work(connection: Connection) -> None:
        journal.hold(connection, f"user/{actor.name}")
        preferences.put(connection, actor.name, chosen)

    engine.ledger.run(work)
