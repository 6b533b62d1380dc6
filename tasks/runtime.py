"""What one worker process keeps between tasks: an event loop, a group writer, a pump for each lane and account."""

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

import structlog
import uvloop

from config import RELEASE
from config.settings import Settings
from engine import look, notifications, tracing
from engine.bootstrap import Engine, bootstrap
from engine.bulk import LANE as BULK
from engine.bulk_run import carry_out
from engine.deliver import Deliveries
from engine.fanout import LANE as DELIVER
from engine.pump import Pump
from engine.reconcile import Reconciler
from engine.writer import GroupWriter
from providers.transport import Network, Transport
from tasks.app import longest_call
from tasks.bells import ring

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: The loop and the writer take turns: at Python's 5 ms the writer would wait so long after each answer of the ledger.
SWITCH = 0.001
#: Steps leave no cycles behind; what was imported need not be searched for them at all.
GARBAGE = (20_000, 20, 100)


def engine_with_bells(settings: Settings) -> Engine:
    """An engine whose doorbells are Celery messages."""
    engine = bootstrap(settings)

    def bell(lane: str, account: str) -> None:
        ring(engine, lane, account)

    return replace(engine, ring=bell)


class Runtime:
    """One process's pumps. Conversations outlive the task that started them, so a slow account holds nobody up."""

    def __init__(self, settings: Settings, part: str = "worker") -> None:
        tracing.start(part, RELEASE)
        _spare_the_collector()
        sys.setswitchinterval(SWITCH)
        self.engine = engine_with_bells(settings)
        self.engine.meter.start()
        self._writer = GroupWriter(self.engine.ledger)
        self._transports: dict[str, Network] = {}
        self._pumps: dict[tuple[str, str], Pump] = {}
        self._deliveries = Deliveries(self.engine)
        self._aside: dict[tuple[str, str], Future[None]] = {}
        self._again: set[tuple[str, str]] = set()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pump-loop", daemon=True)
        self._thread.start()

    def turn(self, lane: str, account: str) -> None:
        """One slice of a pump; where more is waiting, the bell rings again."""
        if account in self.engine.accounts and self._run(self._pump(lane, account).turn()):
            self._ring_again(lane, account)

    def deliver(self, endpoint: str) -> None:
        """Wake the desk of a webhook endpoint. It works on beside the pumps, so nobody waits for a receiver here."""
        if self.engine.bell is not None:
            self.engine.bell.free(DELIVER, endpoint)
        self._loop.call_soon_threadsafe(self._deliveries.wake, endpoint)

    def begin(self, lane: str, name: str) -> None:
        """Begin a slice of what is done beside payments, for an account or a bulk operation.

        The task does not wait for it, nor does the pool. While one is going on here the next is begun after it.
        """
        if lane != BULK and name not in self.engine.accounts:
            return
        if (lane, name) in self._aside:
            self._again.add((lane, name))
        else:
            self._aside[lane, name] = asyncio.run_coroutine_threadsafe(self._slice(lane, name), self._loop)

    def close(self) -> None:
        """Claim nothing more, finish what is in flight, write it down, close."""
        patience = longest_call(list(self.engine.accounts.values()))
        for slice_ in list(self._aside.values()):
            slice_.cancel()
        self._run(self._stop(patience))
        self._writer.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self.engine.close()
        tracing.stop()

    async def _slice(self, lane: str, name: str) -> None:
        more = False
        try:
            more = await self._work(lane, name)
        except Exception:
            # What it had begun is due again, or has a bookmark: the next round goes on from there.
            log.exception("slice.failed", lane=lane, name=name)
        finally:
            del self._aside[lane, name]
        if more or (lane, name) in self._again:
            self._again.discard((lane, name))
            await asyncio.to_thread(self._ring_again, lane, name)

    async def _work(self, lane: str, name: str) -> bool:
        if lane == BULK:
            await carry_out(self.engine, name)
            return False
        account, network = self.engine.accounts[name], self._transport(name)
        if lane == notifications.LANE:
            return await look.process(self.engine, account, network, asyncio.to_thread)

        return await Reconciler(account, self.engine, network=network).turn()

    def _ring_again(self, lane: str, account: str) -> None:
        """Who worked has held the bell meanwhile; this ring must count."""
        if self.engine.bell is not None:
            self.engine.bell.free(lane, account)
        self.engine.ring(lane, account)

    def _pump(self, lane: str, account: str) -> Pump:
        found = self._pumps.get((lane, account))
        if found is None:
            found = self._pumps[lane, account] = Pump(
                lane,
                self.engine.accounts[account],
                self.engine,
                network=self._transport(account),
                writer=self._writer,
            )

        return found

    def _transport(self, account: str) -> Network:
        configured = self.engine.accounts[account]
        if account not in self._transports:
            self._transports[account] = tracing.traced(
                Transport(connect_timeout=configured.connect_timeout, read_timeout=configured.read_timeout)
            )

        return self._transports[account]

    async def _stop(self, patience: float) -> None:
        await asyncio.gather(self._deliveries.stop(patience), *(pump.stop(patience) for pump in self._pumps.values()))
        await asyncio.gather(*(transport.close() for transport in self._transports.values()))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _spare_the_collector() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


_current: tuple[int, Runtime] | None = None
_settings: Settings | None = None


def prepare(settings: Settings) -> None:
    """Remember the settings; nothing is opened before the fork."""
    global _settings  # noqa: PLW0603 - one per process, set by its entry
    _settings = settings


def settings() -> Settings:
    """The settings of this process."""
    if _settings is None:
        raise RuntimeError("the worker's entry has not prepared its settings")

    return _settings


def runtime() -> Runtime:
    """This process's runtime, built on first use: a forked child never shares its parent's."""
    global _current  # noqa: PLW0603
    if _current is None or _current[0] != os.getpid():
        _current = os.getpid(), Runtime(settings())

    return _current[1]


def close() -> None:
    """Close this process's runtime, if it has one."""
    global _current  # noqa: PLW0603
    if _current is not None and _current[0] == os.getpid():
        _current[1].close()
        _current = None
