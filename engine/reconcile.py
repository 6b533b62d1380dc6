"""Reconciliation: every refund that matters is asked about again, and what the provider lists is compared with ours.

A run is a row. Its bookmark moves in the transaction that writes down what was found, so that a run whose worker was
killed goes on where it stood, and one that broke off never looks complete.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from msgspec.structs import replace
from sqlalchemy import Connection

from domain.errors import Conflict
from domain.reconcile import Listed, Source, Way, compare, listed
from domain.refund import Refund
from engine import settle
from engine.account import Account
from engine.ask import ask_page, ask_pages
from engine.asking import Answers, Asking
from engine.bootstrap import Engine
from engine.compare import Comparison, match
from engine.differences import Found, close_agreeing, close_overtaken, may, record, settle_checked
from engine.evidence import ANOTHERS_ID, Brought, bring_evidence
from engine.ids import new_id
from engine.people import Actor
from ledger import reconcile, refunds
from ledger.models import recon_line
from ledger.reconcile import Difference, Run
from ledger.session import insert_rows
from providers.base import Lists, Page, Subject
from providers.transport import Network

log = structlog.get_logger(__name__)

SLICE = 5.0
LEASE = 120.0
BATCH = 25
# A refund that is final in a window was accepted at most this long before it began.
LONGEST = 60 * 86_400.0


class LostRun(Exception):
    """Somebody else has taken this run over."""


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
        self._asking = Asking(account, engine, network, run_blocking)
        self._compare = Comparison(account, engine)

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
            case "list" if Lists.ACCOUNT in self.account.capabilities.lists:
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
        answers = await self._asking.all(asked)
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

    # -- judging -----------------------------------------------------------------------------------------------------

    def _judge_answers(self, run: Run, answers: Answers, bookmark: str) -> None:
        found: list[Found] = []
        agreed: list[Refund] = []
        unanswered = 0
        for asked, outcome in answers:
            differing = self._compare.of_answer(asked, outcome)
            if differing is None:
                unanswered += 1
                continue
            found += differing
            agreed += [] if differing else [self._compare.fresh(asked)]
        self._write(run, found, agreed, compared=len(answers), unanswered=unanswered, bookmark=bookmark)

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
        if not await self._asking.may_ask():
            return None
        page = await ask_page(self.account, self._network, Subject(), run.bookmark or None)
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
            page = await ask_pages(self.account, self._network, Subject(payment_id=payment), self._asking.may_ask)
            if page is None:
                return None
            await self._blocking(self._judge_payment, run, payment, page)

        return False

    def _to_list(self, run: Run) -> list[str]:
        with self.engine.ledger.read() as connection:
            return reconcile.payments_to_list(
                connection, run.account, created_from=_first_id(run), after=run.bookmark, limit=BATCH
            )

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
            differing = self._compare.of_listed(theirs, ours, known)
            found += differing
            agreed += [self._compare.fresh(ours)] if ours and not differing else []
        seen = {ours.id for _, ours in matched if ours is not None}
        found += [gone for each in expected if each.id not in seen for gone in self._compare.of_unlisted(each)]
        lines = [
            {"run_id": run.id, "no": run.compared + place, "refund_id": ours.id}
            for place, (_, ours) in enumerate(matched, 1)
            if ours is not None and run.phase == "list" and not expected
        ]
        self._write(run, found, agreed, compared=len(shown), lines=lines, **moves)

    async def _ask_unseen(self, run: Run) -> bool | None:
        """What was on no page is asked about one by one: pages shift while they are read."""
        unseen = await self._blocking(self._unseen, run)
        if not unseen:
            await self._blocking(self._finish, run)
            return True
        answers = await self._asking.all(unseen)
        if answers is None:
            return None
        await self._blocking(self._judge_answers, run, answers, unseen[-1].id)

        return False

    def _unseen(self, run: Run) -> list[Refund]:
        settled = self._compare.settled
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


async def recheck(engine: Engine, actor: Actor, difference_id: str, network: Network) -> Difference:
    """Ask the provider once more about the refund of a difference; what it says is evidence, and may end it."""
    found = may(engine, actor, difference_id, Way.RECHECK)
    account = engine.account(found.account)
    with engine.ledger.read() as connection:
        refund = refunds.get(connection, found.refund_id or "")
    if refund is None:
        raise Conflict("nothing-to-ask", "no refund of ours is known here")
    answers = await Asking(account, engine, network).all([refund])
    theirs = None
    for asked, outcome in answers or ():
        theirs = listed(outcome, asked)
        if theirs is None or compare(asked, theirs) is None:
            continue
        if bring_evidence(engine, account, asked, outcome, actor=actor.name) is Brought.CLAIMED:
            raise Conflict("anothers-id", ANOTHERS_ID)

    return settle_checked(engine, actor, difference_id, theirs)


def _first_id(run: Run) -> str:
    """No refund that was accepted before this id is looked for."""
    return new_id("rf", max(0.0, (run.window_from or 0.0) - LONGEST), bytes(10))
