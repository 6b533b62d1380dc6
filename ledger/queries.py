"""Reading the ledger for people: found by any id, listed page by page, counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, and_, case, exists, func, or_, select, text, union_all

from domain.ids import first_id
from domain.refund import Refund
from domain.state import State
from ledger.accounts import EVERY
from ledger.models import FOR_PEOPLE, LANES, account, approval, attempt, lane_predicate, outbox, payment, refund
from ledger.refunds import COLUMNS, load
from ledger.terms import ids_of, known_by

# An id and its row's time are made by the same call, a little apart.
SKEW = 60.0


class AmountRange(NamedTuple):
    """Amounts in minor units from `low` on and below `high`, of some currencies; None leaves an end open."""

    currencies: tuple[str, ...]
    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a list is narrowed to; empty parts narrow nothing. Hashes are of normalised values. Of `amounts`, any fits.

    `attempts`: from so many on, and below so many; None leaves an end open.

    `anything`: words that are any kind of id, or whose `hashes` are a customer's name or reference.
    """

    states: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    failure_codes: tuple[str, ...] = ()
    reference: str | None = None
    payment_id: str | None = None
    order_id: str | None = None
    anything: tuple[str, ...] = ()
    hashes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    email_hash: str | None = None
    name_hash: str | None = None
    customer_hash: str | None = None
    assignee: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    currencies: tuple[str, ...] = ()
    amounts: tuple[AmountRange, ...] = ()
    attempts: tuple[int | None, int | None] = (None, None)
    from_id: str | None = None

    @property
    def is_scan(self) -> bool:
        """Whether no index leads to what is wanted: then refunds are looked at one after another."""
        ids = (self.reference, self.payment_id, self.order_id, self.email_hash, self.name_hash, self.customer_hash)
        named = any(each is not None for each in ids) or bool(self.anything)
        bounded = bool(self.states) and all(state in _KEPT_IN for state in self.states)

        return not named and not bounded and self != Filter()


def find(connection: Connection, word: str, hashes: Sequence[str] = ()) -> list[Refund]:
    """Refunds with `word` as any kind of id: ours, reference, order, payment, provider's, handle; or a hashed term."""
    query = select(*COLUMNS).where(_anything(word, hashes)).order_by(refund.c.id.desc()).limit(50)
    rows = connection.execute(query)

    return [load(row) for row in rows]


