"""S3: one refund, everything that is known about it, and what may be done."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Form, Request, Response, UploadFile

from console import story
from console.pages import go, may, money, page
from console.screens.approvals import asked_for
from console.session import Signed, TheEngine
from domain.errors import NotFound, Refused
from domain.refund import Refund
from domain.state import FINAL, State
from domain.verdict import Advice
from domain.words import ago
from engine import people, review
from engine.assign import assign as set_assignee
from engine.bootstrap import Engine
from engine.bulk_plan import Selection
from engine.people import Verb
from engine.review import OUTCOMES
from engine.sessions import SignedIn
from engine.view import dead_view, reveal, timeline
from ledger import approvals, payments, queries, refunds
from ledger.queries import Filter

router = APIRouter()

OUTCOME_WORDS = {
    "returned": "The money went back, through the provider",
    "not_returned": "The money did not go back: the customer is unpaid",
    "returned_elsewhere": "The money went back by another way",
}
_MOST_SIBLINGS = 50


@router.get("/refunds/{refund_id}")
def show(request: Request, engine: TheEngine, signed: Signed, refund_id: str, story: str = "") -> Response:
    return _show(request, engine, signed, the_refund(engine, refund_id), kind=story)


@router.post("/refunds/{refund_id}/reveal")
def reveal_customer(request: Request, engine: TheEngine, signed: Signed, refund_id: str) -> Response:
    """The answer itself shows it, once: nothing of it has an address."""
    refund = the_refund(engine, refund_id)

    return _show(request, engine, signed, refund, personal=reveal(engine, signed.actor, refund))


@router.get("/refunds/{refund_id}/history.json")
def history(engine: TheEngine, _signed: Signed, refund_id: str) -> Response:
    refund = the_refund(engine, refund_id)
    body = {**dead_view(engine, refund), "timeline": timeline(engine, refund, raw=True)}
    headers = {"Content-Disposition": f'attachment; filename="{refund.id}.json"'}

    return Response(msgspec.json.format(msgspec.json.encode(body)), media_type="application/json", headers=headers)


@router.post("/refunds/{refund_id}/check")
def check(engine: TheEngine, signed: Signed, refund_id: str) -> Response:
    review.check(engine, signed.actor, refund_id)

    return go(f"/refunds/{refund_id}", "The provider is being asked now. The answer moves the refund by itself.")


@router.post("/refunds/{refund_id}/retry")
def retry(engine: TheEngine, signed: Signed, refund_id: str, reason: Annotated[str, Form()] = "") -> Response:
    review.retry(engine, signed.actor, refund_id, reason=reason)

    return go(f"/refunds/{refund_id}", "Accepted: it goes again, the same bytes under the same handle.")


@router.post("/refunds/{refund_id}/cancel")
def cancel(engine: TheEngine, signed: Signed, refund_id: str, reason: Annotated[str, Form()] = "") -> Response:
    review.cancel(engine, signed.actor, refund_id, reason=reason)

    return go(f"/refunds/{refund_id}", "Cancelled: nothing was sent, and nothing will be.")


@router.post("/refunds/{refund_id}/note")
def note(engine: TheEngine, signed: Signed, refund_id: str, text: Annotated[str, Form(max_length=2000)]) -> Response:
    review.comment(engine, signed.actor, refund_id, text)

    return go(f"/refunds/{refund_id}", "Noted.")


@router.post("/refunds/{refund_id}/assign")
def assign(engine: TheEngine, signed: Signed, refund_id: str, to: Annotated[str, Form(max_length=64)] = "") -> Response:
    set_assignee(engine, signed.actor, Selection(ids=(refund_id,)), to.strip() or None)

    return go(f"/refunds/{refund_id}", f"Assigned to {to.strip() or 'nobody'}.")


@router.get("/refunds/{refund_id}/settle")
def settle_form(request: Request, engine: TheEngine, _signed: Signed, refund_id: str) -> Response:
    return _ask_form(request, engine, refund_id, "settle", {})


@router.get("/refunds/{refund_id}/new-handle")
def new_handle_form(request: Request, engine: TheEngine, _signed: Signed, refund_id: str) -> Response:
    return _ask_form(request, engine, refund_id, "new-handle", {})


@router.post("/refunds/{refund_id}/settle")
def settle(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    refund_id: str,
    outcome: Annotated[str, Form()] = "",
    evidence: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
    file: UploadFile | None = None,
) -> Response:
    given = {"outcome": outcome, "evidence": evidence, "reason": reason}
    try:
        asked = review.ask_settle(
            engine, signed.actor, refund_id, outcome=outcome, reason=reason, evidence=_evidence(evidence, file)
        )
    except Refused as error:
        return _ask_again(request, engine, refund_id, "settle", given, error)

    return go(f"/approvals/{asked.approval_id}", "Asked. Another person decides now.")


@router.post("/refunds/{refund_id}/new-handle")
def new_handle(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    refund_id: str,
    evidence: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
    file: UploadFile | None = None,
) -> Response:
    given = {"evidence": evidence, "reason": reason}
    try:
        asked = review.ask_new_handle(
            engine, signed.actor, refund_id, reason=reason, evidence=_evidence(evidence, file)
        )
    except Refused as error:
        return _ask_again(request, engine, refund_id, "new-handle", given, error)

    return go(f"/approvals/{asked.approval_id}", "Asked. Another person decides now.")


def _evidence(words: str, file: UploadFile | None) -> bytes:
    """The file, below what was written about it."""
    content = file.file.read() if file is not None else b""
    if not content:
        return words.encode()

    return words.strip().encode() + b"\n\n" + content if words.strip() else content


def _ask_again(
    request: Request, engine: Engine, refund_id: str, verb: str, given: Mapping[str, str], error: Refused
) -> Response:
    """The same form with what was typed; other refusals are pages of their own."""
    if error.code not in ("reason-required", "evidence-required", "evidence-too-large", "outcome-invalid"):
        raise error

    return _ask_form(request, engine, refund_id, verb, given, error=str(error))


def _ask_form(
    request: Request, engine: Engine, refund_id: str, verb: str, given: Mapping[str, str], error: str = ""
) -> Response:
    settles = verb == "settle"
    words = (
        "The refund is closed as the evidence shows. Nothing is sent."
        if settles
        else "It is sent once more, under a new handle that the provider has never seen. Only where the evidence shows "
        "that the earlier one moved nothing."
    )

    return page(
        request,
        "settle.html",
        status=422 if error else 200,
        title="Settle by hand" if settles else "Retry under a new handle",
        verb=verb,
        words=words,
        view=dead_view(engine, the_refund(engine, refund_id)),
        outcomes=[(each, OUTCOME_WORDS[each]) for each in OUTCOMES],
        form={"outcome": "", "evidence": "", "reason": "", **given},
        error=error,
    )


def the_refund(engine: Engine, refund_id: str) -> Refund:
    """The refund of our own id. Raises NotFound."""
    with engine.ledger.read() as connection:
        found = refunds.get(connection, refund_id)
    if found is None:
        raise NotFound("not-found", f"there is no refund {refund_id!r}")

    return found


def _show(
    request: Request,
    engine: Engine,
    signed: SignedIn,
    refund: Refund,
    *,
    kind: str = "",
    personal: Mapping[str, Any] | None = None,
) -> Response:
    view = dead_view(engine, refund)
    with engine.ledger.read() as connection:
        standing = payments.standing(connection, refund.account, refund.payment_ref)
        opened = approvals.open_for(connection, refund.id)
        wanted = Filter(payment_id=refund.payment_id, accounts=(refund.account,))
        siblings = queries.page(connection, wanted, limit=_MOST_SIBLINGS) if refund.payment_id else [refund]

    return page(
        request,
        "refund.html",
        live="5" if refund.state not in FINAL and personal is None else False,
        view=view,
        sentence=_sentence(engine, refund),
        standing=standing,
        currency=(standing.currency if standing else None) or refund.currency,
        asked=asked_for(opened[0]) if opened else None,
        siblings=siblings,
        actions=list(_actions(engine, refund, signed, waits=bool(opened))),
        facts=list(_facts(view)),
        personal=list(_personal(personal or view)),
        revealed=personal is not None,
        people=[each.name for each in people.everybody(engine) if each.active],
        story=story.told(timeline(engine, refund, raw=True), kind),
        kinds=story.KINDS,
        kind=kind,
    )


_SENTENCES: dict[State, str] = {
    State.AWAITING_APPROVAL: "Nothing was sent. It waits for a second person's approval.",
    State.QUEUED: "Nothing is under way. It is sent {when}.",
    State.SENDING: "A worker has it in hand. If that worker dies, the provider is asked before anything else.",
    State.UNKNOWN: "It was sent and the answer was lost: the money may have moved. We look it up {when}. "
    "Do not refund it elsewhere.",
    State.PENDING: "{provider} has accepted it and not decided yet. We ask again {when}.",
    State.SUCCEEDED: "{provider} confirms: {amount} went back.",
    State.FAILED: "Refused for good; no money moved. The shop may submit again under a new reference.",
    State.CANCELLED: "Withdrawn before it was sent; no money moved.",
    State.REVERSED: "It had succeeded, then the provider took it back: the customer is unpaid.",
    State.REVIEW: "Automation has stopped: a person decides{ambiguous}.",
    State.SETTLED: "Closed by two people with evidence.",
}


def _sentence(engine: Engine, refund: Refund) -> str:
    """How it stands, in words."""
    wait = 0.0 if refund.due_at is None else refund.due_at - engine.clock()

    return _SENTENCES[refund.state].format(
        when=f"in {ago(wait)}" if wait > 0 else "at once",
        provider=refund.provider,
        amount=money(refund.amount, refund.currency),
        ambiguous=", with evidence, for the money may have moved" if refund.ambiguous else "",
    )


def _actions(engine: Engine, refund: Refund, signed: SignedIn, *, waits: bool) -> Iterator[dict[str, Any]]:
    """What may be done; what may not stays in sight with its reason. What counts is checked when it is done."""
    if not may(signed.actor, Verb.ACT):
        yield _action("none", "Act", why_not="it takes the role operator")
        return
    if refund.state not in FINAL or refund.state is State.REVERSED:
        yield from _open_actions(engine, refund, waits=waits)


def _open_actions(engine: Engine, refund: Refund, *, waits: bool) -> Iterator[dict[str, Any]]:
    found = review.verdict_of(engine, refund)
    advice = found.advice if found else None
    label = str(refund.state).replace("_", " ")
    pending = "a request about it waits for a second person" if waits else ""
    askable = refund.state in (State.UNKNOWN, State.PENDING, State.REVIEW)
    yield _action("check", "Check at provider", why_not="" if askable else f"not while {label}")
    if refund.state is State.REVIEW:
        unsafe = "" if advice is Advice.SAFE else f"not safe: {'; '.join(found.reasons) if found else ''}"
        yield _action(
            "retry",
            "Retry",
            words=f"The same bytes are sent under the same handle, {refund.handle}. The provider cannot take them for "
            "a second refund.",
            reason=True,
            why_not=pending or unsafe,
        )
        yield _action("new-handle", "Retry under a new handle", page=_on(refund, "new-handle"), why_not=pending)
    if refund.state in (State.REVIEW, State.REVERSED):
        yield _action("settle", "Settle by hand", page=_on(refund, "settle"), why_not=pending)
    if refund.state is not State.REVERSED:
        unsent = refund.state in (State.QUEUED, State.AWAITING_APPROVAL, State.REVIEW)
        sent = refund.ambiguous or refund.provider_refund_id is not None or not unsent
        yield _action(
            "cancel",
            "Cancel",
            words="It is withdrawn. Nothing was sent, and nothing will be.",
            reason=True,
            why_not="it may have been sent" if sent else "",
        )


def _on(refund: Refund, name: str) -> str:
    return f"/refunds/{refund.id}/{name}"


def _action(name: str, title: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "title": title, "words": "", "reason": False, "page": "", "why_not": "", **more}


def _facts(view: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    payment, failure = view["payment"], view["failure"]
    yield "Reference", view["reference"], "id"
    yield "Order", payment["order_id"], "id"
    yield "Payment", payment["id"], "id"
    yield "Account", f"{view['account']} ({view['provider']})", ""
    yield "Reason", view["reason"].replace("_", " "), ""
    yield "Description", view["description"], ""
    yield "Handle (our key)", view["handle"], "id"
    yield "Same key safe until", view["replay_until"] and _exact(view["replay_until"]), ""
    yield "Provider's refund", view["provider_refund_id"], "id"
    yield "Provider's status", view["provider_status"], ""
    yield "Reconciliation id", view["reconciliation_id"], "id"
    yield "Failure", failure and f"{failure['code']}: {failure['message'] or ''} ({failure['class']})", ""
    yield "Outcome", "certain" if view["outcome_certain"] else "not certain: money may have moved", ""
    yield "Attempts", view["attempts"], ""
    yield "Next", view["next_action_at"], "time"
    yield "Accepted", view["created_at"], "time"
    yield "Final", view["final_at"], "time"
    for name, value in view["metadata"].items():
        yield f"metadata.{name}", value, ""


def _exact(stamp: str) -> str:
    """An answered time as people read it."""
    return stamp.replace("T", " ")[:19] + " UTC"


def _personal(view: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part in ("customer", "bank_account"):
        for name, value in (view[part] or {}).items():
            if value not in (None, "", {}):
                yield name.replace("_", " "), value if isinstance(value, str) else msgspec.json.encode(value).decode()
