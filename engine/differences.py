"""Differences: written down once for each cause, told at once where money moved twice, ended in the allowed ways."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from domain.errors import Conflict, NotFound, Refused
from domain.reconcile import WAYS, Kind, Listed, Reason, Source, Standing, Way, compare, evidence, identity
from domain.refund import Refund
from domain.state import FINAL
from engine.bootstrap import Engine
from engine.evidence import ANOTHERS_ID, place
from engine.ids import new_id
from engine.people import Actor, Verb, require
from ledger import approvals, external, journal, reconcile, refunds
from ledger.approvals import ACCEPT, Approval
from ledger.external import Result, Sighting
from ledger.reconcile import AUTOMATIC, Difference, Run
from ledger.refunds import Change

log = structlog.get_logger(__name__)

ADOPTED = "adopted"
EXTERNAL = "external"
AGREES = "agrees"
# What ends by itself as soon as ours and theirs agree.
_BY_ITSELF = (Kind.MISSING_AT_PROVIDER, Kind.AMOUNT_MISMATCH, Kind.CURRENCY_MISMATCH, Kind.STATE_MISMATCH)


class Found(NamedTuple):
    """Ours and theirs, where they differ. `resolution`: what the ledger has made of it already."""

    kind: Kind
    refund: Refund | None
    theirs: Listed
    resolution: str | None = None
    note: str | None = None


# -- found -----------------------------------------------------------------------------------------------------------


def record(connection: Connection, engine: Engine, run: Run, found: Sequence[Found]) -> list[Difference]:
    """Write them down, each cause once; answers those that are new. Money that moved twice is told at once."""
    once = {row["identity"]: row for row in (_row(engine, run, each) for each in found)}
    new = reconcile.record(connection, list(once.values()))
    for each in new:
        told = log.error if each.kind is Kind.DUPLICATE_AT_PROVIDER else log.warning
        told("recon.difference", id=each.id, kind=each.kind, account=each.account, refund_id=each.refund_id)

    return new


def _row(engine: Engine, run: Run, found: Found) -> dict[str, Any]:
    now = engine.clock()
    theirs, refund = found.theirs, found.refund
    counts = theirs.amount if found.kind is not Kind.MISSING_AT_PROVIDER else None

    return {
        "id": new_id("rd", now),
        "identity": identity(found.kind, run.account, None if refund is None else refund.id, theirs),
        "account": run.account,
        "kind": found.kind,
        "run_id": run.id,
        "refund_id": refund and refund.id,
        "amount": counts if counts is not None or refund is None else refund.amount,
        "currency": theirs.currency or (refund and refund.currency),
        "ours": msgspec.json.encode(ours(refund)).decode(),
        "theirs": msgspec.json.encode(theirs).decode(),
        "now": now,
        "resolution": found.resolution,
        "note": (found.note or theirs.alert or "")[:512] or None,
    }


def ours(refund: Refund | None) -> dict[str, Any] | None:
    """Our side of a difference, member by member as theirs."""
    if refund is None:
        return None
    names = ("provider_refund_id", "reconciliation_id", "handle", "payment_id", "amount", "currency")
    status = refund.provider_status

    return {name: getattr(refund, name) for name in names} | {
        "refund_id": refund.id,
        "reference": refund.reference,
        "state": refund.state,
        "status": status,
        "at": refund.final_at or refund.since,
    }


def close_agreeing(connection: Connection, engine: Engine, source: Source, agreed: Sequence[Refund]) -> int:
    """End what is unambiguous: the same source shows that they agree now, or what it showed has come true here."""
    known = {each.id: each for each in agreed}
    count = 0
    for found, seen in reconcile.open_about(connection, list(known), (*_BY_ITSELF, Kind.LATE)):
        refund = known[found.refund_id or ""]
        if _is_over(found, refund, same_source=seen is source):
            count += _end(connection, engine, found, AUTOMATIC, AGREES, "ours and theirs agree now")

    return count


def _is_over(found: Difference, refund: Refund, *, same_source: bool) -> bool:
    if found.kind is Kind.LATE:
        return refund.state in FINAL
    if found.kind is Kind.MISSING_AT_PROVIDER:
        return same_source

    return same_source or compare(refund, found.listed) is None


def close_overtaken(engine: Engine, account: str) -> int:
    """End what has come true here since it was found, whoever brought that about."""

    def work(connection: Connection) -> int:
        kinds = (Kind.STATE_MISMATCH, Kind.LATE)
        found = reconcile.differences(
            connection, limit=10_000, states=(Standing.OPEN,), accounts=(account,), kinds=kinds
        )
        count = 0
        for each in found:
            refund = refunds.get(connection, each.refund_id) if each.refund_id else None
            if each.resolution is None and refund is not None and _is_over(each, refund, same_source=False):
                count += _end(connection, engine, each, AUTOMATIC, AGREES, "ours and theirs agree now")
        return count

    return engine.ledger.run(work)


def book_stranger(
    connection: Connection, engine: Engine, account: str, theirs: Listed, *, actor: str
) -> external.Booking | None:
    """Count what others moved, as far as the provider says how much of which payment."""
    seen = _sighting(account, theirs)
    if seen is None:
        return None
    now = engine.clock()
    booked = external.book(connection, seen, row_id=new_id("ex", now), actor=actor, now=now)

    return None if booked.result is Result.OURS else booked


def _sighting(account: str, theirs: Listed) -> Sighting | None:
    named = theirs.provider_refund_id, theirs.payment_id
    if None in named or theirs.amount is None or theirs.amount <= 0:
        return None

    return Sighting(
        account=account,
        provider_refund_id=theirs.provider_refund_id or "",
        payment_ref=theirs.payment_id or "",
        kind=external.Kind.CHARGEBACK if theirs.chargeback else external.Kind.REFUND,
        amount=theirs.amount,
        currency=theirs.currency,
        source="reconciliation",
        evidence={"status": theirs.status, "handle": theirs.handle},
    )


# -- ended -----------------------------------------------------------------------------------------------------------


def get(engine: Engine, difference_id: str) -> Difference:
    """One difference. Raises NotFound."""
    with engine.ledger.read() as connection:
        return _get(connection, difference_id)


def candidates(engine: Engine, found: Difference) -> list[Refund]:
    """Refunds of ours that what the provider has may be: so much of the same payment, nearly at the same time."""
    theirs, days = found.listed, engine.account(found.account).notation.days
    if found.refund_id is not None or theirs.payment_id is None or Way.LINK not in WAYS[found.kind]:
        return []
    with engine.ledger.read() as connection:
        ours = reconcile.ours_among(connection, found.account, [Listed(payment_id=theirs.payment_id)])
    alike = [each for each in ours if (each.amount, each.currency) == (theirs.amount, theirs.currency)]

    return [
        each
        for each in alike
        if theirs.at is None or abs(theirs.at - (each.final_at or each.since)) <= (days + 1) * 86_400
    ]


def assign(engine: Engine, actor: Actor, difference_id: str, owner: str | None) -> None:
    """Say who looks after a difference."""
    require(actor, Verb.ACT)

    def work(connection: Connection) -> None:
        found = _get(connection, difference_id, lock=True)
        reconcile.change(connection, found, owner=owner)
        _told(connection, engine, found, "difference.assigned", actor.name, {"owner": owner})

    engine.ledger.run(work)


def adopt(engine: Engine, actor: Actor, difference_id: str, *, reason: str) -> Difference:
    """Bring the refund what the provider itself has shown, as evidence; the rules decide what becomes of it.

    A file is no evidence of that kind: whoever uploads it may have written it.
    """
    found = _may(engine, actor, difference_id, Way.ADOPT, reason)

    def work(connection: Connection) -> Difference:
        stands = _still(connection, found)
        refund = refunds.get(connection, found.refund_id or "", lock=True)
        outcome = evidence(found.listed)
        if not _is_providers_word(connection, stands):
            raise Refused("file-is-no-evidence", "a file moves no state: re-check it at the provider, or accept it")
        if refund is None or outcome is None:
            raise Refused("nothing-to-adopt", "the provider says nothing that could be adopted")
        if refund.handle != msgspec.json.decode(found.ours)["handle"]:
            raise Refused("handle-renewed", "the refund has another handle since this was found: re-check it")
        place(connection, engine, engine.accounts[found.account], refund, outcome, actor=actor.name)
        return _checked(connection, engine, actor, stands, found.listed, reason)

    return _alone(engine, work)


def settle_checked(
    engine: Engine, actor: Actor, difference_id: str, theirs: Listed | None, *, reason: str = ""
) -> Difference:
    """After the provider was asked again: over if ours agrees with what it shows now, else it stays as it is."""
    return engine.ledger.run(
        lambda connection: _checked(
            connection, engine, actor, _get(connection, difference_id, lock=True), theirs, reason
        )
    )


def _checked(
    connection: Connection, engine: Engine, actor: Actor, found: Difference, theirs: Listed | None, reason: str
) -> Difference:
    refund = refunds.get(connection, found.refund_id or "")
    settled = found.kind is not Kind.LATE or (refund is not None and refund.state in FINAL)
    if refund is not None and theirs is not None and compare(refund, theirs) is None and settled:
        _end(connection, engine, found, actor.name, "rechecked", reason or "ours and theirs agree now")

    return _get(connection, found.id)


def link(engine: Engine, actor: Actor, difference_id: str, refund_id: str, *, reason: str) -> Difference:
    """What the provider has and we did not know is this refund of ours; it must fit, and have no other there.

    The provider's own word moves the refund and takes out what was counted; a file's only ends the difference.
    """
    found = _may(engine, actor, difference_id, Way.LINK, reason)

    def work(connection: Connection) -> Difference:
        stands = _still(connection, found)
        refund = _fitting(connection, found, refund_id)
        if _is_providers_word(connection, stands):
            _take_as_ours(connection, engine, found, refund, actor)
        _end(connection, engine, stands, actor.name, "linked", reason, refund_id=refund_id)
        return _get(connection, difference_id)

    return _alone(engine, work)


def _fitting(connection: Connection, found: Difference, refund_id: str) -> Refund:
    """The refund that theirs is said to be. Raises NotFound, Refused."""
    theirs = found.listed
    refund = refunds.get(connection, refund_id, lock=True)
    if refund is None or refund.account != found.account:
        raise NotFound("not-found", f"account {found.account} has no refund {refund_id!r}")
    if None not in (theirs.payment_id, refund.payment_id) and theirs.payment_id != refund.payment_id:
        raise Refused("does-not-fit", f"the refund is of payment {refund.payment_id}, theirs of {theirs.payment_id}")
    if theirs.chargeback or (theirs.amount, theirs.currency) != (refund.amount, refund.currency):
        raise Refused("does-not-fit", "it is no refund of the same amount and currency")
    if None not in (theirs.provider_refund_id, refund.provider_refund_id) and (
        theirs.provider_refund_id != refund.provider_refund_id
    ):
        raise Refused("does-not-fit", f"the provider knows that refund as {refund.provider_refund_id}")
    counted = external.get(connection, found.account, theirs.provider_refund_id or "")
    if counted is not None and not external.fits(counted, refund):
        raise Refused("does-not-fit", f"{theirs.provider_refund_id} is on record as another movement")

    return refund


def _take_as_ours(connection: Connection, engine: Engine, found: Difference, refund: Refund, actor: Actor) -> None:
    """The provider's record is evidence of this refund, and no movement of others."""
    outcome, seen, now = evidence(found.listed), _sighting(found.account, found.listed), engine.clock()
    if outcome is not None:
        place(connection, engine, engine.accounts[found.account], refund, outcome, actor=actor.name)
    if seen is not None:
        external.link(connection, seen, refund, row_id=new_id("ex", now), actor=actor.name, now=now)


