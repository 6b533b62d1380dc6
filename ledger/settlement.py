"""The lines of settlement files: matched with our refunds while they are written, in batches of any size."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    FromClause,
    Insert,
    bindparam,
    func,
    insert,
    or_,
    select,
    text,
)

from domain.reconcile import Listed, Standing, Verdict
from domain.refund import Refund
from domain.state import State
from ledger.models import recon_difference, recon_line, refund
from ledger.refunds import COLUMNS, load
from ledger.session import OverRows, update_rows

_GIVEN = tuple(column for column in recon_line.c if column.name not in ("refund_id", "paired"))
_LISTED = ("reconciliation_id", "provider_refund_id", "handle", "payment_id", "amount", "currency", "verdict", "at")
_SHOWN = tuple(recon_line.c[name] for name in _LISTED)


def _matching(values: FromClause) -> Insert:
    """Each line with the refund that it names: by reconciliation id, else the provider's refund id, else our handle."""
    named = [
        select(refund.c.id)
        .where(refund.c[name] == values.c[name], refund.c.account == bindparam("account"))
        .limit(1)
        .scalar_subquery()
        for name in ("reconciliation_id", "provider_refund_id", "handle")
    ]
    names = [column.name for column in _GIVEN]

    return insert(recon_line).from_select(
        [*names, "refund_id"], select(*(values.c[name] for name in names), func.coalesce(*named))
    )


_WRITE = OverRows({column.name: column.type for column in _GIVEN}, _matching)


def write_lines(connection: Connection, account: str, lines: Sequence[dict[str, Any]]) -> None:
    """Write lines of a run, each with all members of `_GIVEN`."""
    if lines:
        _WRITE.run(connection, lines, account=account)


def analyse(connection: Connection) -> None:
    """A million new rows: the planner should know of them before they are read."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE recon_line"))


def row(run_id: str, no: int, theirs: Listed | None, fault: str | None = None) -> dict[str, Any]:
    """A line as `write_lines` takes it."""
    shown = {name: getattr(theirs, name) if theirs is not None else None for name in _LISTED}

    return {"run_id": run_id, "no": no, **shown, "fault": fault}


def last_no(connection: Connection, run_id: str) -> int:
    """The last line of a run's file."""
    return int(connection.execute(select(func.max(recon_line.c.no)).where(recon_line.c.run_id == run_id)).scalar() or 0)


def window(connection: Connection, run_id: str) -> tuple[float | None, float | None]:
    """The first and the last date of a run's lines."""
    found = connection.execute(
        select(func.min(recon_line.c.at), func.max(recon_line.c.at)).where(recon_line.c.run_id == run_id)
    ).one()

    return found[0], found[1]


def totals(connection: Connection, run_id: str) -> list[dict[str, Any]]:
    """What the lines of a run come to by currency: how many, their sum, and how many name a refund of ours."""
    query = (
        select(
            recon_line.c.currency,
            func.count().label("lines"),
            func.sum(recon_line.c.amount).cast(BigInteger).label("amount"),
            func.count(recon_line.c.refund_id).label("known"),
        )
        .where(recon_line.c.run_id == run_id, recon_line.c.fault.is_(None))
        .group_by(recon_line.c.currency)
        .order_by(recon_line.c.currency)
    )

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - the documented way


def first_lines(connection: Connection, run_id: str, limit: int) -> list[dict[str, Any]]:
    """The first lines of a run that could be read, as they were understood, each with the refund that it names."""
    query = (
        select(recon_line.c.no, recon_line.c.refund_id, *_SHOWN)
        .where(recon_line.c.run_id == run_id, recon_line.c.fault.is_(None))
        .order_by(recon_line.c.no)
        .limit(limit)
    )

    return [dict(row._mapping) for row in connection.execute(query)]  # noqa: SLF001


# -- paired ----------------------------------------------------------------------------------------------------------


def unmatched(connection: Connection, run_id: str, after: int, limit: int) -> list[tuple[int, Listed]]:
    """Lines that name no refund of ours, with a payment, after the line `after`."""
    query = (
        select(recon_line.c.no, *_SHOWN)
        .where(
            recon_line.c.run_id == run_id,
            recon_line.c.no > after,
            recon_line.c.refund_id.is_(None),
            recon_line.c.fault.is_(None),
            recon_line.c.payment_id.is_not(None),
        )
        .order_by(recon_line.c.no)
        .limit(limit)
    )

    return [(line.no, _listed(line)) for line in connection.execute(query)]


