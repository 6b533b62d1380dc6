"""Bulk operations: many refunds previewed, started with a reason, stopped, and reported one by one."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from domain.bulk import FASTEST, MOST, PACE, SCOPE, STOP_AT, Kind, Lot, Phase, Result
from domain.errors import Conflict, FieldError, InvalidJob, NotFound, Refused
from domain.job import canonical
from domain.refund import Refund
from domain.verdict import Advice
from engine import review, search
from engine.bootstrap import Engine
from engine.ids import new_id
from engine.people import Actor, Verb, require
from engine.view import stamp
from ledger import approvals, bulk, journal, queries, refunds
from ledger.bulk import Item, Operation

log = structlog.get_logger(__name__)

LANE = "bulk"
MOST_REASON = 500
MOST_QUERY = 512
_ID = re.compile(r"bo_[0-9a-z]{26}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which refunds are meant: all that fit a query (the empty one fits all), those of `ids`, or what `again` left.

    `again`: an operation whose failed and left refunds are to be taken up.
    """

    query: str = ""
    ids: tuple[str, ...] = ()
    again: str = ""

    def __str__(self) -> str:
        if self.again:
            return f"not done in {self.again}"

        return f"{len(self.ids)} chosen one by one" if self.ids else self.query.strip()


@dataclass(frozen=True, slots=True)
class Planned:
    """What would become of one refund, and why."""

    refund: Refund
    lot: Lot
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A preview. `digest` stands for exactly what would be done."""

    kind: Kind
    selection: Selection
    planned: Sequence[Planned]

    def of(self, lot: Lot) -> list[Planned]:
        """Those of one lot."""
        return [each for each in self.planned if each.lot is lot]

    @property
    def count(self) -> int:
        """How many would be done."""
        return len(self.of(Lot.WILL_BE_DONE))

    @property
    def digest(self) -> str:
        """Changes with any refund that would be done, and with its money."""
        done = [[each.refund.id, each.refund.amount, each.refund.currency] for each in self.of(Lot.WILL_BE_DONE)]

        return hashlib.sha256(canonical([self.kind, done])).hexdigest()

    def sums(self, lot: Lot) -> list[dict[str, Any]]:
        """How many, and how much money, by provider and currency. `amount` counts what is known already."""
        counts: Counter[tuple[str, str | None]] = Counter()
        amounts: Counter[tuple[str, str | None]] = Counter()
        for each in self.of(lot):
            key = each.refund.provider, each.refund.currency
            counts[key] += 1
            amounts[key] += each.refund.amount or 0

        return [
            {"provider": provider, "currency": currency, "count": count, "amount": amounts[provider, currency]}
            for (provider, currency), count in counts.items()
        ]


# -- previewed -------------------------------------------------------------------------------------------------------


def preview(engine: Engine, actor: Actor, kind: Kind, selection: Selection) -> Plan:
    """What an operation would do, leave out and why; nothing changes.

    Raises Refused where too many fit, InvalidJob for a query that is not understood or speaks of people.
    """
    require(actor, Verb.ACT)
    with engine.ledger.read() as connection:
        found = _chosen(connection, engine, kind, selection)
        if len(found) > MOST:
            raise Refused("too-many", f"more than {MOST} refunds fit; narrow the query, by account or cause")
        ids = [each.id for each in found]
        fingerprints = refunds.last_fingerprints(connection, ids)
        busy = {each: f"it waits in {operation}" for each, operation in bulk.waiting_in(connection, ids).items()}
        if kind is Kind.RETRY:
            asked = approvals.asked_about(connection, ids)
            busy |= dict.fromkeys(asked, "a request about it waits for a second person")

    return Plan(
        kind, selection, [_planned(engine, kind, each, fingerprints.get(each.id), busy.get(each.id)) for each in found]
    )


def _chosen(connection: Connection, engine: Engine, kind: Kind, selection: Selection) -> list[Refund]:
    if selection.again:
        if bulk.get(connection, selection.again) is None:
            raise _unknown(selection.again)
        return queries.among(connection, bulk.not_done(connection, selection.again))
    if selection.ids:
        return _named(connection, selection.ids)
    wanted = search.parse(selection.query, engine.vault)
    if search.names_people(selection.query):
        raise _wrong("choose by state, account, provider, cause or failure: an operation is kept with its query")
    if len(selection.query) > MOST_QUERY:
        raise _wrong(f"at most {MOST_QUERY} characters")
    states = [each for each in SCOPE[kind] if not wanted.states or each in wanted.states]

    return queries.open_ones(connection, states, limit=MOST + 1, wanted=wanted)


def _named(connection: Connection, ids: Sequence[str]) -> list[Refund]:
    found = queries.among(connection, ids[: MOST + 1])
    missing = sorted(set(ids[: MOST + 1]) - {each.id for each in found})
    if missing:
        raise NotFound("not-found", f"there is no refund {missing[0][:64]!r}")

    return found


def _wrong(why: str) -> InvalidJob:
    return InvalidJob(FieldError("#/query", why, "query-invalid"), code="query-invalid")


def _planned(engine: Engine, kind: Kind, refund: Refund, fingerprint: str | None, busy: str | None) -> Planned:
    if busy is not None:
        return Planned(refund, Lot.SKIPPED, busy)
    try:
        _refuse(engine, kind, refund, fingerprint)
    except Refused as error:
        first = _can_be_checked_first(engine, kind, refund, fingerprint)
        return Planned(refund, Lot.CHECK_FIRST if first else Lot.SKIPPED, str(error))

    return Planned(refund, Lot.WILL_BE_DONE, "")


def _refuse(engine: Engine, kind: Kind, refund: Refund, fingerprint: str | None) -> None:
    """The single act's own rules."""
    match kind:
        case Kind.RETRY:
            review.refuse_retry(engine, refund, fingerprint)
        case Kind.CHECK:
            review.refuse_check(engine, refund)
        case Kind.CANCEL:
            review.refuse_cancel(refund)


