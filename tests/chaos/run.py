"""One run: the storm, the calm after it, the judgement."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from config.logging import configure as configure_logging
from ledger import journal
from signals.stream import INTAKE
from tests.chaos import faults, report
from tests.chaos.judge import PAYMENTS, QUERIES, Books, Flaw, judge
from tests.chaos.orders import drafts, orders
from tests.chaos.proxy import Weather
from tests.chaos.shop import Shop
from tests.chaos.system import System, system

PROGRESS_SECONDS = 10.0
LOOK_SECONDS = 1.0
DUE_FOR = 2.0  # seconds; younger work is not late
SHOWN_STORIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was asked for. `seconds`: how long load and faults last; `settle`: how long the rest may take."""

    refunds: int
    seconds: float
    settle: float
    seed: int
    workers: int
    database: str
    kinds: tuple[str, ...]
    keep: bool = False


@dataclass
class Result:
    """What came of it."""

    figures: dict[str, Any]
    flaws: list[Flaw]
    stories: list[str] = field(default_factory=list)


@dataclass
class Standstill:
    """The longest time, in seconds, in which refunds were due and nothing was sent."""

    longest: float = 0.0
    _attempts: int = -1
    _moved_at: float = 0.0

    def look(self, attempts: int, due: int, now: float) -> None:
        """`attempts` made so far, refunds `due` for a while, at the monotonic time `now`."""
        if attempts > self._attempts or due == 0:
            self._attempts, self._moved_at = attempts, now
        self.longest = max(self.longest, now - self._moved_at)


Say = Callable[[str], None]


def run(plan: Plan, say: Say) -> Result:
    """Start everything, let it storm, wait for the calm, judge; nothing runs any more when this returns."""
    with system(plan.database, seed=plan.seed, refunds=plan.refunds, keep=plan.keep) as made:
        if plan.keep:
            say(f"logs: {made.folder}")
        configure_logging("ERROR")
        if made.begin_with_the_older():
            say("workers and beats begin with the release before this one")
        made.start(workers=plan.workers, beats=2)
        return _Run(plan, made, say).run()


