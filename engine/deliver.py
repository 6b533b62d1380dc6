"""Deliveries on their way: one desk per endpoint and process, so that a slow receiver holds nobody else up."""

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog
from msgspec.structs import replace
from sqlalchemy import Connection

from domain.webhook import Health, Reply, Told, after_attempt, after_reply, signed
from engine import tracing
from engine.bootstrap import Engine
from engine.courier import Courier
from engine.redact import redacted_body
from engine.webhooks import live_secrets, switched_off
from ledger import deliveries, webhooks
from ledger.deliveries import Delivery, Sent
from ledger.session import is_away
from ledger.webhooks import ENABLED, Endpoint

log = structlog.get_logger(__name__)

WINDOW = 8
LEASE_MARGIN = 15.0
AWAY = 0.5


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt that has ended and is not written down yet. `early`: it was made before its time."""

    delivery: Delivery
    lease: str
    reply: Reply
    early: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be sent to one receiver, under one lease from `at` on. `traces`: by refund, while traced."""

    url: str = ""
    secrets: Sequence[str] = ()
    lease: str = ""
    at: float = 0.0
    deliveries: Sequence[Delivery] = ()
    traces: Mapping[str, str] = field(default_factory=dict)


def exchange(engine: Engine, name: str, tried: Sequence[Tried], *, room: int) -> Batch:
    """Write down what came of attempts and claim what is due, in one transaction that holds the endpoint.

    `room`: how many may be claimed; while the endpoint fails, only so many that one is under way.
    """
    lease = secrets.token_hex(16)

    def work(connection: Connection) -> Batch:
        holder = webhooks.endpoint(connection, name, hold=True)
        if holder is None:
            return Batch()
        holder = _settled(engine, connection, holder, tried)
        now = engine.clock()
        claimed = _claimed(engine, connection, holder, room, now, lease)
        if not claimed:
            return Batch()
        traces = deliveries.traces(connection, [each.refund_id for each in claimed]) if tracing.is_on() else {}

        return Batch(holder.url, live_secrets(engine, holder, now), lease, now, claimed, traces)

    return engine.ledger.run(work)


def _settled(engine: Engine, connection: Connection, holder: Endpoint, tried: Sequence[Tried]) -> Endpoint:
    """The endpoint as it stands after these attempts."""
    if not tried:
        return holder
    given = engine.settings.webhooks
    results = [_judged(engine, each) for each in tried]
    for sent in deliveries.settle(connection, results):
        engine.meter.count("webhooks_out", sent.state)
        if sent.state is Told.UNDELIVERED:
            log.error("webhook.undelivered", endpoint=holder.id, delivery_id=sent.delivery.id, status=sent.reply.status)
    health = holder.health
    for each in sorted(tried, key=lambda one: one.reply.at):
        health = after_reply(
            health, each.reply, disable_after=given.disable_after, first_wait=given.retry_schedule[:2][-1]
        )

    return _with(engine, connection, holder, health)


def _judged(engine: Engine, tried: Tried) -> Sent:
    """An early attempt that fails takes nothing away from the schedule."""
    delivery, reply = tried.delivery, tried.reply
    if tried.early and not reply.good:
        state, due_at, attempts = Told.WAITING, delivery.due_at, delivery.attempts
    else:
        attempts = delivery.attempts + 1
        schedule = engine.settings.webhooks.retry_schedule
        state, due_at = after_attempt(reply, attempts, schedule, random.random())  # noqa: S311 - it spreads the load
    answer = engine.vault.seal(redacted_body(reply.answer)) if reply.answer else None

    return Sent(
        delivery=delivery,
        lease=tried.lease,
        reply=reply,
        state=state,
        due_at=due_at,
        attempts=attempts,
        answer=answer,
    )


def _with(engine: Engine, connection: Connection, holder: Endpoint, health: Health) -> Endpoint:
    if health.disabled and holder.state == ENABLED:
        switched_off(engine, connection, holder.id, health.disabled)
        log.error("webhook.endpoint_disabled", endpoint=holder.id, reason=health.disabled)
        holder = replace(holder, state=webhooks.DISABLED)
    elif health.failing_since is not None and holder.failing_since is None:
        log.warning("webhook.endpoint_failing", endpoint=holder.id)
    values = {name: getattr(health, name) for name in ("failing_since", "recovered_at", "paused_until")}
    if values != {name: getattr(holder, name) for name in values}:
        webhooks.change_endpoint(connection, holder.id, **values)

    return replace(holder, **values)


