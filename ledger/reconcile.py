"""Reconciliation in the ledger: runs that can be taken up again, and the differences that they found."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgspec
from sqlalchemy import Connection, Text, and_, case, func, insert, or_, select, text, true, update

from domain.reconcile import Kind, Listed, Source, Standing
from domain.refund import Refund
from domain.state import State
from ledger.models import (
    FOR_PEOPLE,
    attempt,
    lane_predicate,
    recon_difference,
    recon_file,
    recon_line,
    recon_run,
    refund,
)
from ledger.refunds import COLUMNS, load
from ledger.session import OverRows
from ledger.terms import known_by

# Who ends what ends by itself; the name of no person.
AUTOMATIC = "reconciliation"
# The phase of a file that was read and that nobody has decided about: its lines count for nothing yet.
READ = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One comparison. `bookmark`: how far it has come in its `phase`. Times in epoch seconds."""

    id: str
    account: str
    source: Source
    state: str
    phase: str
    bookmark: str
    window_from: float | None
    window_to: float | None
    started_by: str
    started_at: float
    ended_at: float | None
    leased_by: str | None
    lease_until: float
    compared: int
    matched: int
    differing: int
    unanswered: int
    bad: int
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where ours and theirs differ; `ours` and `theirs` are JSON. `amount`: what is in question, in minor units."""

    id: str
    identity: str
    account: str
    kind: Kind
    state: Standing
    run_id: str
    last_run_id: str
    refund_id: str | None
    amount: int | None
    currency: str | None
    ours: str
    theirs: str
    owner: str | None
    found_at: float
    seen_at: float
    resolution: str | None
    reason_code: str | None
    note: str | None
    closed_by: str | None
    closed_at: float | None

    @property
    def listed(self) -> Listed:
        """Theirs, as it was found."""
        return msgspec.json.decode(self.theirs, type=Listed)


_RUN = tuple(recon_run.c[each.name] for each in fields(Run))
_DIFFERENCE = tuple(recon_difference.c[each.name] for each in fields(Difference))


# -- runs ------------------------------------------------------------------------------------------------------------


def start(connection: Connection, **values: Any) -> None:
    """A new run. IntegrityError where one of this account and source is going on."""
    connection.execute(insert(recon_run).values(**values))


def get(connection: Connection, run_id: str) -> Run | None:
    """One run."""
    row = connection.execute(select(*_RUN).where(recon_run.c.id == run_id)).first()

    return None if row is None else _run(row)


def _run(row: Any) -> Run:
    known = {**row._mapping, "source": Source(row.source)}  # noqa: SLF001 - the documented way

    return Run(**known)


def runs(
    connection: Connection, *, limit: int, before: str | None = None, accounts: Sequence[str] = (), **equal: str
) -> list[Run]:
    """Runs, newest first, `limit` at most, older than the id `before`."""
    query = select(*_RUN).order_by(recon_run.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(recon_run.c.id < before)
    if accounts:
        query = query.where(recon_run.c.account.in_(accounts))
    query = query.where(*(recon_run.c[name] == value for name, value in equal.items()))

    return [_run(row) for row in connection.execute(query)]


def last_started(connection: Connection, account: str, source: Source) -> float | None:
    """When the newest run of this kind began."""
    query = select(func.max(recon_run.c.started_at)).where(recon_run.c.account == account, recon_run.c.source == source)
    found: float | None = connection.execute(query).scalar()

    return found


def lease(connection: Connection, run_id: str, worker: str, now: float, until: float) -> Run | None:
    """Take a run over whose lease is free, over or ours already; None where another has it, or it has ended."""
    free = or_(recon_run.c.lease_until <= now, recon_run.c.leased_by == worker)
    taken = connection.execute(
        update(recon_run)
        .where(recon_run.c.id == run_id, recon_run.c.state == "running", free)
        .values(leased_by=worker, lease_until=until)
    )

    return get(connection, run_id) if taken.rowcount else None


COUNTERS = ("compared", "matched", "differing", "unanswered", "bad")


def advance(connection: Connection, run: Run, **values: Any) -> bool:
    """Move a run on, its counters growing by what is given; False where it has another owner now."""
    counted = {name: recon_run.c[name] + values.pop(name) for name in COUNTERS if name in values}
    done = connection.execute(
        update(recon_run)
        .where(recon_run.c.id == run.id, recon_run.c.leased_by == run.leased_by, recon_run.c.state == "running")
        .values(**counted, **values)
    )

    return done.rowcount == 1


def finish(connection: Connection, run: Run, *, now: float, note: str | None = None) -> bool:
    """End a run: complete only where everything was answered and every line was read, else partial."""
    whole = and_(recon_run.c.unanswered == 0, recon_run.c.bad == 0)
    state = case((whole, "complete"), else_="partial")

    return advance(connection, run, state=state, ended_at=now, note=note, leased_by=None, lease_until=0.0)


def take_up(connection: Connection, run_id: str) -> None:
    """A file that was read and put aside waits for a decision again."""
    aside = recon_run.c.id == run_id, recon_run.c.phase == READ, recon_run.c.state == "partial"
    connection.execute(update(recon_run).where(*aside).values(state="running", ended_at=None, note=None))


def running(connection: Connection, account: str, now: float) -> list[Run]:
    """Runs of an account that nobody is at: new ones, and those whose worker was lost; not files to be looked at."""
    query = (
        select(*_RUN)
        .where(
            recon_run.c.account == account,
            recon_run.c.state == "running",
            recon_run.c.phase.not_in(("load", READ)),
            recon_run.c.lease_until <= now,
        )
        .order_by(recon_run.c.started_at)
    )

    return [_run(row) for row in connection.execute(query)]


# -- what a run walks along ------------------------------------------------------------------------------------------

# Refunds whose outcome the provider can be asked about.
_ASKABLE = " OR ".join(f"({lane_predicate(lane)})" for lane in ("recover", "poll"))
WATCHED = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.REVERSED, State.SETTLED)


def to_ask(
    connection: Connection,
    account: str,
    *,
    created_from: str,
    final_from: float,
    final_to: float | None,
    after: str,
    limit: int,
) -> list[Refund]:
    """Refunds to ask about, in the order of their ids, after the id `after`: not final, or final in the window.

    `created_from`: the first id that can be final since then, so that the walk begins there and not at the first
    refund ever. Older ones that are not final yet are found by the indexes of what is due or waits for a person.
    """
    window = select(refund.c.id).where(
        refund.c.account == account,
        refund.c.id > max(after, created_from),
        refund.c.attempts > 0,
        or_(
            refund.c.state.in_((State.UNKNOWN, State.PENDING, State.REVIEW)),
            and_(
                refund.c.state.in_(WATCHED),
                refund.c.final_at >= final_from,
                true() if final_to is None else refund.c.final_at < final_to,
            ),
        ),
    )
    old = select(refund.c.id).where(
        or_(text(f"({_ASKABLE})"), text(f"({FOR_PEOPLE})")),
        refund.c.account == account,
        refund.c.state.in_((State.UNKNOWN, State.PENDING, State.REVIEW)),
        refund.c.attempts > 0,
        refund.c.id > after,
        refund.c.id <= created_from,
    )
    ids = [*connection.execute(old.order_by(refund.c.id).limit(limit)).scalars()]
    if len(ids) < limit:
        ids += connection.execute(window.order_by(refund.c.id).limit(limit - len(ids))).scalars()
    found = connection.execute(select(*COLUMNS).where(refund.c.id.in_(ids)).order_by(refund.c.id))

    return [load(row) for row in found]


def payments_to_list(connection: Connection, account: str, *, created_from: str, after: str, limit: int) -> list[str]:
    """Payments with a refund of ours that may have reached the provider, after `after`, in the order of their names."""
    query = (
        select(refund.c.payment_ref)
        .where(
            refund.c.account == account,
            refund.c.id > created_from,
            refund.c.attempts > 0,
            refund.c.payment_id == refund.c.payment_ref,
            refund.c.payment_ref > after,
        )
        .group_by(refund.c.payment_ref)
        .order_by(refund.c.payment_ref)
        .limit(limit)
    )

    return [str(name) for name in connection.execute(query).scalars()]


def unseen(
    connection: Connection,
    run: Run,
    *,
    created_from: str,
    final_from: float,
    final_to: float,
    after: str,
    limit: int,
    any_run: bool,
) -> list[Refund]:
    """Refunds that we say were paid between these times and of which the run has seen nothing, after the id `after`.

    `any_run`: what another file of the account has shown counts as seen.
    """
    seen = select(recon_line.c.no).where(recon_line.c.refund_id == refund.c.id)
    undecided = select(recon_run.c.id).where(recon_run.c.id == recon_line.c.run_id, recon_run.c.phase == READ)
    seen = seen.where(~undecided.exists()) if any_run else seen.where(recon_line.c.run_id == run.id)
    query = (
        select(*COLUMNS)
        .where(
            refund.c.account == run.account,
            refund.c.id > max(after, created_from),
            refund.c.state == State.SUCCEEDED,
            refund.c.final_at >= final_from,
            refund.c.final_at < final_to,
            ~seen.exists(),
        )
        .order_by(refund.c.id)
        .limit(limit)
    )

    return [load(row) for row in connection.execute(query)]


def earlier_handles(connection: Connection, refund_ids: Sequence[str]) -> dict[str, str]:
    """The refund of every handle that was ever sent for these."""
    query = select(attempt.c.handle, attempt.c.refund_id).where(attempt.c.refund_id.in_(refund_ids))

    return {str(handle): str(refund_id) for handle, refund_id in connection.execute(query)}


def ours_among(connection: Connection, account: str, shown: Sequence[Listed]) -> list[Refund]:
    """Our refunds that any of these could be: by the provider's id, by our handle, an earlier one too, by payment."""
    ids = {each.provider_refund_id for each in shown} - {None}
    handles = [each.handle for each in shown if each.handle is not None]
    payments = {each.payment_id for each in shown} - {None}
    found: dict[str, Refund] = {}
    for those, values in (
        (refund.c.provider_refund_id.in_(ids), ids),
        (known_by(handles, "handle"), handles),
        (refund.c.payment_ref.in_(payments), payments),
    ):
        if values:
            query = select(*COLUMNS).where(those, refund.c.account == account)
            found.update({each.id: each for each in map(load, connection.execute(query))})

    return [found[key] for key in sorted(found)]


