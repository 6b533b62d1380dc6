"""Reconciliation, and the books.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

ONE_SUBJECT = "(refund_id IS NULL) <> (difference_id IS NULL)"
CHECKS = {
    "two_people": "decided_by IS NULL OR decided_by <> requested_by OR status = 'withdrawn'",
    "approved_by_somebody": "status <> 'approved' OR decided_by IS NOT NULL",
    "status_known": "status IN ('open', 'approved', 'denied', 'withdrawn', 'expired')",
}


def upgrade() -> None:
    """Make the tables; a request may be about a difference."""
    _runs()
    _files()
    _differences()
    _books()
    # SQLite alters a table by copying it, and does not tell its checks: they are named here.
    with op.batch_alter_table("approval", copy_from=_approvals(with_difference=False)) as batch:
        batch.add_column(sa.Column("difference_id", sa.String(length=32)))
        batch.alter_column("refund_id", existing_type=sa.String(length=32), nullable=True)
        batch.create_check_constraint(op.f("ck_approval_one_subject"), ONE_SUBJECT)
    _index("uq_approval_open_difference", "approval", ["difference_id"], "status = 'open'", unique=True)
    named = "reconciliation_id IS NOT NULL"
    _index("ix_refund_reconciliation_id", "refund", ["reconciliation_id", "account"], named)


def downgrade() -> None:
    """Remove them, and the requests about differences."""
    op.drop_index("ix_refund_reconciliation_id", "refund")
    op.execute("DELETE FROM approval WHERE refund_id IS NULL")
    op.drop_index("uq_approval_open_difference", "approval")
    with op.batch_alter_table("approval", copy_from=_approvals(with_difference=True)) as batch:
        batch.drop_constraint(op.f("ck_approval_one_subject"), type_="check")
        batch.drop_column("difference_id")
        batch.alter_column("refund_id", existing_type=sa.String(length=32), nullable=False)
    for table in ("bookmark", "posting", "recon_difference", "recon_line", "recon_file", "recon_run"):
        op.drop_table(table)


def _approvals(*, with_difference: bool) -> sa.Table:
    """The table as it stands, for the copy."""
    checks = CHECKS | ({"one_subject": ONE_SUBJECT} if with_difference else {})
    difference = (sa.Column("difference_id", sa.String(length=32)),) if with_difference else ()
    table = sa.Table(
        "approval",
        sa.MetaData(),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("refund_id", sa.String(length=32), nullable=with_difference),
        *difference,
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("rule", sa.String(length=255), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("evidence", sa.LargeBinary()),
        sa.Column("evidence_hash", sa.String(length=64)),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("requested_by", sa.String(length=96), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("status", sa.String(length=12), server_default="open", nullable=False),
        sa.Column("decided_by", sa.String(length=96)),
        sa.Column("decided_at", sa.Double()),
        sa.Column("decision_reason", sa.String(length=1000)),
        sa.ForeignKeyConstraint(["refund_id"], ["refund.id"], name="fk_approval_refund_id"),
        sa.PrimaryKeyConstraint("id", name="pk_approval"),
        *(sa.CheckConstraint(condition, name=f"ck_approval_{name}") for name, condition in checks.items()),
    )
    sa.Index("ix_approval_refund_id", table.c.refund_id)
    where = sa.text("status = 'open'")
    sa.Index("uq_approval_open", table.c.refund_id, unique=True, postgresql_where=where, sqlite_where=where)

    return table


def _index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    """A partial index, on either database."""
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)


def _runs() -> None:
    op.create_table(
        "recon_run",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=8), server_default="running", nullable=False),
        sa.Column("phase", sa.String(length=8), nullable=False),
        sa.Column("bookmark", sa.Text(), nullable=False),
        sa.Column("window_from", sa.Double()),
        sa.Column("window_to", sa.Double()),
        sa.Column("started_by", sa.String(length=96), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("leased_by", sa.String(length=96)),
        sa.Column("lease_until", sa.Double(), server_default=sa.text("0"), nullable=False),
        *(
            sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)
            for name in ("compared", "matched", "differing", "unanswered", "bad")
        ),
        sa.Column("note", sa.String(length=512)),
        sa.CheckConstraint("source IN ('status', 'list', 'file')", name=op.f("ck_recon_run_source_known")),
        sa.CheckConstraint("state IN ('running', 'complete', 'partial')", name=op.f("ck_recon_run_state_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recon_run")),
    )
    running = "state = 'running' AND source <> 'file'"
    _index("uq_recon_run_running", "recon_run", ["account", "source"], running, unique=True)
    op.create_index("ix_recon_run_account", "recon_run", ["account", "source", "started_at"])


def _files() -> None:
    op.create_table(
        "recon_file",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("read_at", sa.Double()),
        sa.ForeignKeyConstraint(["run_id"], ["recon_run.id"], name=op.f("fk_recon_file_run_id")),
        sa.PrimaryKeyConstraint("account", "hash", name=op.f("pk_recon_file")),
    )
    op.create_index("ix_recon_file_run_id", "recon_file", ["run_id"])
    op.create_table(
        "recon_line",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("reconciliation_id", sa.String(length=255)),
        sa.Column("provider_refund_id", sa.String(length=255)),
        sa.Column("handle", sa.String(length=64)),
        sa.Column("payment_id", sa.String(length=200)),
        sa.Column("amount", sa.BigInteger()),
        sa.Column("currency", sa.String(length=3)),
        sa.Column("verdict", sa.String(length=12)),
        sa.Column("at", sa.Double()),
        sa.Column("refund_id", sa.String(length=32)),
        sa.Column("paired", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("fault", sa.String(length=255)),
        sa.PrimaryKeyConstraint("run_id", "no", name=op.f("pk_recon_line")),
    )
    _index("ix_recon_line_refund", "recon_line", ["refund_id"], "refund_id IS NOT NULL")


def _differences() -> None:
    op.create_table(
        "recon_difference",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("state", sa.String(length=12), server_default="open", nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("last_run_id", sa.String(length=32), nullable=False),
        sa.Column("refund_id", sa.String(length=32)),
        sa.Column("amount", sa.BigInteger()),
        sa.Column("currency", sa.String(length=3)),
        sa.Column("ours", sa.Text(), nullable=False),
        sa.Column("theirs", sa.Text(), nullable=False),
        sa.Column("owner", sa.String(length=64)),
        sa.Column("found_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("resolution", sa.String(length=16)),
        sa.Column("reason_code", sa.String(length=16)),
        sa.Column("note", sa.String(length=512)),
        sa.Column("closed_by", sa.String(length=96)),
        sa.Column("closed_at", sa.Double()),
        sa.CheckConstraint("state IN ('open', 'explained', 'closed')", name=op.f("ck_recon_difference_state_known")),
        sa.CheckConstraint(
            "state <> 'closed' OR closed_by IS NOT NULL", name=op.f("ck_recon_difference_closed_by_somebody")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["recon_run.id"], name=op.f("fk_recon_difference_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recon_difference")),
        sa.UniqueConstraint("identity", name=op.f("uq_recon_difference_identity")),
    )
    op.create_index("ix_recon_difference_refund_id", "recon_difference", ["refund_id"])
    op.create_index("ix_recon_difference_run_id", "recon_difference", ["run_id"])
    _index("ix_recon_difference_open", "recon_difference", ["account", "kind"], "state = 'open'")


def _books() -> None:
    op.create_table(
        "posting",
        sa.Column("subject", sa.String(length=96), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("leg", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("payment_ref", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("book", sa.String(length=12), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.CheckConstraint(
            "kind IN ('reserve', 'settle', 'release', 'reverse', 'external')", name=op.f("ck_posting_kind_known")
        ),
        sa.CheckConstraint("book IN ('payment', 'reserved', 'refunded')", name=op.f("ck_posting_book_known")),
        sa.PrimaryKeyConstraint("subject", "seq", "leg", name=op.f("pk_posting")),
    )
    op.create_index("ix_posting_payment", "posting", ["account", "payment_ref"])
    op.create_index("ix_posting_at", "posting", ["at"], postgresql_using="brin")
    op.create_table(
        "bookmark",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_bookmark")),
    )
