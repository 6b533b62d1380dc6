"""Reconciliation: every refund that matters is asked about again, and what the provider lists is compared with ours.

A run is a row. Its bookmark moves in the transaction that writes down what was found, so that a run whose worker was
killed goes on where it stood, and one that broke off never looks complete. It takes few places of the account, and one
only while a payment is due.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from domain.errors import Conflict, Refused
from domain.outcome import Absent, NotSent, Outcome, Unknown
from domain.reconcile import Kind, Listed, Source, Verdict, Way, compare, evidence, listed, stranger
from domain.refund import Refund
from domain.state import FINAL, State
from engine import books, settle
from engine.account import Account
from engine.ask import answered
from engine.bootstrap import Engine
from engine.differences import (
    ADOPTED,
    EXTERNAL,
    Found,
    book_stranger,
    close_agreeing,
    close_overtaken,
    may,
    record,
    settle_checked,
)
from engine.evidence import bring_evidence
from engine.ids import new_id
from engine.order import order_of
from engine.people import Actor, Verb, require
from ledger import external, reconcile, refunds
from ledger.external import Booking
from ledger.models import recon_line
from ledger.reconcile import AUTOMATIC, Difference, Run
from ledger.session import insert_rows
from providers.base import Lists, Page
from providers.transport import Network
from signals.limits import Breaker

log = structlog.get_logger(__name__)

SLICE = 5.0
LEASE = 120.0
BATCH = 25
WIDTH = 5
MAX_PAGES = 50
# A refund that is final in a window was accepted at most this long before it began.
LONGEST = 60 * 86_400.0
# What was only just confirmed may not be in a list yet.
FRESH = 900.0
LONGEST_WINDOW = 31 * 86_400.0

Answers = Sequence[tuple[Refund, Outcome]]


class LostRun(Exception):
    """Somebody else has taken this run over."""


# -- started ---------------------------------------------------------------------------------------------------------


def begin(
    engine: Engine,
    account: str,
    source: Source,
    *,
    started_by: str,
    window_from: float | None = None,
    window_to: float | None = None,
) -> Run:
    """A new run over what was final in the window, and all that is open. Raises Conflict where one is going on."""
    now = engine.clock()
    run_id = new_id("rc", now)
    since = now - engine.settings.reconcile.watch if window_from is None else window_from

    def work(connection: Connection) -> Run:
        reconcile.start(
            connection,
            id=run_id,
            account=account,
            source=source,
            phase="ask" if source is Source.STATUS else "list",
            bookmark="",
            window_from=since,
            window_to=window_to,
            started_by=started_by,
            started_at=now,
        )
        started = reconcile.get(connection, run_id)
        assert started is not None
        return started

    try:
        return engine.ledger.run(work)
    except IntegrityError:
        raise Conflict("run-going-on", f"a {source} run of {account} is going on already") from None


def sources(account: Account) -> tuple[Source, ...]:
    """How an account can be compared without a file."""
    lists = account.capabilities.lists is not Lists.NOTHING

    return (Source.STATUS, Source.LIST) if lists else (Source.STATUS,)


def start_due(engine: Engine) -> list[str]:
    """Start what the schedule says, and call a worker to every account with a run to go on with; answers whom."""
    rung = []
    for name, account in engine.accounts.items():
        for source in sources(account):
            _start_if_due(engine, name, source)
        with engine.ledger.read() as connection:
            waiting = reconcile.running(connection, name, engine.clock())
        if waiting:
            engine.ring("reconcile", name)
            rung.append(name)
    books.derive_if_due(engine)

    return rung


def _start_if_due(engine: Engine, account: str, source: Source) -> None:
    settings = engine.settings.reconcile
    every = settings.every if source is Source.STATUS else settings.lists_every
    with engine.ledger.read() as connection:
        last = reconcile.last_started(connection, account, source)
    if every and (last is None or engine.clock() - last >= every):
        try:
            begin(engine, account, source, started_by=AUTOMATIC)
        except Conflict:
            log.info("recon.still_running", account=account, source=source)


def run_now(
    engine: Engine, actor: Actor, account: str, *, window_from: float | None, window_to: float | None
) -> list[Run]:
    """Start a run of each source that the account has; one that is going on is taken as it is."""
    require(actor, Verb.ACT)
    configured = engine.account(account)
    _bounded(engine, window_from, window_to)
    started = []
    for source in sources(configured):
        try:
            started.append(
                begin(engine, account, source, started_by=actor.name, window_from=window_from, window_to=window_to)
            )
        except Conflict:
            with engine.ledger.read() as connection:
                found = reconcile.runs(connection, limit=1, accounts=(account,), source=source, state="running")
            started += found

    return started


def _bounded(engine: Engine, window_from: float | None, window_to: float | None) -> None:
    if window_from is None:
        return
    seconds = (engine.clock() if window_to is None else window_to) - window_from
    if not 0 < seconds <= LONGEST_WINDOW:
        days = f"{LONGEST_WINDOW / 86_400:g}"
        raise Refused("window-invalid", f"window: expected its start before its end, {days} days at most")


# -- carried on ------------------------------------------------------------------------------------------------------


class Reconciler:
    """The runs of one account in one process. Built and run on one event loop."""

    def __init__(
        self,
        account: Account,
        engine: Engine,
        *,
        network: Network,
        run_blocking: Callable[..., Any] = asyncio.to_thread,
        monotonic: Callable[[], float] = time.monotonic,
        heard: Callable[[Run], None] = lambda _run: None,
    ) -> None:
        self.account = account
        self.engine = engine
        self._network = network
        self._blocking = run_blocking
        self._monotonic = monotonic
        self._heard = heard

    async def turn(self, slice_seconds: float = SLICE) -> bool:
        """Go on with the account's runs until they have ended or the slice is over; True when more is waiting.

        While the breaker is open nothing is asked: the next round comes back.
        """
        until = self._monotonic() + slice_seconds
        for run in await self._blocking(self._waiting):
            try:
                ended = await self._go_on(run.id, until)
            except LostRun:
                continue
            if ended is None:
                return False
            if not ended:
                return True

        return False

    def _waiting(self) -> list[Run]:
        with self.engine.ledger.read() as connection:
            return reconcile.running(connection, self.account.name, self.engine.clock())

    async def _go_on(self, run_id: str, until: float) -> bool | None:
        """True when the run has ended, None when the provider must be left alone."""
        while self._monotonic() < until:
            run = await self._blocking(self._lease, run_id)
            if run is None:
                return True
            self._heard(run)
            step = await self._step(run)
            if step is None:
                await self._blocking(self._release, run)
                return None
        run = await self._blocking(self._lease, run_id)
        if run is not None:
            await self._blocking(self._release, run)

        return run is None

    def _lease(self, run_id: str) -> Run | None:
        now = self.engine.clock()
        with self.engine.ledger.write() as connection:
            return reconcile.lease(connection, run_id, self.engine.worker, now, now + LEASE)

    def _release(self, run: Run) -> None:
        with self.engine.ledger.write() as connection:
            reconcile.advance(connection, run, lease_until=0.0, leased_by=None)

    async def _step(self, run: Run) -> bool | None:
        match run.phase:
            case "ask":
                return await self._ask_some(run)
            case "list" if self.account.capabilities.lists is Lists.ACCOUNT:
                return await self._list_page(run)
            case "list":
                return await self._list_payments(run)
            case "missing" if run.source is Source.LIST:
                return await self._ask_unseen(run)
            case _:
                return bool(await self._blocking(settle.go_on, self.engine, self.account, run))

    # -- asking ------------------------------------------------------------------------------------------------------

    async def _ask_some(self, run: Run) -> bool | None:
        asked = await self._blocking(self._to_ask, run)
        if not asked:
            await self._blocking(self._finish, run)
            return True
        answers = await self._ask_all(asked)
        if answers is None:
            return None
        await self._blocking(self._judge_answers, run, answers, asked[-1].id)

        return False

    def _to_ask(self, run: Run) -> list[Refund]:
        with self.engine.ledger.read() as connection:
            return reconcile.to_ask(
                connection,
                run.account,
                created_from=_first_id(run),
                final_from=run.window_from or 0.0,
                final_to=run.window_to,
                after=run.bookmark,
                limit=BATCH,
            )

    async def _ask_all(self, asked: Sequence[Refund]) -> Answers | None:
        """What the provider says of each that can be asked about; None while it must be left alone."""
        seen = await self._blocking(self._seen_before, asked)
        answers: list[tuple[Refund, Outcome]] = []
        left = [each for each in asked if self._can_ask(each)]
        while left:
            width = await self._admitted(len(left))
            if width is None:
                return None
            now, left = left[:width], left[width:]
            said = await asyncio.gather(*(self._ask(each, seen.get(each.id)) for each in now))
            answers += zip(now, said, strict=True)

        return answers

    async def _ask(self, refund: Refund, seen: frozenset[str] | None) -> Outcome:
        order = order_of(self.engine.vault, refund, seen=seen)
        provider = self.account.provider
        question = provider.status(order) if refund.provider_refund_id is not None else provider.lookup(order)
        try:
            return await answered(self.account, self._network, question)
        except Exception as error:
            log.exception("adapter.failed", refund_id=refund.id, provider=refund.provider)
            return Unknown(reason=f"adapter: {type(error).__name__}")

    def _can_ask(self, refund: Refund) -> bool:
        """Where a look-up goes by elimination, what surely went nowhere would be given another refund's payment."""
        told_apart = self.account.capabilities.matches_handle or refund.ambiguous or refund.state not in FINAL

        return refund.provider_refund_id is not None or (self.account.policy.can_lookup and told_apart)

    def _seen_before(self, asked: Sequence[Refund]) -> dict[str, frozenset[str] | None]:
        """What each payment's refunds were before our sending, where only that tells ours from others."""
        unnamed = [each.id for each in asked if each.provider_refund_id is None]
        if self.account.capabilities.matches_handle or not unnamed:
            return {}
        with self.engine.ledger.read() as connection:
            frozen = refunds.last_attempts(connection, unnamed)

        return {key: frozenset(msgspec.json.decode(each.seen)) if each.seen else None for key, each in frozen.items()}

    async def _admitted(self, wanted: int) -> int | None:
        """How many may be asked at once: few, one while payments are due, none (None) while the breaker is open."""
        while True:
            width = min(wanted, await self._blocking(self._width))
            admission = await self._blocking(self._admit, width)
            if admission.breaker is not Breaker.CLOSED:
                return None
            if admission.granted:
                return int(admission.granted)
            await asyncio.sleep(0.05)

    def _width(self) -> int:
        with self.engine.ledger.read() as connection:
            due = refunds.due_lanes(connection, [self.account.name], self.engine.clock())

        return 1 if {lane for _, lane in due} & {"send", "recover"} else WIDTH

    def _admit(self, want: int) -> Any:
        return self.engine.limits.admit(self.account.name, self.account.limit, in_flight=0, want=want, lane="reconcile")

    # -- judging -----------------------------------------------------------------------------------------------------

    def _judge_answers(self, run: Run, answers: Answers, bookmark: str) -> None:
        found: list[Found] = []
        agreed: list[Refund] = []
        unanswered = 0
        for asked, outcome in answers:
            if isinstance(outcome, NotSent | Unknown) and not _contradicts(outcome):
                unanswered += 1
                continue
            differing = self._judge(asked, outcome)
            found += differing
            if not differing:
                agreed.append(self._fresh(asked))
        self._write(run, found, agreed, compared=len(answers), unanswered=unanswered, bookmark=bookmark)

    def _judge(self, asked: Refund, outcome: Outcome) -> list[Found]:
        """What differs, after the evidence has had its effect."""
        if isinstance(outcome, Absent):
            gone = Found(Kind.MISSING_AT_PROVIDER, asked, Listed(), note="the provider has no such refund")
            return [gone] if asked.state is State.SUCCEEDED else self._late(asked)
        theirs = listed(outcome, asked)
        if theirs is None:
            why = outcome.reason if isinstance(outcome, Unknown) else None
            return [Found(Kind.STATE_MISMATCH, asked, Listed(), note=why)]

        return self._follow(asked, theirs, outcome)

    def _follow(self, asked: Refund, theirs: Listed, outcome: Outcome | None) -> list[Found]:
        """Bring the evidence where it may move something; what a shop had been told is over and is not, is told."""
        kind = compare(asked, theirs)
        if kind is None:
            return self._late(asked)
        disputed = kind in (Kind.AMOUNT_MISMATCH, Kind.CURRENCY_MISMATCH) and asked.state in FINAL
        if kind is Kind.DUPLICATE_AT_PROVIDER or disputed or outcome is None:
            return [Found(kind, asked, theirs)]
        try:
            bring_evidence(self.engine, self.account, asked, outcome, actor="reconciliation")
        except IntegrityError:
            return [Found(kind, asked, theirs, note="the provider's refund id belongs to another refund of ours")]
        stands = self._fresh(asked)
        if compare(stands, theirs) is not None:
            return [Found(kind, stands, theirs)]
        if asked.state not in FINAL:
            return self._late(stands)
        note = f"{asked.state} here, {theirs.verdict} there: the ledger has followed, see that the customer is served"

        return [Found(Kind.STATE_MISMATCH, asked, theirs, resolution=ADOPTED, note=note)]

    def _late(self, refund: Refund) -> list[Found]:
        open_too_long = self.engine.clock() - refund.since > self.engine.settings.reconcile.late_after
        if refund.state not in (State.UNKNOWN, State.PENDING, State.REVIEW) or not open_too_long:
            return []

        return [Found(Kind.LATE, refund, Listed(), note=f"{refund.state} for too long")]

    def _fresh(self, refund: Refund) -> Refund:
        with self.engine.ledger.read() as connection:
            return refunds.get(connection, refund.id) or refund

    def _write(
        self,
        run: Run,
        found: Sequence[Found],
        agreed: Sequence[Refund],
        *,
        compared: int,
        unanswered: int = 0,
        lines: Sequence[dict[str, Any]] = (),
        **moves: Any,
    ) -> None:
        """What was found, and how far the run has come, in one transaction."""

        def work(connection: Connection) -> None:
            record(connection, self.engine, run, found)
            close_agreeing(connection, self.engine, run.source, agreed)
            insert_rows(connection, recon_line, lines)
            on = reconcile.advance(
                connection,
                run,
                compared=compared,
                matched=len(agreed),
                differing=len(found),
                unanswered=unanswered,
                lease_until=self.engine.clock() + LEASE,
                **moves,
            )
            if not on:
                raise LostRun

        self.engine.ledger.run(work)

    def _finish(self, run: Run, note: str | None = None) -> None:
        close_overtaken(self.engine, run.account)
        with self.engine.ledger.write() as connection:
            reconcile.finish(connection, run, now=self.engine.clock(), note=note)
        log.info("recon.ended", id=run.id, account=run.account, source=run.source)

    # -- lists -------------------------------------------------------------------------------------------------------

    async def _list_page(self, run: Run) -> bool | None:
        """One page of the account's list; after the last one, what of ours was on none."""
        if await self._admitted(1) is None:
            return None
        page = await self._page(None, run.bookmark or None)
        if page.problem is not None:
            await self._blocking(self._broke_off, run, page.problem)
            return True
        last = page.following is None
        moves: dict[str, Any] = {"phase": "missing" if last else "list", "bookmark": page.following or ""}
        await self._blocking(self._judge_listed, run, page.refunds, (), moves)

        return False

    async def _list_payments(self, run: Run) -> bool | None:
        payments = await self._blocking(self._to_list, run)
        if not payments:
            await self._blocking(self._finish, run)
            return True
        for payment in payments:
            page = await self._listed_of(payment)
            if page is None:
                return None
            await self._blocking(self._judge_payment, run, payment, page)

        return False

    def _to_list(self, run: Run) -> list[str]:
        with self.engine.ledger.read() as connection:
            return reconcile.payments_to_list(
                connection, run.account, created_from=_first_id(run), after=run.bookmark, limit=BATCH
            )

    async def _listed_of(self, payment: str) -> Page | None:
        """All that the provider lists of a payment as one page; None while it must be left alone."""
        gathered: list[Listed] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            if await self._admitted(1) is None:
                return None
            page = await self._page(payment, cursor)
            gathered += page.refunds
            if page.problem is not None or page.following is None:
                return Page(refunds=tuple(gathered), problem=page.problem)
            cursor = page.following

        return Page(refunds=tuple(gathered), problem=f"more than {MAX_PAGES} pages")

    async def _page(self, payment: str | None, cursor: str | None) -> Page:
        try:
            page = await answered(self.account, self._network, self.account.provider.list_refunds(payment, cursor))
        except Exception as error:
            log.exception("adapter.failed", account=self.account.name, provider=self.account.provider.name)
            return Page(problem=f"adapter: {type(error).__name__}")
        if isinstance(page, NotSent | Unknown):
            return Page(problem=page.detail if isinstance(page, NotSent) else page.reason)

        return page

    def _broke_off(self, run: Run, problem: str) -> None:
        self._write(run, (), (), compared=0, unanswered=1)
        self._finish(run, f"the list broke off: {problem}"[:512])

    def _judge_payment(self, run: Run, payment: str, page: Page) -> None:
        if page.problem is not None:
            self._write(run, (), (), compared=0, unanswered=1, bookmark=payment, note=page.problem[:512])
            return
        with self.engine.ledger.read() as connection:
            siblings = reconcile.ours_among(connection, run.account, [Listed(payment_id=payment)])
        self._judge_listed(run, page.refunds, siblings, {"bookmark": payment})

    def _judge_listed(
        self, run: Run, shown: Sequence[Listed], expected: Sequence[Refund], moves: dict[str, Any]
    ) -> None:
        """Both directions: what the provider shows, and what of `expected` it does not show."""
        # An amount whose currency is not said is not compared: nobody knows what it counts.
        shown = [each if each.currency else replace(each, amount=None) for each in shown]
        with self.engine.ledger.read() as connection:
            known = reconcile.ours_among(connection, run.account, shown)
        matched = match(shown, known)
        found: list[Found] = []
        agreed: list[Refund] = []
        for theirs, ours in matched:
            differing = self._follow(ours, theirs, evidence(theirs)) if ours else self._stranger(run, theirs, known)
            found += differing
            agreed += [self._fresh(ours)] if ours and not differing else []
        seen = {ours.id for _, ours in matched if ours is not None}
        found += [self._missing(each) for each in expected if each.id not in seen and self._should_be_there(each)]
        lines = [
            {"run_id": run.id, "no": run.compared + place, "refund_id": ours.id}
            for place, (_, ours) in enumerate(matched, 1)
            if ours is not None and run.phase == "list" and not expected
        ]
        self._write(run, found, agreed, compared=len(shown), lines=lines, **moves)

    def _missing(self, refund: Refund) -> Found:
        return Found(Kind.MISSING_AT_PROVIDER, refund, Listed(), note="the provider's list does not show it")

    def _should_be_there(self, refund: Refund) -> bool:
        settled = self.engine.clock() - self.account.policy.lookup_delay - FRESH

        return refund.state is State.SUCCEEDED and (refund.final_at or settled) < settled

    def _stranger(self, run: Run, theirs: Listed, known: Sequence[Refund]) -> list[Found]:
        """A refund that is not ours: booked as a fact, and shown to a person; one that looks like ours, at once."""
        siblings = [each for each in known if theirs.payment_id in (each.payment_id, None)]
        with self.engine.ledger.read() as connection:
            sent = reconcile.earlier_handles(connection, [each.id for each in siblings])
            known_as = external.get(connection, run.account, theirs.provider_refund_id or "")
        ours = next((each for each in siblings if sent.get(theirs.handle or "") == each.id), None)
        outcome = evidence(theirs)
        if ours is not None and outcome is not None and theirs.verdict is not Verdict.FAILED:
            earlier = replace(ours, handle=theirs.handle or "")
            bring_evidence(self.engine, self.account, earlier, outcome, actor="reconciliation")
            return [Found(Kind.DUPLICATE_AT_PROVIDER, ours, theirs, note="paid under a handle that was given up")]
        kind = stranger(theirs, siblings, self.account.notation.days)
        if theirs.verdict is Verdict.FAILED:
            self.engine.ledger.run(lambda connection: self._came_to_nothing(connection, theirs))
        linked = known_as is not None and known_as["refund_id"] is not None
        if kind is None or linked or any(_may_be(theirs, each) for each in siblings):
            return []
        booked, note = self.engine.ledger.run(lambda connection: self._count(connection, theirs))

        return [Found(kind, None, theirs, resolution=None if booked is None else EXTERNAL, note=note)]

    def _came_to_nothing(self, connection: Connection, theirs: Listed) -> None:
        """What was counted and has failed since is counted no more."""
        why, now = "the provider says that it came to nothing", self.engine.clock()
        number = theirs.provider_refund_id or ""
        external.withdraw(connection, self.account.name, number, why=why, actor="reconciliation", now=now)

    def _count(self, connection: Connection, theirs: Listed) -> tuple[Booking | None, str]:
        """Count what others have moved, unless it has not happened yet or may be ours; and what is to be said of it."""
        what = "a chargeback" if theirs.chargeback else "a refund made elsewhere"
        if not theirs.chargeback and theirs.verdict is not Verdict.SUCCEEDED:
            return None, f"{what}; not done yet, and not counted"
        ours = self._unnamed(connection, theirs)
        if ours is not None:
            return None, f"it may be {ours}, whose id there nobody knows: link it, or count it as external"
        booked = book_stranger(connection, self.engine, self.account.name, theirs, actor="reconciliation")

        return booked, what if booked is None else f"{what}; counted against its payment. {booked.alert or ''}".strip()

    def _unnamed(self, connection: Connection, theirs: Listed) -> str | None:
        number, payment, amount = theirs.provider_refund_id, theirs.payment_id, theirs.amount
        if number is None or payment is None or amount is None or theirs.chargeback:
            return None

        return external.unnamed(connection, self.account.name, number, payment, amount)

    async def _ask_unseen(self, run: Run) -> bool | None:
        """What was on no page is asked about one by one: pages shift while they are read."""
        unseen = await self._blocking(self._unseen, run)
        if not unseen:
            await self._blocking(self._finish, run)
            return True
        answers = await self._ask_all(unseen)
        if answers is None:
            return None
        await self._blocking(self._judge_answers, run, answers, unseen[-1].id)

        return False

    def _unseen(self, run: Run) -> list[Refund]:
        settled = self.engine.clock() - self.account.policy.lookup_delay - FRESH
        with self.engine.ledger.read() as connection:
            return reconcile.unseen(
                connection,
                run,
                created_from=_first_id(run),
                final_from=run.window_from or 0.0,
                final_to=min(run.window_to or settled, settled),
                after=run.bookmark,
                limit=BATCH,
                any_run=False,
            )


