"""One simulated installation: machines, their processes, doorbells, beats, people, and what goes wrong with them."""

import asyncio
import contextvars
import hashlib
import random
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import httpx
import redis

from domain.errors import RefundError
from domain.refund import Refund
from engine import look, notifications
from engine.account import Account
from engine.bootstrap import Engine, bootstrap
from engine.pump import Pump
from engine.writer import PATIENCE, Result, write
from ledger.refunds import Change
from ledger.session import AWAY
from sandbox.accounts import credentials
from sandbox.core import Received
from sandbox.faults import Fault, FaultPlan, Kind, Rule
from signals.bell import Bell
from signals.limits import Admission, Breaker, Limit, Limits
from tests.simulation.database import SLOTS, Database, SimLedger, away, database
from tests.simulation.faults import PROVIDER, Faults
from tests.simulation.judge import FINAL, Judge, Violation
from tests.simulation.loop import OWNER, VirtualLoop
from tests.simulation.wire import ORIGIN, SimNetwork, provider
from tests.support.settings import make_settings

START = 1_800_000_000.0
ACCOUNTS = ("smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart2pay_card", "smart_glocal")
CURRENCIES = {"smartpay": ("JPY",), "smartretry": ("EUR", "JPY"), "smart_glocal": ("EUR",)}
HOUR = 3600.0
CONSOLE, BEATS = SLOTS - 1, (SLOTS - 3, SLOTS - 2)


class Killed(asyncio.CancelledError):
    """The process is gone; whatever it was doing stops here."""


@dataclass(frozen=True)
class Parameters:
    """The size and the settings of a run."""

    workers: int
    beats: int
    accounts: tuple[str, ...]
    payments: int
    refunds: int
    window: float
    attempts: int
    backoff: tuple[float, float]
    poll_horizon: float
    recovery_horizon: float
    pending: float
    generous: bool


def draw(chance: random.Random) -> Parameters:
    """What one seed asks for."""
    accounts = tuple(sorted(chance.sample(ACCOUNTS, chance.choice((1, 1, 2)))))

    return Parameters(
        workers=chance.choice((1, 2, 3)),
        beats=chance.choice((1, 1, 2)),
        accounts=accounts,
        payments=chance.choice((1, 1, 2)),
        refunds=chance.choice((1, 2, 3, 4)),
        window=chance.choice((120.0, 900.0, 900.0, 4 * HOUR, 40 * HOUR)),
        attempts=chance.choice((3, 8, 50)),
        backoff=chance.choice(((1.0, 30.0), (1.0, 900.0), (10.0, 3600.0))),
        poll_horizon=chance.choice((HOUR, 8 * HOUR)),
        recovery_horizon=chance.choice((2 * HOUR, 30 * HOUR)),
        pending=chance.choice((0.0, 0.5, 20.0, 600.0)),
        generous=chance.random() < 0.5,
    )


_ENGINE: list[Engine] = []


def production_engine() -> Engine:
    """The engine as `bootstrap` builds it, all accounts at the sandbox. Keys and adapters are made once."""
    if not _ENGINE:
        given = credentials(ORIGIN)
        accounts = {
            name: {"provider": "smart2pay" if name == "smart2pay_card" else name, "allow_http": True, **given[name]}
            for name in ACCOUNTS
        }
        settings = make_settings(
            database={"url": "sqlite:///unused.db"},
            accounts=accounts,
            redis={"url": None},
            approvals={"threshold": {"EUR": 900}, "expires": 1800},
        )
        _ENGINE.append(bootstrap(settings))

    return _ENGINE[0]


