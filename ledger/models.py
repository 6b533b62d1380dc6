"""The tables. Times are epoch seconds (UTC), amounts integers of the currency's minor unit.

A row's clock is `due_at`: when something is next to be done about it. A claim moves it to the end of the lease, so a
worker that dies needs nobody to notice: the row simply becomes due again.
"""

from typing import Any

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


def _partial(name: str, *columns: Column[Any], where: str, unique: bool = False) -> None:
    """An index of the rows `where` holds for, on either database."""
    Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


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
_partial("ix_payment_over_refunded", payment.c.account, payment.c.ref, where="over_refunded")

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
    # When personal data was taken out of it, and of all that belongs to it.
    Column("erased_at", Double),
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
    _partial(f"ix_refund_due_{_lane}", refund.c.account, refund.c.due_at, where=lane_predicate(_lane))

_partial("uq_refund_holds", refund.c.account, refund.c.payment_ref, unique=True, where="holds")
# Every index is written three times on a refund's way: each serves as many questions as it can, the narrower column
# first, so that one who knows only that finds it too.
_partial(
    "uq_refund_provider_refund_id",
    refund.c.provider_refund_id,
    refund.c.account,
    unique=True,
    where="provider_refund_id IS NOT NULL",
)
# Few providers give one: for the refunds of the others it costs nothing.
_partial(
    "ix_refund_reconciliation_id", refund.c.reconciliation_id, refund.c.account, where="reconciliation_id IS NOT NULL"
)
Index("ix_refund_payment", refund.c.payment_ref, refund.c.account)
# What waits for a person, and no other row.
FOR_PEOPLE = "state IN ('awaiting_approval', 'review', 'reversed')"
_partial("ix_refund_people", refund.c.id, where=FOR_PEOPLE)

