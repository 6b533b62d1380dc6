"""Refund rows: claimed, changed under guard, with their attempts, events, money and outbox in one transaction."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import BigInteger, Connection, FromClause, Integer, Text, Update, and_, func, or_, select, text, update

from domain.decision import Cause
from domain.job import canonical
from domain.outcome import DeclineClass
from domain.refund import MUTABLE, Refund, leased
from domain.state import Hold, State
from ledger.models import attempt, event, lane_predicate, outbox, payment, refund, search_term
from ledger.session import OverRows, Writes
from ledger.terms import term

COLUMNS = tuple(refund.c[name] for name in Refund.__struct_fields__)
# A look-up costs a tenth of what `State(word)` does.
_STATES = {str(state): state for state in State}
_LIST = ", ".join(f"r.{column.name}" for column in COLUMNS)


class AttemptStart(Struct, frozen=True, kw_only=True, gc=False):
    """The frozen request: what a replay sends, byte for byte. `body` is sealed."""

    no: int
    handle: str
    method: str
    url: str
    headers: str
    body: bytes
    body_hash: str
    fingerprint: str
    seen: str | None
    replay_until: float | None
    started_at: float
    worker: str


class AttemptEnd(Struct, frozen=True, kw_only=True, gc=False):
    """What became of an attempt; `answer` is redacted and sealed."""

    no: int
    ended_at: float
    outcome: str
    http_status: int | None = None
    answer: bytes | None = None
    note: str | None = None


class Change(Struct, frozen=True, kw_only=True):
    """One guarded step of a refund: it happens only if the row still stands as `before`.

    `type` None: only the clock and the counters move, which is not worth an event or a version. `fenced`: the writer
    claimed the row, and must still hold that lease.
    """

    before: Refund
    after: Refund
    type: str | None
    actor: str
    data: Mapping[str, Any] = {}
    start: AttemptStart | None = None
    end: AttemptEnd | None = None
    fenced: bool = True


def load(row: Any) -> Refund:
    """The value of a row that begins with `COLUMNS`."""
    known = dict(zip(Refund.__struct_fields__, row, strict=False))
    known["state"] = _STATES[known["state"]]
    known["cause"] = known["cause"] and Cause(known["cause"])
    known["failure_class"] = known["failure_class"] and DeclineClass(known["failure_class"])

    return Refund(**known)


def get(connection: Connection, refund_id: str, *, lock: bool = False) -> Refund | None:
    """One refund; with `lock`, nobody else changes it in this transaction."""
    query = select(*COLUMNS).where(refund.c.id == refund_id)
    row = connection.execute(query.with_for_update() if lock else query).first()

    return None if row is None else load(row)


# Nothing of the same payment stands in the way. Two spellings keep PostgreSQL from planning by guesses, so that the
# cost is the same without statistics, with stale ones and prepared: OFFSET 0 makes each question a probe of one payment
# instead of a join over the table, and IS TRUE keeps the index of what is due out of that probe.
_FREE = """
    AND NOT EXISTS (SELECT 1 FROM refund h WHERE h.account = r.account AND h.payment_ref = r.payment_ref
                    AND (h.holds OR h.state = 'unknown') AND h.id <> r.id {probe})
    AND (r.holds OR (NOT :alone AND r.resolved) OR NOT EXISTS (
        SELECT 1 FROM refund q WHERE q.account = r.account AND q.payment_ref = r.payment_ref
        AND q.state = 'queued' AND q.id < r.id AND (q.due_at <= :now) IS TRUE {probe}))