def _can_be_checked_first(engine: Engine, kind: Kind, refund: Refund, fingerprint: str | None) -> bool:
    if kind is Kind.CANCEL:
        return refund.ambiguous or refund.provider_refund_id is not None
    found = review.judge(engine, refund, fingerprint)

    return kind is Kind.RETRY and found is not None and found.advice is Advice.CHECK_FIRST


# -- started and stopped ---------------------------------------------------------------------------------------------


def start(
    engine: Engine,
    actor: Actor,
    kind: Kind,
    selection: Selection,
    *,
    count: int | None,
    reason: str,
    digest: str | None = None,
    pace: int = PACE,
    stop_at: int = STOP_AT,
    operation_id: str | None = None,
) -> Operation:
    """Put what a preview showed into the hands of the workers.

    `count`: how many will be done, as the person typed it; `digest`: of the preview they saw, if they saw one.
    `operation_id`: made with the form, so that the same form sent twice is one operation. Raises Refused naming what is
    wrong; Conflict where the refunds have changed since.
    """
    require(actor, Verb.ACT)
    chosen_id = operation_id or new_id("bo", engine.clock())
    _well_formed(chosen_id, reason, pace, stop_at)
    there = _same(engine, actor, operation_id)
    if there is not None:
        return there
    plan = preview(engine, actor, kind, selection)
    _confirmed(plan, count, digest)
    operation = _operation(engine, actor, plan, chosen_id, reason.strip(), pace, stop_at)

    def work(connection: Connection) -> None:
        bulk.add(connection, operation, list(_items(operation.id, plan)))
        told = ("kind", "query", "digest", "reason", "pace", "stop_at", "total", "skipped")
        data = {name: value for name, value in asdict(operation).items() if name in told}
        _tell(connection, engine, operation.id, "bulk.started", actor.name, data)

    try:
        engine.ledger.run(work)
    except IntegrityError:
        there = _same(engine, actor, operation_id)
        if there is None:
            raise Conflict("changed-since", "some of these refunds were just taken into another operation") from None
        return there
    log.info("bulk.started", operation=operation.id, kind=kind, refunds=plan.count, actor=actor.name)
    engine.ring(LANE, operation.id)

    return operation


def _well_formed(operation_id: str, reason: str, pace: int, stop_at: int) -> None:
    if not _ID.fullmatch(operation_id):
        raise Refused("operation-invalid", "operation: expected an id as the form has it")
    if not reason.strip() or len(reason) > MOST_REASON:
        raise Refused("reason-required", f"reason: say why, in at most {MOST_REASON} characters")
    if not 1 <= pace <= FASTEST:
        raise Refused("pace-invalid", f"pace: expected 1 to {FASTEST} refunds a second, found {pace}")
    if not 0 <= stop_at <= 100:  # noqa: PLR2004 - percent
        raise Refused("stop-at-invalid", f"stop_at: expected 0 to 100 percent, found {stop_at}")


def _same(engine: Engine, actor: Actor, operation_id: str | None) -> Operation | None:
    """What the same form has started already."""
    if operation_id is None:
        return None
    with engine.ledger.read() as connection:
        found = bulk.get(connection, operation_id)

    return found if found is not None and found.created_by == actor.name else None


def _confirmed(plan: Plan, count: int | None, digest: str | None) -> None:
    if digest is not None and digest != plan.digest:
        raise Conflict("changed-since", "the refunds have changed since the preview; look at it again")
    if plan.count == 0:
        raise Refused("nothing-to-do", f"nothing can be done: of {len(plan.planned)} refunds none would be taken")
    if count != plan.count:
        raise Refused("not-confirmed", f"{plan.count} refunds would be taken: confirm with exactly {plan.count}")