class _Run:
    def __init__(self, plan: Plan, made: System, say: Say) -> None:
        self.plan = plan
        self.system = made
        self.say = say
        self.kinds = self._possible(plan.kinds)
        self.tally: Counter[str] = Counter()
        self.troubles: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.standstill = Standstill()
        self._began = time.monotonic()

    def run(self) -> Result:
        """The three parts."""
        planned = drafts(self.plan.seed, self.plan.refunds, self.plan.seconds)
        self.shop = Shop(self.system, orders(self.plan.seed, planned, self._make_payments))
        self.say(f"{len(self.shop.orders)} refunds of {len(planned)} payments; faults: {', '.join(self.kinds)}")
        try:
            self._timed("storm", self._storm)
            unsettled = self._timed("calm", self._calm)
        finally:
            self.shop.close()

        return self._timed("judgement", lambda: self._judge(unsettled))

    def _possible(self, kinds: Collection[str]) -> list[str]:
        """Without a disk of its own, SQLite's cannot be filled: that is said, and left out."""
        disk = self.system.disk
        if "disk-full" in kinds and disk is not None and not disk.can_fill:
            self.say("disk-full is left out: mounting a small file system is not allowed here")
            return [name for name in kinds if name != "disk-full"]

        return list(kinds)

    def _make_payments(self, account: str, count: int, captured: int) -> list[dict[str, Any]]:
        currency = {"smartpay": "JPY", "smartretry": "USD"}.get(account, "EUR")

        return self.system.payments(account, count, captured, currency=currency)

    def _timed(self, name: str, part: Callable[[], Any]) -> Any:
        began = time.monotonic()
        try:
            return part()
        finally:
            self.seconds[name] = time.monotonic() - began

    # -- storm -------------------------------------------------------------------------------------------------------

    def _storm(self) -> None:
        """Load and faults for the time that was asked for; every fault has mended itself when this returns."""
        ends = time.monotonic() + self.plan.seconds
        if "provider" in self.kinds:
            self.system.faults(*faults.PROVIDER)
        self.shop.open()
        parts = faults.lanes(self.system, self.kinds, seed=self.plan.seed, ends=ends, tally=self.tally, note=self._note)
        open_parts = [self._counted(part) for part in parts]
        self._playing = len(open_parts)
        going_on = self._going_on(ends)
        watch = faults.watch(self.system, going_on, self.tally)
        faults.play([*open_parts, watch, self._progress(going_on), self._watch_standstill(going_on)])

    def _counted(self, part: faults.Waits) -> faults.Waits:
        yield from part
        self._playing -= 1

    def _going_on(self, ends: float) -> Callable[[], bool]:
        return lambda: time.monotonic() < ends or self._playing > 0

    def _progress(self, going_on: Callable[[], bool]) -> faults.Waits:
        while going_on():
            yield PROGRESS_SECONDS
            self._say_progress()
            self._insist_on_the_shop()

    def _watch_standstill(self, going_on: Callable[[], bool]) -> faults.Waits:
        while going_on():
            with contextlib.suppress(SQLAlchemyError):
                self.standstill.look(*self._attempts_and_due(), time.monotonic())
            yield LOOK_SECONDS

    def _attempts_and_due(self) -> tuple[int, int]:
        with self.system.engine.ledger.read() as connection:
            attempts = connection.execute(text("SELECT count(*) FROM attempt")).scalar_one()
            query = text("SELECT count(*) FROM refund WHERE state = 'queued' AND due_at < :late")
            due = connection.execute(query, {"late": time.time() - DUE_FOR}).scalar_one()

        return attempts, due

    def _say_progress(self) -> None:
        states: Any = "the ledger is away"
        with contextlib.suppress(SQLAlchemyError):
            states = dict(sorted(self.system.states().items()))
        self._note(f"{states}  to submit: {self.shop.waiting}")

    def _note(self, words: str) -> None:
        self.say(f"{time.monotonic() - self._began:7.1f} s  {words}")

    def _insist_on_the_shop(self) -> None:
        if self.shop.broken:
            raise self.shop.broken[0]

    # -- calm --------------------------------------------------------------------------------------------------------

    def _calm(self) -> list[Flaw]:
        """Faults are over: everything must come to rest in time. Answers what did not."""
        self.troubles = self._troubles()
        self.system.faults()
        self.system.proxy.turn(Weather.FINE)
        ends = time.monotonic() + self.plan.settle
        waiting = [self._unsettled()]

        def going_on() -> bool:
            return bool(waiting[-1]) and time.monotonic() < ends

        faults.play(
            [
                faults.watch(self.system, going_on, self.tally),
                self._watch_standstill(going_on),
                self._until_settled(waiting, going_on),
            ]
        )

        return [Flaw("at rest in time", words) for words in waiting[-1]]

    def _until_settled(self, waiting: list[list[str]], going_on: Callable[[], bool]) -> faults.Waits:
        said = time.monotonic()
        while going_on():
            yield 0.5
            self._insist_on_the_shop()
            if time.monotonic() - said > PROGRESS_SECONDS:
                said = time.monotonic()
                self._say_progress()
            with contextlib.suppress(SQLAlchemyError, redis.RedisError):
                waiting.append(self._unsettled())

    def _unsettled(self) -> list[str]:
        """What is not at rest yet, in words."""
        try:
            self.shop.look()
            states = self.system.states()
            with self.system.engine.ledger.read() as connection:
                untold = connection.execute(text("SELECT count(*) FROM outbox")).scalar_one()
            with self.system.redis.client() as client:
                stream = int(client.xlen(INTAKE))
        except (SQLAlchemyError, redis.RedisError) as error:
            return [f"{type(error).__name__}: the ledger or Redis is away"]
        under_way = {state: count for state, count in states.items() if state not in PAYMENTS}
        found = {
            "under way": under_way,
            "not submitted yet": self.shop.waiting,
            "neither accepted nor refused": len(self.shop.missing),
            "in the intake stream": stream,
            "changes not told": untold,
        }

        return [f"{name}: {value}" for name, value in found.items() if value]

    def _troubles(self) -> dict[str, int]:
        """How often the sandbox's own faults acted, by fault."""
        acted: Counter[str] = Counter()
        for rule in self.system.sandbox.get("/_sandbox/faults").json()["faults"]:
            acted[f"{rule['fault']} ({rule['call']})"] += rule["hits"]

        return dict(acted)

    # -- judgement ---------------------------------------------------------------------------------------------------

    def _judge(self, unsettled: list[Flaw]) -> Result:
        books = self._books()
        with self.system.engine.ledger.read() as connection:
            events, broken = journal.verify(connection)
        changed = [Flaw("journal", f"{each.subject} #{each.seq}: {each.what}") for each in broken]
        flaws = [*unsettled, *judge(books), *changed]

        return Result(self._figures(books, events, flaws), flaws, self._stories(flaws))

    def _books(self) -> Books:
        found: dict[str, Any] = {}
        with self.system.engine.ledger.read() as connection:
            for name, query in QUERIES.items():
                found[name] = [dict(row._mapping) for row in connection.execute(text(query))]
        jobs = {reference: order.job for reference, order in self.shop.orders.items()}
        captured = {order.job["payment"]["id"]: order.captured for order in self.shop.orders.values()}

        return Books(
            **found,
            moved=self.system.moved(),
            jobs=jobs,
            captured=captured,
            receipts=dict(self.shop.receipts),
            refusals=dict(self.shop.refusals),
        )

    def _figures(self, books: Books, events: int, flaws: list[Flaw]) -> dict[str, Any]:
        plan = self.plan
        self.seconds["all"] = time.monotonic() - self._began
        doubled = sum(len(order.ways) > 1 for order in self.shop.orders.values())
        sent = {**dict(sorted(self.shop.counts.items())), "orders submitted several times at once": doubled}

        return {
            "seed": plan.seed,
            "database": plan.database,
            "workers": plan.workers,
            **report.money(books),
            "faults": dict(sorted(self.tally.items())),
            "redis_forgot": self.system.forgotten,
            "provider": self.troubles,
            "network": dict(self.system.proxy.seen),
            "submissions": sent,
            "seconds": dict(self.seconds),
            "standstill": self.standstill.longest,
            "workers_ended_by_themselves": self.system.ended,
            "errors_logged": report.errors(self.system.logs()),
            "journal": events,
            "flaws": [str(flaw) for flaw in flaws],
        }

    def _stories(self, flaws: list[Flaw]) -> list[str]:
        """The events of the first refunds that show a flaw."""
        concerned = list(dict.fromkeys(flaw.refund for flaw in flaws if flaw.refund))[:SHOWN_STORIES]
        told = []
        for refund in concerned:
            with self.system.engine.ledger.read() as connection:
                events = journal.story(connection, refund)
            told.append("\n".join([refund, *(f"  {e['at']:.3f} {e['actor']} {e['type']} {e['data']}" for e in events)]))

        return told