# -- differences -----------------------------------------------------------------------------------------------------

_NEW = text(
    "INSERT INTO recon_difference (id, identity, account, kind, state, run_id, last_run_id, refund_id, amount, "
    "currency, ours, theirs, found_at, seen_at, resolution, note) VALUES (:id, :identity, :account, :kind, 'open', "
    ":run_id, :run_id, :refund_id, :amount, :currency, :ours, :theirs, :now, :now, :resolution, :note) "
    # What closed by itself and is there again is open again; what a person has closed stays closed.
    "ON CONFLICT (identity) DO UPDATE SET last_run_id = excluded.last_run_id, seen_at = excluded.seen_at, "
    "state = CASE WHEN recon_difference.closed_by = 'reconciliation' THEN 'open' ELSE recon_difference.state END, "
    "closed_by = CASE WHEN recon_difference.closed_by = 'reconciliation' THEN NULL "
    "ELSE recon_difference.closed_by END, "
    # What the ledger makes of it may come later than it was found; what a person has said of it stays.
    "note = CASE WHEN recon_difference.resolution IS NULL AND excluded.resolution IS NOT NULL THEN excluded.note "
    "ELSE recon_difference.note END, resolution = COALESCE(recon_difference.resolution, excluded.resolution)"
)
_AMONG = OverRows(
    {"id": Text()}, lambda values: select(*_DIFFERENCE).where(recon_difference.c.id.in_(select(values.c.id)))
)


