"""The faults. Each is a generator: it breaks something, yields how many seconds to wait, and mends what it broke.

They are played in four lanes side by side (workers, rollout, stores, network), so that a frozen worker may meet a
database that restarts. A lane deals its faults like cards: shuffled, each once before any comes again.
"""

import contextlib
import heapq
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from tests.chaos.proxy import Weather
from tests.chaos.report import last_words
from tests.chaos.system import LEASE, System
from tests.support.processes import LocalProcess
from tests.support.servers import PostgresServer
from tests.support.stack import ROOT

Waits = Generator[float, None, None]
Act = Callable[[System, random.Random, Counter[str]], Waits]

GRACE = 30.0
LOOK = 0.1


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: in which lane it is played, and on which databases there is such a thing."""

    lane: str
    act: Act
    databases: tuple[str, ...] = ("postgresql", "sqlite")


def until(condition: Callable[[], Any], seconds: float) -> Waits:
    """Wait until the condition holds, so long at most."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        yield LOOK


# -- workers ----------------------------------------------------------------------------------------------------------


def _one_of(system: System, chance: random.Random) -> Generator[float, None, LocalProcess]:
    """A worker; the only one there is may be on its way out just now."""
    while not system.workers:
        yield LOOK

    return chance.choice(system.workers)


def worker_kill(system: System, chance: random.Random, _tally: Counter[str]) -> Waits:
    """SIGKILL to a worker with its pool and companion; another one starts a moment later."""
    worker = yield from _one_of(system, chance)
    system.discard(worker)
    yield chance.uniform(0.2, 3.0)
    system.start_worker()


def process_kill(system: System, chance: random.Random, _tally: Counter[str]) -> Waits:
    """SIGKILL to one process of a worker, as the kernel does when memory runs out: of its pool, or its companion."""
    worker = yield from _one_of(system, chance)
    choice = chance.random()
    parts = system.parts(worker)
    if parts:
        with contextlib.suppress(psutil.NoSuchProcess):
            parts[int(choice * len(parts))].kill()
    yield 0.5


def worker_freeze(system: System, chance: random.Random, tally: Counter[str]) -> Waits:
    """SIGSTOP to a whole worker, every second time until its leases have run out, then SIGCONT."""
    worker = yield from _one_of(system, chance)
    beyond = chance.random() < 0.5
    seconds = chance.uniform(LEASE + 0.5, LEASE + 4.0) if beyond else chance.uniform(0.3, LEASE / 2)
    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
        worker.pause()
        tally["worker-freeze, past the lease"] += beyond
        yield seconds
        worker.resume()


def rolling_restart(system: System, _chance: random.Random, tally: Counter[str]) -> Waits:
    """The schema brought up to date while all of them write, then the workers one by one: ended, replaced, waited for.

    The first time they are of the release before, and what replaces them of this one. Later the upgrade finds nothing
    to do, and must do no harm.
    """
    yield from _upgrade(system, tally)
    tally["rolling-restart, to this release"] += system.root != ROOT
    system.root = ROOT
    for worker in list(system.workers):
        if worker not in system.workers:
            continue
        system.release(worker)
        worker.kill(signal.SIGTERM)
        yield from until(lambda old=worker: old.status == "exited", GRACE)
        tally["rolling-restart, out of grace"] += worker.status == "running"
        system.discard(worker)
        fresh = system.start_worker()
        yield from until(lambda new=fresh: new not in system.workers or b"ready." in new.logs(), GRACE)


def _upgrade(system: System, tally: Counter[str]) -> Waits:
    """`refundry db upgrade` until it succeeds; another lane may just have taken the database away."""
    for _ in range(20):
        process = system.upgrade()
        yield from until(lambda run=process: run.status == "exited", GRACE)
        code = process.returncode
        system.discard(process)
        if code == 0:
            tally["db upgrade while workers run"] += 1
            return
        yield 1.0
    raise AssertionError(f"`refundry db upgrade` does not succeed: {process.tail()}")


# -- stores -----------------------------------------------------------------------------------------------------------


def redis_kill(system: System, chance: random.Random, _tally: Counter[str]) -> Waits:
    """SIGKILL to Redis; it comes back with what it had acknowledged."""
    system.redis.kill()
    yield chance.uniform(0.2, 3.0)
    system.redis.start()


def redis_empty(system: System, chance: random.Random, _tally: Counter[str]) -> Waits:
    """SIGKILL to Redis; it comes back empty."""
    system.redis.kill()
    yield chance.uniform(0.2, 3.0)
    system.redis.forget()
    system.redis.start()
    system.forgotten += 1