def _alone(engine: Engine, work: Callable[[Connection], Difference]) -> Difference:
    """All of it or nothing. What the database keeps for one refund cannot be given to another at the same moment."""
    try:
        return engine.ledger.run(work)
    except IntegrityError:
        raise Conflict("anothers-id", ANOTHERS_ID) from None


def book(engine: Engine, actor: Actor, difference_id: str, *, reason: str) -> Difference:
    """Others moved this money: count it against its payment. That only ever leaves less to refund."""
    found = _may(engine, actor, difference_id, Way.EXTERNAL, reason)

    def work(connection: Connection) -> Difference:
        stands = _still(connection, found)
        booked = book_stranger(connection, engine, found.account, found.listed, actor=actor.name)
        if booked is None:
            raise Refused("cannot-book", "the provider names no refund, payment and amount that could be booked")
        if found.kind is Kind.DUPLICATE_AT_PROVIDER:
            _explain(connection, engine, stands, actor, EXTERNAL, reason)
        else:
            _end(connection, engine, stands, actor.name, EXTERNAL, reason)
        return _get(connection, found.id)

    return engine.ledger.run(work)


def report_duplicate(engine: Engine, actor: Actor, difference_id: str, *, reason: str) -> Difference:
    """The customer was paid twice: on record with the refund, and in somebody's hands until the money is back."""
    found = _may(engine, actor, difference_id, Way.DUPLICATE, reason)

    def work(connection: Connection) -> Difference:
        stands = _still(connection, found)
        refund = refunds.get(connection, found.refund_id, lock=True) if found.refund_id else None
        if refund is not None:
            data = {"difference": found.id, "theirs": found.listed.provider_refund_id, "reason": reason}
            _on_refund(connection, engine, refund, "refund.duplicate", actor, data)
        _explain(connection, engine, stands, actor, "duplicate", reason)
        return _get(connection, found.id)

    reported = engine.ledger.run(work)
    log.error("recon.duplicate", id=found.id, account=found.account, refund_id=found.refund_id, actor=actor.name)

    return reported