def record(connection: Connection, found: Sequence[dict[str, Any]]) -> list[Difference]:
    """Write down what was found; answers those that nobody had found before."""
    if not found:
        return []
    # In one order, so that two runs never wait for each other crosswise.
    connection.execute(_NEW, sorted(found, key=lambda each: str(each["identity"])))

    return [_difference(row) for row in _AMONG.run(connection, [{"id": each["id"]} for each in found])]


def _difference(row: Any) -> Difference:
    known = {each.name: getattr(row, each.name) for each in fields(Difference)}

    return Difference(**{**known, "kind": Kind(row.kind), "state": Standing(row.state)})


def difference(connection: Connection, difference_id: str, *, lock: bool = False) -> Difference | None:
    """One difference."""
    query = select(*_DIFFERENCE).where(recon_difference.c.id == difference_id)
    row = connection.execute(query.with_for_update() if lock else query).first()

    return None if row is None else _difference(row)


def differences(
    connection: Connection,
    *,
    limit: int,
    after: str = "",
    states: Sequence[str] = (),
    accounts: Sequence[str] = (),
    kinds: Sequence[str] = (),
    run_id: str | None = None,
    refund_id: str | None = None,
) -> list[Difference]:
    """Differences, the oldest first, `limit` at most, after the id `after`."""
    query = select(*_DIFFERENCE).where(recon_difference.c.id > after).order_by(recon_difference.c.id).limit(limit)
    among = (
        (recon_difference.c.state, states),
        (recon_difference.c.account, accounts),
        (recon_difference.c.kind, kinds),
    )
    query = query.where(*(column.in_(values) for column, values in among if values))
    if run_id is not None:
        query = query.where(recon_difference.c.last_run_id == run_id)
    if refund_id is not None:
        query = query.where(recon_difference.c.refund_id == refund_id)

    return [_difference(row) for row in connection.execute(query)]


