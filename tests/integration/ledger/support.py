"""Refunds, candidates and steps for the tests of the ledger."""

import itertools
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, select, text

from domain.decision import Cause
from domain.refund import Refund, moved
from domain.state import State
from ledger import intake, refunds
from ledger.intake import Admission, Candidate
from ledger.payments import Standing, standing
from ledger.refunds import Change
from ledger.session import Ledger

NOW = 1_700_000_000.0
LEASE = 60.0
ACCOUNT = "shop"
PAYMENT = "pay-1"
NO_HASHES = {"email_hash": None, "name_hash": None, "last_name_hash": None, "customer_hash": None}

_numbers = itertools.count(1)


def a_refund(**changes: Any) -> Refund:
    """A resolved refund of 100 EUR cents, queued at NOW. Its id sorts by the order of making."""
    number = next(_numbers)
    values: dict[str, Any] = {
        "id": f"rf_{number:026d}",
        "account": ACCOUNT,
        "provider": "smartpay",
        "reference": f"R-{number}",
        "payment_ref": PAYMENT,
        "payment_id": PAYMENT,
        "order_id": None,
        "state": State.QUEUED,
        "amount": 100,
        "currency": "EUR",
        "resolved": True,
        "whole": False,
        "holds": False,
        "handle": f"handle-{number}",
        "handle_no": 1,
        "job": "{}",
        "personal": None,
        "due_at": NOW,
        "leased_by": None,
        "fence": 0,
        "lost_leases": 0,
        "version": 1,
        "chain": "",
        "attempts": 0,
        "uncounted": 0,
        "replays": 0,
        "checks": 0,
        "polls": 0,
        "ambiguous": False,
        "absent": False,
        "last_send_end": 0.0,
        "replay_until": None,
        "since": NOW,
        "provider_refund_id": None,
        "provider_status": None,
        "reconciliation_id": None,
        "failure_code": None,
        "failure_class": None,
        "failure_message": None,
        "cause": None,
        "note": None,
        "settlement": None,
        "assignee": None,
        "traceparent": None,
        "created_at": NOW,
        "updated_at": NOW,
        "final_at": None,
    }

    return Refund(**{**values, **changes})


def a_candidate(
    refund: Refund | None = None,
    *,
    captured: int | None = 1000,
    currency: str | None = "EUR",
    content: str | None = None,
    expect: int | None = None,
    **changes: Any,
) -> Candidate:
    """A job on its way in; the payment's captured amount is 1000 unless told."""
    made = refund or a_refund(**changes)

    return Candidate(
        refund=made,
        content_hash=content or f"content of {made.reference}",
        captured=captured,
        payment_currency=currency,
        expect_refundable=expect,
        hashes=NO_HASHES,
        actor="tester",
        via="test",
    )


def accept(ledger: Ledger, *candidates: Candidate) -> list[Admission]:
    """Admit them in one transaction."""
    return ledger.run(lambda connection: intake.accept(connection, candidates))


def accepted(ledger: Ledger, **changes: Any) -> Refund:
    """One refund in the ledger."""
    captured = changes.pop("captured", 1000)
    (admission,) = accept(ledger, a_candidate(captured=captured, **changes))
    assert admission.refund is not None, admission

    return reload(ledger, admission.refund)


def reload(ledger: Ledger, refund: Refund | str) -> Refund:
    """The refund as the ledger has it."""
    refund_id = refund if isinstance(refund, str) else refund.id
    with ledger.read() as connection:
        found = refunds.get(connection, refund_id)
    assert found is not None

    return found


def claim(
    ledger: Ledger,
    lane: str = "send",
    *,
    now: float = NOW,
    limit: int = 100,
    worker: str = "w1",
    alone: bool = False,
    urgent: bool = False,
    account: str = ACCOUNT,
) -> list[Refund]:
    """Claim with a lease of a minute."""

    def work(connection: Connection) -> list[Refund]:
        return refunds.claim(
            connection,
            lane,
            account,
            limit=limit,
            now=now,
            until=now + LEASE,
            worker=worker,
            alone=alone,
            urgent=urgent,
        )

    return ledger.run(work)


def step(refund: Refund, state: State, *, at: float = NOW, fenced: bool = True, **changes: Any) -> Change:
    """The change that brings a refund into `state`, as the pump would make it."""
    defaults: dict[str, Any] = {"due_at": None}
    if state is State.SENDING:
        defaults = {"due_at": at + LEASE, "leased_by": refund.leased_by, "attempts": refund.attempts + 1}
    if state in (State.UNKNOWN, State.PENDING, State.QUEUED):
        defaults = {"due_at": at}
    if state is State.UNKNOWN:
        defaults["ambiguous"] = True
    if state is State.REVIEW:
        defaults["cause"] = Cause.CANNOT_REPEAT
    after = moved(refund, state, at, **{**defaults, **changes})

    return Change(before=refund, after=after, type=f"refund.{state}", actor="w1", fenced=fenced)


def apply(ledger: Ledger, *changes: Change) -> set[str]:
    """Carry them out in one transaction; the ids that won."""
    return {stands.id for stands in results(ledger, *changes) if stands is not None}


def results(ledger: Ledger, *changes: Change) -> list[Refund | None]:
    """Carry them out in one transaction; how each refund stands."""
    return ledger.run(lambda connection: refunds.apply(connection, changes))


def walk(ledger: Ledger, refund: Refund, *states: State, **changes: Any) -> Refund:
    """The refund after each of these states; `changes` go with the last."""
    for state in states:
        extra = changes if state is states[-1] else {}
        assert apply(ledger, step(refund, state, fenced=False, **extra)) == {refund.id}
        refund = reload(ledger, refund)

    return refund


def money(ledger: Ledger, ref: str = PAYMENT, account: str = ACCOUNT) -> Standing:
    """A payment as the ledger has it."""
    with ledger.read() as connection:
        found = standing(connection, account, ref)
    assert found is not None

    return found


def every(ledger: Ledger, table: Any, *order: Any) -> Sequence[Any]:
    """All rows of a table."""
    with ledger.read() as connection:
        return connection.execute(select(table).order_by(*order)).all()


def sql(ledger: Ledger, statement: str, **parameters: Any) -> None:
    """What somebody does behind the ledger's back."""
    with ledger.write() as connection:
        connection.execute(text(statement), parameters)


def renamed(refund: Refund, **changes: Any) -> Refund:
    """The same refund with other values."""
    return replace(refund, **changes)
