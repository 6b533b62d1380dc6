"""S11: one act on many refunds: chosen, previewed, started, followed, stopped, taken up again."""

from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response

from console.pages import go, page
from console.session import Signed, TheEngine
from domain.bulk import IN_WORDS, MOST, PACE, STOP_AT, Kind, Lot, Phase, Result
from domain.errors import Conflict, Refused
from engine import bulk, bulk_plan, people
from engine.assign import assign, meant
from engine.bootstrap import Engine
from engine.bulk_plan import Plan, Selection
from engine.ids import new_id
from engine.people import Actor
from engine.view import dead_views

router = APIRouter()

PAGE = 50
#: As many as a page of the refunds list may have.
MOST_TICKED = 100
#: Of each group a preview shows so many; the report has them all.
SHOWN = 10
PACES = (("1", "1 a second"), ("10", "10 a second"), ("50", "50 a second"))
LIMITS = (("5", "more than 5 % fail"), ("20", "more than 20 % fail"), ("100", "never by itself"))
Ids = Annotated[list[str], Query(alias="id", max_length=MOST_TICKED)]
GivenIds = Annotated[list[str], Form(alias="id", max_length=MOST_TICKED)]
_NOBODY: Ids = []


@router.get("/bulk")
def show(request: Request, engine: TheEngine, _signed: Signed, before: str | None = None) -> Response:
    found = bulk.listed(engine, limit=PAGE + 1, before=before)
    rows = found[:PAGE]

    return page(
        request,
        "bulk.html",
        live="5" if before is None else False,
        rows=rows,
        kinds=list(IN_WORDS.items()),
        older=f"/bulk?{urlencode({'before': rows[-1]['id']})}" if len(found) > PAGE else "",
    )


@router.get("/bulk/new")
def preview(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    kind: Kind,
    ids: Ids = _NOBODY,
    q: str = "",
    within: str = "",
    everything: Annotated[bool, Query(alias="all")] = False,  # noqa: FBT002 - a box of a form
    again: str = "",
) -> Response:
    """`within`: the query of a page on which refunds are ticked; it counts where all that fit are meant."""
    selection = _selection(ids, within if everything else q, again, everything=everything)
    form = {"operation": new_id("bo", engine.clock()), "reason": "", "pace": str(PACE), "stop_at": str(STOP_AT)}

    return _preview(request, engine, signed.actor, kind, selection, form)


def _selection(ids: list[str], q: str, again: str, *, everything: bool) -> Selection:
    if again:
        return Selection(again=again)
    if everything:
        return Selection(query=q)
    if ids:
        return Selection(ids=tuple(dict.fromkeys(ids)))
    if q.strip():
        return Selection(query=q)

    raise Refused("nothing-selected", "nothing was selected: tick some refunds, or all that fit")


def _preview(
    request: Request,
    engine: Engine,
    actor: Actor,
    kind: Kind,
    selection: Selection,
    form: dict[str, str],
    problem: Refused | None = None,
) -> Response:
    plan = bulk_plan.preview(engine, actor, kind, selection)
    status = 409 if isinstance(problem, Conflict) else 422 if problem else 200

    return page(
        request,
        "bulk_new.html",
        status=status,
        plan=plan,
        groups=[(lot, plan.of(lot), plan.sums(lot)) for lot in Lot],
        most=SHOWN,
        form=form,
        problem=problem,
        paces=PACES,
        limits=LIMITS,
        words=IN_WORDS[kind],
        back=_back(plan),
    )


def _back(plan: Plan) -> str:
    return f"/bulk/{plan.selection.again}" if plan.selection.again else "/dead"


@router.get("/bulk/assign")
def assign_form(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    ids: Ids = _NOBODY,
    within: str = "",
    everything: Annotated[bool, Query(alias="all")] = False,  # noqa: FBT002 - a box of a form
) -> Response:
    selection = _selection(ids, within if everything else "", "", everything=everything)
    found = meant(engine, signed.actor, selection)

    return page(
        request,
        "assign.html",
        selection=selection,
        count=len(found),
        refunds=dead_views(engine, found[:SHOWN]),
        people=[each.name for each in people.everybody(engine) if each.active],
    )


