"""The tables. Times are epoch seconds (UTC), amounts integers of the currency's minor unit.

A row's clock is `due_at`: when something is next to be done about it. A claim moves it to the end of the lease, so a
worker that dies needs nobody to notice: the row simply becomes due again.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from domain.state import State

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Serial = BigInteger().with_variant(Integer, "sqlite")

payment = Table(
    "payment",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("ref", String(200), primary_key=True),
    Column("currency", String(3)),
    Column("captured", BigInteger),
    Column("reserved", BigInteger, nullable=False, server_default=text("0")),
    Column("refunded", BigInteger, nullable=False, server_default=text("0")),
    Column("over_refunded", Boolean, nullable=False, server_default=false()),
    Column("created_at", Double, nullable=False),
    CheckConstraint("captured IS NULL OR captured >= 0", "captured_not_negative"),
    CheckConstraint("reserved >= 0", "reserved_not_negative"),
    CheckConstraint("refunded >= 0", "refunded_not_negative"),
    CheckConstraint("captured IS NULL OR over_refunded OR reserved + refunded <= captured", "within_captured"),
)

refund = Table(
    "refund",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("payment_ref", String(200), nullable=False),
    Column("payment_id", String(128)),
    Column("order_id", String(128)),
    Column("state", String(20), nullable=False),
    Column("amount", BigInteger),
    Column("currency", String(3)),
    Column("resolved", Boolean, nullable=False),
    Column("whole", Boolean, nullable=False, server_default=false()),
    Column("holds", Boolean, nullable=False, server_default=false()),
    Column("handle", String(64), nullable=False),
    Column("handle_no", Integer, nullable=False, server_default=text("1")),
    Column("job", Text, nullable=False),
    Column("personal", LargeBinary),
    Column("content_hash", String(64), nullable=False),
    Column("email_hash", String(64)),
    Column("name_hash", String(64)),
    Column("last_name_hash", String(64)),
    Column("customer_hash", String(64)),
    Column("due_at", Double),
    Column("leased_by", String(96)),
    Column("fence", Integer, nullable=False, server_default=text("0")),
    Column("lost_leases", Integer, nullable=False, server_default=text("0")),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("chain", String(64), nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("uncounted", Integer, nullable=False, server_default=text("0")),
    Column("replays", Integer, nullable=False, server_default=text("0")),
    Column("checks", Integer, nullable=False, server_default=text("0")),
    Column("polls", Integer, nullable=False, server_default=text("0")),
    Column("ambiguous", Boolean, nullable=False, server_default=false()),
    Column("absent", Boolean, nullable=False, server_default=false()),
    Column("last_send_end", Double, nullable=False, server_default=text("0")),
    Column("replay_until", Double),
    Column("since", Double, nullable=False),
    Column("provider_refund_id", String(255)),
    Column("provider_status", String(255)),
    Column("reconciliation_id", String(255)),
    Column("failure_code", String(128)),
    Column("failure_class", String(16)),
    Column("failure_message", String(512)),
    Column("cause", String(32)),
    Column("note", String(512)),
    Column("settlement", String(24)),
    Column("assignee", String(64)),
    Column("traceparent", String(64)),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("final_at", Double),
    CheckConstraint("amount IS NULL OR amount > 0", "amount_positive"),
    CheckConstraint("amount IS NOT NULL OR NOT resolved", "resolved_has_amount"),
    CheckConstraint(f"state IN ({', '.join(repr(str(s)) for s in State)})", "state_known"),
    UniqueConstraint("reference", "account"),
)

# What is due, by lane. Rows that nobody waits for are not in any of them, so these stay small for ever.
LANES: dict[str, tuple[State, ...]] = {
    "send": (State.QUEUED,),
    "recover": (State.SENDING, State.UNKNOWN),
    "poll": (State.PENDING, State.REVIEW),
}


def lane_predicate(lane: str) -> str:
    """The partial index's condition, and the claim's: the same words, so that the planner sees it."""
    states = ", ".join(f"'{state}'" for state in LANES[lane])

    return f"state IN ({states}) AND due_at IS NOT NULL"


for _lane in LANES:
    Index(
        f"ix_refund_due_{_lane}",
        refund.c.account,
        refund.c.due_at,
        postgresql_where=text(lane_predicate(_lane)),
        sqlite_where=text(lane_predicate(_lane)),
    )

Index(
    "uq_refund_holds",
    refund.c.account,
    refund.c.payment_ref,
    unique=True,
    postgresql_where=text("holds"),
    sqlite_where=text("holds"),
)
# Every index is written three times on a refund's way: each serves as many questions as it can, the narrower column
# first, so that one who knows only that finds it too.
Index(
    "uq_refund_provider_refund_id",
    refund.c.provider_refund_id,
    refund.c.account,
    unique=True,
    postgresql_where=text("provider_refund_id IS NOT NULL"),
    sqlite_where=text("provider_refund_id IS NOT NULL"),
)
Index("ix_refund_payment", refund.c.payment_ref, refund.c.account)
Index("ix_refund_handle", refund.c.handle)
# What waits for a person, and no other row.
FOR_PEOPLE = "state IN ('awaiting_approval', 'review', 'reversed')"
Index("ix_refund_people", refund.c.id, postgresql_where=text(FOR_PEOPLE), sqlite_where=text(FOR_PEOPLE))
for _column in (
    "order_id",
    "email_hash",
    "name_hash",
    "last_name_hash",
    "customer_hash",
):
    Index(
        f"ix_refund_search_{_column}",
        refund.c[_column],
        postgresql_where=text(f"{_column} IS NOT NULL"),
        sqlite_where=text(f"{_column} IS NOT NULL"),
    )

attempt = Table(
    "attempt",
    metadata,
    # No foreign key: an attempt is only ever written with its refund, and the check would lock that row once more.
    Column("refund_id", String(32), primary_key=True),
    Column("no", Integer, primary_key=True),
    Column("handle", String(64), nullable=False),
    Column("method", String(8), nullable=False),
    Column("url", Text, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("body_hash", String(64), nullable=False),
    Column("fingerprint", String(512), nullable=False),
    Column("seen", Text),
    Column("replay_until", Double),
    Column("started_at", Double, nullable=False),
    Column("worker", String(96), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("ended_at", Double),
    Column("outcome", String(16)),
    Column("http_status", Integer),
    Column("answer", LargeBinary),
    Column("note", String(512)),
)

event = Table(
    "event",
    metadata,
    Column("subject", String(96), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("type", String(48), nullable=False),
    Column("at", Double, nullable=False),
    Column("actor", String(96), nullable=False),
    Column("data", Text, nullable=False),
    Column("hash", String(64), nullable=False),
)
# Events come in the order of their time, nearly: PostgreSQL notes the span of each block of rows and nothing more.
Index("ix_event_at", event.c.at, postgresql_using="brin")

anchor = Table(
    "anchor",
    metadata,
    Column("no", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("heads", Text, nullable=False),
    Column("hash", String(64), nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("no", Serial, primary_key=True, autoincrement=True),
    Column("refund_id", String(32), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("account", String(64), nullable=False),
    Column("state", String(20), nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", Double, nullable=False),
    # Webhook deliveries have been made of it already; it still waits for the stream.
    Column("heard", Boolean, nullable=False, server_default=false()),
)

# `types` and `accounts` are JSON lists, empty for all; `secrets` is a sealed JSON list, the newest first.
webhook_endpoint = Table(
    "webhook_endpoint",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("url", String(2048), nullable=False),
    Column("types", Text, nullable=False),
    Column("accounts", Text, nullable=False),
    Column("secrets", LargeBinary, nullable=False),
    Column("state", String(8), nullable=False, server_default="enabled"),
    Column("reason", String(512)),
    Column("failing_since", Double),
    Column("recovered_at", Double),
    Column("paused_until", Double, nullable=False, server_default=text("0")),
    Column("created_by", String(96), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("changed_by", String(96), nullable=False),
    Column("changed_at", Double, nullable=False),
    CheckConstraint("state IN ('enabled', 'disabled', 'deleted')", "state_known"),
)

webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("endpoint", String(32), nullable=False),
    Column("refund_id", String(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("type", String(32), nullable=False),
    Column("payload", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("state", String(12), nullable=False, server_default="waiting"),
    Column("due_at", Double, nullable=False),
    Column("touched_at", Double, nullable=False),
    Column("lease", String(64)),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("last_at", Double),
    Column("last_status", Integer),
    Column("last_ms", Integer),
    Column("last_error", String(255)),
    CheckConstraint("state IN ('waiting', 'delivered', 'undelivered')", "state_known"),
)
for _name, _state, _column in (("due", "waiting", "due_at"), ("undelivered", "undelivered", "created_at")):
    Index(
        f"ix_webhook_delivery_{_name}",
        webhook_delivery.c.endpoint,
        webhook_delivery.c[_column],
        postgresql_where=text(f"state = '{_state}'"),
        sqlite_where=text(f"state = '{_state}'"),
    )
Index("ix_webhook_delivery_refund", *(webhook_delivery.c[name] for name in ("refund_id", "endpoint", "version")))
Index("ix_webhook_delivery_made", webhook_delivery.c.endpoint, webhook_delivery.c.created_at)

webhook_attempt = Table(
    "webhook_attempt",
    metadata,
    Column("no", Serial, primary_key=True, autoincrement=True),
    Column("delivery", String(32), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("status", Integer),
    Column("ms", Integer, nullable=False),
    Column("error", String(255)),
    Column("answer", LargeBinary),
)

rejected = Table(
    "rejected",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("at", Double, nullable=False),
    Column("source", String(96), nullable=False),
    Column("account", String(64)),
    Column("reference", String(64)),
    Column("errors", Text, nullable=False),
    Column("body", LargeBinary),
    Column("size", Integer, nullable=False),
    Column("body_hash", String(64), nullable=False),
    Column("closed_at", Double),
    Column("closed_by", String(96)),
    Column("closed_reason", String(512)),
    UniqueConstraint("source"),
)
Index(
    "ix_rejected_open",
    rejected.c.at,
    postgresql_where=text("closed_at IS NULL"),
    sqlite_where=text("closed_at IS NULL"),
)

account = Table(
    "account",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("paused", Boolean, nullable=False, server_default=false()),
    Column("pause_reason", String(512)),
    Column("breaker", String(8)),
    Column("breaker_until", Double),
    Column("changed_by", String(96)),
    Column("changed_at", Double, nullable=False),
    CheckConstraint("breaker IS NULL OR breaker IN ('open', 'closed')", "breaker_known"),
)

approval = Table(
    "approval",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("refund_id", String(32), ForeignKey("refund.id"), nullable=False, index=True),
    Column("kind", String(24), nullable=False),
    Column("rule", String(255), nullable=False),
    Column("params", Text, nullable=False),
    Column("snapshot", Text, nullable=False),
    Column("evidence", LargeBinary),
    Column("evidence_hash", String(64)),
    Column("reason", String(1000), nullable=False),
    Column("requested_by", String(96), nullable=False),
    Column("requested_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("status", String(12), nullable=False, server_default="open"),
    Column("decided_by", String(96)),
    Column("decided_at", Double),
    Column("decision_reason", String(1000)),
    CheckConstraint("decided_by IS NULL OR decided_by <> requested_by OR status = 'withdrawn'", "two_people"),
    CheckConstraint("status <> 'approved' OR decided_by IS NOT NULL", "approved_by_somebody"),
    CheckConstraint("status IN ('open', 'approved', 'denied', 'withdrawn', 'expired')", "status_known"),
)
Index(
    "uq_approval_open",
    approval.c.refund_id,
    unique=True,
    postgresql_where=text("status = 'open'"),
    sqlite_where=text("status = 'open'"),
)

person = Table(
    "person",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("roles", String(128), nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("created_by", String(96), nullable=False),
    Column("created_at", Double, nullable=False),
    # Argon2's own text, with its parameters and salt; none for who signs in elsewhere.
    Column("password", String(255)),
    # Who it is for the identity provider: its issuer and subject.
    Column("subject", String(512)),
)
Index(
    "uq_person_subject",
    person.c.subject,
    unique=True,
    postgresql_where=text("subject IS NOT NULL"),
    sqlite_where=text("subject IS NOT NULL"),
)

# Secrets of people's browsers are kept as hashes only.
session = Table(
    "session",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("person", String(64), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(200), nullable=False),
)

sign_in_link = Table(
    "sign_in_link",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("person", String(64), nullable=False),
    Column("expires_at", Double, nullable=False),
)

# How often somebody tried to sign in in vain, by name and by address.
sign_in_try = Table(
    "sign_in_try",
    metadata,
    Column("key", String(96), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("last_at", Double, nullable=False),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("name", String(96), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("beat_at", Double, nullable=False),
    Column("drain", Boolean, nullable=False, server_default=false()),
    Column("details", Text, nullable=False, server_default="{}"),
)

note = Table(
    "note",
    metadata,
    Column("no", Serial, primary_key=True, autoincrement=True),
    Column("refund_id", String(32), ForeignKey("refund.id"), nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("actor", String(96), nullable=False),
    Column("text", String(2000), nullable=False),
)
