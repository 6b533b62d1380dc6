"""What providers sent us, and how much of what was not theirs.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "notification",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=255)),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("why", sa.String(length=255)),
        sa.Column("hint", sa.Text()),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("result", sa.String(length=512)),
        sa.Column("refunds", sa.Text(), server_default="[]", nullable=False),
        sa.Column("due_at", sa.Double()),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("deliveries", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.Column("processed_at", sa.Double()),
        sa.CheckConstraint(
            "state IN ('received', 'parked', 'done', 'unmatched', 'refused')",
            name=op.f("ck_notification_state_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
        sa.UniqueConstraint("key", "account", name=op.f("uq_notification_key_account")),
    )
    due = sa.text("due_at IS NOT NULL")
    op.create_index(
        "ix_notification_due", "notification", ["account", "due_at"], postgresql_where=due, sqlite_where=due
    )
    op.create_index("ix_notification_last_at", "notification", ["last_at"])
    unmatched = sa.text("state = 'unmatched'")
    op.create_index(
        "ix_notification_unmatched",
        "notification",
        ["last_at"],
        postgresql_where=unmatched,
        sqlite_where=unmatched,
    )
    op.create_table(
        "refused_notification",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("refused", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("kept", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("kept_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account", "hour", name=op.f("pk_refused_notification")),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("refused_notification")
    op.drop_table("notification")
