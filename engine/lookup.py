"""What a machine sees of the ledger: the refunds and payments of its own accounts, and nothing else."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from domain.errors import Conflict, NotFound
from domain.refund import Refund
from domain.state import State
from engine import review
from engine.bootstrap import Engine
from engine.keys import Machine
from engine.view import stamp
from ledger import journal, payments, queries, refunds
from ledger.queries import Filter

_ID = re.compile(r"rf_[a-z0-9]{1,29}", re.ASCII)
#: What an event tells a shop; who did it, and why, is for the people here.
_PUBLIC = ("from", "to", "via", "amount", "currency", "cause")


def one(engine: Engine, machine: Machine, refund_id: str) -> Refund:
    """A refund of the machine's accounts. Raises NotFound, for another's refund too."""
    found = None
    if _ID.fullmatch(refund_id):
        with engine.ledger.read() as connection:
            found = refunds.get(connection, refund_id)
    if found is None or not machine.sees(found.account):
        raise NotFound("not-found", "there is no such refund")

    return found


def page(
    engine: Engine,
    machine: Machine,
    *,
    accounts: Sequence[str] = (),
    limit: int,
    before: str | None = None,
    **filters: Any,
) -> tuple[list[Refund], bool]:
    """Refunds of the machine's accounts, newest first, and whether there are more. `filters`: those of the ledger."""
    seen = [each for each in accounts if machine.sees(each)] if accounts else sorted(machine.accounts or ())
    if not seen and (accounts or machine.accounts is not None):
        return [], False
    wanted = Filter(accounts=tuple(seen), **filters)
    with engine.ledger.read() as connection:
        found = queries.page(connection, wanted, limit=limit + 1, before=before)

    return found[:limit], len(found) > limit


def events(engine: Engine, machine: Machine, refund_id: str) -> list[dict[str, Any]]:
    """A refund's story in order, without names, reasons and what providers said. Raises NotFound."""
    refund = one(engine, machine, refund_id)
    with engine.ledger.read() as connection:
        story = journal.story(connection, refund.id)

    return [
        {
            "object": "event",
            "seq": each["seq"],
            "type": each["type"],
            "at": stamp(each["at"]),
            "data": {name: each["data"][name] for name in _PUBLIC if name in each["data"]},
        }
        for each in story
    ]


def refundable(engine: Engine, machine: Machine, account: str, payment_id: str) -> dict[str, Any]:
    """What may still be refunded of a payment, as far as the ledger knows. Raises NotFound."""
    found = None
    if machine.sees(account) and "\x00" not in account + payment_id:
        with engine.ledger.read() as connection:
            found = payments.standing(connection, account, payment_id)
    if found is None:
        raise NotFound("not-found", "no refund job has named such a payment")

    return {
        "object": "refundable",
        "account": account,
        "payment_id": payment_id,
        "currency": found.currency,
        "captured": found.captured,
        "refunded": found.refunded,
        "in_flight": found.reserved,
        "refundable": found.refundable,
        "over_refunded": found.over_refunded,
    }


def withdraw(engine: Engine, machine: Machine, refund_id: str, *, reason: str) -> Refund:
    """Cancel a refund that was certainly never sent; one that is cancelled stays so. Raises NotFound, Conflict."""
    found = one(engine, machine, refund_id)
    if found.state is State.CANCELLED:
        return found
    try:
        return review.cancel(engine, machine.actor, refund_id, reason=reason)
    except Conflict:
        found = one(engine, machine, refund_id)
        if found.state is State.CANCELLED:  # by somebody else, at the same moment
            return found
        raise


def as_accepted(engine: Engine, found: Sequence[Refund]) -> list[Refund | Exception]:
    """Refunds as they stood when they were accepted, whatever has become of them: the first answer, once more.

    What one of them cannot be told for stands in its place: accepted it is.
    """
    renewed = [each.id for each in found if each.handle_no > 1]
    try:
        with engine.ledger.read() as connection:
            firsts = journal.firsts(connection, [each.id for each in found])
            handles = queries.first_handles(connection, renewed)
    except Exception as error:  # noqa: BLE001 - it becomes an answer
        return [error] * len(found)

    return [_or_why_not(each, firsts, handles) for each in found]


def _or_why_not(refund: Refund, firsts: Mapping[str, dict[str, Any]], handles: Mapping[str, str]) -> Refund | Exception:
    try:
        return _as_accepted(refund, firsts[refund.id], handles.get(refund.id, refund.handle))
    except Exception as error:  # noqa: BLE001 - it becomes an answer
        return error


def _as_accepted(refund: Refund, first: dict[str, Any], handle: str) -> Refund:
    job = msgspec.json.decode(refund.job)
    state = State(first["to"])
    start = max(refund.created_at, review.not_before(job) or refund.created_at)

    return replace(
        refund,
        state=state,
        amount=first["amount"],
        currency=first["currency"],
        payment_id=job["payment"].get("id"),
        handle=handle,
        due_at=None if state is State.AWAITING_APPROVAL else start,
        attempts=0,
        ambiguous=False,
        provider_refund_id=None,
        provider_status=None,
        reconciliation_id=None,
        failure_code=None,
        failure_class=None,
        failure_message=None,
        cause=None,
        updated_at=refund.created_at,
        final_at=None,
        version=1,
    )