def acknowledge(engine: Engine, actor: Actor, difference_id: str, *, reason: str) -> Difference:
    """A person has seen what the ledger has made of it already."""
    found = _may(engine, actor, difference_id, Way.ACKNOWLEDGE, reason)
    if found.resolution not in (ADOPTED, EXTERNAL):
        raise Refused("not-settled", "the ledger has not followed the provider here: there is nothing to acknowledge")

    def work(connection: Connection) -> Difference:
        stands = _still(connection, found)
        _end(connection, engine, stands, actor.name, found.resolution or "", reason)
        return _get(connection, found.id)

    return engine.ledger.run(work)


# -- what takes two people -------------------------------------------------------------------------------------------


def ask_accept(engine: Engine, actor: Actor, difference_id: str, *, code: str, reason: str) -> str:
    """Ask to live with a difference, for a reason with a code; answers the id of the request."""
    found = _may(engine, actor, difference_id, Way.ACCEPT, reason)
    if code not in tuple(Reason):
        raise Refused("reason-code-invalid", f"reason code: expected one of {', '.join(Reason)}")
    now = engine.clock()
    approval_id = new_id("ap", now)

    def work(connection: Connection) -> None:
        stands = _still(connection, found)
        approvals.ask(
            connection,
            difference_id=found.id,
            snapshot=snapshot(stands),
            approval_id=approval_id,
            kind=ACCEPT,
            rule="accepting a difference",
            params={"code": code},
            reason=reason[:1000],
            actor=actor.name,
            now=now,
            expires=engine.settings.approvals.expires,
        )
        data = {"approval": approval_id, "code": code, "reason": reason}
        _told(connection, engine, stands, "approval.requested", actor.name, data)

    try:
        engine.ledger.run(work)
    except IntegrityError:
        raise Conflict("already-asked", "this difference has an open request already") from None

    return approval_id


