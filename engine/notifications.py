"""What providers tell us: verified, kept once, and looked at later (`look`). Nothing in it moves a refund by itself."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection

from domain.errors import Conflict, NotFound, QuotaExceeded, Refused
from domain.refund import clean
from engine.account import Account
from engine.bootstrap import Engine
from engine.ids import new_id
from engine.people import Actor, Verb, require
from engine.redact import redacted_body, redacted_head
from ledger import external, journal, notification
from ledger.notification import Kept
from providers.base import Notification, NotificationRefused, NotificationUnreadable

log = structlog.get_logger(__name__)

LANE = "notify"
MAX_BODY = 262_144
# Of what is not shown to be the provider's: so many, and of each so much, are kept per account and hour.
REFUSED_KEPT = 100
REFUSED_HEAD = 2048
# One address is told so often in a minute, for each account, why it is not believed.
REFUSED_RATE, REFUSED_PERIOD = 60, 60.0
UNPROVEN = "nothing shows who sent it: no user is configured"

#: The same words without an id of their own are looked at again when they come so many seconds later.
AGAIN = 15.0
# A refund of ours names its id at the provider at most this long after somebody else did.
LONGEST = 60 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the provider is answered: the HTTP status, and why it is not believed. `id` None: counted, not kept anew."""

    status: int
    id: str | None
    verified: bool
    why: str | None = None
    fresh: bool = False


def receive(
    engine: Engine, account: str, headers: Mapping[str, str], body: bytes, *, address: str | None = None
) -> Receipt:
    """Verify and keep a notification, and have it looked at. Raises NotFound for an account that there is not.

    What is not the provider's changes nothing: it is counted, and a little of it kept to be looked at. From an
    `address` that sends too much of that it raises QuotaExceeded; what is the provider's is taken however much it is.
    """
    configured = _configured(engine, account)
    if len(body) > MAX_BODY:
        raise Refused("body-too-large", f"a notification has at most {MAX_BODY} bytes")
    now = engine.clock()
    try:
        hint = configured.provider.notification({name.lower(): value for name, value in headers.items()}, body, now)
    except NotificationRefused as error:
        status = 400 if isinstance(error, NotificationUnreadable) else 401
        if address is not None:
            _limit(engine, account, address, now)
        stored = _keep_unproven(engine, account, None, body, now, why=str(error))
        engine.meter.count("webhooks_in", account, configured.provider.name, "refused")
        log.warning("notification.refused", account=account, why=str(error))
        return Receipt(status=status, id=stored, verified=False, why=str(error))
    why = None if hint.proven else UNPROVEN
    keep = _keep if hint.proven else _keep_unproven
    stored = keep(engine, account, hint, body, now, why=why)
    if stored is not None:
        engine.ring(LANE, account)
    result = "new" if stored is not None else "repeated"
    engine.meter.count("webhooks_in", account, configured.provider.name, result)
    log.info("notification.received", account=account, kind=clean(hint.kind, 64), id=stored, fresh=stored is not None)

    return Receipt(
        status=configured.capabilities.acknowledges,
        id=stored,
        verified=hint.proven,
        why=why,
        fresh=stored is not None,
    )


def verify(engine: Engine, account: str, headers: Mapping[str, str], body: bytes, at: float | None) -> Notification:
    """What a notification would be taken for, at that time; nothing is kept. Raises NotificationRefused, NotFound."""
    lowered = {name.lower(): value for name, value in headers.items()}

    return _configured(engine, account).provider.notification(lowered, body, engine.clock() if at is None else at)


def unsealed(engine: Engine, notification_id: str) -> dict[str, Any]:
    """One notification with its redacted body. Raises NotFound."""
    with engine.ledger.read() as connection:
        found = notification.get(connection, notification_id)
    if found is None:
        raise NotFound("not-found", f"there is no notification {notification_id!r}")
    refunds = msgspec.json.decode(found["refunds"])

    return {**found, "refunds": refunds, "body": engine.vault.open(found["body"]).decode("utf-8", "replace")}


def replay(engine: Engine, actor: Actor, notification_id: str) -> dict[str, Any]:
    """Have a notification that was believed looked at once more; harmless, however often."""
    require(actor, Verb.ACT)

    return _again(engine, actor, notification_id, "notification.replayed", {}, lambda _connection: {})


def link(engine: Engine, actor: Actor, notification_id: str, refund_id: str, *, reason: str = "") -> dict[str, Any]:
    """A person says which refund it is about: the provider is asked about that one. The word itself moves nothing."""
    require(actor, Verb.ACT)

    def hinted(connection: Connection) -> dict[str, Any]:
        found = notification.get(connection, notification_id)
        if found is None or found["hint"] is None:
            return {}
        if found["state"] not in ("parked", "unmatched"):
            raise Conflict("not-unmatched", f"it is {found['state']}: {found['result'] or 'it is being looked at'}")
        if not notification.by_id(connection, found["account"], refund_id):
            raise NotFound("refund-not-found", f"account {found['account']} has no refund {refund_id!r}")
        hint = {**msgspec.json.decode(found["hint"]), "refund_id": refund_id}
        return {"hint": msgspec.json.encode(hint).decode()}

    data = {"refund": refund_id, "reason": reason[:512]}

    return _again(engine, actor, notification_id, "notification.linked", data, hinted)


