"""S2: the list, the one search box, and searches kept under names."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import StreamingResponse

from console.pages import go, may, money, page
from console.session import Signed, TheEngine
from domain.errors import InvalidJob
from domain.refund import Refund
from domain.state import State
from domain.words import harmless
from engine import saved, search
from engine.bootstrap import Engine
from engine.people import Actor, Verb
from engine.preferences import prefer, preferred
from engine.view import exported, find, refund_view
from ledger import queries
from ledger.queries import Filter

router = APIRouter()

#: Every column a person may choose, in the order of the page, with its title; which of them, and how many rows.
COLUMNS = {
    "reference": "Reference",
    "order": "Order",
    "payment": "Payment",
    "customer": "Customer",
    "amount": "Amount",
    "state": "State",
    "failure": "Failure",
    "account": "Account",
    "provider_id": "Provider's id",
    "attempts": "Attempts",
    "accepted": "Accepted",
    "updated": "Updated",
    "next": "Next",
    "assignee": "With",
}
DEFAULT = ("reference", "order", "customer", "amount", "state", "account", "attempts", "accepted", "next")
ROWS, PAGE = ("25", "50", "100"), 50
MOST_EXPORTED = 50_000
MOST_WORDS = 300
CHUNK = 500
#: So many refunds are looked at for one page where no index leads to what is wanted.
LOOKED_AT = 10_000
Texts = Annotated[list[str], Query()]
_EMPTY: Texts = []


@router.get("/refunds")
def show(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    q: Annotated[str, Query(max_length=MOST_WORDS)] = "",
    state: Texts = _EMPTY,
    account: Texts = _EMPTY,
    after: Annotated[str, Query(alias="from")] = "",
    to: str = "",
    before: str | None = None,
) -> Response:
    given = _given(q, state, account, after, to)
    columns, size = _layout(engine, signed.actor)
    exact = _exact(engine, given)
    if exact is not None:
        return go(f"/refunds/{exact}")
    error, rows, horizon = "", [], None
    try:
        wanted = _filter(engine, given)
        horizon = _horizon(engine, wanted, before)
        rows = _page(engine, replace(wanted, from_id=horizon), size + 1, before)
    except InvalidJob as problem:
        error = str(problem).removeprefix("#/query: ")
    more = len(rows) > size
    rows = rows[:size]
    onward = rows[-1].id if more else horizon
    words = "" if error else _words(given)

    return page(
        request,
        "refunds.html",
        status=422 if error else 200,
        live="5" if before is None else False,
        given=given,
        narrowed=any(given.values()),
        error=error,
        names=search.NAMES,
        accounts=list(engine.accounts),
        rows=[{**refund_view(engine, each), "assignee": each.assignee} for each in rows],
        columns=columns,
        all_columns=COLUMNS,
        size=str(size),
        sizes=[(each, each) for each in ROWS],
        newest=_address(given) if before else "",
        older=_address(given, before=onward) if onward else "",
        looked_at=LOOKED_AT if horizon is not None and not more else 0,
        words=words,
        views=_views(engine, signed.actor, words),
        export=f"/refunds.csv?{urlencode(_set(given), doseq=True)}",
    )


def _layout(engine: Engine, actor: Actor) -> tuple[list[str], int]:
    """The columns and the rows of a page as somebody has chosen them."""
    chosen = preferred(engine, actor)
    names = chosen.get("refund_columns", "").split() or DEFAULT

    return [name for name in COLUMNS if name in names], int(chosen.get("refund_rows", PAGE))


@router.post("/refunds/columns")
def choose_columns(
    engine: TheEngine,
    signed: Signed,
    column: Annotated[list[str], Form()] = _EMPTY,
    rows: Annotated[str, Form()] = "",
    q: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """No column ticked: the usual ones."""
    names = " ".join(name for name in COLUMNS if name in column)
    prefer(engine, signed.actor, refund_columns=names, refund_rows=rows if rows in ROWS else "")

    return go(_at(q if len(q) <= MOST_WORDS else ""), "The list looks as you chose, in every browser you use.")


@router.get("/refunds.csv")
def export(
    engine: TheEngine,
    signed: Signed,
    q: Annotated[str, Query(max_length=MOST_WORDS)] = "",
    state: Texts = _EMPTY,
    account: Texts = _EMPTY,
    after: Annotated[str, Query(alias="from")] = "",
    to: str = "",
) -> Response:
    """The same list as a file, without customers; on record."""
    given = _given(q, state, account, after, to)
    wanted = _filter(engine, given)
    exported(engine, signed.actor, _words(given))
    headers = {"Content-Disposition": 'attachment; filename="refunds.csv"'}

    return StreamingResponse(_lines(engine, wanted), media_type="text/csv; charset=utf-8", headers=headers)


def _lines(engine: Engine, wanted: Filter) -> Iterator[str]:
    columns = ("id", "reference", "account", "state", "amount", "currency", "provider_refund_id", "created_at")
    yield csv_line((*columns, "shown"))
    before, left = None, MOST_EXPORTED
    while left > 0 and (rows := _page(engine, wanted, min(CHUNK, left), before)):
        for each in rows:
            view = refund_view(engine, each)
            yield csv_line((*(view[name] for name in columns), money(each.amount, each.currency)))
        before, left = rows[-1].id, left - len(rows)
    if left == 0 and before is not None and _page(engine, wanted, 1, before):
        yield csv_line(
            (f"There are more than these {MOST_EXPORTED:,}: narrow the search, or take them by refunds list",)
        )


@router.post("/views")
def save_view(
    engine: TheEngine,
    signed: Signed,
    name: Annotated[str, Form()],
    q: Annotated[str, Form()],
    shared: Annotated[bool, Form()] = False,  # noqa: FBT002 - a box of a form
) -> Response:
    view = saved.save(engine, signed.actor, name, q, shared=shared)

    return go(_at(view.query), f"{view.name} is saved{' for everybody' if shared else ''}.")


@router.post("/views/remove")
def remove_view(engine: TheEngine, signed: Signed, view: Annotated[str, Form()]) -> Response:
    owner, _, name = view.partition("/")
    saved.remove(engine, signed.actor, name, owner)

    return go("/refunds", f"{name} is removed.")


def _views(engine: Engine, actor: Actor, words: str) -> dict[str, Any]:
    """What a page shows of saved views: where each leads, which one this is, and those that the actor may remove."""
    found = saved.listed(engine, actor)
    removable = [each for each in found if each.owner == actor.name or may(actor, Verb.ADMINISTER)]

    return {
        "at": _at(words),
        "places": [(_at(each.query), each.name) for each in found],
        "removable": [(f"{each.owner}/{each.name}", each.name) for each in removable],
    }


def _words(given: dict[str, Any]) -> str:
    """The whole search as one would type it."""
    days = f"{given['from']}..{given['to']}" if given["from"] or given["to"] else ""
    narrowed = search.written(state=given["state"], account=given["account"], created=days)

    return " ".join(filter(None, (narrowed, given["q"])))  # where both say when, the box counts, as on the page


def _at(words: str) -> str:
    return f"/refunds?{urlencode({'q': words})}" if words else "/refunds"


def csv_line(values: tuple[Any, ...]) -> str:
    """One line of CSV; what a spreadsheet would run as a formula gets an apostrophe."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(map(harmless, values))

    return out.getvalue()