def page(connection: Connection, wanted: Filter, *, limit: int, before: str | None = None) -> list[Refund]:
    """Newest first, `limit` at most, older than the id `before`: the cost does not depend on how far one has paged."""
    query = select(*COLUMNS).where(*_clauses(wanted)).order_by(refund.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(refund.c.id < before)

    return [load(row) for row in connection.execute(query)]


def horizon(connection: Connection, wanted: Filter, before: str | None, most: int) -> str | None:
    """The id below which nothing is looked at, after `most` refunds older than `before`; None where there are fewer."""
    query = select(refund.c.id).where(*_made_within(wanted)).order_by(refund.c.id.desc()).offset(most - 1).limit(1)
    found: str | None = connection.execute(query if before is None else query.where(refund.c.id < before)).scalar()

    return found


# The partial index that has all refunds of a state: in the words of its condition, so that it is seen to be one.
_KEPT_IN: dict[str, str] = {
    **{state: lane_predicate(lane) for lane, states in LANES.items() for state in states},
    **dict.fromkeys((State.AWAITING_APPROVAL, State.REVIEW, State.REVERSED), FOR_PEOPLE),
}


def _clauses(wanted: Filter) -> list[ColumnElement[bool]]:
    among = (
        (refund.c.state, wanted.states),
        (refund.c.account, wanted.accounts),
        (refund.c.provider, wanted.providers),
        (refund.c.cause, wanted.causes),
        (refund.c.failure_code, wanted.failure_codes),
        (refund.c.currency, wanted.currencies),
    )
    equal = (
        (refund.c.reference, wanted.reference),
        (refund.c.assignee, wanted.assignee),
    )
    known = (
        (wanted.order_id, "order_id"),
        (wanted.email_hash, "email_hash"),
        (wanted.name_hash, "name_hash", "last_name_hash"),
        (wanted.customer_hash, "customer_hash"),
    )
    clauses: list[ColumnElement[bool]] = [column.in_(values) for column, values in among if values]
    clauses += [column == value for column, value in equal if value is not None]
    clauses += [known_by([word], *columns) for word, *columns in known if word is not None]
    if wanted.states and all(state in _KEPT_IN for state in wanted.states):
        clauses.append(or_(*(text(f"({each})") for each in sorted({_KEPT_IN[state] for state in wanted.states}))))
    if wanted.from_id is not None:
        clauses.append(refund.c.id >= wanted.from_id)
    if wanted.payment_id is not None:
        clauses.append(_of_payment(wanted.payment_id))
    clauses += [_anything(word, wanted.hashes.get(word, ())) for word in wanted.anything]
    if wanted.amounts:
        clauses.append(or_(*map(_amounts_within, wanted.amounts)))
    clauses += _within(refund.c.attempts, *wanted.attempts)

    return clauses + _created(wanted)


def _created(wanted: Filter) -> list[ColumnElement[bool]]:
    """By the time, and by the ids, which sort by it: what is older is not even looked at."""
    clauses = _made_within(wanted)
    if wanted.created_after is not None:
        clauses.append(refund.c.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        clauses.append(refund.c.created_at < wanted.created_before)

    return clauses


def _made_within(wanted: Filter) -> list[ColumnElement[bool]]:
    clauses: list[ColumnElement[bool]] = []
    if wanted.created_after is not None:
        clauses.append(refund.c.id >= first_id("rf", wanted.created_after - SKEW))
    if wanted.created_before is not None:
        clauses.append(refund.c.id < first_id("rf", wanted.created_before + SKEW))

    return clauses


def _amounts_within(wanted: AmountRange) -> ColumnElement[bool]:
    return and_(refund.c.currency.in_(wanted.currencies), *_within(refund.c.amount, wanted.low, wanted.high))


def _within(column: ColumnElement[int], low: int | None, high: int | None) -> list[ColumnElement[bool]]:
    """From `low` on, and below `high`."""
    at_least = [] if low is None else [column >= low]

    return at_least + ([] if high is None else [column < high])


def _anything(word: str, hashes: Sequence[str]) -> ColumnElement[bool]:
    """As one set of ids: an OR of it with other conditions would read the whole table."""
    named = refund.alias("named")
    columns = (named.c.id, named.c.reference, named.c.provider_refund_id)
    by_column = select(named.c.id).where(or_(*(column == word for column in columns), _of_payment(word, named)))

    return refund.c.id.in_(union_all(by_column, ids_of([word, *hashes])))


def _of_payment(payment_id: str, table: FromClause = refund) -> ColumnElement[bool]:
    """A known payment keeps its money under its own id, which is the column with an index."""
    return and_(table.c.payment_ref == payment_id, table.c.payment_id == payment_id)


def attempts_of(connection: Connection, refund_id: str) -> list[dict[str, Any]]:
    """A refund's attempts in order, without the frozen bodies."""
    columns = [column for column in attempt.c if column.name not in ("body", "headers", "seen")]
    rows = connection.execute(select(*columns).where(attempt.c.refund_id == refund_id).order_by(attempt.c.no))

    return [dict(row._mapping) for row in rows]  # noqa: SLF001 - the documented way


def first_handles(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The handle of each refund's first attempt."""
    if not ids:
        return {}
    query = select(attempt.c.refund_id, attempt.c.handle).where(attempt.c.refund_id.in_(ids), attempt.c.no == 1)

    return {str(row.refund_id): str(row.handle) for row in connection.execute(query)}


def dead(
    connection: Connection, *, limit: int, before: str | None = None, wanted: Filter | None = None
) -> list[Refund]:
    """Dead letters, newest first: what stands in review, and what the provider took back."""
    query = select(*COLUMNS).where(_DEAD, *_clauses(wanted or Filter())).order_by(refund.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(refund.c.id < before)

    return [load(row) for row in connection.execute(query)]


# The words of the index's own condition come first: an index is only used for what it is seen to hold.
_DEAD = and_(text(FOR_PEOPLE), refund.c.state.in_((State.REVIEW, State.REVERSED)))


def open_ones(
    connection: Connection, states: Sequence[State], *, limit: int, wanted: Filter | None = None
) -> list[Refund]:
    """Refunds in these open states that fit, `limit` at most, oldest first.

    Each question reads one index of what is open, and nothing else of the table. They have no order of their own: where
    more fit than `limit`, which of them are answered is left open.
    """
    people = [each for each in states if each in _PEOPLES]
    parts = [(FOR_PEOPLE, people)]
    parts += [
        (lane_predicate(lane), [each for each in own if each in set(states) - _PEOPLES]) for lane, own in LANES.items()
    ]
    found: list[Refund] = []
    for words, those in parts:
        query = select(*COLUMNS).where(text(words), refund.c.state.in_(those), *_clauses(wanted or Filter()))
        found += map(load, connection.execute(query.limit(limit - len(found)))) if those else ()

    return sorted(found, key=lambda each: each.id)


_PEOPLES = {State.AWAITING_APPROVAL, State.REVIEW, State.REVERSED}


def among(connection: Connection, refund_ids: Sequence[str], *, lock: bool = False) -> list[Refund]:
    """These refunds, oldest first; who is not there is left out. `lock`: nobody else changes them meanwhile."""
    query = select(*COLUMNS).where(refund.c.id.in_(refund_ids)).order_by(refund.c.id)

    return [load(row) for row in connection.execute(query.with_for_update() if lock else query)]


def dead_groups(connection: Connection, now: float) -> list[dict[str, Any]]:
    """Dead letters by cause, failure and provider, with how many in the last 1 h, 3 h, 24 h, 3 d and 7 d."""
    spans = {"1h": 3600, "3h": 10_800, "24h": 86_400, "3d": 259_200, "7d": 604_800}
    counts = [
        func.sum(case((refund.c.since >= now - seconds, 1), else_=0)).label(name) for name, seconds in spans.items()
    ]
    keys = (refund.c.cause, refund.c.failure_code, refund.c.provider, refund.c.account, refund.c.currency)
    query = (
        select(
            *keys,
            func.count().label("count"),
            func.sum(refund.c.amount).label("amount"),
            func.min(refund.c.since).label("first"),
            func.max(refund.c.since).label("last"),
            *counts,
        )
        .where(_DEAD)
        .group_by(*keys)
        .order_by(func.count().desc())
    )

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001


def by_state(connection: Connection, rows: str = "") -> dict[str, int]:
    """How many refunds stand in each state, of all or of one partial index."""
    query = select(refund.c.state, func.count()).group_by(refund.c.state)
    counted = connection.execute(query.where(text(rows)) if rows else query)

    return {str(row[0]): int(row[1]) for row in counted}


def count_standing(connection: Connection) -> dict[str, int]:
    """How many refunds stand in each state that is not final, or reversed: whatever else the ledger holds.

    What waits for a worker or a provider is counted without being read.
    """
    queued, polled, checked = (
        select(func.count()).select_from(refund).where(*which).scalar_subquery()
        for which in (
            (text(lane_predicate("send")),),
            (text(lane_predicate("poll")),),
            (text(FOR_PEOPLE), refund.c.state == State.REVIEW, refund.c.due_at.is_not(None)),
        )
    )
    # In one statement: what moves meanwhile is in both of its counts, or in none.
    waiting = connection.execute(select(queued, polled - checked)).one()

    return {
        **by_state(connection, FOR_PEOPLE),
        **by_state(connection, lane_predicate("recover")),
        State.QUEUED: int(waiting[0]),
        State.PENDING: int(waiting[1]),
    }


def oldest_due(connection: Connection, now: float) -> float | None:
    """Since when the longest-waiting refund has been due, in seconds; None where nothing is.

    What rests on purpose does not count: first sendings of a paused account or of all, and those behind another refund
    of their payment.
    """
    working = (State.QUEUED, State.SENDING, State.UNKNOWN, State.PENDING)
    holder = refund.alias("holder")
    rests = or_(
        exists().where(account.c.name.in_((refund.c.account, EVERY)), account.c.paused),
        exists().where(
            holder.c.account == refund.c.account,
            holder.c.payment_ref == refund.c.payment_ref,
            or_(holder.c.holds, holder.c.state == State.UNKNOWN),
            holder.c.id != refund.c.id,
        ),
    )
    query = select(func.min(refund.c.due_at)).where(
        or_(*(text(f"({lane_predicate(lane)})") for lane in LANES)),
        refund.c.due_at <= now,
        refund.c.state.in_(working),
        refund.c.leased_by.is_(None),
        ~and_(refund.c.state == State.QUEUED, rests),
    )
    due: float | None = connection.execute(query).scalar()

    return None if due is None else max(now - due, 0.0)


def expiring(connection: Connection, before: float) -> dict[str, int]:
    """By account: refunds of unknown outcome whose handle can be replayed only until `before`."""
    query = (
        select(refund.c.account, func.count())
        .where(text(lane_predicate("recover")), refund.c.state == State.UNKNOWN, refund.c.replay_until < before)
        .group_by(refund.c.account)
    )

    return {str(row[0]): int(row[1]) for row in connection.execute(query)}


def accounts_with_open_refunds(connection: Connection) -> set[str]:
    """The accounts that still have something to do."""
    open_ones = (FOR_PEOPLE, *map(lane_predicate, LANES))
    queries = [select(refund.c.account).where(text(each)).distinct() for each in open_ones]

    return {name for query in queries for (name,) in connection.execute(query)}


def unknown_sums(connection: Connection) -> dict[str, tuple[int, int]]:
    """By currency: how many refunds nobody knows the outcome of, and their money in minor units."""
    query = (
        select(refund.c.currency, func.count(), func.sum(refund.c.amount))
        .where(or_(text(lane_predicate("recover")), text(FOR_PEOPLE)))
        .where(refund.c.ambiguous, refund.c.state.in_((State.UNKNOWN, State.REVIEW)))
        .group_by(refund.c.currency)
    )

    return {currency or "?": (count, int(amount or 0)) for currency, count, amount in connection.execute(query)}


def oldest_unknown(connection: Connection) -> float | None:
    """Since when the outcome of a refund has been unknown, in epoch seconds."""
    query = select(func.min(refund.c.since)).where(text(lane_predicate("recover")), refund.c.state == State.UNKNOWN)
    found: float | None = connection.execute(query).scalar()

    return found


def over_refunded(connection: Connection, limit: int = 100) -> list[dict[str, Any]]:
    """Payments of which more went back than was captured."""
    rows = connection.execute(select(payment).where(payment.c.over_refunded).limit(limit))

    return [dict(row._mapping) for row in rows]  # noqa: SLF001


def open_approvals(connection: Connection) -> int:
    """How many requests wait for a second person."""
    query = select(func.count()).select_from(approval).where(approval.c.status == "open")

    return int(connection.execute(query).scalar_one())


def waiting_events(connection: Connection) -> int:
    """How many state changes have not been told yet."""
    return int(connection.execute(select(func.count()).select_from(outbox)).scalar_one())


def balances(connection: Connection) -> list[tuple[str, str, int, int]]:
    """Payments whose reservation is not the sum of their open refunds: (account, ref, reserved, open). Always empty."""
    open_states = (State.AWAITING_APPROVAL, State.QUEUED, State.SENDING, State.UNKNOWN, State.PENDING, State.REVIEW)
    sums = (
        select(
            refund.c.account,
            refund.c.payment_ref,
            func.sum(case((refund.c.state.in_(open_states), func.coalesce(refund.c.amount, 0)), else_=0)).label("open"),
        )
        .group_by(refund.c.account, refund.c.payment_ref)
        .subquery()
    )
    query = (
        select(payment.c.account, payment.c.ref, payment.c.reserved, func.coalesce(sums.c.open, 0))
        .join(sums, and_(sums.c.account == payment.c.account, sums.c.payment_ref == payment.c.ref), isouter=True)
        .where(payment.c.reserved != func.coalesce(sums.c.open, 0))
    )

    return [(account, ref, reserved, int(total)) for account, ref, reserved, total in connection.execute(query)]
