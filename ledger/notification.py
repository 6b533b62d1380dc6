"""Notifications as they were received: kept once, looked at until somebody is found, forgotten after a while."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from domain.refund import Refund
from domain.state import State
from ledger.models import attempt, notification, payment, refund, refused_notification
from ledger.refunds import COLUMNS, load
from ledger.terms import known_by

HOUR = 3600
UNMATCHED = notification.c.state == "unmatched"
BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A notification to be kept. `body` is redacted and sealed; `hint` is None where it is not believed."""

    id: str
    account: str
    key: str
    event_id: str | None
    kind: str
    verified: bool
    why: str | None
    hint: str | None
    body: bytes
    size: int
    body_hash: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One that is to be looked at. `due_at`: when somebody else looks, should the one who took it be lost."""

    id: str
    account: str
    kind: str
    hint: str
    tries: int
    received_at: float
    due_at: float


def keep(connection: Connection, given: Kept, *, again_after: float | None) -> bool:
    """Keep one; True if there is something new to do.

    A repeat is only counted; one that says nothing of its own identity (`again_after` seconds given) is looked at once
    more, though not twice within that time: the same words may be about another change.
    """
    values = {name: getattr(given, name) for name in Kept.__slots__ if name != "at"}
    state = "received" if given.hint is not None else "refused"
    due_at = given.at if given.hint is not None else None
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    made = connection.execute(
        dialect.insert(notification)
        .values(**values, state=state, due_at=due_at, received_at=given.at, last_at=given.at)
        .on_conflict_do_nothing(index_elements=["key", "account"])
        .returning(notification.c.id)
    )
    if made.first() is not None:
        return given.hint is not None
    same = and_(notification.c.key == given.key, notification.c.account == given.account)
    connection.execute(
        update(notification).where(same).values(deliveries=notification.c.deliveries + 1, last_at=given.at)
    )
    if given.hint is None or again_after is None:
        return False

    return _look_again(connection, same, given.at, again_after)


def _look_again(connection: Connection, same: ColumnElement[bool], now: float, after: float) -> bool:
    """Have it looked at once more. A look that is under way may have been before the change, so it does not count."""
    rests = notification.c.processed_at <= now - after
    over = connection.execute(
        update(notification)
        .where(same, notification.c.due_at.is_(None))
        .values(state="received", due_at=case((rests, now), else_=now + after), tries=0)
    )
    sooner = connection.execute(
        update(notification).where(same, notification.c.due_at > now + after).values(due_at=now + after)
    )

    return over.rowcount + sooner.rowcount == 1


def refuse(connection: Connection, account: str, size: int, now: float, *, most: int) -> bool:
    """Count one that is not believed; True while there is room to keep it. `size`: bytes that would be kept."""
    count_refused(connection, account, now)
    room = connection.execute(
        update(refused_notification)
        .where(
            refused_notification.c.account == account,
            refused_notification.c.hour == int(now) // HOUR,
            refused_notification.c.kept < most,
        )
        .values(kept=refused_notification.c.kept + 1, kept_bytes=refused_notification.c.kept_bytes + size)
    )

    return room.rowcount == 1


def count_refused(connection: Connection, account: str, now: float, count: int = 1) -> None:
    """Count so many that are not believed, and of which nothing is kept."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(
        dialect.insert(refused_notification)
        .values(account=account, hour=int(now) // HOUR, refused=count, last_at=now)
        .on_conflict_do_update(
            index_elements=["account", "hour"],
            set_={"refused": refused_notification.c.refused + count, "last_at": now},
        )
    )