class SimRedis:
    """What the doorbells need of Redis, with Redis' own clock."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._keys: dict[str, float] = {}

    def set(self, key: str, _value: bytes, *, px: int, nx: bool = False) -> bool:
        """SET, NX, PX."""
        self._reach()
        now = self._world.loop.time()
        if nx and self._keys.get(key, -1.0) > now:
            return False
        self._keys[key] = now + px / 1000

        return True

    def delete(self, key: str) -> None:
        """DEL."""
        self._reach()
        self._keys.pop(key, None)

    def forget(self) -> None:
        """It lost its data."""
        self._keys.clear()

    def _reach(self) -> None:
        if self._world.redis_gone:
            raise redis.ConnectionError("gone")


class SimLimits(Limits):
    """The shared limits while Redis is there, each process's own when it is gone."""

    def __init__(self, world: "World", worker: str, shared: Limits) -> None:
        super().__init__(None, worker, monotonic=world.loop.time)
        self._world = world
        self._shared = shared

    def admit(
        self, account: str, limit: Limit, *, in_flight: int, want: int, unused: int = 0, lane: str = "send"
    ) -> Admission:
        """See `Limits`."""
        admit = super().admit if self._world.redis_gone else self._shared.admit

        return admit(account, limit, in_flight=in_flight, want=want, unused=unused, lane=lane)

    def rest(self, account: str, limit: Limit, seconds: float) -> None:
        """See `Limits`."""
        rest = super().rest if self._world.redis_gone else self._shared.rest

        rest(account, limit, seconds)

    def report(self, account: str, limit: Limit, *, good: int, bad: int) -> Breaker:
        """See `Limits`."""
        report = super().report if self._world.redis_gone else self._shared.report

        return report(account, limit, good=good, bad=bad)