def unmatched_refunds(connection: Connection, run_id: str, account: str, payments: Sequence[str]) -> list[Refund]:
    """Our refunds of these payments that no line of the run names."""
    seen = select(recon_line.c.no).where(recon_line.c.refund_id == refund.c.id, recon_line.c.run_id == run_id)
    query = (
        select(*COLUMNS)
        .where(refund.c.payment_ref.in_(payments), refund.c.account == account, refund.c.attempts > 0, ~seen.exists())
        .order_by(refund.c.id)
    )

    return [load(each) for each in connection.execute(query)]


def pair(connection: Connection, run_id: str, pairs: Sequence[tuple[int, str]]) -> None:
    """Write down which refund a line is about."""
    rows = [{"run_id": run_id, "no": no, "refund_id": refund_id, "paired": True} for no, refund_id in pairs]
    update_rows(connection, recon_line, rows, keys=("run_id", "no"))


# -- compared --------------------------------------------------------------------------------------------------------


def counted(connection: Connection, run_id: str, after: int, to: int) -> int:
    """How many lines of this stretch were read."""
    return int(
        connection.execute(
            select(func.count())
            .select_from(recon_line)
            .where(*_stretch(run_id, after, to), recon_line.c.fault.is_(None))
        ).scalar_one()
    )


def may_differ(connection: Connection, run_id: str, after: int, to: int) -> list[tuple[Listed, Refund | None, bool]]:
    """Lines of a stretch that do not plainly agree with ours; True: the refund has a line before this one.

    What plainly agrees never leaves the database.
    """
    other = recon_line.alias("other")
    again = (
        select(other.c.no)
        .where(
            other.c.refund_id == recon_line.c.refund_id,
            other.c.run_id == recon_line.c.run_id,
            other.c.no < recon_line.c.no,
            other.c.verdict == Verdict.SUCCEEDED,
        )
        .exists()
    )
    query = (
        select(*COLUMNS, *(column.label(f"their_{column.name}") for column in _SHOWN), again.label("again"))
        .select_from(recon_line.outerjoin(refund, refund.c.id == recon_line.c.refund_id))
        .where(
            *_stretch(run_id, after, to),
            recon_line.c.fault.is_(None),
            or_(
                recon_line.c.refund_id.is_(None),
                recon_line.c.amount != refund.c.amount,
                recon_line.c.currency != refund.c.currency,
                recon_line.c.provider_refund_id != refund.c.provider_refund_id,
                recon_line.c.verdict != Verdict.SUCCEEDED,
                refund.c.state != State.SUCCEEDED,
                refund.c.amount.is_(None),
                again,
            ),
        )
        .order_by(recon_line.c.no)
    )

    return [
        (_listed(line, "their_"), None if line.id is None else load(line), bool(line.again))
        for line in connection.execute(query)
    ]


def with_open_difference(connection: Connection, run_id: str, after: int, to: int) -> list[tuple[Listed, Refund]]:
    """Lines of a stretch about refunds of which a difference is open."""
    query = (
        select(*COLUMNS, *(column.label(f"their_{column.name}") for column in _SHOWN))
        .select_from(recon_line)
        .join(recon_difference, recon_difference.c.refund_id == recon_line.c.refund_id)
        .join(refund, refund.c.id == recon_line.c.refund_id)
        .where(*_stretch(run_id, after, to), recon_difference.c.state == Standing.OPEN)
        .distinct()
    )

    return [(_listed(line, "their_"), load(line)) for line in connection.execute(query)]


def earlier_file(connection: Connection, account: str, run_id: str) -> bool:
    """Whether an earlier file of the account has been compared."""
    found = connection.execute(
        text(
            "SELECT 1 FROM recon_run WHERE account = :account AND source = 'file' AND state <> 'running' "
            "AND phase <> 'read' AND id < :run LIMIT 1"
        ),
        {"account": account, "run": run_id},
    )

    return found.first() is not None


def _stretch(run_id: str, after: int, to: int) -> tuple[Any, ...]:
    return recon_line.c.run_id == run_id, recon_line.c.no > after, recon_line.c.no <= to


def _listed(line: Any, prefix: str = "") -> Listed:
    known = {name: getattr(line, prefix + name) for name in _LISTED}

    return Listed(**{**known, "verdict": known["verdict"] and Verdict(known["verdict"])})
