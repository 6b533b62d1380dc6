"""The pump: claims what is due of one account and lane, and keeps many steps in flight side by side.

Three lanes: `send` (first sendings), `recover` (lost answers), `poll` (waiting for the provider). A doorbell starts a
slice; a slow answer never holds up the others; what is in flight when the slice ends flies on.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import Connection

from domain.outcome import NotSent, NotSentReason, Outcome, Unknown
from domain.refund import Refund
from engine.account import Account
from engine.ask import ping
from engine.bootstrap import Engine
from engine.steps import Begun, Steps
from engine.writer import Writer
from ledger import refunds
from ledger.accounts import sending_rests
from ledger.refunds import Change, Frozen
from providers.base import Health
from providers.transport import Network
from signals.limits import Admission, Breaker

log = structlog.get_logger(__name__)

SLICE = 3.0
LINGER = 0.025
CROWDED = 0.25
# Two processes so full keep a machine of two cores busy; what is in flight is what a lost one leaves to recovery.
WINDOW = 512
# Claimed at once, and so answered and committed nearly at once: half the commits of half as many.
BATCH = 256
FEW = 5
# Seconds that an account rests when its provider says "too often": at least, and at most.
REST, LONGEST_REST = 1.0, 60.0
# What is claimed, the last attempt of what is recovered, the intent of what is sent.
_Claimed = tuple[Refund, Frozen | None, Begun | None]
_FAULTS = (NotSentReason.CONNECTION, NotSentReason.ASK_FAILED)


class Pump:
    """One lane of one account in one process. Built and run on one event loop."""

    def __init__(
        self,
        lane: str,
        account: Account,
        engine: Engine,
        *,
        network: Network,
        writer: Writer,
        run_blocking: Callable[..., Any] = asyncio.to_thread,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        window: int = WINDOW,
    ) -> None:
        self.lane = lane
        self.account = account
        self.engine = engine
        self.steps = Steps(
            account,
            engine,
            network=network,
            writer=writer,
            run_blocking=run_blocking,
            jitter=jitter,
            heard=self._count,
            soon=self._blocking_soon,
        )
        self._network = network
        self._blocking = run_blocking
        self._monotonic = monotonic
        self._window = self._ceiling = min(window, account.limit.concurrency)
        self._flying: set[asyncio.Task[None]] = set()
        self._good = 0
        self._bad = 0
        self._throttled = 0
        self._asked = 0.0
        self._rest = 0.0
        self._rests_until = 0.0
        self._stopping = False
        self._crowded = False
        self._held = 0
        self._settling: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    # -- the slice ---------------------------------------------------------------------------------------------------

    async def turn(self, slice_seconds: float = SLICE) -> bool:
        """Work until nothing is due or the slice is over; True when more is waiting. What is in flight flies on."""
        if self._turn.locked():
            return False
        try:
            async with self._turn:
                return await self._slice(self._monotonic() + slice_seconds)
        finally:
            if self._held:
                self._give_back()  # what landed while the turn was ending, nobody has told of

    async def _slice(self, until: float) -> bool:
        looked_again = called = False
        self._ceiling = self._window
        while not self._stopping:
            if self._room < self._worth_a_claim:
                if not await self._some_land():
                    # A provider that hangs keeps its places, and no process: whoever lands rings again.
                    self._crowded = True
                    return False
                if self._monotonic() >= until:
                    return True
                continue
            wanted = min(self._room, BATCH)
            claimed, admission = await self._blocking(self._claim, wanted, hold=not looked_again)
            # Where other processes have the rest of the account's places, ours are as many as we have now.
            full = admission.full and len(claimed) == admission.granted
            self._ceiling = len(self._flying) + len(claimed) if full else self._window
            called = called or (len(claimed) == self._room and not full and self._call_another())
            probed = admission.breaker is Breaker.HALF_OPEN and self.lane == "send" and await self._probe()
            if probed and self._monotonic() < until:
                continue
            for refund, frozen, begun in claimed:
                self._start(refund, frozen, begun)
            if self._monotonic() >= until:
                return bool(claimed)
            if claimed:
                looked_again = False
            elif looked_again:
                return False
            else:
                await self._pause()
                looked_again = True

        return False

    @property
    def _room(self) -> int:
        return self._ceiling - len(self._flying)

    @property
    def _worth_a_claim(self) -> int:
        return max(1, min(self._ceiling // 4, BATCH))

    async def _some_land(self) -> bool:
        """Wait a moment for places; when none comes free, the ones that are taken are told to the others again."""
        if not self._flying:
            return False
        landed, _ = await asyncio.wait(self._flying, timeout=CROWDED, return_when="FIRST_COMPLETED")
        if not landed:
            await self._settle()
            await self._blocking(self._free_bell)

        return bool(landed)

    async def _pause(self) -> None:
        """Let a few arrivals gather before the last look."""
        if self._flying:
            await asyncio.wait(self._flying, timeout=LINGER, return_when="FIRST_COMPLETED")
        else:
            await asyncio.sleep(LINGER)

    def _start(self, refund: Refund, frozen: Frozen | None, begun: Begun | None) -> None:
        task = asyncio.get_running_loop().create_task(self.steps.take(self.lane, refund, frozen, begun))
        self._flying.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        if not self._turn.locked():
            self._give_back()

    def _give_back(self) -> None:
        """After a turn: the last ones give their places back; where there is room again, the bell rings."""
        if self._stopping:
            return
        if not self._flying:
            self._settling = asyncio.get_running_loop().create_task(self._settle())
        if self._crowded and self._room >= self._worth_a_claim:
            self._crowded = False
            self._blocking_soon(self.engine.ring, self.lane, self.account.name)

    def _call_another(self) -> bool:
        """This process has its hands full, and the account has places left: a second one may take them."""
        self._blocking_soon(self._ring)

        return True

    def _ring(self) -> None:
        self._free_bell()
        self.engine.ring(self.lane, self.account.name)

    def _free_bell(self) -> None:
        if self.engine.bell is not None:
            self.engine.bell.free(self.lane, self.account.name)

    async def _settle(self) -> None:
        await self._blocking(lambda: self._admit(want=0))

    async def stop(self, patience: float) -> None:
        """Claim nothing more; give what is claimed already `patience` seconds, then leave it to its leases."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(patience), self._turn:
                while self._flying:
                    await asyncio.wait(self._flying)
        for task in self._flying:
            task.cancel()

    @property
    def in_flight(self) -> int:
        """Conversations under way."""
        return len(self._flying)

    # -- claiming ----------------------------------------------------------------------------------------------------

    def _claim(self, room: int, *, hold: bool) -> tuple[list[_Claimed], Admission]:
        """Blocking: ask the limits, then claim. Pause and breaker stop first sendings only."""
        engine, account = self.engine, self.account
        if engine.bell is not None:
            engine.bell.hold(self.lane, account.name) if hold else engine.bell.free(self.lane, account.name)
        self._report()
        admission = self._admit(want=room)
        granted = self._allowed(room, admission)
        claimed = engine.ledger.run(lambda c: self._claim_rows(c, granted, admission)) if granted else []
        unused = admission.granted - len(claimed)
        if admission.granted:
            # What was taken is kept, what nobody takes belongs to the other workers at once.
            self._admit(want=0, unused=max(0, unused), taken=len(claimed))

        return claimed, admission

    def _admit(self, *, want: int, unused: int = 0, taken: int = 0) -> Admission:
        """Ask the limits; what they answer counts as ours until they hear otherwise."""
        in_flight = len(self._flying) + taken
        admission = self.engine.limits.admit(
            self.account.name, self.account.limit, in_flight=in_flight, want=want, unused=unused, lane=self.lane
        )
        self._held = in_flight + admission.granted

        return admission

    def _allowed(self, room: int, admission: Admission) -> int:
        """First sendings rest while the breaker is open; questions about lost answers always go on, if slowly."""
        closed = admission.breaker is Breaker.CLOSED
        if self.lane == "send":
            return admission.granted if closed else 0
        few = max(0, min(room, FEW - len(self._flying)))

        return max(admission.granted, few) if closed else few

    def _claim_rows(self, connection: Connection, limit: int, admission: Admission) -> list[_Claimed]:
        now = self.engine.clock()
        if self.lane == "send" and sending_rests(connection, self.account.name, now):
            return []
        begun: dict[str, Begun] = {}

        def begin(refund: Refund) -> Change | None:
            found = self.steps.begin(refund)
            if found is not None:
                begun[refund.id] = found
            return found.intent if found else None

        claimed = refunds.claim(
            connection,
            self.lane,
            self.account.name,
            limit=limit,
            now=now,
            until=now + self.account.policy.lease,
            worker=self.engine.worker,
            alone=self.account.alone,
            urgent=self.lane == "recover" and admission.breaker is not Breaker.CLOSED,
            begin=begin if self.lane == "send" else None,
        )
        if self.lane != "recover" or not claimed:
            return [(refund, None, begun.get(refund.id)) for refund in claimed]
        frozen = refunds.last_attempts(connection, [refund.id for refund in claimed])

        return [(refund, frozen.get(refund.id), None) for refund in claimed]

    def _report(self) -> None:
        good, bad, self._good, self._bad = self._good, self._bad, 0, 0
        if good or bad:
            state = self.engine.limits.report(self.account.name, self.account.limit, good=good, bad=bad)
            if state is Breaker.OPEN and bad:
                log.warning("breaker.open", account=self.account.name, faults=bad)
            self._leave_in_peace(good)

    def _leave_in_peace(self, answered: int) -> None:
        """Rest as long as the provider asks; where it says "too often" to everything, longer each time."""
        throttled, asked, self._throttled, self._asked = self._throttled, self._asked, 0, 0.0
        if not throttled:
            self._rest = 0.0
        elif self._monotonic() >= self._rests_until:
            longer = 2 * self._rest if throttled == answered else REST
            self._rest = min(max(asked, longer, REST), LONGEST_REST)
            self._rests_until = self._monotonic() + self._rest
            self.engine.limits.rest(self.account.name, self.account.limit, self._rest)
            log.warning("account.throttled", account=self.account.name, seconds=self._rest, answers=throttled)

    async def _probe(self) -> bool:
        """Once the cooldown is over, a harmless call tells whether the provider is back; never a new refund.

        Where no such call exists the breaker closes, and the next faults open it again.
        """
        health = await ping(self.account, self._network)
        good = health is not Health.UNREACHABLE
        state = await self._blocking(
            lambda: self.engine.limits.report(self.account.name, self.account.limit, good=int(good), bad=int(not good))
        )

        return bool(state is Breaker.CLOSED)

    def _count(self, outcome: Outcome) -> None:
        bad = isinstance(outcome, Unknown) or (isinstance(outcome, NotSent) and outcome.reason in _FAULTS)
        self._bad += bad
        self._good += not bad
        if isinstance(outcome, NotSent) and outcome.reason is NotSentReason.THROTTLED:
            self._throttled += 1
            self._asked = max(self._asked, outcome.retry_after or 0.0)

    def _blocking_soon(self, work: Callable[..., Any], *arguments: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._blocking(work, *arguments))
        self._flying.add(task)
        task.add_done_callback(self._landed)