def _operation(
    engine: Engine, actor: Actor, plan: Plan, operation_id: str, reason: str, pace: int, stop_at: int
) -> Operation:
    now = engine.clock()

    return Operation(
        id=operation_id,
        kind=plan.kind,
        query=str(plan.selection),
        digest=plan.digest,
        reason=reason,
        created_by=actor.name,
        created_at=now,
        pace=pace,
        stop_at=stop_at,
        total=len(plan.planned),
        skipped=len(plan.planned) - plan.count,
        due_at=now,
    )


def _items(operation_id: str, plan: Plan) -> Iterator[Item]:
    """All that were looked at: what is left out is in the report too."""
    for no, each in enumerate(plan.planned, 1):
        waits = each.lot is Lot.WILL_BE_DONE
        yield Item(
            operation=operation_id,
            no=no,
            refund_id=each.refund.id,
            reference=each.refund.reference,
            account=each.refund.account,
            provider=each.refund.provider,
            amount=each.refund.amount,
            currency=each.refund.currency,
            result=Result.WAITING if waits else Result.SKIPPED,
            reason=None if waits else each.why[:512],
            at=None,
        )


def stop(engine: Engine, actor: Actor, operation_id: str, *, reason: str = "") -> Operation:
    """Let nothing more begin: the refund in hand is finished, the others are left."""
    require(actor, Verb.ACT)
    words = reason.strip()[:MOST_REASON] or f"stopped by {actor.name}"

    def work(connection: Connection) -> Operation:
        stopped = ended(connection, engine, operation_id, Phase.STOPPED, by=actor.name, reason=words)
        if stopped is None:
            found = bulk.get(connection, operation_id)
            raise _unknown(operation_id) if found is None else Conflict("already-ended", f"it is {found.state} already")
        return stopped

    return engine.ledger.run(work)


def ended(
    connection: Connection, engine: Engine, operation_id: str, phase: Phase, *, by: str, reason: str
) -> Operation | None:
    """End an operation and put it on record; None where it has ended already."""
    found = bulk.end(connection, operation_id, phase, by=by, reason=reason, now=engine.clock())
    if found is not None:
        data = {"reason": reason, "done": found.done, "failed": found.failed, "left": found.left}
        _tell(connection, engine, operation_id, f"bulk.{phase}", by, data)

    return found


def _tell(
    connection: Connection, engine: Engine, operation_id: str, kind: str, actor: str, data: dict[str, Any]
) -> None:
    journal.append(connection, f"bulk/{operation_id}", kind, actor=actor, now=engine.clock(), data=data)


# -- looked at -------------------------------------------------------------------------------------------------------


def get(engine: Engine, operation_id: str) -> Operation:
    """One operation. Raises NotFound."""
    with engine.ledger.read() as connection:
        found = bulk.get(connection, operation_id)
    if found is None:
        raise _unknown(operation_id)

    return found


def _unknown(operation_id: str) -> NotFound:
    return NotFound("not-found", f"there is no bulk operation {operation_id!r}")


def listed(engine: Engine, *, limit: int, before: str | None = None) -> list[dict[str, Any]]:
    """Operations as they are answered, newest first."""
    with engine.ledger.read() as connection:
        found = bulk.listed(connection, limit=limit, before=before)

    return [view(each) for each in found]


def report(
    engine: Engine, operation: Operation, *, limit: int, result: Result | None = None, after: int = 0
) -> list[dict[str, Any]]:
    """What became of its refunds, and how they stand `now`."""
    with engine.ledger.read() as connection:
        found = bulk.items(connection, operation.id, limit=limit, result=result, after=after)
        states = bulk.states_now(connection, [each.refund_id for each in found])

    return [
        {**asdict(each), "result": each.result, "at": stamp(each.at), "now": states.get(each.refund_id)}
        for each in found
    ]


def came_back(engine: Engine, operation: Operation) -> int:
    """How many that were retried need a person again, or have failed for good."""
    if operation.kind is not Kind.RETRY:
        return 0
    with engine.ledger.read() as connection:
        return bulk.came_back(connection, operation.id)


def view(operation: Operation) -> dict[str, Any]:
    """An operation as it is answered. `eta_seconds`: of what waits, at its pace."""
    running = operation.state is Phase.RUNNING
    told = ("state", "query", "reason", "created_by", "pace", "stop_at", "total", "done", "failed", "skipped")

    return {
        "id": operation.id,
        "object": "bulk_operation",
        "kind": operation.kind,
        **{name: getattr(operation, name) for name in told},
        "waiting": operation.left if running else 0,
        "left": 0 if running else operation.left,
        "eta_seconds": round(operation.left / operation.pace, 1) if running else None,
        "created_at": stamp(operation.created_at),
        "ended_at": stamp(operation.ended_at),
        "ended_by": operation.ended_by,
        "end_reason": operation.end_reason,
    }
