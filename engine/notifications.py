"""What providers tell us: kept, and taken as a hint to ask. Nothing in a notification moves a refund by itself."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace
from sqlalchemy import Connection

from domain.errors import Conflict, NotFound, QuotaExceeded, Refused
from domain.outcome import Declined, Facts, Outcome, Pending, Succeeded
from domain.policy import absence_counts_from
from domain.refund import Refund, clean
from domain.state import FINAL, State
from engine.account import Account
from engine.ask import ask_movements, ask_refund
from engine.bootstrap import Engine
from engine.evidence import bring_evidence
from engine.ids import new_id
from engine.people import Actor, Verb, require
from engine.redact import redacted_body, redacted_head
from ledger import external, journal, notification, refunds
from ledger.external import Kind, Result, Sighting
from ledger.notification import Due, Kept
from ledger.payments import standing
from ledger.refunds import Change
from providers.base import (
    Movement,
    Movements,
    Notification,
    NotificationRefused,
    NotificationUnreadable,
    RefundOrder,
    Standing,
)
from providers.transport import Network

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
AGAIN = 60.0
#: How long one look may take; if it is lost, somebody else looks after the lease.
PATIENT, LEASE = 150.0, 300.0
BATCH = 20
#: Seconds until the next look at what nobody is found for, by how often one has looked.
PATIENCE = (2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
#: What is reported of a payment is asked for one by one, and at most so many.
MOST_ASKED = 10
# A refund of ours names its id at the provider at most this long after somebody else did.
LONGEST = 60 * 86_400.0

Blocking = Callable[..., Any]


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
        log.warning("notification.refused", account=account, why=str(error))
        return Receipt(status=status, id=stored, verified=False, why=str(error))
    why = None if hint.proven else UNPROVEN
    keep = _keep if hint.proven else _keep_unproven
    stored = keep(engine, account, hint, body, now, why=why)
    if stored is not None:
        engine.ring(LANE, account)
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


def look(engine: Engine, notification_id: str) -> dict[str, Any]:
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
    before = now - engine.settings.notifications.keep
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


# -- looking at them -------------------------------------------------------------------------------------------------


async def process(engine: Engine, account: Account, network: Network, run_blocking: Blocking) -> bool:
    """Look at what is due of an account; True when more is waiting. Doing it twice does nothing twice."""
    if engine.bell is not None:
        await run_blocking(engine.bell.free, LANE, account.name)
    due: list[Due] = await run_blocking(_claim, engine, account.name)
    await asyncio.gather(*(_bounded(_Look(engine, account, network, run_blocking, each)) for each in due))
    if due:
        await run_blocking(_adopt, engine)

    return len(due) == BATCH


async def _bounded(look: "_Look") -> None:
    """One look to its end, within bounds: a provider that hangs holds up nobody for long."""
    try:
        async with asyncio.timeout(PATIENT):
            await look.take()
    except TimeoutError:
        look.wait("the provider took too long", None)
    except Exception:
        log.exception("notification.failed", id=look.due.id, account=look.account.name)
        look.wait("it could not be processed", None)
    await look.blocking(look.settle)


def _claim(engine: Engine, account: str) -> list[Due]:
    now = engine.clock()

    return engine.ledger.run(
        lambda connection: notification.claim(connection, account, limit=BATCH, now=now, until=now + LEASE)
    )


def _adopt(engine: Engine) -> None:
    """What was booked a moment ago may have become ours since; the rest waits for the housekeeping."""
    now = engine.clock()
    since = now - engine.settings.notifications.wait
    engine.ledger.run(lambda connection: external.adopt(connection, actor=engine.worker, now=now, since=since))


@dataclass(frozen=True, slots=True)
class _Match:
    """Refunds of ours that it is about, each with the handle that it speaks of; and ids that are none of ours."""

    ours: tuple[tuple[Refund, str], ...]
    strangers: tuple[str, ...]
    payment_ref: str | None
    known_payment: bool


@dataclass(slots=True)
class _Look:
    """One look at one notification: what it found, and whether another one is needed."""

    engine: Engine
    account: Account
    network: Network
    blocking: Blocking
    due: Due
    results: list[str] = field(default_factory=list)
    refunds: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    next_at: float | None = None

    @property
    def hint(self) -> Notification:
        return _HINT.decode(self.due.hint)

    @property
    def late(self) -> bool:
        """Whether one has waited long enough for an answer of ours that would explain it."""
        return self.engine.clock() >= self.due.received_at + self.engine.settings.notifications.wait

    def wait(self, why: str, until: float | None) -> None:
        """Look again later: `until`, or ever more patiently."""
        now = self.engine.clock()
        pause = PATIENCE[min(self.due.tries, len(PATIENCE) - 1)]
        at = now + pause if until is None else min(max(until, now + PATIENCE[0]), now + max(pause, PATIENCE[2]))
        self.open.append(why)
        self.next_at = at if self.next_at is None else min(self.next_at, at)

    async def take(self) -> None:
        """Ask about whomever it concerns."""
        hint = self.hint
        match: _Match = await self.blocking(self._match, hint)
        for refund, handle in match.ours:
            self.refunds.append(refund.id)
            await self._about(refund, handle, hint)
        if match.strangers or (not match.ours and match.known_payment):
            await self._about_others(hint, match)
        elif not match.ours:
            self.results.append("it is not about a refund")

    def settle(self) -> None:
        """Write down what came of it. Blocking."""
        late = self.late
        at = None if late else self.next_at
        state = "parked" if at is not None else "unmatched" if self.open else "done"
        words = "; ".join([*self.results, *self.open])
        self.engine.ledger.run(
            lambda connection: notification.settle(
                connection,
                self.due.id,
                state=state,
                result=clean(words, 512) or "",
                refunds=self.refunds,
                due_at=at,
                now=self.engine.clock(),
            )
        )
        if state == "unmatched":
            log.error("notification.unmatched", id=self.due.id, account=self.due.account, why=words)

    # -- whom it is about --------------------------------------------------------------------------------------------

    def _match(self, hint: Notification) -> _Match:
        """By the provider's ids and by our own names."""
        name = self.account.name
        with self.engine.ledger.read() as connection:
            ids = dict.fromkeys((*hint.provider_refund_ids, *hint.chargebacks))
            found = {each.id: (each, each.handle) for each in notification.by_provider_ids(connection, name, [*ids])}
            ours = {each.provider_refund_id for each, _ in found.values()}
            for named, refund_id, handle in _names(hint):
                matched = _by_own_names(connection, name, named, refund_id, handle, hint.payment_id)
                found.update({each.id: (each, said) for each, said in matched if each.id not in found})
                ours.update({named} if matched else ())
            ref = hint.payment_id or _of_order(connection, name, hint)
            known = ref is not None and notification.is_known(connection, name, ref)

        strangers = tuple(each for each in ids if each not in ours)
        if ref is None:
            # Most of what is notified there are sales: what is not about an order of ours is not asked for.
            strangers = ()

        return _Match(tuple(found.values()), strangers, ref, known)

    # -- a refund of ours --------------------------------------------------------------------------------------------

    async def _about(self, refund: Refund, handle: str, hint: Notification) -> None:
        claim = next((each for each in hint.claims if each.provider_refund_id == refund.provider_refund_id), None)
        if handle != refund.handle:
            await self._ask(replace(refund, handle=handle, provider_refund_id=None))
        elif refund.state in FINAL and hint.proven and claim is not None and _agrees(refund, claim):
            self.results.append(f"{refund.id} is {refund.state}, as it says")
        elif refund.leased_by is not None:
            self.wait(f"a worker has {refund.id}", refund.due_at)
        elif refund.state in FINAL or refund.state in (State.QUEUED, State.AWAITING_APPROVAL):
            await self._ask(refund)
        elif refund.provider_refund_id is None and not self.account.policy.can_lookup:
            await self._ask_by_hinted_id(refund, hint)
        elif await self.blocking(self._hasten, refund.id):
            self.results.append(f"{refund.id} is asked about")
        else:
            self.wait(f"{refund.id} is changing", None)

    def _hasten(self, refund_id: str) -> bool:
        """Make it due, and ring; no look-up before it could mean something. False where a worker has it."""
        engine, account = self.engine, self.account

        def work(connection: Connection) -> str | None:
            refund = refunds.get(connection, refund_id, lock=True)
            if refund is None or refund.leased_by is not None:
                return None
            lane = "recover" if refund.state in (State.UNKNOWN, State.SENDING) else "poll"
            at = engine.clock()
            if lane == "recover" and refund.provider_refund_id is None:
                at = max(at, absence_counts_from(account.policy, refund.last_send_end))
            if refund.due_at is None or refund.due_at <= at:
                return lane
            sooner = Change(before=refund, after=replace(refund, due_at=at), type=None, actor=engine.worker)
            return lane if refunds.apply(connection, [sooner])[0] is not None else None

        lane = engine.ledger.run(work)
        if lane is None:
            return False
        engine.ring(lane, account.name)

        return True

    async def _ask(self, refund: Refund) -> None:
        """About one that is in no lane: final, or not sent; what the provider says is evidence."""
        if refund.provider_refund_id is None and not self.account.policy.can_lookup:
            self.open.append(
                f"{refund.id} is {refund.state}, and {refund.provider} cannot be asked about {refund.handle}"
            )
            return
        outcome = await ask_refund(self.engine, self.account, refund, self.network)
        await self._evidence(refund, outcome)

    async def _ask_by_hinted_id(self, refund: Refund, hint: Notification) -> None:
        """Where nothing else finds it, the id that we were told does, if the provider itself shows it as ours."""
        asked = await self._movements(hint, refund.payment_ref, hint.provider_refund_ids[:1])
        ours = [each for each in asked.found if refund.id == each.refund_id or refund.handle == each.handle]
        if asked.problem is not None or len(ours) != 1:
            self.wait(f"{refund.id}: {asked.problem or 'the provider does not show it as ours'}", None)
            return
        await self._evidence(refund, _outcome(ours[0]))

    async def _evidence(self, refund: Refund, outcome: Outcome) -> None:
        if not isinstance(outcome, Succeeded | Pending | Declined):
            self.wait(f"{refund.id}: the provider was asked, and the answer is {type(outcome).__name__.lower()}", None)
            return
        await self.blocking(bring_evidence, self.engine, self.account, refund, outcome)
        self.results.append(f"{refund.id} was asked about: {type(outcome).__name__.lower()}")

    # -- what others did ---------------------------------------------------------------------------------------------

    async def _about_others(self, hint: Notification, match: _Match) -> None:
        ref = match.payment_ref
        if ref is not None and await self._may_be_ours(ref):
            self.wait(f"an answer of ours about {ref} is outstanding", None)
            return
        asked = await self._movements(hint, ref, match.strangers)
        if asked.problem is not None:
            self.wait(f"the provider could not be asked: {asked.problem}", None)
            return
        shown = {each.provider_refund_id for each in asked.found}
        missing = [each for each in match.strangers if each not in shown]
        if missing and hint.payment_id is not None:
            self.wait(f"the provider does not show {', '.join(missing[:3])}", None)
        elif missing:
            self.results.append("the provider shows no refund there")
        for movement in asked.found:
            await self._place(movement, ref)

    async def _may_be_ours(self, ref: str) -> bool:
        """Whether a refund of ours whose id we do not know yet could be meant, where only elimination tells them."""
        if self.account.capabilities.matches_handle or self.late:
            return False

        def work() -> bool:
            with self.engine.ledger.read() as connection:
                return notification.nameless(connection, self.account.name, ref)

        nameless: bool = await self.blocking(work)

        return nameless

    async def _movements(self, hint: Notification, ref: str | None, ids: tuple[str, ...]) -> Movements:
        """What the provider shows; where it cannot be asked, what it has signed."""
        if not self.account.capabilities.movements:
            return Movements(found=hint.claims if hint.proven else ())
        currency = await self.blocking(self._currency, ref)
        found: dict[str, Movement] = {}
        for number in ids[:MOST_ASKED] or (None,):
            if number in found:
                continue
            subject = RefundOrder(
                refund_id="", reference="", handle="", payment_id=ref, provider_refund_id=number, currency=currency
            )
            asked = await ask_movements(self.account, subject, self.network)
            if asked.problem is not None:
                return asked
            found.update({each.provider_refund_id: each for each in asked.found})

        return Movements(found=tuple(found.values()))

    def _currency(self, ref: str | None) -> str | None:
        if ref is None:
            return None
        with self.engine.ledger.read() as connection:
            purse = standing(connection, self.account.name, ref)

        return purse.currency if purse else None

    async def _place(self, movement: Movement, ref: str | None) -> None:
        """Book one movement that is not ours, or say why not."""
        number = movement.provider_refund_id
        payment_ref = ref or movement.payment_id
        ours: list[tuple[Refund, str]] = await self.blocking(self._ours, movement)
        if ours:
            await self._after_all_ours(ours)
        elif movement.standing is Standing.FAILED:
            gone = await self.blocking(self._withdraw, number)
            self.results.append(f"{number} came to nothing{', and is counted no more' if gone else ''}")
        elif movement.standing is not Standing.SUCCEEDED:
            self.wait(f"{number} is not done yet", None)
        elif payment_ref is None or movement.amount is None or movement.amount <= 0:
            self.open.append(f"{number}: its payment or its amount is not known")
        elif unnamed := await self.blocking(self._unnamed, movement, payment_ref):
            self.open.append(f"{number} may be {unnamed}, whose id there nobody knows: a list run shows it to link")
        else:
            booking = await self.blocking(self._book, movement, payment_ref)
            if booking.result is Result.BOOKED:
                log.warning("external.booked", account=self.account.name, id=booking.id, alert=booking.alert)
            self.results.append(f"{number} {booking.result} as {booking.id}")

    def _ours(self, movement: Movement) -> list[tuple[Refund, str]]:
        """By the provider's id, and by our own names, which it shows: the id may not be in our books yet."""
        name = self.account.name
        with self.engine.ledger.read() as connection:
            known = notification.by_provider_ids(connection, name, [movement.provider_refund_id])
            number = movement.provider_refund_id
            return [(each, each.handle) for each in known] or _by_own_names(
                connection, name, number, movement.refund_id, movement.handle, movement.payment_id
            )

    async def _after_all_ours(self, ours: list[tuple[Refund, str]]) -> None:
        """It named an id that we do not know; the provider shows that it is that of a refund of ours."""
        for refund, handle in ours:
            if refund.provider_refund_id is None and refund.id not in self.refunds:
                self.refunds.append(refund.id)
                await self._about(refund, handle, self.hint)

    def _unnamed(self, movement: Movement, payment_ref: str) -> str | None:
        if movement.chargeback:
            return None
        with self.engine.ledger.read() as connection:
            number, amount = movement.provider_refund_id, movement.amount or 0
            return external.unnamed(connection, self.account.name, number, payment_ref, amount)

    def _withdraw(self, number: str) -> bool:
        engine = self.engine

        return engine.ledger.run(
            lambda connection: external.withdraw(
                connection,
                self.account.name,
                number,
                why="the provider says that it came to nothing",
                actor=engine.worker,
                now=engine.clock(),
            )
        )

    def _book(self, movement: Movement, payment_ref: str) -> external.Booking:
        engine, now = self.engine, self.engine.clock()
        asked = self.account.capabilities.movements
        seen = Sighting(
            account=self.account.name,
            provider_refund_id=movement.provider_refund_id,
            payment_ref=payment_ref,
            kind=Kind.CHARGEBACK if movement.chargeback else Kind.REFUND,
            amount=movement.amount or 0,
            currency=movement.currency,
            source="notification",
            evidence={"notification": self.due.id, "the_provider_was_asked": asked},
        )

        return engine.ledger.run(
            lambda connection: external.book(connection, seen, row_id=new_id("ex", now), actor=engine.worker, now=now)
        )