def carry_out(connection: Connection, engine: Engine, request: Approval, actor: Actor) -> Difference:
    """Two people live with it. It must stand as it was asked about."""
    found = _get(connection, request.difference_id or "", lock=True)
    if request.snapshot != snapshot(found):
        raise Conflict("changed-since", f"the difference has changed since it was asked about: it is {found.state}")
    code = msgspec.json.decode(request.params)["code"]
    data = {"approval": request.id, "requested_by": request.requested_by}
    _end(connection, engine, found, actor.name, "accepted", request.reason, reason_code=code, data=data)

    return _get(connection, found.id)


def ended_request(
    connection: Connection, engine: Engine, request: Approval, actor: Actor, *, status: str, reason: str
) -> Difference:
    """The request came to nothing: that is told, and the difference stays as it is."""
    found = _get(connection, request.difference_id or "")
    _told(connection, engine, found, f"approval.{status}", actor.name, {"approval": request.id, "reason": reason})

    return found


def snapshot(found: Difference) -> str:
    """What the requester saw of the difference."""
    seen = {name: getattr(found, name) for name in ("kind", "state", "amount", "currency", "theirs", "refund_id")}

    return msgspec.json.encode(seen).decode()


# -- helpers ---------------------------------------------------------------------------------------------------------


def _get(connection: Connection, difference_id: str, *, lock: bool = False) -> Difference:
    found = reconcile.difference(connection, difference_id, lock=lock)
    if found is None:
        raise NotFound("not-found", f"there is no difference {difference_id!r}")

    return found


