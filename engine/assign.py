"""Who looks after refunds: of one, or of many that are chosen as for a bulk operation."""

from collections.abc import Sequence
from functools import partial

import structlog
from msgspec.structs import replace
from sqlalchemy import Connection

from domain.errors import Conflict, Refused
from domain.refund import Refund
from domain.state import OPEN, State
from engine.bootstrap import Engine
from engine.bulk_plan import Selection, chosen, named
from engine.people import Actor, Verb, require
from ledger import refunds
from ledger.refunds import Change

log = structlog.get_logger(__name__)

#: Where a query says nothing of states: what somebody may still have to do something about.
SCOPE = (*sorted(OPEN), State.REVERSED)
MOST_NAME = 64
# Workers wait for the rows of one transaction.
AT_ONCE = 250


def meant(engine: Engine, actor: Actor, selection: Selection) -> Sequence[Refund]:
    """The refunds of a selection. Raises Refused where too many fit, NotFound, and InvalidJob for a wrong query."""
    require(actor, Verb.ACT)
    with engine.ledger.read() as connection:
        return chosen(connection, engine, SCOPE, selection)


def assign(engine: Engine, actor: Actor, selection: Selection, assignee: str | None) -> int:
    """Say who looks after these refunds; answers how many. None: nobody does. Of a few hundred, all or none."""
    require(actor, Verb.ACT)
    if assignee is not None and len(assignee) > MOST_NAME:
        raise Refused("assignee-invalid", f"assignee: at most {MOST_NAME} characters")

    ids = selection.ids or tuple(each.id for each in meant(engine, actor, selection))
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        engine.ledger.run(partial(_assign, engine=engine, actor=actor, ids=some, assignee=assignee))
    log.info("refund.assigned", refunds=len(ids), actor=actor.name)

    return len(ids)


def _assign(connection: Connection, *, engine: Engine, actor: Actor, ids: Sequence[str], assignee: str | None) -> None:
    now = engine.clock()
    changes = [
        Change(
            before=each,
            after=replace(each, assignee=assignee, updated_at=now),
            type="refund.assigned",
            actor=actor.name,
            data={"assignee": assignee},
            fenced=False,
        )
        for each in named(connection, ids, lock=True)
    ]
    if None in refunds.apply(connection, changes):
        raise Conflict("state-conflict", "somebody else changed one of these at the same moment; do it again")