def match(shown: Sequence[Listed], known: Sequence[Refund]) -> list[tuple[Listed, Refund | None]]:
    """Each of theirs with ours: by the provider's id, the reconciliation id, our handle."""
    by_id = {each.provider_refund_id: each for each in known if each.provider_refund_id}
    by_reference = {each.reconciliation_id: each for each in known if each.reconciliation_id}
    by_handle = {each.handle: each for each in known}

    return [
        (
            theirs,
            by_id.get(theirs.provider_refund_id or "")
            or by_reference.get(theirs.reconciliation_id or "")
            or by_handle.get(theirs.handle or ""),
        )
        for theirs in shown
    ]


async def recheck(engine: Engine, actor: Actor, difference_id: str, network: Network) -> Difference:
    """Ask the provider once more about the refund of a difference; what it says is evidence, and may end it."""
    found = may(engine, actor, difference_id, Way.RECHECK)
    account = engine.account(found.account)
    reconciler = Reconciler(account, engine, network=network)
    with engine.ledger.read() as connection:
        refund = refunds.get(connection, found.refund_id or "")
    if refund is None:
        raise Conflict("nothing-to-ask", "no refund of ours is known here")
    answers = await reconciler._ask_all([refund])  # noqa: SLF001 - the same questions, for one refund
    theirs = None
    for asked, outcome in answers or ():
        theirs = listed(outcome, asked)
        if theirs is not None and compare(asked, theirs) is not None:
            bring_evidence(engine, account, asked, outcome, actor=actor.name)

    return settle_checked(engine, actor, difference_id, theirs)


def _may_be(theirs: Listed, ours: Refund) -> bool:
    """One of ours whose answer is still looked for: recovery finds out, and the next run sees it."""
    sought = ours.state in (State.SENDING, State.UNKNOWN, State.PENDING, State.REVIEW)

    return sought and ours.provider_refund_id is None and theirs.amount in (None, ours.amount)


def _contradicts(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) and outcome.contradiction


def _first_id(run: Run) -> str:
    """No refund that was accepted before this id is looked for."""
    return new_id("rf", max(0.0, (run.window_from or 0.0) - LONGEST), bytes(10))
