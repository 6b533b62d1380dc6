"""Those who act in a run beside the workers: the shop, beats, people, and chaos."""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from engine import operate, review, tick
from engine.assign import assign
from engine.bootstrap import Engine
from engine.bulk_plan import Selection
from engine.people import Actor, Role
from engine.submit import submit
from ledger import approvals
from tests.simulation.judge import FINAL, Violation
from tests.simulation.world import CONSOLE, CURRENCIES, HOUR, Process, World

PEOPLE = (
    Actor("olga", frozenset({Role.OPERATOR, Role.APPROVER})),
    Actor("otto", frozenset({Role.OPERATOR, Role.APPROVER})),
)
EVIDENCE = b"statement of account"
LONGEST = 64.0
#: How often in a run a person with one habit looks at a refund.
PACE = 12


async def prepare(world: World) -> None:
    """Captured payments at the sandbox, and the jobs that refund them."""
    chance = world.faults.stream("jobs")
    given = world.parameters
    for account in given.accounts:
        payments = []
        for _ in range(given.payments):
            currency = chance.choice(CURRENCIES.get(account, ("EUR", "USD")))
            captured = chance.choice((1000, 2500))
            body = {"provider": account, "amount": captured * (3 if given.generous else 1), "currency": currency}
            answer = await world.provider.control("POST", "/payments", body)
            payment = {**answer.json()["payments"][0], "amount": captured}
            payments.append({key: value for key, value in payment.items() if value is not None})
            world.captured[account, str(payment["id"])] = captured
        for _ in range(given.refunds):
            world.jobs.append(_job(world, chance, account, chance.choice(payments)))


