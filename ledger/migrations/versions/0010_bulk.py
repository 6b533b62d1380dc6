"""Bulk operations: what was decided about many refunds, and what became of each.

Revision: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "bulk_operation",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("query", sa.String(512), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("created_by", sa.String(96), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("pace", sa.Integer(), nullable=False),
        sa.Column("stop_at", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(8), server_default="running", nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("total", "skipped", "done", "failed")),
        sa.Column("due_at", sa.Double()),
        sa.Column("lease", sa.String(32)),
        sa.Column("ended_at", sa.Double()),
        sa.Column("ended_by", sa.String(96)),
        sa.Column("end_reason", sa.String(512)),
        sa.CheckConstraint("kind IN ('retry', 'check', 'cancel')", name=op.f("ck_bulk_operation_kind_known")),
        sa.CheckConstraint("state IN ('running', 'done', 'stopped')", name=op.f("ck_bulk_operation_state_known")),
        sa.CheckConstraint(
            "(state = 'running') = (due_at IS NOT NULL)", name=op.f("ck_bulk_operation_due_while_running")
        ),
        sa.CheckConstraint("done + failed + skipped <= total", name=op.f("ck_bulk_operation_no_more_than_all")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bulk_operation")),
    )
    _index("ix_bulk_operation_due", "bulk_operation", ["due_at"], "state = 'running'")
    op.create_table(
        "bulk_item",
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("refund_id", sa.String(32), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("amount", sa.BigInteger()),
        sa.Column("currency", sa.String(3)),
        sa.Column("result", sa.String(8), nullable=False),
        sa.Column("reason", sa.String(512)),
        sa.Column("at", sa.Double()),
        sa.CheckConstraint(
            "result IN ('waiting', 'done', 'failed', 'skipped', 'left')", name=op.f("ck_bulk_item_result_known")
        ),
        sa.ForeignKeyConstraint(["operation"], ["bulk_operation.id"], name=op.f("fk_bulk_item_operation")),
        sa.PrimaryKeyConstraint("operation", "no", name=op.f("pk_bulk_item")),
    )
    op.create_index("ix_bulk_item_result", "bulk_item", ["operation", "result", "no"])
    _index("uq_bulk_item_waiting", "bulk_item", ["refund_id"], "result = 'waiting'", unique=True)


def _index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)


def downgrade() -> None:
    """Remove them."""
    op.drop_table("bulk_item")
    op.drop_table("bulk_operation")