def _again(
    engine: Engine,
    actor: Actor,
    notification_id: str,
    kind: str,
    data: dict[str, Any],
    changed: Callable[[Connection], dict[str, Any]],
) -> dict[str, Any]:
    """Have it looked at once more, with what has changed, on record."""

    def work(connection: Connection) -> dict[str, Any]:
        now = engine.clock()
        found = notification.replay(connection, notification_id, now, **changed(connection))
        if found is None:
            raise NotFound("not-found", f"there is no notification {notification_id!r} that was believed")
        journal.append(connection, f"notification/{notification_id}", kind, actor=actor.name, now=now, data=data)
        return found

    found = engine.ledger.run(work)
    engine.ring(LANE, found["account"])

    return found


def housekeep(engine: Engine) -> None:
    """Take out what turned out to be ours, forget what is old. For each round of beat's housekeeping."""
    now = engine.clock()
    since = now - LONGEST
    engine.ledger.run(lambda connection: external.adopt(connection, actor="system", now=now, since=since))
    before = now - min(engine.settings.notifications.keep, engine.settings.retention.personal or LONGEST)
    engine.ledger.run(lambda connection: notification.forget(connection, before=before))


def _configured(engine: Engine, account: str) -> Account:
    found = engine.accounts.get(account)
    if found is None:
        raise NotFound("not-found", "there is no such account")

    return found


def _kept(engine: Engine, account: str, hint: Notification | None, body: bytes, now: float, *, why: str | None) -> Kept:
    digest = hashlib.sha256(body).hexdigest()
    # What is forged must not stand where the true one belongs.
    proof = "refused" if hint is None else "proven" if hint.proven else "unproven"
    identity = digest if hint is None or hint.event_id is None else f"event {hint.event_id}"

    return Kept(
        id=new_id("nt", now),
        account=account,
        key=hashlib.sha256(f"{proof} {identity}".encode("utf-8", "replace")).hexdigest(),
        event_id=clean(hint.event_id, 255) if hint else None,
        kind=(clean(hint.kind, 64) if hint else None) or "",
        verified=hint is not None and hint.proven,
        why=why,
        hint=None if hint is None else msgspec.json.encode(hint).decode(),
        body=engine.vault.seal(_shown(body, proven=proof == "proven")),
        size=len(body),
        body_hash=digest,
        at=now,
    )


def _shown(body: bytes, *, proven: bool) -> bytes:
    """What of a body may be shown. A large one that nothing proves is not taken apart."""
    if proven:
        return redacted_body(body, MAX_BODY)

    return redacted_body(body, REFUSED_HEAD) if len(body) <= REFUSED_HEAD else redacted_head(body, REFUSED_HEAD)


def _limit(engine: Engine, account: str, address: str, now: float) -> None:
    """Count one that is refused; QuotaExceeded where the address has sent too many of them."""
    taken = engine.rates.take(f"refused:{account}:{address}", count=REFUSED_RATE, seconds=REFUSED_PERIOD)
    if not taken.granted:
        engine.refusals.count(account, now)
        words = f"{REFUSED_RATE} refused notifications in {REFUSED_PERIOD:g} seconds are answered"
        raise QuotaExceeded("refused-notifications", words, retry_after=taken.reset)


def _keep(engine: Engine, account: str, hint: Notification, body: bytes, now: float, *, why: str | None) -> str | None:
    """The id of one that is the provider's; None where there is nothing new to do."""
    kept = _kept(engine, account, hint, body, now, why=why)
    again = AGAIN if kept.event_id is None else None

    return (
        kept.id
        if engine.ledger.run(lambda connection: notification.keep(connection, kept, again_after=again))
        else None
    )


def _keep_unproven(
    engine: Engine, account: str, hint: Notification | None, body: bytes, now: float, *, why: str | None
) -> str | None:
    """The same of what nothing proves. Once its hour is full it costs no more than being counted."""
    if engine.refusals.is_full(account, now):
        engine.refusals.count(account, now)
        return None

    def work(connection: Connection) -> str | None:
        if not notification.refuse(connection, account, min(len(body), REFUSED_HEAD), now, most=REFUSED_KEPT):
            engine.refusals.fill(account, now)
            return None
        kept = _kept(engine, account, hint, body, now, why=why)
        return kept.id if notification.keep(connection, kept, again_after=AGAIN) or hint is None else None

    return engine.ledger.run(work)
