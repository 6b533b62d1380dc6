"""`refundry refunds`: found, shown, created, checked, cancelled."""

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from cli import picture
from cli.command import command, group
from cli.errors import Status, Unusable
from cli.output import Row, make_console
from cli.session import Session
from cli.times import duration, money, since
from domain.errors import InvalidMoney, NotFound
from domain.money import exponent, to_minor
from domain.refund import Refund
from domain.state import State
from engine import review, saved, search
from engine import view as views
from engine.assign import assign
from engine.bulk_plan import Selection
from engine.ids import new_id
from engine.people import Actor, Verb
from engine.submit import Receipt, submit_by
from engine.view import dead_view, find, refund_view
from ledger import queries
from ledger.queries import Filter

app = group("Find, show and create refunds; act on one.")
PAGE = 500

RefundId = Annotated[
    str, typer.Argument(metavar="ID", help="Ours, the reference, order, payment, handle or provider's.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the refund's story.")]


@command(app, "list")
def list_refunds(
    session: Session,
    *,
    query: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QUERY]", help="An id or e-mail address, or parts like order:123 state:review email:a@b.c"
        ),
    ] = None,
    state: Annotated[list[State] | None, typer.Option(help="Only in this state; may be repeated.")] = None,
    account: Annotated[list[str] | None, typer.Option(help="Only of this account; may be repeated.")] = None,
    since: Annotated[str | None, typer.Option(metavar="24h", help="Only accepted within this time.")] = None,
    view: Annotated[
        str | None, typer.Option(metavar="NAME", help="The words of a saved view before those of QUERY.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 for all.")] = 50,
    cursor: Annotated[
        str | None, typer.Option(help="Go on after this refund (the last one of the page before).")
    ] = None,
) -> None:
    """List refunds, newest first."""
    who = session.actor(Verb.SEE)
    kept = [saved.named(session.engine, who, view).query] if view else []
    narrowed = Filter(
        states=tuple(state or ()),
        accounts=tuple(account or ()),
        created_after=None if since is None else time.time() - duration(since),
    )
    wanted = search.parse(" ".join((*kept, *(query or ()))), session.engine.vault, narrowed)
    last: list[Refund] = []
    found = _views(session, wanted, limit, cursor, last)
    count = session.out.rows(found, COLUMNS, empty="no refund fits", csv_like=picture.EMPTY_VIEW)
    if session.out.for_people and limit and count == limit:
        make_console(stderr=True).print(f"there may be more: --cursor {last[-1].id}", highlight=False)


def _views(session: Session, wanted: Filter, limit: int, cursor: str | None, last: list[Refund]) -> Iterator[Row]:
    left = limit or None
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        with session.engine.ledger.read() as connection:
            found = queries.page(connection, wanted, limit=size, before=cursor)
        for each in found:
            yield {**refund_view(session.engine, each)}
        if found:
            last[:] = found[-1:]
        if len(found) < size:
            return
        cursor = found[-1].id
        left = None if left is None else left - len(found)


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Refund": lambda row: row["id"],
    "Reference": lambda row: row["reference"],
    "Account": lambda row: row["account"],
    "Amount": lambda row: money(row["amount"], row["currency"]),
    "State": lambda row: row["state"],
    "Tries": lambda row: row["attempts"],
    "Age": lambda row: since(picture.moment(row["created_at"])),
    "Next": lambda row: since(picture.moment(row["next_action_at"])),
}


@command(app, "show")
def show_refund(
    session: Session,
    *,
    refund_id: RefundId,
    timeline: Annotated[bool, typer.Option("--timeline", help="Everything that happened, in order.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The provider's answers too, redacted.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Customer and bank data in full; goes on record.")] = False,
) -> None:
    """Show a refund; where an id names several, list them."""
    who = session.actor(Verb.SEE)
    found = find(session.engine, refund_id)
    if not found:
        raise NotFound("not-found", f"there is no refund {refund_id!r}")
    if len(found) > 1:
        listed = (refund_view(session.engine, each) for each in found)
        session.out.rows(listed, COLUMNS, empty="", csv_like=picture.EMPTY_VIEW)
        return
    view = refund_view(session.engine, found[0])
    if reveal:
        view |= views.reveal(session.engine, who, found[0])
    if timeline or raw:
        view["timeline"] = views.timeline(session.engine, found[0], raw=raw)
    session.out.one(view, lambda: picture.refund({**dead_view(session.engine, found[0]), **view}))


