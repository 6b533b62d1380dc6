"""What others moved: refunds made elsewhere and chargebacks.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "external",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("provider_refund_id", sa.String(length=255), nullable=False),
        sa.Column("payment_ref", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3)),
        sa.Column("first_seen", sa.Double(), nullable=False),
        sa.Column("source", sa.String(length=96), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("booked", sa.Boolean(), nullable=False),
        sa.Column("refund_id", sa.String(length=32)),
        sa.Column("alert", sa.String(length=512)),
        sa.Column("closed_at", sa.Double()),
        sa.Column("closed_by", sa.String(length=96)),
        sa.Column("closed_reason", sa.String(length=512)),
        sa.CheckConstraint("amount > 0", name=op.f("ck_external_amount_positive")),
        sa.CheckConstraint("kind IN ('refund', 'chargeback')", name=op.f("ck_external_kind_known")),
        sa.CheckConstraint("NOT booked OR refund_id IS NULL", name=op.f("ck_external_ours_is_not_counted")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_external")),
        sa.UniqueConstraint(
            "provider_refund_id", "account", name=op.f("uq_external_provider_refund_id_account")
        ),
    )
    op.create_index("ix_external_payment", "external", ["payment_ref", "account"])
    op.create_index("ix_external_first_seen", "external", ["first_seen"])
    waiting = sa.text("alert IS NOT NULL AND closed_at IS NULL")
    op.create_index(
        "ix_external_open", "external", ["first_seen"], postgresql_where=waiting, sqlite_where=waiting
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("external")
