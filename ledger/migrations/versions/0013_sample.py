"""Charts read what each minute came to.

Revision: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add what the charts read."""
    op.create_table(
        "sample",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("at", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "account", "at", "bucket", name="pk_sample"),
    )
    op.create_index("ix_sample_at", "sample", ["at"])


def downgrade() -> None:
    """Remove it."""
    op.drop_table("sample")