class SimWriter:
    """Group commits as `GroupWriter` makes them, on the virtual clock: gathered, retried while the ledger is away."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._queue: list[tuple[Change, asyncio.Future[Refund | None]]] = []
        self._task: asyncio.Task[None] | None = None

    def execute(self, change: Change) -> "asyncio.Future[Refund | None]":
        """See `Writer`."""
        self._process.living()
        future: asyncio.Future[Refund | None] = asyncio.get_running_loop().create_future()
        self._queue.append((change, future))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

        return future

    async def _work(self) -> None:
        await asyncio.sleep(0.002)
        while self._queue:
            # What comes while the last commit runs is written together.
            await self._process.slow_database()
            batch, self._queue = self._queue, []
            results = await self._patiently([change for change, _ in batch])
            await self._process.at("written", share=1.0)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    async def _patiently(self, changes: list[Change]) -> list[Result]:
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        while True:
            try:
                return write(self._process.engine.ledger, changes)
            except AWAY as error:
                if loop.time() >= until:
                    return [error] * len(changes)
                await asyncio.sleep(0.2)
            except Exception as error:  # noqa: BLE001 - as the production writer does
                if len(changes) == 1:
                    return [error]
                return [result for change in changes for result in await self._patiently([change])]


class Process:
    """A worker, a beat or the console: its memory, its clock, its tasks. Dying loses all of them."""

    def __init__(self, world: "World", name: str, slot: int, *, mortal: bool = True) -> None:
        self.world = world
        self.name = name
        self.slot = slot
        self.mortal = mortal
        self.alive = True
        self.frozen_until = 0.0
        self.skew = world.skews.get(slot, 0.0)
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.pumps: dict[tuple[str, str], Pump] = {}
        self.writer = SimWriter(self)
        self.engine = replace(
            world.base,
            ledger=SimLedger(world.database.ledger(slot), self),
            clock=self.clock,
            ring=self.ring,
            worker=name,
        )
        self.engine.__dict__["limits"] = SimLimits(world, name, world.shared_limits)
        self.engine.__dict__["bell"] = Bell(world.redis, monotonic=world.loop.time)  # type: ignore[arg-type]
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self)

    def clock(self) -> float:
        """This machine's idea of the time."""
        return START + self.world.loop.time() + self.skew

    def start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run something in this process."""
        task = self.world.loop.create_task(self._guarded(work), context=self._context)
        task.add_done_callback(lambda _: work.close())

        return task

    async def _guarded(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            if self.alive:
                raise
        except Violation as violation:
            self.world.fail(violation)
        except RefundError as refused:
            self.world.trace(self.name, f"refused {refused}"[:80])
        except (*AWAY, redis.RedisError) as error:
            self.world.trace(self.name, f"away {type(error).__name__}")
        except Exception as error:  # noqa: BLE001 - whatever the product raises is a finding
            self.world.unexpected(self.name, error)

    def living(self) -> None:
        """A dead process does nothing more, and nobody does once the run is over."""
        if not self.alive or self.world.over:
            raise Killed

    def crash_point(self, where: str) -> None:
        """Here it may die."""
        self.living()
        if self.mortal and self.world.dies_here(where):
            self.world.crash(self, where)
            raise Killed

    async def at(self, where: str, *, short: bool = False, share: float = 0.3) -> None:
        """A point at which it may die, or be stopped for a while."""
        self.crash_point(where)
        if self.mortal and self.world.faults.strikes("freeze", share):
            seconds = self.world.faults.stream("freeze").choice(
                (5.0, 100.0, 400.0) if short else (5.0, 100.0, 9000.0, 30_000.0)
            )
            self.world.trace(self.name, f"frozen {seconds} at {where}")
            self.frozen_until = max(self.frozen_until, self.world.loop.time() + seconds)
        await self._thawed()
        self.living()

    async def _thawed(self) -> None:
        """Once it runs again; it may be stopped once more meanwhile."""
        left = self.frozen_until - self.world.loop.time()
        if left > 0:
            await asyncio.sleep(left)
            await self._thawed()

    async def slow_database(self) -> None:
        """The database takes its time."""
        faults = self.world.faults
        if faults.strikes("db_slow"):
            await asyncio.sleep(faults.stream("db_slow").choice((0.5, 5.0, 100.0, 400.0)))
        self.living()

    async def blocking(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """In the place of a thread."""
        await self.slow_database()
        result = work(*arguments, **named)
        await self.at("answered")

        return result

    # The gate around transactions

    def reading(self) -> None:
        """See `Gate`."""
        self.living()
        if self.world.faults.strikes("db_before", 0.3):
            raise away("could not connect")

    def before_commit(self) -> None:
        """See `Gate`."""
        self.crash_point("before commit")
        if self.world.faults.strikes("db_before"):
            raise away("could not connect")

    def after_commit(self) -> None:
        """See `Gate`."""
        self.world.committed(self)
        self.crash_point("after commit")
        if self.world.faults.strikes("db_after"):
            raise away("server closed the connection unexpectedly")

    # Doorbells

    def ring(self, lane: str, account: str) -> None:
        """As `tasks.bells.ring`: debounced in Redis, quiet when Redis is gone."""
        self.living()
        try:
            if self.engine.bell is not None and self.engine.bell.taken(lane, account):
                self.world.post(lane, account)
        except redis.RedisError:
            return

    async def turn(self, lane: str, account: str) -> None:
        """As `tasks.runtime.Runtime.turn`."""
        more = await (self._hear(account) if lane == notifications.LANE else self._work(lane, account))
        if more:
            if self.engine.bell is not None:
                self.engine.bell.free(lane, account)
            self.ring(lane, account)

    async def _hear(self, account: str) -> bool:
        return await look.process(self.engine, self.engine.accounts[account], self._network(account), self.blocking)

    async def _work(self, lane: str, account: str) -> bool:
        pump = self.pumps.get((lane, account))
        if pump is None:
            pump = self.pumps[lane, account] = self._pump(lane, account)

        return await pump.turn()

    def _network(self, account: str) -> SimNetwork:
        configured = self.engine.accounts[account]

        return SimNetwork(self.world, self, account, configured.connect_timeout + configured.read_timeout)

    def _pump(self, lane: str, account: str) -> Pump:

        return Pump(
            lane,
            self.engine.accounts[account],
            self.engine,
            network=self._network(account),
            writer=self.writer,
            run_blocking=self.blocking,
            monotonic=self.world.loop.time,
            jitter=self.world.jitter,
        )

    async def stop(self) -> None:
        """An orderly shutdown: a deployment is not an attempt."""
        await asyncio.gather(*(pump.stop(100.0) for pump in self.pumps.values()))


class Arrivals(deque[Received]):
    """The sandbox's record of requests, read as it is written."""

    def __init__(self, tell: Callable[[Received], None]) -> None:
        super().__init__(maxlen=1000)
        self._tell = tell

    def append(self, record: Received) -> None:
        super().append(record)
        self._tell(record)