"""


def _due_statement(lane: str, *, sqlite: bool, urgent: bool = False) -> str:
    """What a claim takes. Its cost does not grow with the table: only the due end of one index is read."""
    free = _FREE.format(probe="" if sqlite else "OFFSET 0") if lane == "send" else ""
    order = "r.replay_until NULLS LAST, r.due_at" if urgent else "r.due_at"
    lock = "" if sqlite else " FOR UPDATE OF r SKIP LOCKED"

    return (
        f"SELECT {_LIST} FROM refund r WHERE r.account = :account AND {lane_predicate(lane)} AND r.due_at <= :now"
        f"{free} ORDER BY {order} LIMIT :limit{lock}"
    )


_DUE = {
    (lane, sqlite, urgent): text(_due_statement(lane, sqlite=sqlite, urgent=urgent)).columns(*COLUMNS)
    for lane in ("send", "recover", "poll")
    for sqlite in (True, False)
    for urgent in (True, False)
}


def claim(
    connection: Connection,
    lane: str,
    account: str,
    *,
    limit: int,
    now: float,
    until: float,
    worker: str,
    alone: bool,
    urgent: bool = False,
    begin: Callable[[Refund], Change | None] | None = None,
) -> list[Refund]:
    """Lease up to `limit` due rows of a lane until `until`; two claims never get the same row.

    The rows are locked, and what becomes of them is written in the same transaction: the lease, or with it the first
    step that `begin` makes of a leased refund. `alone`: the account's provider takes one refund per payment at a time.
    `urgent`: few can be claimed, so those whose handle can be replayed only for a little while yet come first; that
    reads all that is due.
    """
    parameters: dict[str, Any] = {"account": account, "now": now, "limit": limit}
    if lane == "send":
        parameters["alone"] = alone
    due = connection.execute(_DUE[lane, connection.dialect.name == "sqlite", urgent], parameters)
    changes = []
    for found in sorted(map(load, due), key=lambda each: each.id):
        mine = leased(found, worker, until, holds=lane == "send" and (alone or not found.resolved))
        begun = begin(mine) if begin is not None else None
        change = begun or Change(before=found, after=mine, type=None, actor=worker)
        changes.append(replace(change, before=found))

    return [refund for refund in apply(connection, changes) if refund is not None]


def chained(head: str, subject: str, seq: int, kind: str, at: float, actor: str, data: str) -> str:
    """The hash of an event, which holds the one before it."""
    return hashlib.sha256(canonical([head, subject, seq, kind, at, actor, data])).hexdigest()


_TYPES: dict[str, Any] = {
    "id": Text(),
    "expected_version": Integer(),
    "expected_fence": Integer(),
    "next_fence": Integer(),
    "next_version": Integer(),
    "chain": Text(),
    **{name: refund.c[name].type for name in MUTABLE},
}


def apply(connection: Connection, changes: Sequence[Change]) -> list[Refund | None]:
    """Carry out each change whose refund still stands as expected: how it stands now, or None where it did not.

    State, attempt, event, money and outbox are one transaction: there is no half of a step.
    """
    stands: dict[int, Refund] = {}
    left = list(changes)
    while left:
        # A step whose lease ran out and its successor may meet in one batch: each is measured by its own guard.
        once: dict[str, Change] = {}
        for change in left:
            once.setdefault(change.before.id, change)
        stands |= _apply_distinct(connection, list(once.values()))
        left = [change for change in left if once[change.before.id] is not change]

    return [stands.get(id(change)) for change in changes]


def _apply_distinct(connection: Connection, changes: Sequence[Change]) -> dict[int, Refund]:
    staged = [(change, _event_row(change)) for change in changes]
    found = _update(connection, staged)
    won = [(change, row) for change, row in staged if change.before.id in found]
    kept = [change for change, _ in won]
    writes = Writes(connection)
    writes.insert(event, [row for _, row in won if row is not None])
    writes.insert(attempt, _started(kept))
    writes.update(attempt, _ended(kept), keys=("refund_id", "no"))
    writes.over(_BOOK, _money(kept))
    writes.insert(outbox, _told(kept))
    writes.insert(search_term, _renamed(kept))
    writes.carry_out()

    return {id(change): _standing(change, row) for change, row in won}


def _standing(change: Change, row: Mapping[str, Any] | None) -> Refund:
    return change.after if row is None else replace(change.after, version=row["seq"], chain=row["hash"])


def _event_row(change: Change) -> dict[str, Any] | None:
    if change.type is None:
        return None
    before, after = change.before, change.after
    seq = before.version + 1
    data = {"from": before.state, "to": after.state, **change.data}
    encoded = canonical(data).decode()
    digest = chained(before.chain, before.id, seq, change.type, after.updated_at, change.actor, encoded)

    return {
        "subject": before.id,
        "seq": seq,
        "type": change.type,
        "at": after.updated_at,
        "actor": change.actor,
        "data": encoded,
        "hash": digest,
    }


def _update(connection: Connection, staged: Sequence[tuple[Change, Mapping[str, Any] | None]]) -> set[str]:
    expected = [
        {
            "id": change.before.id,
            "expected_version": change.before.version,
            "expected_fence": change.before.fence if change.fenced else None,
            "next_fence": change.after.fence if change.fenced else None,
            "next_version": change.before.version + (row is not None),
            "chain": change.before.chain if row is None else row["hash"],
            # A member that is not there reads as NULL: a third of them is neither sent nor parsed.
            **{name: value for name in MUTABLE if (value := getattr(change.after, name)) is not None},
        }
        for change, row in staged
    ]

    return {found for (found,) in _UPDATE.run(connection, expected)}


def _guarded(values: FromClause) -> Update:
    return (
        update(refund)
        .values({name: values.c[name] for name in MUTABLE})
        .values(version=values.c.next_version, chain=values.c.chain)
        # A person's change leaves the lease's number as it is, whoever claims the row meanwhile.
        .values(fence=func.coalesce(values.c.next_fence, refund.c.fence))
        .where(
            refund.c.id == values.c.id,
            refund.c.version == values.c.expected_version,
            or_(values.c.expected_fence.is_(None), refund.c.fence == values.c.expected_fence),
        )
        .returning(refund.c.id)
    )


_UPDATE = OverRows(_TYPES, _guarded)


def _started(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [
        {
            "refund_id": change.before.id,
            "fence": change.after.fence,
            **{name: getattr(change.start, name) for name in AttemptStart.__struct_fields__},
        }
        for change in changes
        if change.start is not None
    ]


def _ended(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [
        {
            "refund_id": change.before.id,
            **{name: getattr(change.end, name) for name in AttemptEnd.__struct_fields__},
        }
        for change in changes
        if change.end is not None
    ]


_MONEY_TYPES: dict[str, Any] = {"account": Text(), "ref": Text(), "reserved": BigInteger(), "refunded": BigInteger()}


def _money(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """What the changes add to their payments; in one order, so that two batches do not wait for each other."""
    sums: dict[tuple[str, str], list[int]] = {}
    for change in changes:
        for each, sign in ((change.before, -1), (change.after, 1)):
            entry = sums.setdefault((each.account, each.payment_ref), [0, 0])
            entry[0] += sign * (each.amount or 0) * (each.hold is Hold.RESERVED)
            entry[1] += sign * (each.amount or 0) * (each.hold is Hold.REFUNDED)

    return [
        {"account": account, "ref": ref, "reserved": reserved, "refunded": refunded}
        for (account, ref), (reserved, refunded) in sorted(sums.items())
        if reserved or refunded
    ]


def _booked(values: FromClause) -> Update:
    total = payment.c.reserved + values.c.reserved + payment.c.refunded + values.c.refunded

    return (
        update(payment)
        .values(
            reserved=payment.c.reserved + values.c.reserved,
            refunded=payment.c.refunded + values.c.refunded,
            # A fact is always booked; what it takes beyond the captured amount is marked, and shown.
            over_refunded=or_(
                payment.c.over_refunded, and_(payment.c.captured.is_not(None), total > payment.c.captured)
            ),
        )
        .where(payment.c.account == values.c.account, payment.c.ref == values.c.ref)
    )


_BOOK = OverRows(_MONEY_TYPES, _booked)


def _renamed(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """A refund with a new handle is still found by the old one."""
    return [
        term(change.before.id, change.after.handle) for change in changes if change.after.handle != change.before.handle
    ]


def _told(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [
        {
            "refund_id": change.before.id,
            "reference": change.before.reference,
            "account": change.before.account,
            "state": change.after.state,
            "version": change.before.version + 1,
            "at": change.after.updated_at,
        }
        for change in changes
        if change.after.state is not change.before.state
    ]


class Frozen(Struct, frozen=True, kw_only=True, gc=False):
    """A stored attempt, as a replay needs it."""

    no: int
    handle: str
    method: str
    url: str
    headers: str
    body: bytes
    body_hash: str
    fingerprint: str
    seen: str | None
    replay_until: float | None


_FROZEN = tuple(attempt.c[name] for name in Frozen.__struct_fields__)


def last_attempts(connection: Connection, refund_ids: Sequence[str]) -> dict[str, Frozen]:
    """The newest attempt of each refund."""
    newest = (
        select(*_FROZEN, attempt.c.refund_id)
        .where(attempt.c.refund_id.in_(refund_ids))
        .order_by(attempt.c.refund_id, attempt.c.no)
    )

    return {
        row.refund_id: Frozen(**{name: getattr(row, name) for name in Frozen.__struct_fields__})
        for row in connection.execute(newest)
    }


def last_fingerprints(connection: Connection, refund_ids: Sequence[str]) -> dict[str, str]:
    """Of each refund's newest attempt, whose account it was made with."""
    ordered = (
        select(attempt.c.refund_id, attempt.c.fingerprint)
        .where(attempt.c.refund_id.in_(refund_ids))
        .order_by(attempt.c.refund_id, attempt.c.no)
    )

    return {row.refund_id: row.fingerprint for row in connection.execute(ordered)}


_PROBES = {
    # The order is that of the index: without it a walk through the table to the first match may look quicker.
    lane: text(
        f"SELECT 1 FROM refund WHERE account = :account AND {lane_predicate(lane)} AND due_at <= :now "
        "ORDER BY due_at LIMIT 1"
    )
    for lane in ("send", "recover", "poll")
}


def due_lanes(connection: Connection, accounts: Sequence[str], now: float) -> list[tuple[str, str]]:
    """Which (account, lane) have something due: one index probe each, however much there is."""
    return [
        (account, lane)
        for lane, probe in _PROBES.items()
        for account in accounts
        if connection.execute(probe, {"account": account, "now": now}).first() is not None
    ]
