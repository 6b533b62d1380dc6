"""The audit journal: each subject's events are a hash chain, and anchors digest the heads of all chains."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Boolean, ColumnElement, Connection, Row, func, insert, literal_column, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from domain.job import canonical
from ledger.models import BY_PEOPLE, COMMON, MACHINES, UNCOMMON, anchor, event, refund
from ledger.refunds import chained

# A commit may land this much later than the time it carries; anchors look back that far.
MARGIN = 600.0
#: Seconds that are looked through first for the newest events; and how many times as far back each time after that.
_FIRST_LOOK = 900.0
_FURTHER = 4


class Place(NamedTuple):
    """Where an event stands among all: by its time, and one of a kind."""

    at: float
    subject: str
    seq: int


def append(connection: Connection, subject: str, kind: str, *, actor: str, now: float, data: Mapping[str, Any]) -> None:
    """One event of a subject that is no refund (an account, a user, a request): few, so the head is read."""
    hold(connection, subject)
    last = connection.execute(
        select(event.c.seq, event.c.hash).where(event.c.subject == subject).order_by(event.c.seq.desc()).limit(1)
    ).first()
    seq, head = (last.seq + 1, last.hash) if last else (1, "")
    encoded = canonical(data).decode()
    connection.execute(
        insert(event).values(
            subject=subject,
            seq=seq,
            type=kind,
            at=now,
            actor=actor,
            data=encoded,
            hash=chained(head, subject, seq, kind, now, actor, encoded),
        )
    )


def hold(connection: Connection, subject: str) -> None:
    """Be the only one who tells of a subject until the transaction ends; on SQLite whoever writes is alone anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"event/{subject}"))))


def story(connection: Connection, subject: str) -> list[dict[str, Any]]:
    """A subject's events in order."""
    rows = connection.execute(select(event).where(event.c.subject == subject).order_by(event.c.seq))

    return [{**row._mapping, "data": msgspec.json.decode(row.data)} for row in rows]  # noqa: SLF001


def newest(connection: Connection, subject: str) -> tuple[str, dict[str, Any]] | None:
    """Type and data of a subject's last event."""
    query = select(event.c.type, event.c.data).where(event.c.subject == subject).order_by(event.c.seq.desc()).limit(1)
    row = connection.execute(query).first()

    return None if row is None else (row.type, msgspec.json.decode(row.data))