@dataclass
class World:
    """Everything of one run."""

    loop: VirtualLoop
    faults: Faults
    parameters: Parameters
    mode: str
    crash_at: int | None = None
    lines: list[tuple[float, str, str]] = field(default_factory=list)
    failures: list[Violation] = field(default_factory=list)
    flying: "Counter[str]" = field(default_factory=Counter)
    skews: dict[int, float] = field(default_factory=dict)
    points: int = 0
    deaths: int = 0
    redis_gone: bool = False

    def __post_init__(self) -> None:
        self.database: Database = database()
        self.database.clear()
        chance = self.faults.stream("sandbox")
        self.provider = provider()
        self.sandbox = self.provider.world
        self.sandbox.clear()
        self.sandbox.requests = Arrivals(self.arrived)
        self.sandbox.clock = lambda: START + self.loop.time()
        self.sandbox.ids = random.Random(chance.random())
        self.sandbox._numbers = count(10**7 + chance.randrange(10**6))
        self.sandbox.pending_seconds = self.parameters.pending
        self.sandbox.plan = self._provider_faults()
        self.captured: dict[tuple[str, str], int] = {}
        truthful = "wrong_amount" not in self.faults.rates
        self.judge = Judge(self.database, self.sandbox, self.captured, truthful=truthful)
        self.redis = SimRedis(self)
        self.shared_limits = Limits(None, "shared", share=1, monotonic=self.loop.time)
        self.jitter = self.faults.stream("jitter").random
        self.base = replace(production_engine(), accounts=self._accounts())
        self.workers: dict[int, Process] = {}
        self.outages: dict[str, float] = {}
        self.jobs: list[dict[str, Any]] = []
        self.telling: Callable[[], int] = lambda: 0
        self.over = False
        self._incarnations = count(1)
        self._wakers: dict[asyncio.Future[None], None] = {}
        self.changes = 0
        self._nowhere = contextvars.copy_context()
        self._nowhere.run(OWNER.set, None)
        self._kept: set[asyncio.Task[Any]] = set()

    # -- what was drawn ----------------------------------------------------------------------------------------------

    def _accounts(self) -> dict[str, Account]:
        given = self.parameters
        base, cap = given.backoff
        made = {}
        for name in given.accounts:
            account = production_engine().accounts[name]
            policy = replace(
                account.policy,
                max_attempts=given.attempts,
                backoff_base=base,
                backoff_cap=cap,
                poll_horizon=given.poll_horizon,
                recovery_horizon=given.recovery_horizon,
            )
            made[name] = replace(account, policy=policy)

        return made

    def _provider_faults(self) -> FaultPlan:
        rules = []
        for name in PROVIDER:
            rate = self.faults.rates.get(name)
            if rate is None:
                continue
            seconds = {"hang": 300.0, "late_flip": 60.0}.get(name)
            kinds = (Kind.REFUND,) if name in ("decline", "stuck", "late_flip") else tuple(Kind)
            rules += [Rule(Fault(name), call=kind, probability=rate, seconds=seconds) for kind in kinds]

        return FaultPlan(rules, seed=self.faults.seed)

    # -- the record --------------------------------------------------------------------------------------------------

    def trace(self, who: str, what: str) -> None:
        """One line of what happened."""
        self.lines.append((self.loop.time(), who, what))

    def fail(self, violation: Violation) -> None:
        """The run is over: an invariant is broken."""
        self.trace("judge", str(violation))
        self.failures.append(violation)
        self.over = True
        self.wake()

    def unexpected(self, who: str, error: BaseException) -> None:
        """The product raised what it should not."""
        self.fail(Violation("unexpected", f"{who}: {type(error).__name__}: {error}"[:400]))

    def logged(self, event: str, error: BaseException | None, refund: str | None) -> None:
        """An exception that the product caught and logged."""
        if isinstance(error, (*AWAY, redis.RedisError)) or error is None:
            return
        if isinstance(error, Violation):
            self.fail(error)
        else:
            self.fail(Violation("unexpected", f"{event}: {type(error).__name__}: {error}"[:400], refund))

    def committed(self, process: Process) -> None:
        """After every commit."""
        try:
            changed = self.judge.step()
        except Violation as violation:
            self.fail(violation)
            return
        if changed:
            self.changes += 1
            self.trace(process.name, "commit")
            self.wake()

    # -- processes ---------------------------------------------------------------------------------------------------

    def dies_here(self, where: str) -> bool:
        """Whether the process that is here dies."""
        self.points += 1
        if self.crash_at is not None:
            return self.points == self.crash_at

        return self.faults.strikes("crash", 0.3)

    def crash(self, process: Process, where: str) -> None:
        """It loses its tasks and its memory; another one takes its place after a while."""
        self.trace(process.name, f"crashes at {where}")
        self.deaths += 1
        self.end(process)
        if process.slot in self.workers:
            delay = self.faults.stream("crash").choice((0.5, 5.0, 200.0))
            self.loop.call_later(delay, self.begin, process.slot)

    def end(self, process: Process) -> None:
        """Its tasks stop where they are."""
        process.alive = False
        current = asyncio.current_task(self.loop)
        for task in list(process.tasks):
            if task is not current:
                task.cancel()

    def begin(self, slot: int) -> None:
        """A new process on a machine."""
        if self.over:
            return
        self.workers[slot] = Process(self, f"w{slot}.{next(self._incarnations)}", slot)
        self.wake()

    def background(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """What goes on whoever dies."""
        task = self.loop.create_task(work, context=self._nowhere)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

        return task

    def post(self, lane: str, account: str) -> None:
        """A doorbell on its way through the broker."""
        faults = self.faults
        if faults.strikes("bell_lost"):
            return
        times = 2 if faults.strikes("bell_doubled") else 1
        for _ in range(times):
            late = faults.strikes("bell_late")
            delay = faults.stream("bell_late").random() * 60 if late else 0.001
            self.loop.call_later(delay, self._heard, lane, account)

    def _heard(self, lane: str, account: str) -> None:
        living = [each for each in self.workers.values() if each.alive and each.frozen_until <= self.loop.time()]
        if living and not self.over:
            process = self.faults.stream("bells").choice(living)
            process.start(process.turn(lane, account))

    # -- the provider ------------------------------------------------------------------------------------------------

    def outage(self, account: str) -> bool:
        """Whether the provider is down."""
        return self.outages.get(account, 0.0) > self.loop.time()

    async def execute(self, account: str, request: httpx.Request, gone: asyncio.Event) -> httpx.Response | None:
        """The request reaches the provider."""
        response = await self.provider.call(request, gone)
        status = "cut" if response is None else response.status_code
        self.trace(account, f"{request.method} {request.url.path} {_digest(request.content)} -> {status}")

        return response

    def arrived(self, record: Received) -> None:
        """The sandbox has noted a request."""
        payment = self.sandbox.payment(record.provider, record.payment)
        if record.call != "refund" or payment is None:
            return
        try:
            self.judge.arrived(payment.account, record.handle, record.sha256, record.path)
        except Violation as violation:
            self.fail(violation)

    def next_due(self) -> float | None:
        """When the ledger next asks for work."""
        asked = "SELECT MIN(due_at) FROM {} WHERE due_at IS NOT NULL"
        found = [self.database.rows(asked.format(table))[0][0] for table in ("refund", "notification")]

        return min((each for each in found if each is not None), default=None)

    def asleep(self) -> bool:
        """Whether a process is stopped that has something in hand."""
        now = self.loop.time()

        return any(each.alive and each.tasks and each.frozen_until > now for each in self.workers.values())

    def at_rest(self) -> bool:
        """Whether every refund is final and nothing is under way: nobody will ever do anything again."""
        told = self.database.rows("SELECT count(*) FROM notification WHERE due_at IS NOT NULL")[0][0]
        quiet = not any(self.flying.values()) and self.sandbox.next_due() is None and not told and not self.telling()
        known = self.judge.refunds.values()

        return quiet and not self.asleep() and bool(known) and all(each.state in FINAL for each in known)

    # -- waking ------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something has changed: whoever waits looks again."""
        wakers, self._wakers = self._wakers, {}
        for future in wakers:
            if not future.done():
                future.set_result(None)

    async def change(self, patience: float) -> None:
        """Until something changes, or so many seconds."""
        future = self.loop.create_future()
        self._wakers[future] = None
        await asyncio.wait({future}, timeout=patience)
        self._wakers.pop(future, None)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12] if content else "-"