def _given(q: str, state: list[str], account: list[str], after: str, to: str) -> dict[str, Any]:
    known = [each for each in state if each in set(State)]

    return {"q": q.strip(), "state": known, "account": [each for each in account if each], "from": after, "to": to}


def _exact(engine: Engine, given: dict[str, Any]) -> str | None:
    """A bare word that names one refund is that refund."""
    word = given["q"]
    if not word or ":" in word or any(given[name] for name in ("state", "account", "from", "to")):
        return None
    found = find(engine, word)

    return found[0].id if len(found) == 1 else None


def _filter(engine: Engine, given: dict[str, Any]) -> Filter:
    narrowed = Filter(
        states=tuple(given["state"]),
        accounts=tuple(given["account"]),
        created_after=day(given["from"]),
        created_before=day(given["to"], 86_400.0),
    )

    return search.parse(given["q"], engine.vault, narrowed)


def day(text: str, more: float = 0.0) -> float | None:
    """The beginning of a day as a form has it, and so many seconds more; None for what is no day."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() + more if text else None
    except ValueError:
        return None


def _page(engine: Engine, wanted: Filter, limit: int, before: str | None) -> list[Refund]:
    with engine.ledger.read() as connection:
        return queries.page(connection, wanted, limit=limit, before=before)


def _horizon(engine: Engine, wanted: Filter, before: str | None) -> str | None:
    """How far back is looked for what no index leads to: an answer in time, and on from there."""
    if not wanted.is_scan:
        return None
    with engine.ledger.read() as connection:
        return queries.horizon(connection, wanted, before, LOOKED_AT)


def _set(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value}


def _address(given: dict[str, Any], **more: str) -> str:
    return f"/refunds?{urlencode({**_set(given), **more}, doseq=True)}"
