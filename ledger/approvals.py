"""Requests that a second person decides. The database itself refuses that requester and approver are one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from domain.refund import Refund
from ledger.models import approval

SEND = "send"
NEW_HANDLE = "new_handle"
SETTLE = "settle"
ACCEPT = "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One request with the snapshot of what was asked about: a refund, or a difference of reconciliation."""

    id: str
    refund_id: str | None
    kind: str
    rule: str
    params: str
    snapshot: str
    evidence_hash: str | None
    reason: str
    requested_by: str
    requested_at: float
    expires_at: float
    status: str
    decided_by: str | None
    decided_at: float | None
    decision_reason: str | None
    difference_id: str | None


_COLUMNS = tuple(approval.c[spec.name] for spec in fields(Approval))


def snapshot(refund: Refund) -> str:
    """What the requester saw of the refund: all that the decision is about, and no more. A note changes nothing."""
    return msgspec.json.encode(
        {
            "state": refund.state,
            "amount": refund.amount,
            "currency": refund.currency,
            "handle": refund.handle,
            "attempts": refund.attempts,
            "ambiguous": refund.ambiguous,
            "cause": refund.cause,
            "provider_refund_id": refund.provider_refund_id,
            "provider_status": refund.provider_status,
        }
    ).decode()


def stands_as(request: Approval, refund: Refund) -> bool:
    """Whether the refund still stands as it was asked about."""
    return request.snapshot == snapshot(refund)


def ask(  # noqa: PLR0913 - all that a request has
    connection: Connection,
    *,
    snapshot: str,
    approval_id: str,
    kind: str,
    rule: str,
    params: Mapping[str, Any],
    reason: str,
    actor: str,
    now: float,
    expires: float,
    refund_id: str | None = None,
    difference_id: str | None = None,
    evidence: bytes | None = None,
    evidence_hash: str | None = None,
) -> None:
    """Open a request about a refund or a difference; each has at most one (a unique index sees to it)."""
    connection.execute(
        insert(approval).values(
            id=approval_id,
            refund_id=refund_id,
            difference_id=difference_id,
            kind=kind,
            rule=rule,
            params=msgspec.json.encode(params).decode(),
            snapshot=snapshot,
            evidence=evidence,
            evidence_hash=evidence_hash,
            reason=reason,
            requested_by=actor,
            requested_at=now,
            expires_at=now + expires,
        )
    )


def ask_to_send(
    connection: Connection, refund: Refund, *, approval_id: str, actor: str, now: float, expires: float
) -> None:
    """The request that a large refund waits for before its first sending."""
    ask(
        connection,
        refund_id=refund.id,
        snapshot=snapshot(refund),
        approval_id=approval_id,
        kind=SEND,
        rule="amount at or above the threshold",
        params={},
        reason="needs a second person before it is sent",
        actor=actor,
        now=now,
        expires=expires,
    )


def get(connection: Connection, approval_id: str) -> Approval | None:
    """One request."""
    row = connection.execute(select(*_COLUMNS).where(approval.c.id == approval_id)).first()

    return None if row is None else Approval(**row._mapping)  # noqa: SLF001 - the documented way


def evidence(connection: Connection, approval_id: str) -> bytes | None:
    """The sealed evidence of a request; None where there is none."""
    sealed: bytes | None = connection.execute(select(approval.c.evidence).where(approval.c.id == approval_id)).scalar()

    return sealed


def listed(connection: Connection, *, status: str | None = "open", limit: int = 100) -> list[Approval]:
    """Requests, oldest first."""
    query = select(*_COLUMNS).order_by(approval.c.requested_at, approval.c.id).limit(limit)
    if status is not None:
        query = query.where(approval.c.status == status)

    return [Approval(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001


def decided(connection: Connection, *, limit: int = 100) -> list[Approval]:
    """Requests that are not open any more, the latest first."""
    query = select(*_COLUMNS).where(approval.c.status != "open").order_by(approval.c.decided_at.desc()).limit(limit)

    return [Approval(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001


def open_for(connection: Connection, refund_id: str) -> list[Approval]:
    """The open request about a refund, if there is one."""
    query = select(*_COLUMNS).where(approval.c.refund_id == refund_id, approval.c.status == "open")

    return [Approval(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001


def open_for_difference(connection: Connection, difference_id: str) -> list[Approval]:
    """The open request about a difference, if there is one."""
    query = select(*_COLUMNS).where(approval.c.difference_id == difference_id, approval.c.status == "open")

    return [Approval(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001


def asked_about(connection: Connection, refund_ids: Sequence[str]) -> set[str]:
    """Which of these refunds an open request is about."""
    query = select(approval.c.refund_id).where(approval.c.refund_id.in_(refund_ids), approval.c.status == "open")

    return set(connection.scalars(query))


def close(
    connection: Connection, request: Approval, *, status: str, actor: str, now: float, reason: str | None = None
) -> bool:
    """Decide an open request; False when somebody else was first."""
    result = connection.execute(
        update(approval)
        .where(approval.c.id == request.id, approval.c.status == "open")
        .values(status=status, decided_by=actor, decided_at=now, decision_reason=reason)
    )

    return result.rowcount == 1


def overdue(connection: Connection, now: float, limit: int = 100) -> list[Approval]:
    """Open requests whose time is over."""
    query = select(*_COLUMNS).where(approval.c.status == "open", approval.c.expires_at <= now).limit(limit)

    return [Approval(**row._mapping) for row in connection.execute(query)]  # noqa: SLF001
