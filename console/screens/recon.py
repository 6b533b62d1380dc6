"""S7: ours against theirs: runs, settlement files, and what differs."""

import asyncio
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response, UploadFile

from console.pages import exact, go, money, page
from console.screens.refunds import day
from console.session import Signed, TheEngine
from domain.errors import Conflict, Forbidden, NotFound, Refused
from domain.reconcile import Kind, Reason, Standing, Way
from engine import differences, people, reconcile, schedule, settle
from engine.bootstrap import Engine
from engine.people import Actor, Verb, require
from engine.view import difference_view, find, run_view, side_by_side
from ledger import approvals, journal, settlement
from ledger import reconcile as ledger
from ledger.reconcile import AGES, OLDEST, READ, Difference, Run
from providers.transport import Transport

router = APIRouter()

PAGE = 50
FIRST_LINES = 10
#: So long a person waits for a provider's answer.
PATIENT = 30.0
#: How grave a kind is: its tone. Money that moved twice is red wherever it stands.
TONES: dict[Kind, str] = {
    Kind.DUPLICATE_AT_PROVIDER: "red",
    Kind.MISSING_AT_PROVIDER: "orange",
    Kind.AMOUNT_MISMATCH: "orange",
    Kind.CURRENCY_MISMATCH: "orange",
    Kind.STATE_MISMATCH: "amber",
    Kind.MISSING_HERE: "violet",
    Kind.LATE: "blue",
}
MEANINGS: dict[Kind, str] = {
    Kind.DUPLICATE_AT_PROVIDER: "The provider has a second refund of the same money: the customer may be paid twice.",
    Kind.MISSING_AT_PROVIDER: "We say that it was paid, and the provider does not show it.",
    Kind.AMOUNT_MISMATCH: "The provider has another amount than we have.",
    Kind.CURRENCY_MISMATCH: "The provider has another currency than we have.",
    Kind.STATE_MISMATCH: "The provider says that it ended in another way.",
    Kind.MISSING_HERE: "The provider has a refund, or a chargeback, that we do not know.",
    Kind.LATE: "It has been open for longer than it should be.",
}
#: Each way out: what its button says, and what it does.
WAYS: dict[Way, tuple[str, str]] = {
    Way.RECHECK: ("Re-check", "The provider is asked once more. It ends if ours and theirs agree then."),
    Way.ADOPT: (
        "Adopt theirs",
        "What the provider has shown goes to the refund as evidence; the rules decide the rest.",
    ),
    Way.LINK: ("Link to a refund", "What the provider has is a refund of ours. It must fit, and be nobody else's."),
    Way.EXTERNAL: ("Book as made elsewhere", "It is counted against its payment: that much less can be refunded."),
    Way.DUPLICATE: ("Report as paid twice", "It goes on record with the refund, and stays with you until it is back."),
    Way.ACKNOWLEDGE: ("Acknowledge", "You have seen what the ledger has made of it already."),
    Way.ACCEPT: ("Accept it", "It is closed as it is, once a second person agrees. No money moves."),
}
REASONS = [(each, each.replace("_", " ")) for each in Reason]
Words = Annotated[str, Form(max_length=500)]


# -- differences -----------------------------------------------------------------------------------------------------


@router.get("/recon")
def show(
    request: Request,
    engine: TheEngine,
    _signed: Signed,
    state: str = "open",
    kind: str = "",
    account: str = "",
    run: str = "",
    after: str = "",
) -> Response:
    given = {"state": state, "kind": kind, "account": account, "run": run}
    with engine.ledger.read() as connection:
        ages = ledger.open_ages(connection, engine.clock())
        newest = ledger.runs(connection, limit=1)
        found = ledger.differences(
            connection,
            limit=PAGE + 1,
            after=after,
            states=() if state == "all" else (state,),
            accounts=(account,) if account else (),
            kinds=(kind,) if kind else (),
            run_id=run or None,
        )
    more = (
        urlencode({**{k: v for k, v in given.items() if v}, "after": found[PAGE - 1].id}) if len(found) > PAGE else ""
    )

    return page(
        request,
        "recon.html",
        live=False if after else "5",
        given=given,
        narrowed=bool(kind or account or run or after),
        rows=[difference_view(each) for each in found[:PAGE]],
        newest=run_view(newest[0]) if newest else None,
        standings=list(Standing),
        kinds=list(Kind),
        accounts=list(engine.accounts),
        ages=_aged(ages),
        tones=TONES,
        older=f"/recon?{more}" if more else "",
    )