def _job(world: World, chance: random.Random, account: str, payment: dict[str, Any]) -> dict[str, Any]:
    captured = payment["amount"]
    amount = chance.choice((captured, captured // 2, captured // 2 + 1, captured // 5))
    job = {
        "reference": f"R-{len(world.jobs) + 1}",
        "account": account,
        "payment": payment,
        "amount": amount,
        "currency": payment["currency"],
    }
    style = chance.random()
    if style < 0.15 and not world.parameters.generous:
        # Only the provider knows what was captured.
        job["payment"] = {key: value for key, value in payment.items() if key != "amount"}
        if style < 0.07 and account != "smart2pay":
            del job["amount"]

    return job


class Shop:
    """Submits each job until somebody has answered for it, sometimes twice."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.faults.stream("shop")
        self.done: set[str] = set()

    async def run(self) -> None:
        """Every job at its time."""
        for job in self._world.jobs:
            await asyncio.sleep(self._chance.random() * self._chance.choice((0.01, 1.0, 20.0)))
            await self._submit(job)
            if self._world.faults.strikes("resubmit"):
                await self._submit(job)

    async def _submit(self, job: dict[str, Any]) -> None:
        via = self._chance.choice(("api", "api", "cli"))
        for number in range(1000):
            process = Process(self._world, f"shop.{job['reference']}.{number}", CONSOLE)
            await asyncio.wait({process.start(self._once(process, job, via))})
            if job["reference"] in self.done:
                return
            await asyncio.sleep(0.5)

    async def _once(self, process: Process, job: dict[str, Any], via: str) -> None:
        receipt = submit(process.engine, msgspec.json.encode(job), actor="shop", via=via)
        self.done.add(job["reference"])
        if receipt.refund is not None:
            self._world.judge.accepted[job["reference"]] = receipt.refund.id
            self._world.trace("shop", f"{job['reference']} is {receipt.refund.id} {job['account']}")
        else:
            self._world.trace("shop", f"{job['reference']} refused: {receipt.problem}")


async def beat(world: World, slot: int) -> None:
    """Beat's second, left out while it would change nothing: nothing due, or nothing that moves when it is rung."""
    wait = 1.0
    kept = world.faults.stream("houses").random() * 600
    while not world.over:
        process = Process(world, f"beat.{slot}", slot)
        before = world.changes
        await asyncio.wait({process.start(_second(process))})
        now = world.loop.time()
        if now >= kept:
            await asyncio.wait({process.start(_houses(process))})
            kept = now + max(600.0, world.parameters.window / 4)
        process.alive = False
        await asyncio.sleep(1.0)
        due = world.next_due()
        away = 600.0 if due is None else min(600.0, due - process.clock())
        if away > 0:
            await world.change(away)
            wait = 1.0
        elif world.changes == before:
            wait = min(wait * 2, LONGEST)
            await world.change(wait)
        else:
            wait = 1.0


async def _second(process: Process) -> None:
    world = process.world
    if not world.faults.on("no_beat"):
        # The sign of life is for workers that miss it; the round is what counts.
        tick.tick(process.engine)
    elif not world.faults.active:
        tick.beat(process.engine)
    elif world.faults.stream("no_beat").random() < 0.5 and tick.beat_is_silent(process.engine):
        tick.tick(process.engine)


async def _houses(process: Process) -> None:
    tick.housekeep(process.engine)


class People:
    """Operators and approvers: honest, hasty, and never one person for two."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._number = 0

    def start(self) -> None:
        """One habit for each kind that is on."""
        world = self._world
        habits: dict[str, Callable[[Process, str, random.Random], None]] = {
            "check": lambda p, r, c: _done(review.check(p.engine, c.choice(PEOPLE), r)),
            "retry": lambda p, r, c: _done(review.retry(p.engine, c.choice(PEOPLE), r, reason="again")),
            "cancel": lambda p, r, c: _done(review.cancel(p.engine, c.choice(PEOPLE), r, reason="not wanted")),
            "note": lambda p, r, c: review.comment(p.engine, c.choice(PEOPLE), r, "looked at it"),
            "assign": lambda p, r, c: _done(assign(p.engine, c.choice(PEOPLE), Selection(ids=(r,)), "otto")),
            "settle": self._settle,
            "new_handle": self._new_handle,
            "same_person": self._same_person,
        }
        for kind, act in habits.items():
            if world.faults.on(kind):
                world.background(self._habit(kind, act))
        world.background(self._habit("decide", self._decide))
        if world.faults.on("pause"):
            world.background(self._switches())
        if world.faults.on("breaker"):
            world.background(self._breakers())

    async def _habit(self, kind: str, act: Callable[[Process, str, random.Random], None]) -> None:
        world = self._world
        chance = world.faults.stream(f"people {kind}")
        while not world.over:
            await asyncio.sleep(chance.expovariate(PACE / world.parameters.window))
            if not world.faults.active and kind != "decide":
                return
            wanted = self._wanted(kind, chance)
            if wanted is not None:
                await self._act(kind, wanted, act, chance)

    def _wanted(self, kind: str, chance: random.Random) -> str | None:
        """Whom a person looks at: mostly what is not final."""
        judge, database = self._world.judge, self._world.database
        if kind in ("decide", "same_person"):
            asked = database.rows("SELECT refund_id FROM approval WHERE status = 'open' ORDER BY id")
            return chance.choice(asked)[0] if asked else None
        known = list(judge.refunds)
        open_ = [ref for ref in known if judge.refunds[ref].state not in FINAL]
        chosen = open_ if open_ and chance.random() < 0.9 else known

        return chance.choice(chosen) if chosen else None

    async def _act(
        self, kind: str, refund: str, act: Callable[[Process, str, random.Random], None], chance: random.Random
    ) -> None:
        self._number += 1
        process = Process(self._world, f"console.{self._number}", CONSOLE)

        async def work() -> None:
            act(process, refund, chance)
            self._world.trace(process.name, f"{kind} {refund}")

        await asyncio.wait({process.start(work())})
        process.alive = False

    def _sure(self, refund: str) -> bool:
        """What the provider's support would say: nothing is under way."""
        judge = self._world.judge
        account = judge.refunds[refund].account

        return not self._world.flying[account] and not judge.open_at_provider(refund)

    def _settle(self, process: Process, refund: str, _chance: random.Random) -> None:
        if not self._sure(refund):
            return
        outcome = "returned" if self._world.judge.paid(refund) else "not_returned"
        review.ask_settle(process.engine, PEOPLE[0], refund, outcome=outcome, reason="by hand", evidence=EVIDENCE)

    def _new_handle(self, process: Process, refund: str, _chance: random.Random) -> None:
        if self._sure(refund) and not self._world.judge.paid(refund):
            review.ask_new_handle(process.engine, PEOPLE[1], refund, reason="mended", evidence=EVIDENCE)

    def _same_person(self, process: Process, refund: str, chance: random.Random) -> None:
        for request in self._open(process, refund):
            asked = next((each for each in PEOPLE if each.name == request.requested_by), None)
            if asked is not None:
                review.approve(process.engine, asked, request.id)
                raise Violation("9 two people", f"{asked.name} approved their own request", refund)
        del chance

    def _open(self, process: Process, refund: str) -> list[approvals.Approval]:
        with process.engine.ledger.read() as connection:
            return approvals.open_for(connection, refund)

    def _decide(self, process: Process, refund: str, chance: random.Random) -> None:
        for request in self._open(process, refund):
            others = [each for each in PEOPLE if each.name != request.requested_by]
            other = chance.choice(others)
            params = msgspec.json.decode(request.params)
            paid = self._world.judge.paid(refund)
            fits = params.get("outcome", "returned" if paid else "not_returned") == (
                "returned" if paid else "not_returned"
            )
            honest = request.kind == "send" or (
                self._sure(refund) and fits and not (request.kind == "new_handle" and paid)
            )
            if honest and chance.random() < 0.8:
                review.approve(process.engine, other, request.id)
            else:
                review.deny(process.engine, other, request.id, reason="no")

    async def _switches(self) -> None:
        world = self._world
        chance = world.faults.stream("people switches")
        while world.faults.active and not world.over:
            await asyncio.sleep(chance.expovariate(4 / world.parameters.window))
            account = chance.choice(world.parameters.accounts)
            await self._switch(partial(_paused, account))
            await asyncio.sleep(chance.choice((10.0, 600.0)))
            await self.resume(account)

    async def _breakers(self) -> None:
        world = self._world
        chance = world.faults.stream("people breaker")
        while world.faults.active and not world.over:
            await asyncio.sleep(chance.expovariate(4 / world.parameters.window))
            position = chance.choice(("open", "open", "closed"))
            await self._switch(partial(_forced, chance.choice(world.parameters.accounts), position))

    async def resume(self, account: str) -> None:
        """Let it send again."""
        await self._switch(lambda engine: operate.resume(engine, PEOPLE[0], account, reason="go on"))

    async def _switch(self, act: Callable[[Any], Any]) -> None:
        self._number += 1
        process = Process(self._world, f"console.{self._number}", CONSOLE)

        async def work() -> None:
            act(process.engine)

        await asyncio.wait({process.start(work())})
        process.alive = False


def _paused(account: str, engine: Engine) -> None:
    operate.pause(engine, PEOPLE[0], account, reason="wait")


def _forced(account: str, position: str, engine: Engine) -> None:
    operate.force_breaker(engine, PEOPLE[0], account, position=position, seconds=300.0, reason="by hand")


def _done(_refund: object) -> None:
    return


class Chaos:
    """What strikes whole machines."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self) -> None:
        """One tormentor for each kind that is on."""
        acts: dict[str, Callable[[random.Random], None]] = {
            "clock": self._clock,
            "redis_gone": self._redis,
            "outage": self._outage,
            "deploy": self._deploy,
            "crash": self._crash,
        }
        for kind, act in acts.items():
            if self._world.faults.on(kind):
                self._world.background(self._torment(kind, act))
        for kind in ("external", "chargeback"):
            if self._world.faults.on(kind):
                self._world.background(self._elsewhere(kind))

    async def _torment(self, kind: str, act: Callable[[random.Random], None]) -> None:
        world = self._world
        chance = world.faults.stream(f"chaos {kind}")
        while True:
            await asyncio.sleep(chance.expovariate(1 / (world.parameters.window / 5)))
            if not world.faults.active or world.over:
                return
            world.trace("chaos", kind)
            act(chance)

    def _clock(self, chance: random.Random) -> None:
        slot = chance.choice([*self._world.workers, CONSOLE])
        skew = chance.choice((-30.0, -3.0, 0.0, 3.0, 30.0))
        self._world.skews[slot] = skew
        if slot in self._world.workers:
            self._world.workers[slot].skew = skew

    def _redis(self, chance: random.Random) -> None:
        world = self._world
        world.redis_gone = True
        world.redis.forget()

        def back() -> None:
            world.redis_gone = False

        world.loop.call_later(chance.choice((5.0, 300.0)), back)

    def _outage(self, chance: random.Random) -> None:
        world = self._world
        account = chance.choice(world.parameters.accounts)
        world.outages[account] = world.loop.time() + chance.choice((30.0, 600.0, 7 * HOUR, 30 * HOUR))

    def _deploy(self, chance: random.Random) -> None:
        world = self._world
        slot = chance.choice(list(world.workers))
        process = world.workers[slot]
        if process.alive:
            world.background(self._replace(process, slot))

    async def _replace(self, process: Process, slot: int) -> None:
        await asyncio.wait({process.start(process.stop())})
        if process.alive:
            self._world.end(process)
            self._world.begin(slot)

    def _crash(self, chance: random.Random) -> None:
        process = self._world.workers[chance.choice(list(self._world.workers))]
        if process.alive:
            self._world.crash(process, "any moment")

    async def _elsewhere(self, kind: str) -> None:
        world = self._world
        chance = world.faults.stream(f"chaos {kind}")
        while True:
            await asyncio.sleep(chance.expovariate(1 / (world.parameters.window / 3)))
            if not world.faults.active or world.over:
                return
            account, payment = chance.choice(sorted(world.captured))
            body = {"provider": account, "payment": payment, "amount": chance.choice((1, 100, 500))}
            answer = await world.provider.control("POST", "/external", {**body, "chargeback": kind == "chargeback"})
            world.trace("chaos", f"{kind} {account} {payment} {answer.status_code}")