def firsts(connection: Connection, subjects: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The data of each subject's first event."""
    query = select(event.c.subject, event.c.data).where(event.c.subject.in_(subjects), event.c.seq == 1)

    return {subject: msgspec.json.decode(data) for subject, data in connection.execute(query)}


def recent(
    connection: Connection,
    *,
    limit: int,
    now: float,
    subject: str | None = None,
    actor: str | None = None,
    kind: str | None = None,
    since: float = 0.0,
    before: Place | None = None,
) -> list[dict[str, Any]]:
    """The newest events of all subjects, down to `since`. In `subject` a `%` stands for any letters."""
    wanted, indexed = _wanted(subject, actor, kind)
    lower = since if indexed else max(since, min(before.at if before else now, now) - _FIRST_LOOK)
    found = _between(connection, wanted, limit, lower, before)
    while len(found) < limit and lower > since:  # no index has their order: look back further and further
        upper = Place(lower, "", 0)
        lower = max(since, now - (now - lower) * _FURTHER)
        found += _between(connection, wanted, limit - len(found), lower, upper)

    return [{**row._mapping, "data": msgspec.json.decode(row.data)} for row in found]  # noqa: SLF001


def _wanted(subject: str | None, actor: str | None, kind: str | None) -> tuple[list[ColumnElement[bool]], bool]:
    """What events must be like, and whether an index leads to them; a partial one is named by its own condition."""
    clauses: list[ColumnElement[bool]] = []
    exact = subject is not None and "%" not in subject
    person = actor is not None and ":" not in actor and actor not in MACHINES
    uncommon = kind is not None and kind not in COMMON
    if subject is not None:
        clauses.append(event.c.subject == subject if exact else event.c.subject.like(subject))
    if actor is not None:
        clauses.append(event.c.actor == actor)
    if kind is not None:
        clauses.append(event.c.type == kind)
    if person:
        clauses.append(literal_column(f"({BY_PEOPLE})", Boolean))
    if uncommon:
        clauses.append(literal_column(f"({UNCOMMON})", Boolean))

    return clauses, exact or person or uncommon


def _between(
    connection: Connection, wanted: Sequence[ColumnElement[bool]], limit: int, lower: float, upper: Place | None
) -> list[Row[Any]]:
    place = (event.c.at, event.c.subject, event.c.seq)
    query = select(event).where(*wanted, event.c.at >= lower).order_by(*(each.desc() for each in place)).limit(limit)
    if upper is not None:
        query = query.where(event.c.at <= upper.at, tuple_(*place) < upper)

    return list(connection.execute(query))


def cast_anchor(connection: Connection, now: float) -> int:
    """Digest the heads that have moved since the last anchor, with that anchor's own hash; answers how many.

    Of two who do it at once one does nothing: what the other has left out is in the next anchor.
    """
    last = connection.execute(select(anchor).order_by(anchor.c.no.desc()).limit(1)).first()
    since = (last.at - MARGIN) if last else 0.0
    known: set[tuple[str, int]] = set()
    for row in connection.execute(select(anchor.c.heads).where(anchor.c.at >= since - MARGIN)):
        known.update((subject, seq) for subject, seq, _ in msgspec.json.decode(row.heads))
    newest = (
        select(event.c.subject, func.max(event.c.seq).label("seq"))
        .where(event.c.at >= since)
        .group_by(event.c.subject)
        .subquery()
    )
    moved = connection.execute(
        select(event.c.subject, event.c.seq, event.c.hash)
        .join(newest, (event.c.subject == newest.c.subject) & (event.c.seq == newest.c.seq))
        .order_by(event.c.subject)
    )
    heads = [list(row) for row in moved if (row.subject, row.seq) not in known]
    if not heads:
        return 0
    encoded = msgspec.json.encode(heads).decode()
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    cast = connection.execute(
        dialect.insert(anchor)
        .values(
            no=(last.no + 1) if last else 1,
            at=now,
            heads=encoded,
            hash=_anchor_hash(last.hash if last else "", encoded),
        )
        .on_conflict_do_nothing()
        .returning(anchor.c.no)
    )

    return len(heads) if cast.first() is not None else 0


def _anchor_hash(previous: str, heads: str) -> str:
    return hashlib.sha256(f"{previous}\n{heads}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something in the journal that is not as it was written."""

    subject: str
    seq: int
    what: str


def verify(connection: Connection) -> tuple[int, list[Flaw]]:
    """Walk every chain and every anchor: how many events were read, and what does not fit."""
    flaws: list[Flaw] = []
    heads: dict[str, tuple[int, str]] = {}
    states: dict[str, str | None] = {}
    hashes: dict[tuple[str, int], str] = {}
    count = 0
    wanted = _anchored(connection, flaws)
    for row in _in_order(connection):
        count += 1
        seq, head = heads.get(row.subject, (0, ""))
        if row.seq != seq + 1:
            flaws.append(Flaw(row.subject, row.seq, f"an event is missing after {seq}"))
        elif chained(head, row.subject, row.seq, row.type, row.at, row.actor, row.data) != row.hash:
            flaws.append(Flaw(row.subject, row.seq, "the event was changed"))
        heads[row.subject] = (row.seq, row.hash)
        states[row.subject] = _STATE.decode(row.data).to
        if (row.subject, row.seq) in wanted:
            hashes[row.subject, row.seq] = row.hash
    flaws.extend(_check_heads(connection, heads, states))
    flaws.extend(
        Flaw(subject, seq, "the event that an anchor names is missing or another one")
        for (subject, seq), digest in wanted.items()
        if hashes.get((subject, seq)) != digest
    )

    return count, flaws


def _in_order(connection: Connection) -> Iterator[Any]:
    query = select(event).order_by(event.c.subject, event.c.seq).execution_options(yield_per=2000)

    return iter(connection.execute(query))


def _anchored(connection: Connection, flaws: list[Flaw]) -> dict[tuple[str, int], str]:
    wanted: dict[tuple[str, int], str] = {}
    previous = ""
    number = 0
    for row in connection.execute(select(anchor).order_by(anchor.c.no)):
        number += 1
        if row.no != number or _anchor_hash(previous, row.heads) != row.hash:
            flaws.append(Flaw(f"anchor/{row.no}", row.no, "the anchor was changed, or one before it is missing"))
        previous, number = row.hash, row.no
        wanted.update({(subject, seq): digest for subject, seq, digest in msgspec.json.decode(row.heads)})

    return wanted


class _State(msgspec.Struct):
    """The state that an event led to."""

    to: str | None = None


_STATE = msgspec.json.Decoder(_State)


def _check_heads(
    connection: Connection, heads: Mapping[str, tuple[int, str]], states: Mapping[str, str | None]
) -> Iterator[Flaw]:
    found = set()
    for row in connection.execute(select(refund.c.id, refund.c.version, refund.c.chain, refund.c.state)):
        found.add(row.id)
        if heads.get(row.id) != (row.version, row.chain) or states.get(row.id) != row.state:
            yield Flaw(row.id, row.version, "the refund does not stand where its last event says")
    for subject in heads:
        if subject.startswith("rf_") and subject not in found:
            yield Flaw(subject, heads[subject][0], "the events of a refund that does not exist")


def events_count(connection: Connection) -> int:
    """How many events there are."""
    return int(connection.execute(select(func.count()).select_from(event)).scalar_one())
