"""Notifications: sent when a refund becomes final, signed as each provider signs."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import httpx

from sandbox.core import Refund, World
from sandbox.edge import Call, Message, Provider
from sandbox.when import millis_z

KEPT = 10_000
TICK_SECONDS = 0.05
TIMEOUT = httpx.Timeout(30.0, pool=None)
LIMITS = httpx.Limits(max_connections=50)


@dataclass(frozen=True, slots=True)
class Target:
    """Where an account's notifications go, and how badly they behave."""

    url: str
    times: int = 1
    delay: float = 0.0
    before_answer: bool = False
    auth: bool = True


class How(StrEnum):
    """How a notification is sent on demand: as it should be, or as somebody else would."""

    GENUINE = "genuine"
    UNSIGNED = "unsigned"
    WRONG_SIGNATURE = "wrong_signature"
    CHANGED_BODY = "changed_body"
    REPLAYED = "replayed"


@dataclass(slots=True)
class Sent:
    """One notification that was sent, and the reply."""

    provider: str
    refund_id: str
    url: str
    at: str
    headers: dict[str, str]
    body: str
    status: int | None = None
    error: str | None = None


class Notifier:
    """Sends what has become final, from background tasks."""

    def __init__(self, world: World, providers: Mapping[str, Provider]) -> None:
        """Begin without targets."""
        self.world = world
        self.providers = providers
        self.targets: dict[str, Target] = {}
        self.sent: deque[Sent] = deque(maxlen=KEPT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._client: httpx.AsyncClient | None = None

    def aim(self, targets: dict[str, Target]) -> None:
        """Replace all targets; with any at all, due refunds are looked for in the background."""
        self.targets = targets
        if self._ticker:
            self._ticker.cancel()
            self._ticker = None
        if targets:
            self._ticker = asyncio.get_running_loop().create_task(self._tick())

    def target(self, refund: Refund) -> Target | None:
        """Where this refund's notifications go."""
        return self.targets.get(refund.payment.account) or self.targets.get(refund.provider)

    def message(self, refund: Refund) -> Message | None:
        """The signed notification of a refund as it stands now."""
        return self.providers[refund.provider].notification(self.world, refund)

    async def after_call(self, call: Call | None) -> None:
        """Send what has become final; first, and awaited, where it must precede the answer."""
        refund = call.refund if call else None
        target = self.target(refund) if refund else None
        early = refund if target and target.before_answer else None
        if early:
            self.world.finish_now(early)
        while self.world.finished:
            finished = self.world.finished.popleft()
            delivery = self._delivery(finished)
            if delivery is not None and finished is early:
                await delivery
            elif delivery is not None:
                self._spawn(delivery)

    def _delivery(self, refund: Refund) -> Any:
        target = self.target(refund)
        if target is None or (refund.flipped and not self.providers[refund.provider].notifies_flips):
            return None
        message = self.message(refund)

        return self._deliver(refund, target, message) if message else None

    def _spawn(self, delivery: Any) -> None:
        task = asyncio.get_running_loop().create_task(delivery)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, refund: Refund, target: Target, message: Message) -> None:
        if target.delay:
            await asyncio.sleep(target.delay)
        for _ in range(target.times):
            await self._post(refund, target, message)

    async def send(self, refund: Refund, how: How) -> Sent | None:
        """Send one now, and wait for the reply; None where there is nothing to send, or nobody to send it to."""
        target = self.target(refund)
        message = self._earlier(refund) if how is How.REPLAYED else self.message(refund)
        if target is None or message is None:
            return None

        return await self._post(refund, target, _bent(message, how))

    def _earlier(self, refund: Refund) -> Message | None:
        """The last one about this refund, byte for byte."""
        sent = next((each for each in reversed(self.sent) if each.refund_id == refund.id), None)

        return Message(dict(sent.headers), sent.body.encode()) if sent else None

    async def _post(self, refund: Refund, target: Target, message: Message) -> Sent:
        headers = dict(message.headers)
        if not target.auth:
            headers.pop("Authorization", None)
        at = millis_z(self.world.clock())
        body = message.body.decode()
        sent = Sent(refund.payment.account, refund.id, target.url, at, headers, body)
        self.sent.append(sent)
        try:
            reply = await self._http().post(target.url, headers=headers, content=message.body)
            sent.status = reply.status_code
        except httpx.HTTPError as error:
            sent.error = f"{type(error).__name__}: {error}"

        return sent

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=TIMEOUT, limits=LIMITS, trust_env=False)

        return self._client

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.world.settle()
            await self.after_call(None)

    async def close(self) -> None:
        """Stop looking and let go of connections."""
        self.aim({})
        for task in list(self._tasks):
            task.cancel()
        if self._client:
            await self._client.aclose()
            self._client = None

    def described(self) -> list[dict[str, Any]]:
        """What was sent, the oldest first."""
        return [asdict(sent) for sent in self.sent]


def _bent(message: Message, how: How) -> Message:
    """The message as a forger would send it; only what proves the sender is changed, or the body behind its back."""
    plain = {"Content-Type": message.headers["Content-Type"]}
    match how:
        case How.UNSIGNED:
            return Message(plain, message.body)
        case How.WRONG_SIGNATURE:
            return Message({**{name: value[::-1] for name, value in message.headers.items()}, **plain}, message.body)
        case How.CHANGED_BODY:
            return Message(message.headers, message.body[:-1] + b', "added": 1}')
        case _:
            return message
