"""The demo from beginning to end."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from cli.demo import faults, show
from cli.demo.faults import WORDS
from cli.demo.orders import Plan, make_plan
from cli.demo.proof import Evidence, behind_review, gather, prove
from cli.demo.shop import Shop
from cli.demo.show import Display
from cli.demo.world import World, WorldFailed, private_folder, running
from cli.simulated import DidNotStart
from domain.refund import Refund
from domain.state import OPEN, State
from domain.words import ago
from ledger import queries, workers
from ledger.queries import Filter

MOST_SECONDS = 90.0
HANDING_IN_SECONDS = 8.0
KILL_FROM = 0.4
KILL_BY = 0.7
WORTH_KILLING = 3
PAUSE = 0.1
MOST = 10_000
#: A refund in one of these is still being worked on.
MOVING = OPEN - {State.REVIEW, State.QUEUED}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for on the command line."""

    refunds: int
    seed: int
    keep: bool


class Stuck(RuntimeError):
    """The refunds were not done in time; the message says which."""


def run(wishes: Wishes, console: Console) -> bool:
    """Whether the proof holds."""
    with private_folder(keep=wishes.keep) as folder, Display(console, wishes.refunds) as display:
        display.say(f"seed {wishes.seed}: starting a Redis, the five providers and beat")
        try:
            with running(folder, wishes.seed) as world:
                return _Demo(world, wishes, console, display).play()
        except (Stuck, WorldFailed, DidNotStart) as error:
            display.say(str(error), style="bold red")
            return False
        finally:
            if wishes.keep:
                display.say(f"kept: REFUNDRY_CONFIG={folder / 'refundry.toml'}")


class _Demo:
    def __init__(self, world: World, wishes: Wishes, console: Console, display: Display) -> None:
        self._world = world
        self._wishes = wishes
        self._console = console
        self._display = display
        self._hits: Counter[tuple[str, str]] = Counter()
        self._kills = 0
        self._in_hand = 0
        self._resent = 0

    def play(self) -> bool:
        plan = self._prepare()
        self._work(plan)
        evidence = gather(self._world.engine, self._world.sandbox.get("/_sandbox/ledger").raise_for_status().json())

        return self._tell(evidence, plan)

    # -- the work ----------------------------------------------------------------------------------------------------

    def _prepare(self) -> Plan:
        world, wishes = self._world, self._wishes
        world.start_worker()
        plan = make_plan(world.sandbox, world.engine.accounts, wishes.refunds, wishes.seed)
        world.sandbox.put("/_sandbox/faults", json=faults.make_rules(plan.lone, wishes.seed)).raise_for_status()
        self._display.say(
            f"{len(plan.captured)} payments at {len(world.engine.accounts)} accounts; the worker is starting"
        )
        self._wait_for_worker()
        self._display.say(f"{wishes.refunds} refunds go in: through the Redis stream, as Celery tasks, from Python")

        return plan

    def _wait_for_worker(self) -> None:
        while not self._someone_works():
            self._world.check()
            self._in_time()
            time.sleep(PAUSE)

    def _someone_works(self) -> bool:
        with self._world.engine.ledger.read() as connection:
            return workers.last_beat(connection, "worker") is not None

    def _work(self, plan: Plan) -> None:
        shop = Shop(self._world.engine, plan, per_second=len(plan.handings) / HANDING_IN_SECONDS)
        while True:
            shop.work()
            states = self._states()
            self._interfere(shop, states)
            self._look(states)
            if shop.done and self._all_decided(states, plan) and not shop.missing():
                break
            shop.remind()
            self._world.check()
            self._in_time()
            time.sleep(PAUSE)
        self._resent = shop.resent
        self._display.done()
        self._display.say("every refund is decided, or in front of a person")

    def _all_decided(self, states: Mapping[str, int], plan: Plan) -> bool:
        if sum(states.values()) < len(plan.jobs) or any(states.get(state) for state in MOVING):
            return False

        return not states.get(State.QUEUED) or self._rest_is_behind_review()

    def _rest_is_behind_review(self) -> bool:
        with self._world.engine.ledger.read() as connection:
            refunds = queries.page(connection, Filter(states=(State.QUEUED, State.REVIEW)), limit=MOST)

        return len(behind_review(refunds)) == sum(each.state is State.QUEUED for each in refunds)

    def _states(self) -> dict[str, int]:
        with self._world.engine.ledger.read() as connection:
            return queries.by_state(connection)

    def _interfere(self, shop: Shop, states: Mapping[str, int]) -> None:
        """Kill the worker in the middle, with refunds in its hands, and start another."""
        if self._kills or shop.share < KILL_FROM:
            return
        in_hand = states.get(State.SENDING, 0)
        if in_hand < WORTH_KILLING and shop.share < KILL_BY:
            return
        self._world.workers[-1].kill()
        self._kills += 1
        self._in_hand = in_hand
        self._display.say(f"SIGKILL: the worker is gone, with {in_hand} refunds in its hands", style="red")
        self._world.start_worker()
        self._display.say("another worker is starting")

    def _look(self, states: Mapping[str, int]) -> None:
        before, self._hits = self._hits, faults.counted(self._world.sandbox.get("/_sandbox/faults").json())
        fresh = [WORDS.get(fault, fault) for (call, fault), count in self._hits.items() if count > before[call, fault]]
        self._display.update(states, sum(self._hits.values()), "; ".join(fresh[:2]))

    def _in_time(self) -> None:
        if self._display.elapsed > MOST_SECONDS:
            raise Stuck(f"not done after {MOST_SECONDS:g} seconds:\n{self._stuck()}")

    def _stuck(self) -> str:
        wanted = Filter(states=tuple(OPEN - {State.REVIEW}))
        with self._world.engine.ledger.read() as connection:
            refunds = queries.page(connection, wanted, limit=20)

        return "\n".join(_situation(each) for each in refunds) or "no refund is open: jobs are missing"

    # -- the telling -------------------------------------------------------------------------------------------------

    def _tell(self, evidence: Evidence, plan: Plan) -> bool:
        checks = prove(evidence, plan)
        show.closing(self._console, evidence, self._hits, self._figures(evidence))
        show.proof(self._console, checks)

        return all(check.holds for check in checks)

    def _figures(self, evidence: Evidence) -> str:
        attempts = sum(each.attempts for each in evidence.refunds)
        replays = sum(each.replays for each in evidence.refunds)
        killed = f"{self._kills} worker killed with {self._in_hand} refunds in its hands"

        return (
            f"{faults.lost_answers(self._hits)} answers lost or unreadable, {killed}, {attempts} requests of which "
            f"{replays} were replays of the same bytes, {self._resent} jobs sent again by the shop, "
            f"{self._display.elapsed:.0f} seconds"
        )


def _situation(refund: Refund) -> str:
    due = "never" if refund.due_at is None else f"in {ago(refund.due_at - time.time())}"

    return (
        f"  {refund.id} {refund.account} {refund.state} since {ago(time.time() - refund.since)}, due {due}, "
        f"{refund.attempts} attempts, {refund.checks} look-ups, {refund.polls} polls, note: {refund.note}"
    )
