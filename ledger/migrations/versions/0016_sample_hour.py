"""A chart of a week reads hours.

Revision: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision: str | None = "0015"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the minutes' sums by hour; whoever counts next fills them in."""
    op.create_table(
        "sample_hour",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("at", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "account", "at", "bucket", name="pk_sample_hour"),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("sample_hour")