def redis_flush(system: System, _chance: random.Random, _tally: Counter[str]) -> Waits:
    """FLUSHALL."""
    with system.redis.client() as client:
        client.flushall()
    system.forgotten += 1
    yield 0.0


def redis_evict(system: System, chance: random.Random, tally: Counter[str]) -> Waits:
    """Hardly any memory and a policy that throws out any key, for a moment."""
    with system.redis.client() as client:
        before = client.info("stats")["evicted_keys"]
        client.config_set("maxmemory-policy", "allkeys-random")
        client.config_set("maxmemory", "1mb")
        yield chance.uniform(0.5, 3.0)
        client.config_set("maxmemory", "0")
        client.config_set("maxmemory-policy", "noeviction")
        tally["redis-evict, keys evicted"] += client.info("stats")["evicted_keys"] - before
    system.forgotten += 1


def database_fast(system: System, chance: random.Random, _tally: Counter[str]) -> Waits:
    """PostgreSQL restarts: clients are disconnected, transactions undone."""
    yield from _restart(system, chance, signal.SIGINT)


def database_immediate(system: System, chance: random.Random, _tally: Counter[str]) -> Waits:
    """PostgreSQL stops as in a crash and recovers from its log."""
    yield from _restart(system, chance, signal.SIGQUIT)


def _restart(system: System, chance: random.Random, how: signal.Signals) -> Waits:
    server = _postgres(system)
    server.process.kill(how)
    yield from until(lambda: server.process.status == "exited", GRACE)
    yield chance.uniform(0.1, 2.0)
    server.process.start()
    yield from until(server._answers, GRACE)


def database_drop(system: System, chance: random.Random, tally: Counter[str]) -> Waits:
    """Some or all connections of the database are ended by the server, several times in a row."""
    for _ in range(chance.randint(1, 4)):
        share = chance.choice((0.3, 1.0))
        with _postgres(system).databases.connect() as connection:
            ended = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname LIKE 'test_%%' AND pid <> pg_backend_pid() AND random() < %s",
                [share],
            ).fetchone()
        tally["database-drop, connections"] += ended[0] if ended else 0
        yield chance.uniform(0.1, 1.0)


def disk_full(system: System, chance: random.Random, _tally: Counter[str]) -> Waits:
    """No byte left on the disk of SQLite."""
    assert system.disk is not None
    system.disk.fill()
    yield chance.uniform(0.5, 5.0)
    system.disk.empty()


def _postgres(system: System) -> PostgresServer:
    assert system.postgres is not None

    return system.postgres


# -- network ----------------------------------------------------------------------------------------------------------


def network_cut(system: System, chance: random.Random, _tally: Counter[str]) -> Waits:
    """Nobody gets through to the provider: refused, or swallowed without a word."""
    system.proxy.turn(chance.choice((Weather.REFUSE, Weather.SWALLOW)))
    yield chance.uniform(0.5, 6.0)
    system.proxy.turn(Weather.FINE)


def network_slow(system: System, chance: random.Random, _tally: Counter[str]) -> Waits:
    """Bytes take their time: a little, or longer than the worker waits, so that requests arrive given up on."""
    late = chance.random() < 0.4
    system.proxy.turn(Weather.SLOW, delay=chance.uniform(1.5, 2.8) if late else chance.uniform(0.05, 0.5))
    yield chance.uniform(2.0, 6.0)
    system.proxy.turn(Weather.FINE)


def network_reset(system: System, chance: random.Random, _tally: Counter[str]) -> Waits:
    """Connections are reset in the middle of requests and answers."""
    system.proxy.turn(Weather.RESET, probability=chance.uniform(0.1, 0.6))
    yield chance.uniform(1.0, 6.0)
    system.proxy.turn(Weather.FINE)


# -- the provider itself ----------------------------------------------------------------------------------------------


def provider_troubles(_system: System, _chance: random.Random, _tally: Counter[str]) -> Waits:
    """See `PROVIDER`: in force all the time, so there is nothing to play."""
    yield 0.0


def _trouble(fault: str, probability: float, **more: Any) -> dict[str, Any]:
    return {"fault": fault, "probability": probability, **more}