@router.post("/bulk/assign")
def assign_many(
    engine: TheEngine,
    signed: Signed,
    ids: GivenIds = _NOBODY,
    q: Annotated[str, Form()] = "",
    everything: Annotated[bool, Form(alias="all")] = False,  # noqa: FBT002 - a box of a form
    to: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    count = assign(engine, signed.actor, _selection(ids, q, "", everything=everything), to.strip() or None)

    return go("/dead", f"{count} refunds are with {to.strip() or 'nobody'} now.")


@dataclass
class StartForm:
    """What the preview's form sends; `operation` and `digest` were made with it."""

    kind: Annotated[Kind, Form()]
    operation: Annotated[str, Form()]
    digest: Annotated[str, Form()]
    ids: GivenIds = field(default_factory=list)
    q: Annotated[str, Form()] = ""
    everything: Annotated[bool, Form(alias="all")] = False
    again: Annotated[str, Form()] = ""
    confirm: Annotated[str, Form()] = ""
    reason: Annotated[str, Form()] = ""
    pace: Annotated[int, Form()] = PACE
    stop_at: Annotated[int, Form()] = STOP_AT

    @property
    def selection(self) -> Selection:
        """Which refunds are meant."""
        return _selection(self.ids, self.q, self.again, everything=self.everything)

    @property
    def count(self) -> int | None:
        """The number that was typed, if it is one."""
        typed = self.confirm.strip()

        return int(typed) if typed.isdecimal() and len(typed) < len(str(MOST)) + 1 else None


@router.post("/bulk")
def start(
    request: Request, engine: TheEngine, signed: Signed, form: Annotated[StartForm, Depends(StartForm)]
) -> Response:
    try:
        started = bulk.start(
            engine,
            signed.actor,
            form.kind,
            form.selection,
            count=form.count,
            reason=form.reason,
            digest=form.digest,
            pace=form.pace,
            stop_at=form.stop_at,
            operation_id=form.operation,
        )
    except Refused as problem:
        if problem.code not in _SHOWN_IN_FORM:
            raise
        typed = {name: str(getattr(form, name)) for name in ("operation", "reason", "pace", "stop_at")}
        return _preview(request, engine, signed.actor, form.kind, form.selection, typed, problem)

    return go(f"/bulk/{started.id}", f"{started.left} refunds are in the hands of the workers.")


#: What the person can mend on the same page, with what they typed.
_SHOWN_IN_FORM = frozenset({"changed-since", "not-confirmed", "nothing-to-do", "reason-required"})


@router.get("/bulk/{operation_id}")
def show_one(
    request: Request, engine: TheEngine, _signed: Signed, operation_id: str, result: str = "", after: int = 0
) -> Response:
    operation = bulk.get(engine, operation_id)
    wanted = Result(result) if result in set(Result) else None
    found = bulk.report(engine, operation, limit=PAGE + 1, result=wanted, after=after)
    items = found[:PAGE]
    onward = urlencode({"result": result, "after": items[-1]["no"]}) if len(found) > PAGE else ""

    return page(
        request,
        "bulk_one.html",
        live="5" if operation.state is Phase.RUNNING or operation.kind is Kind.RETRY else False,
        one=bulk.view(operation),
        words=IN_WORDS[operation.kind],
        came_back=bulk.came_back(engine, operation),
        items=items,
        result=wanted or "",
        results=[("", operation.total), *_counts(bulk.view(operation))],
        onward=f"/bulk/{operation_id}?{onward}" if onward else "",
    )


def _counts(view: dict[str, Any]) -> list[tuple[str, int]]:
    return [(result, view[result]) for result in Result if view[result]]


@router.post("/bulk/{operation_id}/stop")
def stop(engine: TheEngine, signed: Signed, operation_id: str, reason: Annotated[str, Form()] = "") -> Response:
    stopped = bulk.stop(engine, signed.actor, operation_id, reason=reason)

    return go(f"/bulk/{operation_id}", f"Stopped: {stopped.left} refunds are left as they were.")
