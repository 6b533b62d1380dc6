"""Keys of machines, their idempotency keys and what they used of their quotas.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Keys of machines, their idempotency keys and what they used of their quotas."""
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(128), nullable=False),
        sa.Column("accounts", sa.Text()),
        sa.Column("created_by", sa.String(96), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double()),
        sa.Column("last_used_at", sa.Double()),
        sa.Column("revoked_at", sa.Double()),
        sa.Column("revoked_by", sa.String(96)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
    )
    op.create_index(op.f("ix_api_key_name"), "api_key", ["name"])
    op.create_table(
        "idempotency_key",
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("client", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_index("ix_idempotency_key_at", "idempotency_key", ["at"])
    op.create_table(
        "quota_use",
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("used >= 0", name=op.f("ck_quota_use_used_not_negative")),
        sa.PrimaryKeyConstraint("client", "hour", "currency", name=op.f("pk_quota_use")),
    )


def downgrade() -> None:
    """Undo it."""
    op.drop_table("quota_use")
    op.drop_table("idempotency_key")
    op.drop_table("api_key")