def _claimed(
    engine: Engine, connection: Connection, holder: Endpoint, room: int, now: float, lease: str
) -> Sequence[Delivery]:
    limit = room if holder.failing_since is None else room - (WINDOW - 1)
    if holder.state != ENABLED or holder.paused_until > now or limit <= 0:
        return ()
    until = now + engine.settings.webhooks.timeout + LEASE_MARGIN
    claimed, all_seen = deliveries.claim(connection, holder, limit=limit, now=now, until=until, lease=lease)
    if all_seen and holder.recovered_at is not None:
        webhooks.change_endpoint(connection, holder.id, recovered_at=None)

    return claimed


class Desk:
    """One endpoint's deliveries in one process: at work while something is due; a doorbell wakes it again.

    Up to `WINDOW` at once. Built and run on one event loop.
    """

    def __init__(self, engine: Engine, endpoint: str, courier: Courier, threads: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._endpoint = endpoint
        self._courier = courier
        self._threads = threads
        self._bell = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._tried: list[Tried] = []
        self._closing = False

    def wake(self) -> None:
        """Look what is due: now, or once more when the look that is under way has ended."""
        self._bell.set()
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, patience: float) -> None:
        """Claim nothing more, write down what ends within that many seconds; the rest is due when its lease ends."""
        self._closing = True
        if self._work is not None:
            await asyncio.wait([self._work], timeout=patience)
            ended = [self._work, *self._sending]
            for each in ended:
                each.cancel()
            await asyncio.gather(*ended, return_exceptions=True)
        await self._courier.close()

    async def _run(self) -> None:
        while True:
            self._bell.clear()
            batch = await self._exchange()
            for each in batch.deliveries:
                self._sending.add(asyncio.get_running_loop().create_task(self._send(batch, each)))
            if not (self._sending or self._tried or self._bell.is_set()):
                return
            await self._bell.wait()

    async def _exchange(self) -> Batch:
        tried, self._tried = self._tried, []
        room = 0 if self._closing else WINDOW - len(self._sending)
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: exchange(self._engine, self._endpoint, tried, room=room)
            )
        except Exception as error:
            if is_away(error):
                log.warning("webhook.waiting", endpoint=self._endpoint, error=type(error).__name__)
                await self._patiently(tried)
            else:
                log.exception("webhook.failed", endpoint=self._endpoint)

        return Batch()

    async def _patiently(self, tried: Sequence[Tried]) -> None:
        """What cannot be written down is kept for as long as its lease may last; after that it is sent again."""
        oldest = self._engine.clock() - LEASE_MARGIN
        self._tried[:0] = [each for each in tried if each.reply.at > oldest]
        if self._tried:
            await asyncio.sleep(AWAY)
            self._bell.set()

    async def _send(self, batch: Batch, delivery: Delivery) -> None:
        try:
            reply = await self._post(batch, delivery)
            self._tried.append(Tried(delivery, batch.lease, reply, early=delivery.due_at > batch.at))
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._sending.discard(task)
            self._bell.set()

    async def _post(self, batch: Batch, delivery: Delivery) -> Reply:
        body = delivery.payload.encode()
        headers = signed(batch.secrets, delivery.id, self._engine.clock(), body)
        trace = batch.traces.get(delivery.refund_id)
        with tracing.delivery(delivery.type, delivery.id, delivery.attempts + 1, trace) as span:
            if span.traceparent is not None:
                headers = {**headers, "traceparent": span.traceparent}
            reply = await self._courier.post(batch.url, headers, body)
            span.set({"http.response.status_code": reply.status or 0})
            if not reply.good:
                span.failed(reply.error or str(reply.status))

        return reply


class Deliveries:
    """The desks of one process. The ledger is asked from a thread of their own, so that pumps do not wait for it."""

    def __init__(self, engine: Engine, courier: Callable[[Engine], Courier] | None = None) -> None:
        self._engine = engine
        self._courier = courier or make_courier
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="webhooks")
        self._desks: dict[str, Desk] = {}

    def wake(self, endpoint: str) -> None:
        """A doorbell for an endpoint; on the event loop."""
        found = self._desks.get(endpoint)
        if found is None:
            found = self._desks[endpoint] = Desk(self._engine, endpoint, self._courier(self._engine), self._threads)
        found.wake()

    async def stop(self, patience: float) -> None:
        """Close every desk within that many seconds."""
        await asyncio.gather(*(desk.stop(patience) for desk in self._desks.values()))
        self._threads.shutdown(wait=False)


def make_courier(engine: Engine) -> Courier:
    """The way to a receiver as the settings want it."""
    given = engine.settings.webhooks

    return Courier(timeout=given.timeout, allowed=given.allow_networks, clock=engine.clock)
