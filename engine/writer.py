"""Group commits: the pump's steps are written together, a few milliseconds' worth at a time."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import structlog
from sqlalchemy.exc import DataError, IntegrityError

from domain.refund import Refund
from ledger.refunds import Change, apply
from ledger.session import AWAY, Ledger

log = structlog.get_logger(__name__)

MOST = 500
PATIENCE = 30.0


#: Of the running loop, or one that is already done.
Answer = asyncio.Future[Refund | None] | Future[Refund | None]
Result = Refund | None | Exception


class Writer(Protocol):
    """Carries out changes; each future tells how its refund stands now, or None: it did not stand as expected."""

    def execute(self, change: Change) -> Answer:
        """Queue one change. The future raises when the ledger stayed away."""


def write(ledger: Ledger, changes: Sequence[Change]) -> list[Result]:
    """All changes in one transaction; if one of them breaks a rule of the database, each in its own."""
    try:
        return [*ledger.run(lambda connection: apply(connection, changes))]
    except (IntegrityError, DataError) as error:
        if len(changes) == 1:
            return [error]
        return [result for change in changes for result in write(ledger, [change])]


@dataclass(frozen=True, slots=True)
class _Queued:
    change: Change
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Refund | None]"


class GroupWriter:
    """One thread that commits whatever has gathered while its last commit ran."""

    def __init__(self, ledger: Ledger, *, gather: float = 0.002, sleep: Callable[[float], None] = time.sleep) -> None:
        self._ledger = ledger
        self._gather = gather
        self._sleep = sleep
        self._queue: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="ledger-writer", daemon=True)
        self._thread.start()

    def execute(self, change: Change) -> Answer:
        """See `Writer`. Called on the loop that waits for the answer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Refund | None] = loop.create_future()
        self._queue.put(_Queued(change, loop, future))

        return future

    def close(self) -> None:
        """Write what is queued, then end the thread."""
        self._queue.put(None)
        self._thread.join(timeout=PATIENCE + 5)

    def _loop(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            if self._queue.empty():
                self._sleep(self._gather)
            batch, last = self._gathered(first)
            self._commit(batch)
            if last:
                return

    def _gathered(self, first: _Queued) -> tuple[list[_Queued], bool]:
        batch = [first]
        while len(batch) < MOST:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
            if following is None:
                return batch, True
            batch.append(following)

        return batch, False

    def _commit(self, batch: Sequence[_Queued]) -> None:
        results = self._patiently([each.change for each in batch])
        answers = list(zip(batch, results, strict=True))
        for loop in {each.loop for each in batch}:
            # One call wakes every step of the batch: a call for each would cost more than the step itself.
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, [answer for answer in answers if answer[0].loop is loop])

    def _patiently(self, changes: Sequence[Change]) -> list[Result]:
        """A restarting database is waited for: what was answered must not be forgotten because of it."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return write(self._ledger, changes)
            except AWAY as error:
                log.warning("ledger.away", error=type(error).__name__, waiting=len(changes))
                if time.monotonic() >= until:
                    return [error] * len(changes)
                self._sleep(0.2)
            except Exception as error:  # noqa: BLE001 - a fault must reach its own step, and must not end the thread
                if len(changes) == 1:
                    return [error]
                return [result for change in changes for result in self._patiently([change])]


def _settle(answers: Sequence[tuple[_Queued, Result]]) -> None:
    for queued, result in answers:
        if queued.future.done():
            continue
        if isinstance(result, Exception):
            queued.future.set_exception(result)
        else:
            queued.future.set_result(result)
