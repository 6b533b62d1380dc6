"""S6: what waits for a second person."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Form, Request, Response

from console.pages import go, money, page
from console.session import Signed, TheEngine
from domain.errors import Refused
from engine import people, review
from engine.bootstrap import Engine
from engine.people import Actor, Role
from ledger import approvals
from ledger.approvals import Approval

router = APIRouter()

TABS = (("", "For me"), ("mine", "Asked by me"), ("all", "All open"), ("decided", "Decided"))
ASKS = {
    "send": "send it",
    "new_handle": "send it under a new handle",
    "settle": "settle it by hand",
    "accept": "accept the difference",
}
_CARRIED_OUT = {
    "send": "It is sent within seconds and cannot be recalled then.",
    "new_handle": "It is sent once more, under a new handle. If the earlier one did move money, that pays twice.",
    "settle": "It is closed as the evidence says. Nothing is sent.",
    "accept": "The difference is closed. No money moves, and no refund changes.",
}
_MOST = 500


@router.get("/approvals")
def show(request: Request, engine: TheEngine, signed: Signed, tab: str = "") -> Response:
    with engine.ledger.read() as connection:
        if tab == "decided":
            found = approvals.decided(connection, limit=_MOST)
        else:
            found = approvals.listed(connection, limit=_MOST)
    rows = [asked_for(each) for each in found if _belongs(each.requested_by, tab, signed.actor)]

    return page(
        request,
        "approvals.html",
        live="5",
        tab=tab,
        tabs=TABS,
        rows=rows,
        alone=not _somebody_else(engine, signed.actor),
    )


def _belongs(asked_by: str, tab: str, actor: Actor) -> bool:
    if tab == "mine":
        return asked_by == actor.name

    return bool(tab) or asked_by != actor.name


def _somebody_else(engine: Engine, actor: Actor) -> bool:
    everybody = people.everybody(engine)

    return any(Role.APPROVER in each.roles and each.active and each.name != actor.name for each in everybody)


@router.get("/approvals/{approval_id}")
def show_one(request: Request, engine: TheEngine, _signed: Signed, approval_id: str) -> Response:
    return _show_one(request, engine, approval_id)


def _show_one(request: Request, engine: Engine, approval_id: str) -> Response:
    found, stands = review.look_at(engine, approval_id)
    seen, today = msgspec.json.decode(found.snapshot), msgspec.json.decode(stands)

    return page(
        request,
        "approval.html",
        asked=asked_for(found),
        compared=list(_compared(seen, today)),
        changed=seen != today,
        approve_words=_CARRIED_OUT[found.kind],
        typed=money(seen["amount"], seen["currency"]),
    )


def asked_for(request: Approval) -> dict[str, Any]:
    """A request as pages show it."""
    asks = " as ".join([ASKS[request.kind], *msgspec.json.decode(request.params).values()]).replace("_", " ")
    names = (
        *(
            "id",
            "refund_id",
            "difference_id",
            "kind",
            "rule",
            "reason",
            "evidence_hash",
            "requested_by",
            "requested_at",
            "expires_at",
        ),
        *("status", "decided_by", "decided_at", "decision_reason"),
    )

    return {
        **{name: getattr(request, name) for name in names},
        "asks": asks,
        "seen": msgspec.json.decode(request.snapshot),
    }


def _compared(seen: Mapping[str, Any], today: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in seen:
        if name in ("amount", "currency"):
            continue
        yield name.replace("_", " "), _plain(seen[name]), _plain(today.get(name))
    yield "amount", money(seen["amount"], seen["currency"]), money(today["amount"], today["currency"])


def _plain(value: Any) -> str:
    if value is None:
        return "none"

    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


@router.get("/approvals/{approval_id}/evidence")
def evidence(engine: TheEngine, signed: Signed, approval_id: str) -> Response:
    """Always a file to keep, never a page to run."""
    content = review.evidence_of(engine, signed.actor, approval_id)
    headers = {"Content-Disposition": f'attachment; filename="{approval_id}.evidence"'}

    return Response(content, media_type="application/octet-stream", headers=headers)


@router.post("/approvals/{approval_id}/approve")
def approve(engine: TheEngine, signed: Signed, approval_id: str, confirm: Annotated[str, Form()] = "") -> Response:
    found, _ = review.look_at(engine, approval_id)
    seen = msgspec.json.decode(found.snapshot)
    typed = money(seen["amount"], seen["currency"])
    if confirm.strip().upper() != typed.upper():
        raise Refused("not-confirmed", f"type {typed} exactly to approve")
    review.approve(engine, signed.actor, approval_id)

    about = f"/refunds/{found.refund_id}" if found.refund_id else f"/recon/differences/{found.difference_id}"

    return go(about, "Approved and carried out.")


@router.post("/approvals/{approval_id}/deny")
def deny(engine: TheEngine, signed: Signed, approval_id: str, reason: Annotated[str, Form()] = "") -> Response:
    review.deny(engine, signed.actor, approval_id, reason=reason)

    return go(f"/approvals/{approval_id}", "Denied.")


@router.post("/approvals/{approval_id}/withdraw")
def withdraw(engine: TheEngine, signed: Signed, approval_id: str) -> Response:
    review.withdraw(engine, signed.actor, approval_id)

    return go(f"/approvals/{approval_id}", "Withdrawn.")
