"""S5: dead letters, first as groups, then singly; acted on in many only by way of a preview (S11)."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Form, Request, Response

from console.pages import go, page
from console.session import Signed, TheEngine
from domain.state import State
from engine import review, search
from engine.view import dead_views
from ledger import queries, rejected
from ledger.queries import Filter

router = APIRouter()

PAGE = 50


@router.get("/dead")
def show(
    request: Request,
    engine: TheEngine,
    _signed: Signed,
    cause: str = "",
    account: str = "",
    failure: str = "",
    before: str | None = None,
) -> Response:
    given = {"cause": cause, "account": account, "failure": failure}
    wanted = Filter(
        causes=(cause,) if cause else (),
        accounts=(account,) if account else (),
        failure_codes=(failure,) if failure else (),
    )
    with engine.ledger.read() as connection:
        groups = queries.dead_groups(connection, engine.clock())
        found = queries.dead(connection, limit=PAGE + 1, before=before, wanted=wanted)
        jobs = rejected.listed(connection, limit=PAGE)
    rows = found[:PAGE]
    fitting = [each for each in groups if _fits(each, given)]
    older = urlencode({**{k: v for k, v in given.items() if v}, "before": rows[-1].id}) if len(found) > PAGE else ""

    return page(
        request,
        "dead.html",
        live="5" if before is None else False,
        groups=groups,
        given=given,
        narrowed=any(given.values()),
        rows=dead_views(engine, rows),
        rejected=[{**each, "faults": msgspec.json.decode(each["errors"])["errors"]} for each in jobs],
        older=f"/dead?{older}" if older else "",
        matching=sum(each["count"] for each in fitting),
        words=search.written(state=(State.REVIEW, State.REVERSED), **given),
    )


def _fits(group: Mapping[str, Any], given: Mapping[str, str]) -> bool:
    names = {"cause": "cause", "account": "account", "failure": "failure_code"}

    return all(group[names[name]] == value for name, value in given.items() if value)


@router.post("/dead/{rejection_id}/close")
def close(engine: TheEngine, signed: Signed, rejection_id: str, reason: Annotated[str, Form()] = "") -> Response:
    review.close_rejected(engine, signed.actor, rejection_id, reason=reason)

    return go("/dead#rejected", "Closed.")
