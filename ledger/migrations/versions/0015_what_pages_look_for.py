"""What the console looks for on its pages is found by an index.

Revision: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None

INDEXES = (
    ("ix_payment_over_refunded", "payment", ["account", "ref"], "over_refunded"),
    (
        "ix_event_by_people",
        "event",
        ["actor", "at"],
        "actor NOT LIKE '%:%' AND actor NOT IN ('stream', 'celery')",
    ),
    (
        "ix_event_uncommon",
        "event",
        ["type", "at"],
        "type NOT IN ('refund.accepted', 'refund.answered', 'refund.pending', 'refund.queued', 'refund.succeeded', "
        "'refund.unknown')",
    ),
)


def upgrade() -> None:
    """Add the indexes; on tables that have grown, make them by hand before (docs/upgrades.md)."""
    for name, table, columns, rows in INDEXES:
        op.create_index(
            name, table, columns, postgresql_where=sa.text(rows), sqlite_where=sa.text(rows), if_not_exists=True
        )
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER INDEX ix_event_at SET (autosummarize = on)")


def downgrade() -> None:
    """Remove them."""
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER INDEX ix_event_at RESET (autosummarize)")
    for name, table, _columns, _rows in INDEXES:
        op.drop_index(name, table)
