"""Outgoing webhooks: endpoints, deliveries, attempts.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables; what waits in the outbox has not been heard."""
    op.add_column("outbox", sa.Column("heard", sa.Boolean(), nullable=False, server_default=sa.false()))
    _endpoint()
    _delivery()
    _attempt()


def downgrade() -> None:
    """Remove them."""
    op.drop_table("webhook_attempt")
    op.drop_table("webhook_delivery")
    op.drop_table("webhook_endpoint")
    op.drop_column("outbox", "heard")


def _endpoint() -> None:
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("accounts", sa.Text(), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(8), nullable=False, server_default="enabled"),
        sa.Column("reason", sa.String(512)),
        sa.Column("failing_since", sa.Double()),
        sa.Column("recovered_at", sa.Double()),
        sa.Column("paused_until", sa.Double(), nullable=False, server_default=sa.text("0")),
        sa.Column("created_by", sa.String(96), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("changed_by", sa.String(96), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoint"),
        sa.CheckConstraint(
            "state IN ('enabled', 'disabled', 'deleted')", name=op.f("ck_webhook_endpoint_state_known")
        ),
    )


def _delivery() -> None:
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("endpoint", sa.String(32), nullable=False),
        sa.Column("refund_id", sa.String(32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("state", sa.String(12), nullable=False, server_default="waiting"),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
        sa.Column("lease", sa.String(64)),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("last_at", sa.Double()),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_ms", sa.Integer()),
        sa.Column("last_error", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_delivery"),
        sa.CheckConstraint(
            "state IN ('waiting', 'delivered', 'undelivered')", name=op.f("ck_webhook_delivery_state_known")
        ),
    )
    for name, state, column in (("due", "waiting", "due_at"), ("undelivered", "undelivered", "created_at")):
        op.create_index(
            f"ix_webhook_delivery_{name}",
            "webhook_delivery",
            ["endpoint", column],
            postgresql_where=sa.text(f"state = '{state}'"),
            sqlite_where=sa.text(f"state = '{state}'"),
        )
    op.create_index("ix_webhook_delivery_refund", "webhook_delivery", ["refund_id", "endpoint", "version"])
    op.create_index("ix_webhook_delivery_made", "webhook_delivery", ["endpoint", "created_at"])


def _attempt() -> None:
    op.create_table(
        "webhook_attempt",
        sa.Column("no", SERIAL, autoincrement=True, nullable=False),
        sa.Column("delivery", sa.String(32), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("ms", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(255)),
        sa.Column("answer", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("no", name="pk_webhook_attempt"),
    )
    op.create_index("ix_webhook_attempt_delivery", "webhook_attempt", ["delivery"])
