"""A note is an event of its refund: the table that was to hold notes was never written.

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None
# No program has ever written or read it.
contract = "0.1.0"

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Take the table out."""
    op.drop_table("note")


def downgrade() -> None:
    """Bring it back, empty."""
    op.create_table(
        "note",
        sa.Column("no", SERIAL, autoincrement=True, nullable=False),
        sa.Column("refund_id", sa.String(32), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(96), nullable=False),
        sa.Column("text", sa.String(2000), nullable=False),
        sa.ForeignKeyConstraint(["refund_id"], ["refund.id"], name=op.f("fk_note_refund_id")),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_note")),
    )
    op.create_index(op.f("ix_note_refund_id"), "note", ["refund_id"])
