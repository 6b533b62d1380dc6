"""Looking at what providers have told us: whomever it concerns is asked about, and the answer is what counts."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace
from sqlalchemy import Connection

from domain.outcome import Declined, Outcome, Pending, Succeeded
from domain.policy import absence_counts_from
from domain.reconcile import Listed, Verdict, evidence, facts
from domain.refund import Refund, said
from domain.state import FINAL, State
from engine.about import Match, Named, match, number, ours
from engine.account import Account
from engine.ask import ask_page, ask_pages, ask_refund
from engine.bootstrap import Engine
from engine.elsewhere import Elsewhere, Fate
from engine.evidence import ANOTHERS_ID, Brought, bring_evidence
from engine.notifications import LANE
from ledger import external, notification, refunds
from ledger.notification import Due
from ledger.payments import standing
from ledger.refunds import Change
from providers.base import Lists, Notification, Page, Subject
from providers.transport import Network

log = structlog.get_logger(__name__)

#: How long one look may take; if it is lost, somebody else looks after the lease.
PATIENT, LEASE = 150.0, 300.0
BATCH = 20
#: Seconds until the next look at what nobody is found for, by how often one has looked.
PATIENCE = (2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
#: What is reported of a payment is asked for one by one, and at most so many.
MOST_ASKED = 10

Blocking = Callable[..., Any]
_HINT = msgspec.json.Decoder(Notification)


async def process(engine: Engine, account: Account, network: Network, run_blocking: Blocking) -> bool:
    """Look at what is due of an account; True when more is waiting. Doing it twice does nothing twice."""
    if engine.bell is not None:
        await run_blocking(engine.bell.free, LANE, account.name)
    due: list[Due] = await run_blocking(_claim, engine, account.name)
    await asyncio.gather(*(_bounded(Look(engine, account, network, run_blocking, each)) for each in due))
    if due:
        await run_blocking(_adopt, engine)

    return len(due) == BATCH


async def _bounded(look: "Look") -> None:
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


@dataclass(slots=True)
class Look:
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
        """What the notification says."""
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
        about: Match = await self.blocking(self._match)
        for refund, handle in about.ours:
            self.refunds.append(refund.id)
            await self._about(refund, handle, hint)
        if about.strangers or (not about.ours and about.known_payment):
            await self._about_others(hint, about)
        elif not about.ours:
            self.results.append("it is not about a refund")

    def settle(self) -> None:
        """Write down what came of it. Blocking."""
        late = self.late
        at = None if late else self.next_at
        state = "parked" if at is not None else "unmatched" if self.open else "done"
        words = "; ".join([*self.results, *self.open])
        settled = self.engine.ledger.run(
            lambda connection: notification.settle(
                connection,
                self.due,
                state=state,
                result=said(words) or "",
                refunds=self.refunds,
                due_at=at,
                now=self.engine.clock(),
            )
        )
        if settled and state == "unmatched":
            log.error("notification.unmatched", id=self.due.id, account=self.due.account, why=words)

    def _match(self) -> Match:
        with self.engine.ledger.read() as connection:
            return match(connection, self.account.name, self.hint)

    # -- a refund of ours --------------------------------------------------------------------------------------------

    async def _about(self, refund: Refund, handle: str, hint: Notification) -> None:
        claim = next((each for each in hint.claims if each.provider_refund_id == refund.provider_refund_id), None)
        if handle != refund.handle:
            await self._ask(replace(refund, handle=handle, provider_refund_id=None))
        elif refund.state in FINAL and hint.proven and claim is not None and _agrees(refund, claim):
            self.results.append(f"{refund.id} is {refund.state}, as it says")
        elif (until := self._in_hand(refund)) is not None:
            self.wait(f"a worker has {refund.id}", until)
        elif not self._can_ask(refund):
            await self._ask_by_hinted_id(refund, hint)
        elif refund.state in FINAL or refund.state in (State.QUEUED, State.AWAITING_APPROVAL):
            await self._ask(refund)
        elif await self.blocking(self._hasten, refund.id):
            self.results.append(f"{refund.id} is asked about")
        else:
            self.wait(f"{refund.id} is changing", None)

    def _can_ask(self, refund: Refund) -> bool:
        return refund.provider_refund_id is not None or self.account.policy.can_lookup

    def _in_hand(self, refund: Refund) -> float | None:
        """Until when a worker may learn more of it than is told here; None where nobody has it.

        What no look-up finds is only left alone while its answer can still come: when the lease of a lost worker ends
        it is sent again, and what the provider has of an earlier handle must be known before that.
        """
        if refund.leased_by is None:
            return None
        if self._can_ask(refund):
            return refund.due_at
        answered = refund.updated_at + self.account.policy.total_timeout
        is_out = refund.state in (State.SENDING, State.UNKNOWN) and self.engine.clock() < answered

        return answered if is_out else None

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
        asked = await self._shown(hint, refund.payment_ref, hint.provider_refund_ids[:1])
        ours = [each for each in asked.refunds if refund.id == each.refund_id or refund.handle == each.handle]
        if asked.problem is not None or len(ours) != 1:
            self.wait(f"{refund.id}: {asked.problem or 'the provider does not show it as ours'}", None)
            return
        handle = ours[0].handle or await self.blocking(self._meant, refund)
        await self._evidence(replace(refund, handle=handle), evidence(ours[0]) or Pending(facts=facts(ours[0])))

    def _meant(self, refund: Refund) -> str:
        """Of which handle a record is that shows our id alone, which is the same under each (SmartRetry).

        No answer has named the new handle's own id yet, so it may be that of one which was given up in doubt. Taken for
        the new one's, its no would release money that the new one may have moved, and its yes would hide that.
        """
        with self.engine.ledger.read() as connection:
            return notification.given_up(connection, refund) or refund.handle

    async def _evidence(self, refund: Refund, outcome: Outcome) -> None:
        if not isinstance(outcome, Succeeded | Pending | Declined):
            self.wait(f"{refund.id}: the provider was asked, and the answer is {type(outcome).__name__.lower()}", None)
            return
        brought = await self.blocking(bring_evidence, self.engine, self.account, refund, outcome)
        if brought is Brought.CLAIMED:
            self.open.append(f"{refund.id}: {ANOTHERS_ID}")
            return
        self.results.append(f"{refund.id} was asked about: {type(outcome).__name__.lower()}")

    # -- what others did ---------------------------------------------------------------------------------------------

    async def _about_others(self, hint: Notification, about: Match) -> None:
        ref = about.payment_ref
        if ref is not None and await self._may_be_ours(ref):
            self.wait(f"an answer of ours about {ref} is outstanding", None)
            return
        asked = await self._shown(hint, ref, about.strangers)
        if asked.problem is not None and not asked.refunds:
            self.wait(f"the provider could not be asked: {asked.problem}", None)
            return
        shown = {number(each) for each in asked.refunds}
        missing = [each for each in about.strangers if each not in shown]
        if missing and hint.payment_id is not None:
            self.wait(f"the provider does not show {', '.join(missing[:3])}", None)
        elif missing:
            self.results.append("the provider shows no refund there")
        for theirs in asked.refunds:
            await self._place(theirs, ref)

    async def _may_be_ours(self, ref: str) -> bool:
        """Whether a refund of ours whose id we do not know yet could be meant, where only elimination tells them."""
        if self.account.capabilities.matches_handle or self.late:
            return False

        def work() -> bool:
            with self.engine.ledger.read() as connection:
                return notification.nameless(connection, self.account.name, ref)

        nameless: bool = await self.blocking(work)

        return nameless

    async def _shown(self, hint: Notification, ref: str | None, ids: tuple[str, ...]) -> Page:
        """What the provider shows; where it cannot be asked, what it has signed."""
        lists = self.account.capabilities.lists
        currency = await self.blocking(self._currency, ref)
        if Lists.PAYMENT in lists:
            return await ask_pages(self.account, self.network, Subject(payment_id=ref, currency=currency)) or Page()
        if Lists.REFUND in lists:
            named = ids[:MOST_ASKED]
            return await self._each_of(
                [Subject(provider_refund_id=each, payment_id=ref, currency=currency) for each in named]
            )

        return Page(refunds=hint.claims if hint.proven else ())

    async def _each_of(self, subjects: Sequence[Subject]) -> Page:
        found: list[Listed] = []
        for subject in subjects:
            asked = await ask_page(self.account, self.network, subject)
            if asked.problem is not None:
                return asked
            found += asked.refunds

        return Page(refunds=tuple(found))

    def _currency(self, ref: str | None) -> str | None:
        if ref is None:
            return None
        with self.engine.ledger.read() as connection:
            purse = standing(connection, self.account.name, ref)

        return purse.currency if purse else None

    async def _place(self, theirs: Listed, ref: str | None) -> None:
        """It is ours after all, or what others did."""
        ours: list[Named] = await self.blocking(self._ours, theirs)
        if ours:
            await self._after_all_ours(ours)
            return
        fate, words = await self.blocking(Elsewhere(self.engine, self.account, self.due.id).place, theirs, ref)
        match fate:
            case Fate.DONE:
                self.results.append(words)
            case Fate.OPEN:
                self.open.append(words)
            case _:
                self.wait(words, None)

    def _ours(self, theirs: Listed) -> list[Named]:
        """The id may not be in our books yet."""
        with self.engine.ledger.read() as connection:
            return ours(connection, self.account.name, theirs)

    async def _after_all_ours(self, ours: list[Named]) -> None:
        """It named an id that we do not know; the provider shows that it is that of a refund of ours."""
        for refund, handle in ours:
            if refund.provider_refund_id is None and refund.id not in self.refunds:
                self.refunds.append(refund.id)
                await self._about(refund, handle, self.hint)


def _agrees(refund: Refund, claim: Listed) -> bool:
    """Whether it says what we know already: then there is nothing to ask."""
    paid = {State.SUCCEEDED: Verdict.SUCCEEDED, State.FAILED: Verdict.FAILED, State.REVERSED: Verdict.FAILED}

    return claim.verdict is not None and paid.get(refund.state) is claim.verdict
