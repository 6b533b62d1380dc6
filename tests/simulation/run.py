"""One run from one seed: its faults, its end, its verdict."""

import asyncio
import hashlib
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from ledger import journal
from tests.simulation.actors import Chaos, People, Shop, beat, prepare
from tests.simulation.database import database
from tests.simulation.faults import Faults
from tests.simulation.judge import FINAL, Violation, story
from tests.simulation.loop import Stuck, VirtualLoop, run_virtually, seeded
from tests.simulation.told import Teller
from tests.simulation.world import BEATS, HOUR, Parameters, World, draw

MODES = ("safety", "liveness")
STILL = FINAL | {"review"}


@dataclass(frozen=True)
class Result:
    """What became of a seed."""

    seed: int
    mode: str
    violation: Violation | None
    digest: str
    seconds: float
    virtual: float
    points: int
    steps: int
    states: dict[str, int]
    kinds: tuple[str, ...]
    rates: dict[str, float]
    hits: dict[str, int]
    parameters: Parameters
    lines: list[tuple[float, str, str]]
    events: list[Any]


def mode_of(seed: int) -> str:
    """Every third seed keeps its faults to the end."""
    return "safety" if seed % 3 == 0 else "liveness"


def simulate(
    seed: int,
    mode: str | None = None,
    *,
    without: Collection[str] = (),
    only: Collection[str] | None = None,
    rates: Mapping[str, float] | None = None,
    crash_at: int | None = None,
    parameters: Parameters | None = None,
) -> Result:
    """Run one seed. The same arguments give the same run, to the last byte."""
    began = time.perf_counter()
    faults = Faults(seed, without=without, only=only, given=rates)
    mode = mode or mode_of(seed)
    worlds: list[World] = []

    async def main(loop: VirtualLoop) -> None:
        given = parameters or draw(faults.stream("size"))
        world = World(loop, faults, given, mode, crash_at=crash_at)
        worlds.append(world)
        await _live(world)

    with seeded(faults.stream("entropy")), heard(worlds):
        try:
            run_virtually(main)
        except Stuck as stuck:
            worlds[0].failures.append(Violation("unexpected", f"the loop is stuck: {stuck}"))
    world = worlds[0]
    violation = world.failures[0] if world.failures else None
    digest = _digest(world)

    return Result(
        seed=seed,
        mode=mode,
        violation=violation,
        digest=digest,
        seconds=time.perf_counter() - began,
        virtual=world.loop.time(),
        points=world.points,
        steps=world.judge.steps,
        states=_states(),
        kinds=tuple(faults.rates),
        rates=dict(faults.rates),
        hits=faults.hits,
        parameters=world.parameters,
        lines=world.lines,
        events=story(world.database, violation.refund) if violation else [],
    )


async def _live(world: World) -> None:
    await prepare(world)
    for slot in range(world.parameters.workers):
        world.begin(slot)
    shop, people, chaos = Shop(world), People(world), Chaos(world)
    selling = world.background(shop.run())
    for slot in BEATS[: world.parameters.beats]:
        world.background(beat(world, slot))
    people.start()
    chaos.start()
    teller = Teller(world)
    world.telling = lambda: teller.under_way
    teller.start()
    await _until(world, world.parameters.window, selling)
    if world.mode == "liveness":
        await _calm(world, people)
        await _settled(world, selling)
    world.over = True
    if not world.failures:
        _last(world)


async def _until(world: World, when: float, selling: "asyncio.Task[Any]") -> None:
    while world.loop.time() < when and not world.over:
        if selling.done() and world.at_rest():
            return
        await world.change(min(60.0, when - world.loop.time()))


async def _calm(world: World, people: People) -> None:
    """The faults stop: machines are back, clocks right, accounts on."""
    world.faults.active = False
    world.sandbox.plan.rules.clear()
    world.redis_gone = False
    world.outages.clear()
    world.skews.clear()
    for process in world.workers.values():
        process.skew = 0.0
    for account in world.parameters.accounts:
        await people.resume(account)


async def _settled(world: World, selling: "asyncio.Task[Any]") -> None:
    """Within bounded time everything is final, or in front of a person."""
    given = world.parameters
    until = world.loop.time() + given.poll_horizon + 2 * given.recovery_horizon + 30 * HOUR
    while not world.over:
        left = _unfinished(world)
        if not left and selling.done() and not world.asleep():
            return
        if world.loop.time() > until:
            raise_words = ", ".join(f"{ref} is {state}" for ref, state in left)
            world.fail(Violation("3 liveness", raise_words or "the shop got no answer", left[0][0] if left else None))
            return
        await world.change(60.0)


def _unfinished(world: World) -> list[tuple[str, str]]:
    """What is neither final nor with a person; what waits behind a payment that a person has is with that person."""
    rows = world.database.rows("SELECT id, state, account, payment_ref, holds FROM refund")
    held = {(account, payment) for _, state, account, payment, holds in rows if state == "review" and holds}

    return [
        (ref, state)
        for ref, state, account, payment, _ in rows
        if state not in STILL and not (state == "queued" and (account, payment) in held)
    ]


def _last(world: World) -> None:
    try:
        world.judge.step()
        world.judge.people()
        with world.database.ledger(0).read() as connection:
            _, flaws = journal.verify(connection)
        if flaws:
            raise Violation("10 audit", f"{flaws[0]}", flaws[0].subject)
    except Violation as violation:
        world.fail(violation)


def _states() -> dict[str, int]:
    return dict(database().rows("SELECT state, count(*) FROM refund GROUP BY state"))


def _digest(world: World) -> str:
    told = hashlib.sha256()
    for at, who, what in world.lines:
        told.update(f"{at:.6f} {who} {what}\n".encode())
    for row in world.database.rows("SELECT subject, seq, type, at, actor, data, hash FROM event ORDER BY subject, seq"):
        told.update(repr(row).encode())

    return told.hexdigest()[:16]


@contextmanager
def heard(worlds: list[World]) -> Iterator[None]:
    """The product's log, read for exceptions that it caught."""

    def collect(_logger: Any, method: str, event: Any) -> Any:
        error = event.get("exc_info")
        world = worlds[0]
        if world.over:
            raise structlog.DropEvent
        if method == "exception" or error:
            raised = error if isinstance(error, BaseException) else sys.exc_info()[1]
            world.logged(str(event.get("event")), raised, event.get("refund_id"))
        elif method in ("error", "warning"):
            world.trace("log", f"{event.get('event')} {event.get('refund_id', '')} {event.get('alert', '')}")
        raise structlog.DropEvent

    kept = structlog.get_config()
    structlog.configure(
        processors=[collect], wrapper_class=structlog.make_filtering_bound_logger(30), cache_logger_on_first_use=False
    )
    try:
        yield
    finally:
        structlog.configure(**kept)


def commit() -> str:
    """The code's version, for whoever repeats the run."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)

    return found.stdout.strip() or "unknown"