def open_ages(connection: Connection, now: float) -> dict[tuple[str, str], int]:
    """How many differences are open, by kind and by how long ago they were found."""
    age = case(*((recon_difference.c.found_at > now - days * 86_400, name) for name, days in AGES), else_=OLDEST)
    query = (
        select(recon_difference.c.kind, age, func.count())
        .where(recon_difference.c.state == Standing.OPEN)
        .group_by(recon_difference.c.kind, age)
    )

    return {(str(kind), str(name)): int(count) for kind, name, count in connection.execute(query)}


AGES = (("under 1 d", 1), ("1 d to 7 d", 7), ("7 d to 30 d", 30))
OLDEST = "over 30 d"


def open_count(connection: Connection, kinds: Sequence[str] = ()) -> int:
    """How many differences are open."""
    query = select(func.count()).select_from(recon_difference).where(recon_difference.c.state == Standing.OPEN)
    if kinds:
        query = query.where(recon_difference.c.kind.in_(kinds))

    return int(connection.execute(query).scalar_one())


def open_kinds(connection: Connection) -> dict[str, int]:
    """How many differences are open, of each kind that there is."""
    query = (
        select(recon_difference.c.kind, func.count())
        .where(recon_difference.c.state == Standing.OPEN)
        .group_by(recon_difference.c.kind)
    )

    return {**dict.fromkeys(map(str, Kind), 0), **{row[0]: row[1] for row in connection.execute(query)}}


def change(connection: Connection, found: Difference, **values: Any) -> bool:
    """Change a difference that still stands as `found`; False where somebody else was first."""
    done = connection.execute(
        update(recon_difference)
        .where(recon_difference.c.id == found.id, recon_difference.c.state == found.state)
        .values(**values)
    )

    return done.rowcount == 1


def open_about(
    connection: Connection, refund_ids: Sequence[str], kinds: Sequence[Kind]
) -> list[tuple[Difference, Source]]:
    """Open differences about these refunds that nobody has taken up, each with where it was last seen."""
    query = (
        select(*_DIFFERENCE, recon_run.c.source)
        .join(recon_run, recon_run.c.id == recon_difference.c.last_run_id)
        .where(
            recon_difference.c.refund_id.in_(refund_ids),
            recon_difference.c.state == Standing.OPEN,
            recon_difference.c.kind.in_(kinds),
            recon_difference.c.resolution.is_(None),
        )
    )

    return [(_difference(row), Source(row.source)) for row in connection.execute(query)]


# -- files -----------------------------------------------------------------------------------------------------------


def file_of(connection: Connection, account: str, digest: str) -> Any:
    """The file of that content which this account was given before."""
    query = select(recon_file).where(recon_file.c.account == account, recon_file.c.hash == digest)

    return connection.execute(query).first()


def add_file(connection: Connection, **values: Any) -> None:
    """Remember a file."""
    connection.execute(insert(recon_file).values(**values))


def file_of_run(connection: Connection, run_id: str) -> Any:
    """The file that a run compares."""
    return connection.execute(select(recon_file).where(recon_file.c.run_id == run_id)).first()


def bad_lines(connection: Connection, run_id: str, limit: int = 100) -> list[tuple[int, str]]:
    """Lines that could not be read: number and fault."""
    query = (
        select(recon_line.c.no, recon_line.c.fault)
        .where(recon_line.c.run_id == run_id, recon_line.c.fault.is_not(None))
        .order_by(recon_line.c.no)
        .limit(limit)
    )

    return [(no, fault) for no, fault in connection.execute(query)]
