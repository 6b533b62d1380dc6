"""S5: dead letters, first as groups, then singly; retried in many only after a preview."""

from collections import Counter, defaultdict
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Form, Query, Request, Response

from console.pages import go, page
from console.screens.refund import the_refund
from console.session import Signed, TheEngine
from domain.errors import Refused
from domain.state import State
from domain.verdict import Advice
from engine import review
from engine.bootstrap import Engine
from engine.people import Verb, require
from engine.view import dead_view, dead_views
from ledger import queries, rejected
from ledger.queries import Filter

router = APIRouter()

PAGE = 50
#: At most so many in one go.
MOST = 100
Ids = Annotated[list[str], Query(alias="id")]
_NOBODY: Ids = []


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
    )


@router.get("/dead/preview")
def preview(request: Request, engine: TheEngine, signed: Signed, ids: Ids = _NOBODY) -> Response:
    require(signed.actor, Verb.ACT)

    return _preview(request, engine, ids)


def _preview(request: Request, engine: Engine, ids: list[str], error: str = "") -> Response:
    if not ids:
        raise Refused("nothing-selected", "nothing was selected")
    if len(ids) > MOST:
        raise Refused("too-many", f"at most {MOST} go in one go")
    columns: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in ids:
        view = dead_view(engine, the_refund(engine, each))
        columns[_column(view)].append(view)
    sums = {name: _sums(rows) for name, rows in columns.items()}

    return page(
        request,
        "preview.html",
        status=422 if error else 200,
        sorted={name: columns[name] for name in ("safe", "check", "other")},
        sums=sums,
        results=None,
        error=error,
    )


def _column(view: dict[str, Any]) -> str:
    verdict = (view["review"] or {}).get("verdict")
    names = {Advice.SAFE: "safe", Advice.CHECK_FIRST: "check"}

    return names.get(verdict["advice"], "other") if verdict and view["state"] == State.REVIEW else "other"


def _sums(rows: list[dict[str, Any]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for row in rows:
        total[row["currency"] or ""] += row["amount"] or 0

    return dict(total)


@router.post("/dead/retry")
def retry(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    ids: Annotated[list[str], Form(alias="id")],
    confirm: Annotated[str, Form()] = "",
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    require(signed.actor, Verb.ACT)
    if confirm.strip() != str(len(ids)) or len(ids) > MOST:
        return _preview(request, engine, ids, f"type {len(ids)} exactly")
    results = review.retry_many(engine, signed.actor, ids, reason=reason)

    return page(request, "preview.html", results=results, sorted={}, sums={}, error="")


@router.post("/dead/{rejection_id}/close")
def close(engine: TheEngine, signed: Signed, rejection_id: str, reason: Annotated[str, Form()] = "") -> Response:
    review.close_rejected(engine, signed.actor, rejection_id, reason=reason)

    return go("/dead#rejected", "Closed.")
