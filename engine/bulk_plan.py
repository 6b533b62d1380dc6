"""What a bulk operation would do: which refunds are meant, and what the single act's own rules say of each."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from domain.bulk import MOST, SCOPE, Kind, Lot
from domain.errors import FieldError, InvalidJob, NotFound, Refused
from domain.job import canonical
from domain.refund import Refund
from domain.state import State
from domain.verdict import Advice
from engine import review, search
from engine.bootstrap import Engine
from engine.people import Actor, Verb, require
from ledger import approvals, bulk, queries, refunds

MOST_QUERY = 512


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


def preview(engine: Engine, actor: Actor, kind: Kind, selection: Selection) -> Plan:
    """What an operation would do, leave out and why; nothing changes.

    Raises Refused where too many fit, InvalidJob for a query that is not understood or speaks of people.
    """
    require(actor, Verb.ACT)
    with engine.ledger.read() as connection:
        found = chosen(connection, engine, SCOPE[kind], selection)
        ids = [each.id for each in found]
        fingerprints = refunds.last_fingerprints(connection, ids)
        busy = {each: f"it waits in {operation}" for each, operation in bulk.waiting_in(connection, ids).items()}
        if kind is Kind.RETRY:
            asked = approvals.asked_about(connection, ids)
            busy |= dict.fromkeys(asked, "a request about it waits for a second person")

    return Plan(
        kind, selection, [_planned(engine, kind, each, fingerprints.get(each.id), busy.get(each.id)) for each in found]
    )


def chosen(connection: Connection, engine: Engine, scope: Sequence[State], selection: Selection) -> list[Refund]:
    """The refunds of a selection; of those that fit a query, the ones in `scope`.

    Raises Refused where too many fit, NotFound for an id that is not there, InvalidJob for a query that is not
    understood or speaks of people.
    """
    found = _fitting(connection, engine, scope, selection)
    if len(found) > MOST:
        raise Refused("too-many", f"more than {MOST} refunds fit; narrow the query, by account or cause")

    return found


def _fitting(connection: Connection, engine: Engine, scope: Sequence[State], selection: Selection) -> list[Refund]:
    if selection.again:
        if bulk.get(connection, selection.again) is None:
            raise no_such(selection.again)
        return queries.among(connection, bulk.not_done(connection, selection.again))
    if selection.ids:
        return named(connection, selection.ids)
    wanted = search.parse(selection.query, engine.vault)
    if search.names_people(selection.query):
        raise _wrong("choose by state, account, provider, cause or failure: an operation is kept with its query")
    if len(selection.query) > MOST_QUERY:
        raise _wrong(f"at most {MOST_QUERY} characters")
    states = [each for each in scope if not wanted.states or each in wanted.states]

    return queries.open_ones(connection, states, limit=MOST + 1, wanted=wanted)


def named(connection: Connection, ids: Sequence[str], *, lock: bool = False) -> list[Refund]:
    """These refunds, and that they are there. Raises NotFound."""
    found = queries.among(connection, ids[: MOST + 1], lock=lock)
    missing = sorted(set(ids[: MOST + 1]) - {each.id for each in found})
    if missing:
        raise NotFound("not-found", f"there is no refund {missing[0][:64]!r}")

    return found


def no_such(operation_id: str) -> NotFound:
    """What to say about an operation that is not there."""
    return NotFound("not-found", f"there is no bulk operation {operation_id!r}")


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