#: The sandbox's own faults while the load lasts: before and after the money moved, refusals, and slow answers.
PROVIDER = [
    _trouble("answer_lost", 0.05),
    _trouble("request_lost", 0.03),
    _trouble("error_500_before", 0.03),
    _trouble("error_500_after", 0.04),
    _trouble("throttled", 0.03),
    _trouble("html", 0.01),
    _trouble("truncated", 0.01),
    _trouble("hang", 0.005, seconds=4),
    _trouble("decline", 0.01),
    _trouble("slow", 0.06, seconds=1.0),
    *(
        _trouble(fault, probability, call=call)
        for call in ("status", "lookup")
        for fault, probability in (("answer_lost", 0.04), ("error_500_before", 0.04), ("throttled", 0.02))
    ),
]

POSTGRESQL = ("postgresql",)
KINDS: dict[str, Kind] = {
    "worker-kill": Kind("workers", worker_kill),
    "process-kill": Kind("workers", process_kill),
    "worker-freeze": Kind("workers", worker_freeze),
    "rolling-restart": Kind("rollout", rolling_restart),
    "redis-kill": Kind("stores", redis_kill),
    "redis-empty": Kind("stores", redis_empty),
    "redis-flush": Kind("stores", redis_flush),
    "redis-evict": Kind("stores", redis_evict),
    "database-fast": Kind("stores", database_fast, POSTGRESQL),
    "database-immediate": Kind("stores", database_immediate, POSTGRESQL),
    "database-drop": Kind("stores", database_drop, POSTGRESQL),
    "disk-full": Kind("stores", disk_full, ("sqlite",)),
    "network-cut": Kind("network", network_cut),
    "network-slow": Kind("network", network_slow),
    "network-reset": Kind("network", network_reset),
    "provider": Kind("provider", provider_troubles),
}
#: Seconds of peace between two faults of a lane.
PAUSES = {"workers": (1.0, 5.0), "rollout": (3.0, 20.0), "stores": (1.5, 6.0), "network": (3.0, 10.0)}


def available(database: str, only: Collection[str], without: Collection[str]) -> list[str]:
    """The kinds of a run."""
    return [
        name
        for name, kind in KINDS.items()
        if database in kind.databases and (not only or name in only) and name not in without
    ]


def lanes(
    system: System,
    names: Collection[str],
    *,
    seed: int,
    ends: float,
    tally: Counter[str],
    note: Callable[[str], None],
) -> list[Waits]:
    """The lanes that have anything to play, until the monotonic time `ends`.

    `tally` counts what was played; `note` hears of each fault as it begins and as it is mended.
    """
    by_lane: dict[str, list[str]] = {lane: [] for lane in PAUSES}
    for name in names:
        if KINDS[name].lane in by_lane:
            by_lane[KINDS[name].lane].append(name)

    return [
        _lane(system, cards, random.Random(f"{seed}:{lane}"), PAUSES[lane], ends=ends, tally=tally, note=note)
        for lane, cards in by_lane.items()
        if cards
    ]


def _lane(
    system: System,
    cards: list[str],
    chance: random.Random,
    pause: tuple[float, float],
    *,
    ends: float,
    tally: Counter[str],
    note: Callable[[str], None],
) -> Waits:
    for name in _dealt(cards, chance):
        wait = chance.uniform(*pause)
        if time.monotonic() + wait >= ends:
            return
        yield wait
        tally[name] += 1
        note(name)
        yield from KINDS[name].act(system, chance, tally)
        note(f"{name} is over")


def _dealt(cards: list[str], chance: random.Random) -> Iterator[str]:
    while True:
        yield from chance.sample(cards, len(cards))


def play(parts: Iterable[Waits]) -> None:
    """Go on with each part when its wait is over, until all have ended.

    On one thread, the one that started the processes: they are made to die with it.
    """
    waiting = [(time.monotonic(), number, part) for number, part in enumerate(parts)]
    while waiting:
        at, number, part = heapq.heappop(waiting)
        time.sleep(max(0.0, at - time.monotonic()))
        with contextlib.suppress(StopIteration):
            wait = next(part)
            heapq.heappush(waiting, (time.monotonic() + wait, number, part))


def watch(system: System, wanted: Callable[[], bool], tally: Counter[str]) -> Waits:
    """Replace workers that ended by themselves, as whatever runs them in production would, and count them."""
    while wanted():
        for worker in list(system.workers):
            if worker.status == "exited":
                tally["worker ended by itself"] += 1
                system.ended.append(f"{worker.name}, exit status {worker.returncode}: {last_words(worker.logs())}")
                _replace(system, worker)
        yield 1.0


def _replace(system: System, worker: LocalProcess) -> None:
    system.discard(worker)
    system.start_worker()
