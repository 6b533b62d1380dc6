"""The producers: three ways in, each in a thread, and the look whether what was sent has arrived.

A shop sends again what it has no reason to think safe, always under the same reference: after an error; through the
stream when Redis has forgotten everything since; as a Celery message that has not become a refund for a while, as the
task's docstring asks. What the stream took and Redis never forgot is not sent again: that is the product's to keep.
"""

import contextlib
import heapq
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from kombu.exceptions import OperationalError as BrokerAway
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from engine.submit import submit
from signals.stream import publish_job
from tasks.app import app
from tests.chaos.orders import WAYS, Order
from tests.chaos.system import System
from tests.support.stack import ROOT

AGAIN_SECONDS = 1.0
LOOK_SECONDS = 5.0
#: Seconds until a Celery message that has become nothing is sent again; doubled each time, lest a shop that waits for a
#: slow queue makes it slower.
CELERY_PATIENCE = 20.0
MOST_PATIENCE = 80.0
AWAY = (redis.RedisError, BrokerAway, SQLAlchemyError, OSError)


@dataclass(frozen=True, slots=True)
class Sending:
    """A job handed over without an error, at a monotonic time, when Redis had forgotten so many times."""

    at: float
    forgotten: int


class Shop:
    """Submits every order when its time has come, and again where it must."""

    def __init__(self, system: System, orders: Sequence[Order]) -> None:
        self.orders = {order.reference: order for order in orders}
        self.receipts: dict[str, str] = {}  # reference -> refund id, as the library answered
        self.refusals: dict[str, str] = {}  # reference -> code, as the library answered
        self.counts: Counter[str] = Counter()
        self.arrived: set[str] = set()
        self.broken: list[BaseException] = []
        self._system = system
        self._sendings: dict[tuple[str, str], Sending] = {}
        self._repeats: Counter[tuple[str, str]] = Counter()
        self._waiting: dict[str, list[tuple[float, str]]] = {way: [] for way in WAYS}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._began = 0.0
        self._send: dict[str, Callable[[Order], None]] = {
            "stream": self._by_stream,
            "celery": self._by_celery,
            "library": self._by_library,
        }

    def open(self) -> None:
        """Begin; orders come in the time that each says."""
        self._began = time.monotonic()
        for order in self.orders.values():
            for way in order.ways:
                self._push(way, self._began + order.at, order.reference)
        for way in WAYS:
            threading.Thread(target=self._guarded, args=(self._submitting, way), name=way, daemon=True).start()
        threading.Thread(target=self._guarded, args=(self._looking,), name="look", daemon=True).start()

    def close(self) -> None:
        """Submit no more."""
        self._stop.set()

    @property
    def waiting(self) -> int:
        """Submissions that are still to come."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    @property
    def missing(self) -> list[str]:
        """Orders that neither became a refund nor were refused, as far as the last look knows."""
        return [reference for reference in self.orders if reference not in self.arrived]

    # -- sending -----------------------------------------------------------------------------------------------------

    def _guarded(self, loop: Callable[..., None], *arguments: Any) -> None:
        """A thread that dies is a fault of the run, not a quiet end of its load."""
        try:
            loop(*arguments)
        except BaseException as error:  # noqa: BLE001
            self.broken.append(error)

    def _push(self, way: str, at: float, reference: str) -> None:
        with self._lock:
            heapq.heappush(self._waiting[way], (at, reference))

    def _next(self, way: str) -> Order | None:
        with self._lock:
            if not self._waiting[way] or self._waiting[way][0][0] > time.monotonic():
                return None
            return self.orders[heapq.heappop(self._waiting[way])[1]]

    def _submitting(self, way: str) -> None:
        while not self._stop.is_set():
            order = self._next(way)
            if order is None:
                self._stop.wait(0.01)
                continue
            try:
                self._hand_over(way, order)
            except AWAY:
                self.counts[f"{way}: error"] += 1
                self._push(way, time.monotonic() + AGAIN_SECONDS, order.reference)

    def _hand_over(self, way: str, order: Order) -> None:
        forgotten = self._system.forgotten
        self._send[way](order)
        self.counts[way] += 1
        with self._lock:
            self._sendings[order.reference, way] = Sending(time.monotonic(), forgotten)

    def _by_stream(self, order: Order) -> None:
        with self._system.redis.client(socket_timeout=5) as client:
            publish_job(client, json.dumps(order.job).encode())

    def _by_celery(self, order: Order) -> None:
        app.send_task("refunds.submit", kwargs={"job": order.job}, queue="refundry.intake", retry=False)

    def _by_library(self, order: Order) -> None:
        if self._system.root != ROOT:
            # The library is of this release, and the schema not yet.
            self._by_stream(order)
            return
        receipt = submit(self._system.engine, order.job, actor="chaos", via="api")
        if receipt.refund is not None:
            first = self.receipts.setdefault(order.reference, receipt.refund.id)
            assert first == receipt.refund.id, f"{order.reference}: two refunds, {first} and {receipt.refund.id}"
        elif receipt.problem is not None:
            self.refusals[order.reference] = receipt.problem.code

    # -- looking -----------------------------------------------------------------------------------------------------

    def _looking(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            with contextlib.suppress(SQLAlchemyError):
                self.look()

    def look(self) -> None:
        """Which orders have become refunds or were refused; the others are sent again where that is called for."""
        forgotten = self._system.forgotten
        with self._system.engine.ledger.read() as connection:
            known = {row[0] for row in connection.execute(text("SELECT reference FROM refund"))}
            known |= {row[0] for row in connection.execute(text("SELECT reference FROM rejected"))}
        self.arrived = known | set(self.refusals)
        with self._lock:
            sent = [key for key, value in self._sendings.items() if self._called_for(key, value, forgotten)]
            for key in sent:
                del self._sendings[key]
                self._repeats[key] += 1
        for reference, way in sent:
            self.counts[f"{way}: sent again"] += 1
            self._push(way, time.monotonic(), reference)

    def _called_for(self, key: tuple[str, str], sending: Sending, forgotten: int) -> bool:
        reference, way = key
        if reference in self.arrived or way == "library":
            return False
        if way == "stream":
            return sending.forgotten < forgotten

        patience = min(MOST_PATIENCE, CELERY_PATIENCE * 2 ** self._repeats[key])

        return time.monotonic() - sending.at > patience
