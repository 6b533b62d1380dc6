"""The first schema.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    _payment()
    _refund()
    _attempt()
    _event()
    _anchor()
    _outbox()
    _rejected()
    _account()
    _approval()
    _person()
    _heartbeat()
    _note()


def downgrade() -> None:
    """Remove them."""
    op.drop_table("note")
    op.drop_table("heartbeat")
    op.drop_table("person")
    op.drop_table("approval")
    op.drop_table("account")
    op.drop_table("rejected")
    op.drop_table("outbox")
    op.drop_table("anchor")
    op.drop_table("event")
    op.drop_table("attempt")
    op.drop_table("refund")
    op.drop_table("payment")


def _index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    """A partial index, on either database."""
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)


def _payment() -> None:
    op.create_table(
        "payment",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("ref", sa.String(length=200), nullable=False),
        sa.Column("currency", sa.String(length=3)),
        sa.Column("captured", sa.BigInteger()),
        sa.Column("reserved", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("refunded", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("over_refunded", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("captured IS NULL OR captured >= 0", name=op.f("ck_payment_captured_not_negative")),
        sa.CheckConstraint(
            "captured IS NULL OR over_refunded OR reserved + refunded <= captured",
            name=op.f("ck_payment_within_captured"),
        ),
        sa.CheckConstraint("refunded >= 0", name=op.f("ck_payment_refunded_not_negative")),
        sa.CheckConstraint("reserved >= 0", name=op.f("ck_payment_reserved_not_negative")),
        sa.PrimaryKeyConstraint("account", "ref", name=op.f("pk_payment")),
    )


def _refund() -> None:
    op.create_table(
        "refund",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("payment_ref", sa.String(length=200), nullable=False),
        sa.Column("payment_id", sa.String(length=128)),
        sa.Column("order_id", sa.String(length=128)),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("amount", sa.BigInteger()),
        sa.Column("currency", sa.String(length=3)),
        sa.Column("resolved", sa.Boolean(), nullable=False),
        sa.Column("whole", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("holds", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("handle", sa.String(length=64), nullable=False),
        sa.Column("handle_no", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("personal", sa.LargeBinary()),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("email_hash", sa.String(length=64)),
        sa.Column("name_hash", sa.String(length=64)),
        sa.Column("last_name_hash", sa.String(length=64)),
        sa.Column("customer_hash", sa.String(length=64)),
        sa.Column("due_at", sa.Double()),
        sa.Column("leased_by", sa.String(length=96)),
        sa.Column("fence", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lost_leases", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("chain", sa.String(length=64), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("uncounted", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("replays", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("checks", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("polls", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("ambiguous", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("absent", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("last_send_end", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("replay_until", sa.Double()),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("provider_refund_id", sa.String(255)),
        sa.Column("provider_status", sa.String(length=255)),
        sa.Column("reconciliation_id", sa.String(length=255)),
        sa.Column("failure_code", sa.String(length=128)),
        sa.Column("failure_class", sa.String(length=16)),
        sa.Column("failure_message", sa.String(length=512)),
        sa.Column("cause", sa.String(length=32)),
        sa.Column("note", sa.String(length=512)),
        sa.Column("settlement", sa.String(length=24)),
        sa.Column("assignee", sa.String(length=64)),
        sa.Column("traceparent", sa.String(length=64)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("final_at", sa.Double()),
        sa.CheckConstraint(
            "state IN ('awaiting_approval', 'queued', 'sending', 'unknown', 'pending', 'succeeded', 'failed', 'cancelled', "
            "'reversed', 'review', 'settled')",
            name=op.f("ck_refund_state_known"),
        ),
        sa.CheckConstraint("amount IS NOT NULL OR NOT resolved", name=op.f("ck_refund_resolved_has_amount")),
        sa.CheckConstraint("amount IS NULL OR amount > 0", name=op.f("ck_refund_amount_positive")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refund")),
        sa.UniqueConstraint("reference", "account", name=op.f("uq_refund_reference_account")),
    )
    _index(
        "ix_refund_due_poll", "refund", ["account", "due_at"], "state IN ('pending', 'review') AND due_at IS NOT NULL"
    )
    _index(
        "ix_refund_due_recover",
        "refund",
        ["account", "due_at"],
        "state IN ('sending', 'unknown') AND due_at IS NOT NULL",
    )
    _index("ix_refund_due_send", "refund", ["account", "due_at"], "state IN ('queued') AND due_at IS NOT NULL")
    op.create_index("ix_refund_handle", "refund", ["handle"])
    op.create_index("ix_refund_payment", "refund", ["payment_ref", "account"])
    _index("ix_refund_people", "refund", ["id"], "state IN ('awaiting_approval', 'review', 'reversed')")
    _index("ix_refund_search_customer_hash", "refund", ["customer_hash"], "customer_hash IS NOT NULL")
    _index("ix_refund_search_email_hash", "refund", ["email_hash"], "email_hash IS NOT NULL")
    _index("ix_refund_search_last_name_hash", "refund", ["last_name_hash"], "last_name_hash IS NOT NULL")
    _index("ix_refund_search_name_hash", "refund", ["name_hash"], "name_hash IS NOT NULL")
    _index("ix_refund_search_order_id", "refund", ["order_id"], "order_id IS NOT NULL")
    _index("uq_refund_holds", "refund", ["account", "payment_ref"], "holds", unique=True)
    _index(
        "uq_refund_provider_refund_id",
        "refund",
        ["provider_refund_id", "account"],
        "provider_refund_id IS NOT NULL",
        unique=True,
    )


def _attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("refund_id", sa.String(length=32), nullable=False),
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("handle", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=512), nullable=False),
        sa.Column("seen", sa.Text()),
        sa.Column("replay_until", sa.Double()),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("worker", sa.String(length=96), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("outcome", sa.String(length=16)),
        sa.Column("http_status", sa.Integer()),
        sa.Column("answer", sa.LargeBinary()),
        sa.Column("note", sa.String(length=512)),
        sa.PrimaryKeyConstraint("refund_id", "no", name=op.f("pk_attempt")),
    )


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("subject", sa.String(length=96), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=48), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(length=96), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("subject", "seq", name=op.f("pk_event")),
    )
    op.create_index("ix_event_at", "event", ["at"], postgresql_using="brin")


def _anchor() -> None:
    op.create_table(
        "anchor",
        sa.Column("no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("heads", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_anchor")),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("no", SERIAL, autoincrement=True, nullable=False),
        sa.Column("refund_id", sa.String(length=32), nullable=False),
        sa.Column("reference", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_outbox")),
    )


def _rejected() -> None:
    op.create_table(
        "rejected",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("source", sa.String(length=96), nullable=False),
        sa.Column("account", sa.String(length=64)),
        sa.Column("reference", sa.String(length=64)),
        sa.Column("errors", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("body_hash", sa.String(length=64), nullable=False),
        sa.Column("closed_at", sa.Double()),
        sa.Column("closed_by", sa.String(length=96)),
        sa.Column("closed_reason", sa.String(length=512)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejected")),
        sa.UniqueConstraint("source", name=op.f("uq_rejected_source")),
    )
    _index("ix_rejected_open", "rejected", ["at"], "closed_at IS NULL")


def _account() -> None:
    op.create_table(
        "account",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("pause_reason", sa.String(length=512)),
        sa.Column("breaker", sa.String(length=8)),
        sa.Column("breaker_until", sa.Double()),
        sa.Column("changed_by", sa.String(length=96)),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.CheckConstraint("breaker IS NULL OR breaker IN ('open', 'closed')", name=op.f("ck_account_breaker_known")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_account")),
    )


def _approval() -> None:
    op.create_table(
        "approval",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("refund_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("rule", sa.String(length=255), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("evidence", sa.LargeBinary()),
        sa.Column("evidence_hash", sa.String(length=64)),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("requested_by", sa.String(length=96), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("status", sa.String(length=12), server_default="open", nullable=False),
        sa.Column("decided_by", sa.String(length=96)),
        sa.Column("decided_at", sa.Double()),
        sa.Column("decision_reason", sa.String(length=1000)),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> requested_by OR status = 'withdrawn'",
            name=op.f("ck_approval_two_people"),
        ),
        sa.CheckConstraint(
            "status <> 'approved' OR decided_by IS NOT NULL", name=op.f("ck_approval_approved_by_somebody")
        ),
        sa.CheckConstraint(
            "status IN ('open', 'approved', 'denied', 'withdrawn', 'expired')", name=op.f("ck_approval_status_known")
        ),
        sa.ForeignKeyConstraint(["refund_id"], ["refund.id"], name=op.f("fk_approval_refund_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval")),
    )
    op.create_index(op.f("ix_approval_refund_id"), "approval", ["refund_id"])
    _index("uq_approval_open", "approval", ["refund_id"], "status = 'open'", unique=True)


def _person() -> None:
    op.create_table(
        "person",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("roles", sa.String(length=128), nullable=False),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_by", sa.String(length=96), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_person")),
    )


def _heartbeat() -> None:
    op.create_table(
        "heartbeat",
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("beat_at", sa.Double(), nullable=False),
        sa.Column("drain", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("details", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_heartbeat")),
    )


def _note() -> None:
    op.create_table(
        "note",
        sa.Column("no", SERIAL, autoincrement=True, nullable=False),
        sa.Column("refund_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(length=96), nullable=False),
        sa.Column("text", sa.String(length=2000), nullable=False),
        sa.ForeignKeyConstraint(["refund_id"], ["refund.id"], name=op.f("fk_note_refund_id")),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_note")),
    )
    op.create_index(op.f("ix_note_refund_id"), "note", ["refund_id"])
