"""The sandbox without a socket, and an engine whose every account talks to it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from domain.outcome import Unknown
from domain.refund import Refund
from domain.state import FINAL, State
from providers.transport import Answer
from sandbox.app import create_app
from tests.support.one_process import START, Bench

PROVIDERS = ("smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart2pay_card", "smart_glocal")
CURRENCIES = {"smartpay": "JPY", "smartretry": "USD"}
CUT = Unknown(reason="no answer: cut")


class SandboxNetwork:
    """The sandbox in process. `trouble` meets refund calls in turn, before the provider or after it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.app = create_app(clock=clock, seed=1)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1")
        self.trouble: list[Any] = []
        self.bodies: list[bytes] = []
        self.asked: list[httpx.Request] = []

    async def send(self, request: httpx.Request) -> Answer:
        """As a network does."""
        moves = request.method == "POST" and ("refund" in request.url.path)
        trouble = self.trouble.pop(0) if moves and self.trouble else None
        self.bodies.append(request.content) if moves else self.asked.append(request)
        if trouble is not None and not callable(trouble):
            found: Answer = trouble
            return found
        try:
            answer = await self.client.send(
                httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
            )
        except httpx.TransportError:
            return CUT
        await answer.aread()
        answered: Answer = trouble(answer) if trouble is not None else answer

        return answered

    async def close(self) -> None:
        """Nothing to close."""

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """A request to the control interface."""

        async def call() -> Any:
            answer = await self.client.request(method, f"/_sandbox/{path}", json=body)
            return answer.json()

        # A loop may be running here: what is asked in the middle of a conversation is asked beside it.
        with ThreadPoolExecutor(1) as aside:
            return aside.submit(asyncio.run, call()).result()


class SandboxBench(Bench):
    """An engine with the accounts of the sandbox."""

    network: Any

    def __init__(self, database_url: str, **options: dict[str, Any]) -> None:
        network = SandboxNetwork(lambda: getattr(self, "now", START))
        accounts = {
            name: {
                "provider": provider_of(name),
                **{key: value for key, value in given.items() if value is not None},
                **options.get(name, {}),
            }
            for name, given in network.control("GET", "credentials").items()
        }
        super().__init__(database_url, **accounts)
        self.network = network

    def submitted(self, account: str, *, captured: int = 2100, **job: Any) -> Refund:
        """A refund of 1000 over a fresh payment, handed in."""
        currency = CURRENCIES.get(account, "EUR")
        made = self.network.control("POST", "payments", {"provider": account, "amount": captured, "currency": currency})
        [block] = made["payments"]
        payment = {key: value for key, value in block.items() if value is not None}

        return self.refund(account, **{"payment": payment, "amount": 1000, "currency": currency, **job})

    def work(self, account: str, refund: Refund, rounds: int = 60) -> Refund:
        """Turn every lane until the refund is final or in review."""
        for _ in range(rounds):
            stands = self.read(refund.id)
            if stands.state in FINAL or stands.state is State.REVIEW:
                return stands
            self.now = max(self.now + 0.01, stands.due_at or 0.0)
            for lane in ("send", "recover", "poll"):
                self.turn(lane, account)

        return self.read(refund.id)

    def paid(self, account: str, **job: Any) -> Refund:
        """A refund that has succeeded."""
        done = self.work(account, self.submitted(account, **job))
        assert done.state is State.SUCCEEDED, (done.state, done.note)

        return done


def provider_of(name: str) -> str:
    """The provider of a sandbox account."""
    return "smart2pay" if name.startswith("smart2pay") else name.removesuffix("_oauth")