# What people and providers know a refund by: its handles, its order, the keyed hashes of its customer. Rows are written
# once and found by their key, so that a refund's own row can change without touching an index at a random place.
search_term = Table(
    "search_term",
    metadata,
    Column("term", String(128), primary_key=True),
    Column("refund_id", String(32), primary_key=True),
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
# Events come in the order of their time, nearly: PostgreSQL notes the span of each block of rows and nothing more, and
# does so when a block is full: the newest, which people ask for, would else be walked through until the next vacuum.
Index("ix_event_at", event.c.at, postgresql_using="brin", postgresql_with={"autosummarize": "on"})
# What people did is looked for by who it was: workers and keys, whose names have a colon, and intake do too much. What
# seldom happens is looked for by what it was; of the rest there is some in any hour.
MACHINES = ("stream", "celery")
COMMON = tuple(f"refund.{each}" for each in ("accepted", "answered", "pending", "queued", "succeeded", "unknown"))
BY_PEOPLE = f"actor NOT LIKE '%:%' AND actor NOT IN ({', '.join(map(repr, MACHINES))})"
UNCOMMON = f"type NOT IN ({', '.join(map(repr, COMMON))})"
for _name, _by, _rows in (("by_people", event.c.actor, BY_PEOPLE), ("uncommon", event.c.type, UNCOMMON)):
    _partial(f"ix_event_{_name}", _by, event.c.at, where=_rows)

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
    _partial(
        f"ix_webhook_delivery_{_name}",
        webhook_delivery.c.endpoint,
        webhook_delivery.c[_column],
        where=f"state = '{_state}'",
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
_partial("ix_rejected_open", rejected.c.at, where="closed_at IS NULL")

# What others moved: refunds made elsewhere and chargebacks. `booked`: it is counted in its payment's `refunded`;
# `refund_id`: it turned out to be ours. What has an `alert` waits for a person until it is closed.
external = Table(
    "external",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account", String(64), nullable=False),
    Column("provider_refund_id", String(255), nullable=False),
    Column("payment_ref", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3)),
    Column("first_seen", Double, nullable=False),
    Column("source", String(96), nullable=False),
    Column("evidence", Text, nullable=False),
    Column("booked", Boolean, nullable=False),
    Column("refund_id", String(32)),
    Column("alert", String(512)),
    Column("closed_at", Double),
    Column("closed_by", String(96)),
    Column("closed_reason", String(512)),
    CheckConstraint("amount > 0", "amount_positive"),
    CheckConstraint("kind IN ('refund', 'chargeback')", "kind_known"),
    CheckConstraint("NOT booked OR refund_id IS NULL", "ours_is_not_counted"),
    UniqueConstraint("provider_refund_id", "account"),
)
Index("ix_external_payment", external.c.payment_ref, external.c.account)
Index("ix_external_first_seen", external.c.first_seen)
_partial("ix_external_open", external.c.first_seen, where="alert IS NOT NULL AND closed_at IS NULL")

# What providers sent us. `key`: of one event, so that a repeat finds it; `hint`: whom to ask about, and no more.
# `due_at`: when it is to be looked at; what is done, or was never theirs, has none.
notification = Table(
    "notification",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account", String(64), nullable=False),
    Column("key", String(64), nullable=False),
    Column("event_id", String(255)),
    Column("kind", String(64), nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("why", String(255)),
    Column("hint", Text),
    Column("body", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),
    Column("body_hash", String(64), nullable=False),
    Column("state", String(12), nullable=False),
    Column("result", String(512)),
    Column("refunds", Text, nullable=False, server_default="[]"),
    Column("due_at", Double),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("deliveries", Integer, nullable=False, server_default=text("1")),
    Column("received_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Column("processed_at", Double),
    CheckConstraint("state IN ('received', 'parked', 'done', 'unmatched', 'refused')", "state_known"),
    UniqueConstraint("key", "account"),
)
_partial("ix_notification_due", notification.c.account, notification.c.due_at, where="due_at IS NOT NULL")
Index("ix_notification_last_at", notification.c.last_at)
_partial("ix_notification_unmatched", notification.c.last_at, where="state = 'unmatched'")

# What was not shown to be the provider's, by account and hour: all of it is counted, and only so much is kept.
refused_notification = Table(
    "refused_notification",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("refused", BigInteger, nullable=False, server_default=text("0")),
    Column("kept", Integer, nullable=False, server_default=text("0")),
    Column("kept_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("last_at", Double, nullable=False),
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
    # What it is about: a refund, or a difference that reconciliation found.
    Column("refund_id", String(32), ForeignKey("refund.id"), index=True),
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
    Column("difference_id", String(32)),
    CheckConstraint("decided_by IS NULL OR decided_by <> requested_by OR status = 'withdrawn'", "two_people"),
    CheckConstraint("status <> 'approved' OR decided_by IS NOT NULL", "approved_by_somebody"),
    CheckConstraint("status IN ('open', 'approved', 'denied', 'withdrawn', 'expired')", "status_known"),
    CheckConstraint("(refund_id IS NULL) <> (difference_id IS NULL)", "one_subject"),
)
_partial("uq_approval_open", approval.c.refund_id, unique=True, where="status = 'open'")

_partial("uq_approval_open_difference", approval.c.difference_id, unique=True, where="status = 'open'")

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
_partial("uq_person_subject", person.c.subject, unique=True, where="subject IS NOT NULL")

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

# Searches kept under a name, in the words of the search box; none that could name a customer.
saved_view = Table(
    "saved_view",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("query", String(512), nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("saved_at", Double, nullable=False),
)

preference = Table(
    "preference",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("value", String(512), nullable=False),
)

# Tries to sign in, as leaky buckets: when each name's and address's last try will be forgotten.
sign_in_try = Table(
    "sign_in_try",
    metadata,
    Column("key", String(128), primary_key=True),
    Column("free_at", Double, nullable=False),
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

# Keys of machines. `name`: the client that they belong to; a client has two live ones while it changes them.
api_key = Table(
    "api_key",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(64), nullable=False, index=True),
    Column("secret_hash", String(64), nullable=False),
    Column("scopes", String(128), nullable=False),
    Column("accounts", Text),
    Column("created_by", String(96), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    Column("revoked_by", String(96)),
)

# What a client has said under an Idempotency-Key; the refund's own reference outlasts it.
idempotency_key = Table(
    "idempotency_key",
    metadata,
    Column("client", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("at", Double, nullable=False),
)
Index("ix_idempotency_key_at", idempotency_key.c.at)

# What a client has had accepted in an hour: currency "" counts jobs, the others minor units of money.
quota_use = Table(
    "quota_use",
    metadata,
    Column("client", String(64), primary_key=True),
    Column("hour", Integer, primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("used", BigInteger, nullable=False),
    CheckConstraint("used >= 0", "used_not_negative"),
)

# -- reconciliation --------------------------------------------------------------------------------------------------

# One comparison with a provider. It is done only when `state` says so: a run that broke off is never a clean one.
recon_run = Table(
    "recon_run",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account", String(64), nullable=False),
    Column("source", String(8), nullable=False),
    Column("state", String(8), nullable=False, server_default="running"),
    Column("phase", String(8), nullable=False),
    Column("bookmark", Text, nullable=False),
    Column("window_from", Double),
    Column("window_to", Double),
    Column("started_by", String(96), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("leased_by", String(96)),
    Column("lease_until", Double, nullable=False, server_default=text("0")),
    Column("compared", Integer, nullable=False, server_default=text("0")),
    Column("matched", Integer, nullable=False, server_default=text("0")),
    Column("differing", Integer, nullable=False, server_default=text("0")),
    Column("unanswered", Integer, nullable=False, server_default=text("0")),
    Column("bad", Integer, nullable=False, server_default=text("0")),
    Column("note", String(512)),
    CheckConstraint("source IN ('status', 'list', 'file')", "source_known"),
    CheckConstraint("state IN ('running', 'complete', 'partial')", "state_known"),
)
_partial(
    "uq_recon_run_running",
    recon_run.c.account,
    recon_run.c.source,
    unique=True,
    where="state = 'running' AND source <> 'file'",
)
Index("ix_recon_run_account", recon_run.c.account, recon_run.c.source, recon_run.c.started_at)

recon_file = Table(
    "recon_file",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("hash", String(64), primary_key=True),
    Column("run_id", String(32), ForeignKey("recon_run.id"), nullable=False, index=True),
    Column("name", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("read_at", Double),
)

# A line of a settlement file; one that could not be read has its fault, and nothing else.
recon_line = Table(
    "recon_line",
    metadata,
    Column("run_id", String(32), primary_key=True),
    Column("no", Integer, primary_key=True),
    Column("reconciliation_id", String(255)),
    Column("provider_refund_id", String(255)),
    Column("handle", String(64)),
    Column("payment_id", String(200)),
    Column("amount", BigInteger),
    Column("currency", String(3)),
    Column("verdict", String(12)),
    Column("at", Double),
    Column("refund_id", String(32)),
    Column("paired", Boolean, nullable=False, server_default=false()),
    Column("fault", String(255)),
)
_partial("ix_recon_line_refund", recon_line.c.refund_id, where="refund_id IS NOT NULL")

# Where ours and theirs differ. `identity` is the cause: the same cause is the same row, however often it is found.
recon_difference = Table(
    "recon_difference",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("identity", String(64), nullable=False),
    Column("account", String(64), nullable=False),
    Column("kind", String(24), nullable=False),
    Column("state", String(12), nullable=False, server_default="open"),
    Column("run_id", String(32), ForeignKey("recon_run.id"), nullable=False, index=True),
    Column("last_run_id", String(32), nullable=False),
    Column("refund_id", String(32), index=True),
    Column("amount", BigInteger),
    Column("currency", String(3)),
    Column("ours", Text, nullable=False),
    Column("theirs", Text, nullable=False),
    Column("owner", String(64)),
    Column("found_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("resolution", String(16)),
    Column("reason_code", String(16)),
    Column("note", String(512)),
    Column("closed_by", String(96)),
    Column("closed_at", Double),
    CheckConstraint("state IN ('open', 'explained', 'closed')", "state_known"),
    CheckConstraint("state <> 'closed' OR closed_by IS NOT NULL", "closed_by_somebody"),
    UniqueConstraint("identity"),
)
_partial("ix_recon_difference_open", recon_difference.c.account, recon_difference.c.kind, where="state = 'open'")

# -- books -----------------------------------------------------------------------------------------------------------

# What an event of the journal did to the money: legs that sum to zero, written once for each event.
posting = Table(
    "posting",
    metadata,
    Column("subject", String(96), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("leg", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("account", String(64), nullable=False),
    Column("payment_ref", String(200), nullable=False),
    Column("kind", String(12), nullable=False),
    Column("book", String(12), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    CheckConstraint("kind IN ('reserve', 'settle', 'release', 'reverse', 'external')", "kind_known"),
    CheckConstraint("book IN ('payment', 'reserved', 'refunded')", "book_known"),
)
Index("ix_posting_payment", posting.c.account, posting.c.payment_ref)
Index("ix_posting_at", posting.c.at, postgresql_using="brin")

# How far a job that walks along a table has come.
bookmark = Table(
    "bookmark",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("at", Double, nullable=False),
    Column("place", Text, nullable=False),
)

# -- bulk operations -------------------------------------------------------------------------------------------------

# One act on many refunds. `due_at`: when a worker may take it up, the end of the lease while one has it.
bulk_operation = Table(
    "bulk_operation",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("query", String(512), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("created_by", String(96), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("pace", Integer, nullable=False),
    Column("stop_at", Integer, nullable=False),
    Column("state", String(8), nullable=False, server_default="running"),
    *(Column(name, Integer, nullable=False) for name in ("total", "skipped", "done", "failed")),
    Column("due_at", Double),
    Column("lease", String(32)),
    Column("ended_at", Double),
    Column("ended_by", String(96)),
    Column("end_reason", String(512)),
    CheckConstraint("kind IN ('retry', 'check', 'cancel')", "kind_known"),
    CheckConstraint("state IN ('running', 'done', 'stopped')", "state_known"),
    CheckConstraint("(state = 'running') = (due_at IS NOT NULL)", "due_while_running"),
    CheckConstraint("done + failed + skipped <= total", "no_more_than_all"),
)
_partial("ix_bulk_operation_due", bulk_operation.c.due_at, where="state = 'running'")

bulk_item = Table(
    "bulk_item",
    metadata,
    Column("operation", String(32), ForeignKey("bulk_operation.id"), primary_key=True),
    Column("no", Integer, primary_key=True, autoincrement=False),
    Column("refund_id", String(32), nullable=False),
    Column("reference", String(64), nullable=False),
    Column("account", String(64), nullable=False),
    Column("provider", String(64), nullable=False),
    Column("amount", BigInteger),
    Column("currency", String(3)),
    Column("result", String(8), nullable=False),
    Column("reason", String(512)),
    Column("at", Double),
    CheckConstraint("result IN ('waiting', 'done', 'failed', 'skipped', 'left')", "result_known"),
)
Index("ix_bulk_item_result", bulk_item.c.operation, bulk_item.c.result, bulk_item.c.no)
# A refund waits in one operation at most, whoever asks at the same moment.
_partial("uq_bulk_item_waiting", bulk_item.c.refund_id, unique=True, where="result = 'waiting'")

# Counts of all processes since the ledger was made, each added to by whoever counted: see `ledger/counts.py`.
counted = Table(
    "counted",
    metadata,
    Column("name", String(48), primary_key=True),
    Column("labels", String(255), primary_key=True),
    Column("value", Double, nullable=False),
)

# -- figures ---------------------------------------------------------------------------------------------------------


def _figures(name: str, *indexes: Index) -> Table:
    return Table(
        name,
        metadata,
        Column("name", String(16), primary_key=True),
        Column("account", String(64), primary_key=True),
        Column("at", Integer, primary_key=True, autoincrement=False),
        Column("bucket", Integer, primary_key=True, autoincrement=False),
        Column("value", BigInteger, nullable=False),
        *indexes,
    )


# What each minute and each hour came to, for charts. `at`: its first second; `bucket`: the class of a duration.
sample = _figures("sample", Index("ix_sample_at", "at"))
sample_hour = _figures("sample_hour")
