"""`refundry approvals`: what waits for a second person."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import typer

from cli.command import command, group
from cli.output import Row
from cli.picture import moment
from cli.session import Session
from cli.times import money, since
from domain.refund import Refund
from engine import review
from engine.people import Verb
from engine.view import difference_view, refund_view, stamp
from ledger import approvals
from ledger.approvals import Approval
from ledger.reconcile import Difference

app = group("Requests that a second person decides.")

RequestId = Annotated[str, typer.Argument(metavar="ID", help="The request, ap_…")]
KINDS = {
    "send": "send it",
    "new_handle": "send it under a new handle",
    "settle": "settle it by hand",
    "accept": "accept the difference",
}


@command(app, "list")
def list_requests(
    session: Session,
    *,
    mine: Annotated[bool, typer.Option("--mine", help="Only those that you asked for.")] = False,
) -> None:
    """List the open requests, oldest first."""
    who = session.actor(Verb.SEE)
    with session.engine.ledger.read() as connection:
        found = approvals.listed(connection, limit=1000)
    rows = (_view(each) for each in found if not mine or each.requested_by == who.name)
    session.out.rows(rows, COLUMNS, empty="nothing waits for approval")


def _view(request: Approval) -> Row:
    snapshot = msgspec.json.decode(request.snapshot)

    return {
        "id": request.id,
        "object": "approval",
        "status": request.status,
        "kind": request.kind,
        "refund_id": request.refund_id,
        "difference_id": request.difference_id,
        "amount": snapshot["amount"],
        "currency": snapshot["currency"],
        "rule": request.rule,
        "params": msgspec.json.decode(request.params),
        "reason": request.reason,
        "evidence_hash": request.evidence_hash,
        "requested_by": request.requested_by,
        "requested_at": stamp(request.requested_at),
        "expires_at": stamp(request.expires_at),
    }


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Request": lambda row: row["id"],
    "Refund": lambda row: row["refund_id"] or row["difference_id"],
    "Amount": lambda row: money(row["amount"], row["currency"]),
    "Asks to": lambda row: " ".join([KINDS[row["kind"]], *row["params"].values()]),
    "By": lambda row: row["requested_by"],
    "Because": lambda row: row["reason"],
    "Expires": lambda row: since(moment(row["expires_at"])),
}


@command(app, "approve")
def approve_request(session: Session, *, request_id: RequestId) -> None:
    """Say yes to another person's request and have it carried out."""
    who = session.actor(Verb.DECIDE)
    decided = review.approve(session.engine, who, request_id)

    _told(session, decided, f"{request_id} approved: {decided.id} is {decided.state}")


@command(app, "deny")
def deny_request(
    session: Session, *, request_id: RequestId, reason: Annotated[str, typer.Option(help="Why not; required.")]
) -> None:
    """Say no; a refund that waited for its first sending is cancelled."""
    who = session.actor(Verb.DECIDE)
    decided = review.deny(session.engine, who, request_id, reason=reason)

    _told(session, decided, f"{request_id} denied: {decided.id} is {decided.state}")


@command(app, "evidence")
def read_evidence(session: Session, *, request_id: RequestId) -> None:
    """Write the evidence that was given with a request to stdout, as it is; who looked goes on record."""
    who = session.actor(Verb.REVEAL)
    sys.stdout.flush()
    sys.stdout.buffer.write(review.evidence_of(session.engine, who, request_id))


@command(app, "withdraw")
def withdraw_request(session: Session, *, request_id: RequestId) -> None:
    """Take your own request back."""
    who = session.actor(Verb.SEE)
    decided = review.withdraw(session.engine, who, request_id)

    _told(session, decided, f"{request_id} withdrawn: {decided.id} is {decided.state}")


def _told(session: Session, decided: Refund | Difference, words: str) -> None:
    view = difference_view(decided) if isinstance(decided, Difference) else refund_view(session.engine, decided)
    session.out.one(view, lambda: [words])
