"""Questions about many refunds, beside the payments: few at a time, and one only while a payment is due."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from domain.outcome import Outcome
from domain.refund import Refund
from domain.state import FINAL
from engine.account import Account
from engine.ask import ask_refund
from engine.bootstrap import Engine
from ledger import refunds
from providers.transport import Network
from signals.limits import Breaker

WIDTH = 5

Answers = Sequence[tuple[Refund, Outcome]]


@dataclass(frozen=True, slots=True)
class Asking:
    """Whoever asks the provider of one account within its limits."""

    account: Account
    engine: Engine
    network: Network
    blocking: Callable[..., Any] = asyncio.to_thread

    async def all(self, asked: Sequence[Refund]) -> Answers | None:
        """What the provider says of each that can be asked about; None while it must be left alone."""
        seen = await self.blocking(self._seen_before, asked)
        answers: list[tuple[Refund, Outcome]] = []
        left = [each for each in asked if self._can_ask(each)]
        while left:
            width = await self._admitted(len(left))
            if width is None:
                return None
            now, left = left[:width], left[width:]
            said = await asyncio.gather(
                *(ask_refund(self.engine, self.account, each, self.network, seen=seen.get(each.id)) for each in now)
            )
            answers += zip(now, said, strict=True)

        return answers

    async def may_ask(self) -> bool:
        """Wait for a place for one question; False while the breaker is open."""
        return await self._admitted(1) is not None

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
            width = min(wanted, await self.blocking(self._width))
            admission = await self.blocking(self._admit, width)
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
