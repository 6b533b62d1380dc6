"""An engine in one process for tests: a real ledger, a clock that is set by hand, a network that is a function."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from config.settings import Settings
from domain.outcome import Unknown
from domain.refund import Refund
from engine.bootstrap import Engine, bootstrap
from engine.pump import Pump
from engine.submit import submit
from engine.writer import write
from ledger import refunds
from ledger.migrate import upgrade
from ledger.refunds import Change
from ledger.session import Ledger
from providers.transport import Answer
from signals.limits import Limits
from tests.support.settings import make_settings

START = 1_800_000_000.0
SHOP: dict[str, Any] = {
    "provider": "smartretry",
    "api_key": "sk_test_x",
    "terminal_id": "ABC123",
    "webhook_secret": "whsec_test",
    "base_url": "https://provider.example",
}


class InlineWriter:
    """Commits each change at once."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def execute(self, change: Change) -> "Future[Refund | None]":
        future: Future[Refund | None] = Future()
        [result] = write(self.ledger, [change])
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

        return future


Handler = Callable[[httpx.Request], Answer]


@dataclass
class FunctionNetwork:
    """Answers each request with `handler`; what was sent is kept."""

    handler: Handler
    sent: list[httpx.Request] = field(default_factory=list)

    async def send(self, request: httpx.Request) -> Answer:
        self.sent.append(request)
        await asyncio.sleep(0)

        return self.handler(request)

    async def close(self) -> None:
        """Nothing to close."""


class Bench:
    """One engine over one account, `shop`, and whatever other accounts are given."""

    def __init__(self, database_url: str, **accounts: dict[str, Any]) -> None:
        upgrade(database_url)
        self.now = START
        settings: Settings = make_settings(
            database={"url": database_url}, accounts={"shop": SHOP, **accounts}, redis={"url": None}
        )
        self.rung: list[tuple[str, str]] = []
        self.engine: Engine = replace(
            bootstrap(settings), clock=lambda: self.now, ring=lambda lane, account: self.rung.append((lane, account))
        )
        self.engine.__dict__["limits"] = Limits(None, self.engine.worker, monotonic=lambda: self.now)
        self.network = FunctionNetwork(accepted)
        self.count = 0

    def close(self) -> None:
        self.engine.close()

    def refund(self, account: str = "shop", **job: Any) -> Refund:
        """Submit one job over a payment of its own."""
        self.count += 1
        body = {
            "reference": f"R-{self.count}",
            "account": account,
            "payment": {
                "id": f"TX{self.count:06}",
                "order_id": f"OR{self.count:06}",
                "amount": 2500,
                "currency": "USD",
            },
            "amount": 2500,
            "currency": "USD",
            **job,
        }
        receipt = submit(self.engine, body, actor="test", via="api")
        assert receipt.refund is not None, receipt.problem

        return self.read(receipt.refund.id)

    def pump(self, lane: str, account: str = "shop", **options: Any) -> Pump:
        """A new pump on this engine."""
        return Pump(
            lane,
            self.engine.accounts[account],
            self.engine,
            network=self.network,
            writer=InlineWriter(self.engine.ledger),
            **{"run_blocking": _inline, "jitter": lambda: 0.5, **options},
        )

    def turn(self, lane: str, account: str = "shop") -> None:
        """One slice of a lane, its conversations finished."""

        async def run() -> None:
            pump = self.pump(lane, account)
            await pump.turn()
            await pump.stop(10)

        asyncio.run(run())

    def answering(self, handler: Handler) -> None:
        """Replace the network's answers."""
        self.network.handler = handler

    def read(self, refund_id: str) -> Refund:
        """The refund as it stands."""
        with self.engine.ledger.read() as connection:
            found = refunds.get(connection, refund_id)
        assert found is not None

        return found

    def wait(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds

    def until_due(self, refund_id: str) -> None:
        """Let time go by until the refund is due."""
        due = self.read(refund_id).due_at
        assert due is not None
        self.now = max(self.now, due)


async def _inline(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return work(*arguments, **named)


def response(status: int, body: Any = None, **headers: str) -> httpx.Response:
    """A provider's answer."""
    return httpx.Response(status, json=body, headers=headers)


def accepted(request: httpx.Request) -> Answer:
    """SmartRetry: accepted under an id of its own, then approved when asked."""
    if request.method == "POST":
        number = hashlib.sha256(request.headers["idempotency-key"].encode()).hexdigest()[:8].upper()
        return response(200, {"transaction_id": number, "order_id": "OR7B9E1D", "accepted": True})

    number = str(request.url).rpartition("/")[2]
    body = {"transaction_id": number, "type": "refund", "amount": 25, "currency": "USD"}

    return response(200, {**body, "status": {"status": "APPROVED", "reasonCode": "AUTH.APPROVED"}})


def lost(_request: httpx.Request) -> Answer:
    """No answer after the request left."""
    return Unknown(reason="no answer: cut")


def one_after_another(answers: Sequence[Handler | Answer]) -> Handler:
    """Each request gets the next answer; the last one repeats."""
    left = list(answers)

    def handler(request: httpx.Request) -> Answer:
        following = left.pop(0) if len(left) > 1 else left[0]

        return following(request) if callable(following) else following

    return handler