def refused_since(connection: Connection, since: float) -> dict[str, int]:
    """How many were not believed, by account, in the hours that began after `since`, and its own."""
    query = (
        select(refused_notification.c.account, func.sum(refused_notification.c.refused))
        .where(refused_notification.c.hour >= int(since) // HOUR)
        .group_by(refused_notification.c.account)
    )

    return {account: int(count) for account, count in connection.execute(query)}


def due_accounts(connection: Connection, accounts: Sequence[str], now: float) -> list[str]:
    """Which accounts have one that is to be looked at."""
    return [
        account
        for account in accounts
        if connection.execute(
            select(notification.c.id)
            .where(notification.c.account == account, notification.c.due_at <= now)
            .order_by(notification.c.due_at)
            .limit(1)
        ).first()
        is not None
    ]


def claim(connection: Connection, account: str, *, limit: int, now: float, until: float) -> list[Due]:
    """Take what is due, the oldest first; it becomes due again at `until`, should the one who took it be lost."""
    names = tuple(notification.c[name] for name in Due.__slots__)
    query = (
        select(*names)
        .where(notification.c.account == account, notification.c.due_at <= now)
        .order_by(notification.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = [Due(**{**row._mapping, "due_at": until}) for row in connection.execute(query)]  # noqa: SLF001 - the documented way
    if found:
        ids = [each.id for each in found]
        connection.execute(update(notification).where(notification.c.id.in_(ids)).values(due_at=until))

    return found


def settle(
    connection: Connection,
    due: Due,
    *,
    state: str,
    result: str,
    refunds: Sequence[str],
    due_at: float | None,
    now: float,
) -> bool:
    """What became of it; with `due_at` it is looked at again. False: it is to be looked at again in any case.

    It was told or asked for once more while it was looked at, or somebody else has taken it over.
    """
    settled = connection.execute(
        update(notification)
        .where(notification.c.id == due.id, notification.c.due_at == due.due_at)
        .values(
            state=state,
            result=result[:512],
            refunds=msgspec.json.encode(list(refunds)).decode(),
            due_at=due_at,
            tries=notification.c.tries + 1,
            processed_at=now,
        )
    )

    return settled.rowcount == 1


def replay(connection: Connection, notification_id: str, now: float, **values: Any) -> dict[str, Any] | None:
    """Have it looked at again, with these columns changed; None where there is none that was believed."""
    done = connection.execute(
        update(notification)
        .where(notification.c.id == notification_id, notification.c.hint.is_not(None))
        .values(state="received", due_at=now, tries=0, received_at=now, **values)
    )

    return get(connection, notification_id) if done.rowcount else None


def get(connection: Connection, notification_id: str) -> dict[str, Any] | None:
    """One with its sealed body."""
    row = connection.execute(select(notification).where(notification.c.id == notification_id)).first()

    return None if row is None else dict(row._mapping)  # noqa: SLF001


def listed(
    connection: Connection,
    *,
    limit: int = 100,
    account: str | None = None,
    unmatched: bool = False,
    unverified: bool = False,
    before: tuple[float, str] | None = None,
) -> list[dict[str, Any]]:
    """What was received, the newest first, without the bodies; `before`: the time and id of one, those after it."""
    columns = [column for column in notification.c if column.name not in ("body", "hint", "key")]
    query = select(*columns).order_by(notification.c.last_at.desc(), notification.c.id.desc()).limit(limit)
    if before is not None:
        at, last = before
        query = query.where(notification.c.last_at <= at, or_(notification.c.last_at < at, notification.c.id < last))
    if account is not None:
        query = query.where(notification.c.account == account)
    if unmatched:
        query = query.where(notification.c.state.in_(("parked", "unmatched")))
    if unverified:
        query = query.where(notification.c.verified.is_(False))

    return [
        {**row._mapping, "refunds": msgspec.json.decode(row.refunds)}  # noqa: SLF001
        for row in connection.execute(query)
    ]


def count_unmatched(connection: Connection) -> int:
    """For how many nobody was found in time."""
    query = select(func.count()).select_from(notification).where(UNMATCHED)

    return int(connection.execute(query).scalar_one())


def forget(connection: Connection, *, before: float) -> int:
    """Remove what was last heard of before then; what is still to be looked at stays. Answers how many, of a batch."""
    old = (
        select(notification.c.id)
        .where(notification.c.due_at.is_(None), notification.c.last_at < before)
        .order_by(notification.c.last_at)
        .limit(BATCH)
    )
    ids = list(connection.execute(old).scalars())
    if ids:
        connection.execute(delete(notification).where(notification.c.id.in_(ids)))
    connection.execute(delete(refused_notification).where(refused_notification.c.last_at < before))

    return len(ids)


# -- whom it is about ------------------------------------------------------------------------------------------------


def by_provider_ids(connection: Connection, account: str, ids: Sequence[str]) -> list[Refund]:
    """Refunds of ours that are known under these ids of the provider."""
    return _found(connection, refund.c.provider_refund_id.in_(ids), refund.c.account == account) if ids else []


def by_handle(connection: Connection, account: str, handle: str) -> list[Refund]:
    """The refund that goes, or last went, under this handle."""
    return _found(connection, known_by([handle], "handle"), refund.c.account == account)


def by_old_handle(connection: Connection, account: str, payment_ref: str, handle: str) -> list[Refund]:
    """The refund of a payment that once went under a handle which it has given up since."""
    tried = select(attempt.c.refund_id).where(attempt.c.refund_id == refund.c.id, attempt.c.handle == handle)

    return _found(
        connection,
        refund.c.payment_ref == payment_ref,
        refund.c.account == account,
        refund.c.handle != handle,
        tried.exists(),
    )


def given_up(connection: Connection, standing: Refund) -> str | None:
    """The last handle but its own under which something of a refund may have reached the provider."""
    doubtful = or_(attempt.c.outcome.is_(None), attempt.c.outcome.not_in(("notsent", "declined")))
    query = (
        select(attempt.c.handle)
        .where(attempt.c.refund_id == standing.id, attempt.c.no <= standing.attempts)
        .where(attempt.c.handle != standing.handle, doubtful)
        .order_by(attempt.c.no.desc())
        .limit(1)
    )

    return connection.execute(query).scalar()


def by_id(connection: Connection, account: str, refund_id: str) -> list[Refund]:
    """A refund by our own id."""
    return _found(connection, refund.c.id == refund_id, refund.c.account == account)


def nameless(connection: Connection, account: str, payment_ref: str) -> bool:
    """Whether a refund of that payment may have reached the provider and has no id of the provider's yet."""
    found = _found(
        connection,
        refund.c.payment_ref == payment_ref,
        refund.c.account == account,
        refund.c.provider_refund_id.is_(None),
        refund.c.state.in_((State.SENDING, State.UNKNOWN, State.PENDING, State.REVIEW)),
    )

    return any(each.state is not State.REVIEW or each.ambiguous for each in found)


def payment_of_order(connection: Connection, account: str, order_id: str) -> str | None:
    """The one payment of an order, as the refunds of it have it."""
    refs = set(
        connection.execute(
            select(refund.c.payment_ref).where(
                known_by([order_id], "order_id"), refund.c.account == account, refund.c.payment_id.is_not(None)
            )
        ).scalars()
    )

    return refs.pop() if len(refs) == 1 else None


def is_known(connection: Connection, account: str, payment_ref: str) -> bool:
    """Whether the books have this payment."""
    query = select(payment.c.ref).where(payment.c.account == account, payment.c.ref == payment_ref)

    return connection.execute(query).first() is not None


def _found(connection: Connection, *which: Any) -> list[Refund]:
    return [load(row) for row in connection.execute(select(*COLUMNS).where(*which).order_by(refund.c.id).limit(50))]
