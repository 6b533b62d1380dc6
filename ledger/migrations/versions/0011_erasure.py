"""When a refund's personal data was erased.

Revision: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the time."""
    op.add_column("refund", sa.Column("erased_at", sa.Double()))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("refund", "erased_at")
