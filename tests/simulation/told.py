"""What the providers tell: of each change a notification, before our answer, late, twice or never; and forged ones."""

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING

from engine import notifications
from ledger.session import AWAY
from sandbox.app import ALL
from sandbox.core import Refund
from sandbox.edge import Message
from tests.simulation.world import CONSOLE, HOUR, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

#: How often a provider tries, and how long it waits between.
TRIES, PAUSE = 5, 60.0


class Finished(deque[Refund]):
    """The sandbox's queue of changes, heard as it is written."""

    def __init__(self, teller: "Teller") -> None:
        super().__init__()
        self._teller = teller

    def append(self, refund: Refund) -> None:
        super().append(refund)
        self._teller.changed(refund)


class Teller:
    """Brings notifications to the production door, as each provider signs them."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._number = 0
        self._kept: list[tuple[str, Message]] = []
        self.under_way = 0

    def start(self) -> None:
        """Listen to the sandbox."""
        if self._world.faults.on("told"):
            self._world.sandbox.finished = Finished(self)
        if self._world.faults.on("forged"):
            self._world.background(self._forge())

    def changed(self, refund: Refund) -> None:
        """A refund has become final, was taken back, or was made elsewhere."""
        faults = self._world.faults
        known = refund.payment.account in self._world.parameters.accounts
        if not known or self._world.over or faults.strikes("told_never", 3.0):
            return
        for _ in range(2 if faults.strikes("told_twice", 3.0) else 1):
            self._world.background(self._tell(refund, self._delay()))

    def _delay(self) -> float:
        faults = self._world.faults
        if faults.strikes("told_early", 3.0):
            return 0.0
        chance = faults.stream("told")
        if faults.strikes("told_late", 3.0):
            return chance.choice((60.0, HOUR, self._world.parameters.window))

        return 0.05 + 3 * chance.random()

    async def _tell(self, refund: Refund, delay: float) -> None:
        self.under_way += 1
        try:
            if delay:
                await asyncio.sleep(delay)
            message = ALL[refund.provider].notification(self._world.sandbox, refund)
            if message is not None:
                self._kept.append((refund.payment.account, message))
                await self._deliver(refund.payment.account, message, "tells")
        finally:
            self.under_way -= 1

    async def _deliver(self, account: str, message: Message, how: str) -> None:
        for _ in range(TRIES):
            self._number += 1
            process = Process(self._world, f"door.{self._number}", CONSOLE)
            statuses: list[int] = []

            async def work(to: Process = process, said: list[int] = statuses) -> None:
                try:
                    said.append(notifications.receive(to.engine, account, message.headers, message.body).status)
                except AWAY:
                    said.append(503)

            await asyncio.wait({process.start(work())})
            process.alive = False
            self._world.trace("told", f"{account} {how}: {statuses}")
            self._world.wake()
            if statuses and statuses[0] != 503:
                return
            await asyncio.sleep(PAUSE)

    async def _forge(self) -> None:
        """Unsigned, signed by somebody else, or a true one of before, sent again."""
        world = self._world
        chance = world.faults.stream("forged")
        while world.faults.active and not world.over:
            await asyncio.sleep(chance.expovariate(6 / world.parameters.window))
            forged = self._forged(chance)
            if forged is not None:
                await self._deliver(*forged, "is said to tell")

    def _forged(self, chance: random.Random) -> tuple[str, Message] | None:
        made = [each for each in self._world.sandbox.refunds.values() if each.handle is not None]
        if self._kept and chance.random() < 0.4:
            return chance.choice(self._kept)
        if not made:
            return None
        refund = chance.choice(made)
        message = ALL[refund.provider].notification(self._world.sandbox, refund)
        if message is None:
            return None
        headers = {name: value if name == "Content-Type" else value[::-1] for name, value in message.headers.items()}
        body = message.body.replace(b"succeeded", b"failed").replace(b"APPROVED", b"DECLINED")

        return refund.payment.account, Message(headers, body)
