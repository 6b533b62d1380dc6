"""People sign in to the console: passwords, sessions, one-time links.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add what signing in takes."""
    op.add_column("person", sa.Column("password", sa.String(255)))
    op.add_column("person", sa.Column("subject", sa.String(512)))
    there = sa.text("subject IS NOT NULL")
    op.create_index(
        "uq_person_subject", "person", ["subject"], unique=True, postgresql_where=there, sqlite_where=there
    )
    op.create_table(
        "session",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("agent", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_session"),
    )
    op.create_index("ix_session_person", "session", ["person"])
    op.create_table(
        "sign_in_link",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_sign_in_link"),
    )
    op.create_table(
        "sign_in_try",
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("free_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_sign_in_try"),
    )


def downgrade() -> None:
    """Remove it."""
    op.drop_table("sign_in_try")
    op.drop_table("sign_in_link")
    op.drop_table("session")
    op.drop_index("uq_person_subject", "person")
    op.drop_column("person", "subject")
    op.drop_column("person", "password")