_HINT = msgspec.json.Decoder(Notification)


def _names(hint: Notification) -> list[tuple[str | None, str | None, str | None]]:
    """Provider's id, our id, our handle, of each refund that it speaks of."""
    single = hint.provider_refund_ids[0] if len(hint.provider_refund_ids) == 1 else None
    named = [(single, hint.refund_id, hint.handle)]
    named += [(each.provider_refund_id, each.refund_id, each.handle) for each in hint.claims if not each.chargeback]

    return list(dict.fromkeys(each for each in named if each[1] or each[2]))


def _by_own_names(
    connection: Connection,
    account: str,
    number: str | None,
    refund_id: str | None,
    handle: str | None,
    payment_ref: str | None,
) -> list[tuple[Refund, str]]:
    """Refunds under our own names, with the handle meant; not one that has another id of the provider's by now."""
    found = notification.by_id(connection, account, refund_id) if refund_id else []
    found = found or (notification.by_handle(connection, account, handle) if handle else [])
    if found or handle is None or payment_ref is None:
        return [(each, each.handle) for each in found if number is None or each.provider_refund_id in (None, number)]

    return [(each, handle) for each in notification.by_old_handle(connection, account, payment_ref, handle)]


def _of_order(connection: Connection, account: str, hint: Notification) -> str | None:
    order = next((each.order_id for each in hint.claims if each.order_id), None)

    return notification.payment_of_order(connection, account, order) if order else None


def _agrees(refund: Refund, claim: Movement) -> bool:
    """Whether it says what we know already: then there is nothing to ask."""
    paid = {State.SUCCEEDED: Standing.SUCCEEDED, State.FAILED: Standing.FAILED, State.REVERSED: Standing.FAILED}

    return claim.standing is not None and paid.get(refund.state) is claim.standing


def _outcome(movement: Movement) -> Outcome:
    """What the provider's own record of our refund proves."""
    facts = Facts(
        provider_refund_id=movement.provider_refund_id,
        status=movement.standing,
        amount=movement.amount,
        currency=movement.currency,
    )
    match movement.standing:
        case Standing.SUCCEEDED:
            return Succeeded(facts=facts)
        case Standing.FAILED:
            return Declined(code="failed", own_record=True, facts=facts)
        case _:
            return Pending(facts=facts)
