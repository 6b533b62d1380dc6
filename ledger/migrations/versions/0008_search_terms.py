"""Refunds are found by terms of their own table, so that a refund's row changes without touching their indexes.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None
# Programs before it write no terms: what they accept afterwards is paid, and not found by what it is known by.
contract = "0.1.0"

_SEARCHED = ("customer_hash", "email_hash", "last_name_hash", "name_hash", "order_id")


def upgrade() -> None:
    """Write down the terms of the refunds that are there, then drop the indexes."""
    op.create_table(
        "search_term",
        sa.Column("term", sa.String(128), nullable=False),
        sa.Column("refund_id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("term", "refund_id", name="pk_search_term"),
    )
    terms = " UNION ".join(f"SELECT {name}, id FROM refund WHERE {name} IS NOT NULL" for name in ("handle", *_SEARCHED))
    op.execute(f"INSERT INTO search_term (term, refund_id) {terms}")  # noqa: S608 - names of our own columns
    op.drop_index("ix_refund_handle", "refund")
    for name in _SEARCHED:
        op.drop_index(f"ix_refund_search_{name}", "refund")


def downgrade() -> None:
    """The indexes again."""
    op.create_index("ix_refund_handle", "refund", ["handle"])
    for name in _SEARCHED:
        there = sa.text(f"{name} IS NOT NULL")
        op.create_index(f"ix_refund_search_{name}", "refund", [name], postgresql_where=there, sqlite_where=there)
    op.drop_table("search_term")
