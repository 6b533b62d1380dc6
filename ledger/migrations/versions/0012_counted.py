"""Counts of all processes, for whoever collects figures.

Revision: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "counted",
        sa.Column("name", sa.String(48), nullable=False),
        sa.Column("labels", sa.String(255), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", name="pk_counted"),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("counted")