def _still(connection: Connection, found: Difference) -> Difference:
    """The difference, locked. Raises Conflict where somebody has moved it since it was looked at."""
    stands = _get(connection, found.id, lock=True)
    _won(stands.state is found.state)

    return stands


def _is_providers_word(connection: Connection, found: Difference) -> bool:
    """Whether theirs was read from the provider. What a later run shows of the same cause is not what is kept here."""
    run = reconcile.get(connection, found.run_id)

    return run is not None and run.source is not Source.FILE


def may(engine: Engine, actor: Actor, difference_id: str, way: Way) -> Difference:
    """The difference, if it can be ended in this way. Raises Forbidden, NotFound, Conflict, Refused."""
    require(actor, Verb.ACT)
    found = get(engine, difference_id)
    if found.state is Standing.CLOSED:
        raise Conflict("already-closed", f"{found.closed_by} has closed it: {found.note or found.resolution}")
    if way not in WAYS[found.kind]:
        allowed = ", ".join(sorted(WAYS[found.kind]))
        raise Refused("way-not-allowed", f"{found.kind} can be resolved by {allowed}, not by {way}")

    return found


def _may(engine: Engine, actor: Actor, difference_id: str, way: Way, reason: str) -> Difference:
    found = may(engine, actor, difference_id, way)
    if not reason.strip():
        raise Refused("reason-required", "a reason is required")

    return found


def _explain(
    connection: Connection, engine: Engine, found: Difference, actor: Actor, resolution: str, reason: str
) -> None:
    done = reconcile.change(
        connection,
        found,
        state=Standing.EXPLAINED,
        resolution=resolution,
        owner=found.owner or actor.name,
        note=reason[:512],
    )
    _won(done)
    _told(connection, engine, found, "difference.explained", actor.name, {"as": resolution, "reason": reason})


def _end(
    connection: Connection,
    engine: Engine,
    found: Difference,
    actor: str,
    resolution: str,
    note: str,
    *,
    data: Mapping[str, Any] | None = None,
    **values: Any,
) -> bool:
    """Close it. Where somebody was first a person hears of it (Conflict), and what ends by itself does nothing."""
    done = reconcile.change(
        connection,
        found,
        state=Standing.CLOSED,
        resolution=None if actor == AUTOMATIC else resolution,
        note=note[:512],
        closed_by=actor,
        closed_at=engine.clock(),
        **values,
    )
    if actor == AUTOMATIC and not done:
        return False
    _won(done)
    told = {"as": resolution, "reason": note, **values, **(data or {})}
    _told(connection, engine, found, "difference.closed", actor, told)

    return done


def _won(done: bool) -> None:  # noqa: FBT001 - an answer, not a switch
    if not done:
        raise Conflict("state-conflict", "somebody else changed this difference at the same moment; look again")


def _told(
    connection: Connection, engine: Engine, found: Difference, kind: str, actor: str, data: Mapping[str, Any]
) -> None:
    journal.append(connection, f"difference/{found.id}", kind, actor=actor, now=engine.clock(), data=data)


def _on_refund(
    connection: Connection, engine: Engine, refund: Refund, kind: str, actor: Actor, data: Mapping[str, Any]
) -> None:
    after = replace(refund, updated_at=engine.clock())
    refunds.apply(
        connection, [Change(before=refund, after=after, type=kind, actor=actor.name, data=data, fenced=False)]
    )