def _aged(counts: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    """Open differences by age, each with its count of every kind."""
    rows = []
    for age in (*(name for name, _ in AGES), OLDEST):
        kinds = {kind: counts.get((kind, age), 0) for kind in Kind}
        rows.append({"age": age, "kinds": kinds, "count": sum(kinds.values())})

    return rows


@router.get("/recon/differences/{difference_id}")
def show_one(request: Request, engine: TheEngine, _signed: Signed, difference_id: str) -> Response:
    return _show_one(request, engine, difference_id)


def _show_one(request: Request, engine: Engine, difference_id: str, error: str = "", reason: str = "") -> Response:
    found = differences.get(engine, difference_id)
    view = difference_view(found)
    with engine.ledger.read() as connection:
        history = journal.story(connection, f"difference/{found.id}")[::-1][:50]
        waits = approvals.open_for_difference(connection, found.id)
        source = ledger.get(connection, found.run_id)

    return page(
        request,
        "difference.html",
        status=422 if error else 200,
        view=view,
        meaning=MEANINGS[found.kind],
        tone=TONES[found.kind],
        shown=_cell("amount", view, found.amount) if found.currency else "",
        compared=[
            (name.replace("_", " "), _cell(name, view["ours"], left), _cell(name, view["theirs"], right), differs)
            for name, left, right, differs in side_by_side(view)
        ],
        candidates=differences.candidates(engine, found),
        ways=[(way, *WAYS[way]) for way in WAYS if way in view["resolutions"]],
        reasons=REASONS,
        source=source.source if source else "",
        waits=waits[0] if waits else None,
        people=[each.name for each in people.everybody(engine) if each.active],
        history=history,
        error=error,
        reason=reason,
    )


def _cell(name: str, side: Mapping[str, Any] | None, value: Any) -> str:
    """A member of one side as people read it."""
    if value is None:
        return ""
    if name == "amount" and value < 0:
        return "cannot be read"
    if name == "amount" and side and side["currency"]:
        return money(value, side["currency"])

    return exact(value) if name == "at" else str(value)


@router.post("/recon/differences/{difference_id}/resolve")
def resolve(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    difference_id: str,
    way: Annotated[Way, Form()],
    reason: Words = "",
    code: Annotated[str, Form()] = "",
    refund: Annotated[str, Form(max_length=255)] = "",
    other: Annotated[str, Form(max_length=255)] = "",
) -> Response:
    try:
        if way is Way.ACCEPT:
            asked = differences.ask_accept(engine, signed.actor, difference_id, code=code, reason=reason)
            return go(f"/approvals/{asked}", "Asked. Another person decides now.")
        found = _resolved(engine, signed.actor, difference_id, way, reason, other.strip() or refund)
    except (Conflict, Forbidden):
        raise
    except Refused as error:
        return _show_one(request, engine, difference_id, str(error), reason)

    return go(f"/recon/differences/{difference_id}", _told(found))


def _told(found: Difference) -> str:
    if found.state is Standing.OPEN:
        return "The provider was asked. Ours and theirs still differ, or there was no answer: it stays open."

    return f"It is {found.state}: {found.note or found.resolution}"


def _resolved(engine: Engine, actor: Actor, difference_id: str, way: Way, reason: str, refund: str) -> Difference:
    match way:
        case Way.RECHECK:
            return asyncio.run(_recheck(engine, actor, difference_id))
        case Way.LINK:
            return differences.link(engine, actor, difference_id, named(engine, refund), reason=reason)
        case Way.ADOPT:
            return differences.adopt(engine, actor, difference_id, reason=reason)
        case Way.EXTERNAL:
            return differences.book(engine, actor, difference_id, reason=reason)
        case Way.DUPLICATE:
            return differences.report_duplicate(engine, actor, difference_id, reason=reason)
        case _:
            return differences.acknowledge(engine, actor, difference_id, reason=reason)


async def _recheck(engine: Engine, actor: Actor, difference_id: str) -> Difference:
    account = engine.account(differences.get(engine, difference_id).account)
    network = Transport(connect_timeout=account.connect_timeout, read_timeout=min(account.read_timeout, PATIENT))
    try:
        async with asyncio.timeout(PATIENT):
            return await reconcile.recheck(engine, actor, difference_id, network)
    except TimeoutError:
        raise Refused("no-answer", f"the provider did not answer within {PATIENT:g} s; nothing was changed") from None
    finally:
        await network.close()


def named(engine: Engine, word: str) -> str:
    """The id of the one refund that a word names. Raises NotFound, Refused."""
    found = find(engine, word) if word else []
    exactly = [each for each in found if each.id == word] or found
    if not exactly:
        raise NotFound("not-found", f"there is no refund {word!r}" if word else "say which refund it is")
    if len(exactly) > 1:
        raise Refused("several-refunds", f"{word!r} names {len(exactly)} refunds: take the id of one")

    return exactly[0].id


@router.post("/recon/differences/{difference_id}/assign")
def assign(
    engine: TheEngine, signed: Signed, difference_id: str, to: Annotated[str, Form(max_length=64)] = ""
) -> Response:
    differences.assign(engine, signed.actor, difference_id, to.strip() or None)

    return go(f"/recon/differences/{difference_id}", f"Assigned to {to.strip() or 'nobody'}.")


# -- runs and files --------------------------------------------------------------------------------------------------


@router.get("/recon/runs")
def show_runs(
    request: Request, engine: TheEngine, _signed: Signed, account: str = "", before: str | None = None
) -> Response:
    return _show_runs(request, engine, account, before)


def _show_runs(
    request: Request, engine: Engine, account: str = "", before: str | None = None, error: str = ""
) -> Response:
    wanted = (account,) if account else ()
    with engine.ledger.read() as connection:
        found = ledger.runs(connection, limit=PAGE + 1, before=before, accounts=wanted)
    onward = urlencode({"account": account, "before": found[PAGE - 1].id}) if len(found) > PAGE else ""

    return page(
        request,
        "runs.html",
        status=422 if error else 200,
        live="5" if before is None and not error else False,
        account=account,
        accounts=list(engine.accounts),
        rows=[(run_view(each), outcome(each)) for each in found[:PAGE]],
        older=f"/recon/runs?{onward}" if onward else "",
        error=error,
    )


def outcome(run: Run) -> tuple[str, str]:
    """How a run ended: a tone and words. Only what was compared whole, and agrees, is green."""
    if run.state == "running":
        return ("violet", "read: waits for your decision") if run.phase == READ else ("blue", f"going on: {run.phase}")
    if run.state == "partial":
        return "amber", "not whole: " + ", ".join(_lacking(run))
    if run.differing:
        return "orange", f"{run.differing} differ"

    return ("green", f"{run.compared} compared, all equal") if run.compared else ("grey", "nothing to compare")


def _lacking(run: Run) -> Iterable[str]:
    if run.bad:
        yield f"{run.bad} lines could not be read"
    if run.unanswered:
        yield f"{run.unanswered} questions got no answer"
    if run.phase == READ:
        yield "put aside, and not compared"


@router.post("/recon/runs")
def run_now(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    account: Annotated[str, Form()],
    start: Annotated[str, Form(alias="from")] = "",
    end: Annotated[str, Form(alias="to")] = "",
) -> Response:
    require(signed.actor, Verb.ACT)
    try:
        started = schedule.run_now(engine, signed.actor, account, **_window(start, end))
    except Refused as error:
        return _show_runs(request, engine, error=str(error))
    engine.ring("reconcile", account)

    return go("/recon/runs", f"{len(started)} runs of {account} are going on. They go on if this page is closed.")


def _window(start: str, end: str) -> dict[str, float | None]:
    """Days as they were typed, the last one included."""
    return {"window_from": day(start), "window_to": day(end, 86_400.0)}


@router.post("/recon/files")
def upload(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    account: Annotated[str, Form()],
    file: UploadFile,
) -> Response:
    require(signed.actor, Verb.ACT)
    content = file.file.read()
    if not content:
        return _show_runs(request, engine, error="choose a file that is not empty")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _plain(file.filename or "")
        path.write_bytes(content)
        try:
            run = settle.read(engine, signed.actor, account, path)
        except Refused as error:
            return _show_runs(request, engine, error=str(error))

    return go(f"/recon/runs/{run.id}")


def _plain(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^\w. -]", "_", name, flags=re.ASCII).lstrip(". ")[-120:] or "file"


@router.get("/recon/runs/{run_id}")
def show_run(request: Request, engine: TheEngine, _signed: Signed, run_id: str) -> Response:
    with engine.ledger.read() as connection:
        run = ledger.get(connection, run_id)
        if run is None:
            raise NotFound("not-found", f"there is no run {run_id!r}")
        file = ledger.file_of_run(connection, run_id)
        bad = ledger.bad_lines(connection, run_id)
        totals = settlement.totals(connection, run_id) if file is not None else []
        lines = settlement.first_lines(connection, run_id, FIRST_LINES) if run.phase == READ else []
    account = engine.accounts.get(run.account)

    return page(
        request,
        "run.html",
        live="5" if run.state == "running" and run.phase != READ else False,
        view=run_view(run),
        outcome=outcome(run),
        waits=run.phase == READ and run.state == "running",
        columns=list(account.notation.columns.items()) if account else [],
        file=file,
        bad=bad,
        totals=totals,
        lines=lines,
    )


@router.post("/recon/runs/{run_id}/compare")
def compare(
    engine: TheEngine,
    signed: Signed,
    run_id: str,
    start: Annotated[str, Form(alias="from")] = "",
    end: Annotated[str, Form(alias="to")] = "",
) -> Response:
    settle.confirm(engine, signed.actor, run_id, **_window(start, end))

    return go(f"/recon/runs/{run_id}", "It is being compared now, by a worker.")


@router.post("/recon/runs/{run_id}/put-aside")
def put_aside(engine: TheEngine, signed: Signed, run_id: str) -> Response:
    settle.put_aside(engine, signed.actor, run_id)

    return go(f"/recon/runs/{run_id}", "Put aside: none of its lines counts.")
