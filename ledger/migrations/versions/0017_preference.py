"""What each person prefers to see.

Revision: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision: str | None = "0016"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add what people choose for their own screens."""
    op.create_table(
        "preference",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.String(512), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", name="pk_preference"),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("preference")