@command(app, "create")
def create_refund(
    session: Session,
    *,
    account: Annotated[str, typer.Option(help="The account that pays it back.")],
    currency: Annotated[str | None, typer.Option(help="ISO 4217, such as EUR; required with --amount.")] = None,
    payment: Annotated[str | None, typer.Option(help="The provider's id of the payment.")] = None,
    order: Annotated[str | None, typer.Option(help="The order, where the provider finds the payment by it.")] = None,
    amount: Annotated[str | None, typer.Option(help="As 12.50; left out: everything not yet refunded.")] = None,
    reason: Annotated[
        str, typer.Option(help="requested_by_customer, duplicate, fraudulent or other.")
    ] = "requested_by_customer",
    description: Annotated[str | None, typer.Option(help="A sentence for the provider and the customer.")] = None,
    reference: Annotated[str | None, typer.Option(help="Your own id of this refund; made where left out.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it only; nothing is accepted.")] = False,
) -> int | None:
    """Create a refund. The same --reference again is the same refund, never a second one."""
    who = session.actor(Verb.CREATE)
    if payment is None and order is None:
        raise typer.BadParameter("say which payment: --payment or --order")
    job = {
        "reference": reference or new_id("cli", time.time()),
        "account": account,
        "payment": {"id": payment, "order_id": order},
        "amount": None if amount is None else _minor(amount, currency),
        "currency": currency,
        "reason": reason,
        "description": description,
    }
    receipt = submit_by(session.engine, who, [job], via="cli", dry_run=dry_run)[0]
    if receipt.problem is not None:
        raise receipt.problem

    return _accepted(session, receipt, dry_run=dry_run)


def _minor(amount: str, currency: str | None) -> int:
    if currency is None:
        raise typer.BadParameter("--amount needs --currency")
    try:
        exponent(currency)
        return to_minor(amount, currency)
    except InvalidMoney as error:
        raise typer.BadParameter(str(error)) from None


def _accepted(session: Session, receipt: Receipt, *, dry_run: bool) -> int | None:
    refund = receipt.refund
    assert refund is not None
    for warning in receipt.warnings:
        make_console(stderr=True).print(f"note: {warning}", highlight=False)
    view = refund_view(session.engine, refund)
    what = f"{money(refund.amount, refund.currency)} of {refund.account}, reference {refund.reference}"
    waits = refund.state is State.AWAITING_APPROVAL and not receipt.replayed
    words = f"{refund.id} accepted: {what}" + ("; it waits for a second person's approval" if waits else "")
    if receipt.replayed:
        words = f"{refund.id} was accepted before: {what}, now {refund.state}"
    if dry_run:
        words = f"would be accepted: {what}"
    session.out.one(view, lambda: [words])

    return Status.WAITS if waits and not dry_run else None


@command(app, "check")
def check_refund(session: Session, *, refund_id: RefundId) -> None:
    """Have the provider asked now; the answer moves the refund by itself."""
    _act(session, refund_id, lambda who, each: review.check(session.engine, who, each), "is being asked about")


@command(app, "retry")
def retry_refund(session: Session, *, refund_id: RefundId, reason: Reason = "") -> None:
    """Send it again with the same handle and the same bytes, where the verdict calls that safe."""
    _act(session, refund_id, lambda who, each: review.retry(session.engine, who, each, reason=reason), "goes again")


@command(app, "cancel")
def cancel_refund(session: Session, *, refund_id: RefundId, reason: Reason = "") -> None:
    """Withdraw a refund that was certainly never sent."""
    _act(session, refund_id, lambda who, each: review.cancel(session.engine, who, each, reason=reason), "cancelled")


@command(app, "note")
def note_refund(
    session: Session,
    *,
    refund_id: RefundId,
    text: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]", help="What to remember.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="The same, as an option.")] = "",
) -> None:
    """Leave a note in a refund's story."""
    words = " ".join(text or ()) or reason
    if not words.strip():
        raise typer.BadParameter("a note needs words")
    _act(session, refund_id, lambda who, each: review.comment(session.engine, who, each, words), "noted")


@command(app, "assign")
def assign_refund(
    session: Session,
    *,
    refund_id: RefundId,
    to: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Who looks after it; nobody where left out.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; left as a note.")] = "",
) -> None:
    """Say who looks after a refund."""

    def work(who: Actor, each: str) -> None:
        assign(session.engine, who, Selection(ids=(each,)), to)
        if reason.strip():
            review.comment(session.engine, who, each, reason)

    _act(session, refund_id, work, f"assigned to {to or 'nobody'}")


def _act(session: Session, word: str, work: Callable[[Actor, str], object], done: str) -> None:
    """Do something about the one refund that `word` names, and show how it stands."""
    who = session.actor(Verb.ACT)
    refund = the_refund(session, word)
    work(who, refund.id)
    after = the_refund(session, refund.id)
    session.out.one(refund_view(session.engine, after), lambda: [f"{after.id} {done} ({after.state})"])


def the_refund(session: Session, word: str) -> Refund:
    """The one refund of that id. Raises NotFound; Unusable where there are several."""
    found = find(session.engine, word)
    if not found:
        raise NotFound("not-found", f"there is no refund {word!r}")
    exact = [each for each in found if each.id == word] or found
    if len(exact) > 1:
        named = ", ".join(each.id for each in exact[:5])
        raise Unusable(f"{word!r} names {len(exact)} refunds; take one of {named}")

    return exact[0]
