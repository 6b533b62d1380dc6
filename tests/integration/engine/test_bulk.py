"""Bulk operations: previewed, confirmed, carried out once however many workers try, stopped, taken up again."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text

from domain.bulk import Kind, Lot, Phase, Result
from domain.decision import Cause
from domain.errors import Conflict, Forbidden, InvalidJob, NotFound, Refused
from domain.refund import moved
from domain.state import State
from engine import bulk, bulk_run, people, review, tick
from engine.bulk_plan import Selection, preview
from engine.ids import new_id
from engine.people import Actor, Role
from ledger import bulk as rows
from ledger import journal, refunds
from ledger.migrate import upgrade
from ledger.refunds import Change
from tests.support.one_process import Bench

FIRST = Actor("system", frozenset({Role.ADMIN}), alone=True)
OLI = Actor("oli", frozenset({Role.OPERATOR}))
VIC = Actor("vic", frozenset({Role.VIEWER}))
PIA = Actor("pia", frozenset({Role.APPROVER}))
ALL = Selection()


async def inline(work, *arguments):
    return work(*arguments)


class World(Bench):
    """Refunds in review, and operations about them."""

    def refund(self, *given, **job):
        """Ids sort by time: each of a millisecond of its own."""
        self.now += 0.01
        return super().refund(*given, **job)

    def dead(self, count=1, *, cause=Cause.LEASES_LOST, **changes):
        """Refunds in review; by default their retry is safe."""
        return [self._moved(State.REVIEW, cause=cause, due_at=None, **changes) for _ in range(count)]

    def _moved(self, state, **changes):
        return self.move(self.refund(), state, **changes)

    def move(self, before, state, **changes):
        """As the pump would."""
        change = Change(
            before=before,
            after=moved(before, state, self.now, **changes),
            type=f"refund.{state}",
            actor="test",
            fenced=False,
        )
        [stands] = self.engine.ledger.run(lambda connection: refunds.apply(connection, [change]))

        return stands

    def start(self, selection=ALL, *, kind=Kind.RETRY, actor=OLI, **options):
        """What is previewed is confirmed."""
        plan = preview(self.engine, actor, kind, selection)

        return bulk.start(
            self.engine, actor, kind, selection, count=plan.count, reason="the provider is back", **options
        )

    def carry_out(self, operation, engine=None):
        """To its end; answers the pauses that were made."""
        pauses = []

        async def sleep(seconds):
            pauses.append(seconds)

        work = bulk_run.carry_out(engine or self.engine, operation.id, inline, sleep=sleep, monotonic=lambda: 0)
        asyncio.run(work)

        return pauses

    def results(self, operation):
        """Each refund's result, in order."""
        return [each["result"] for each in self.report(operation)]

    def report(self, operation, **options):
        return bulk.report(self.engine, operation, limit=1000, **options)

    def look(self, operation):
        return bulk.get(self.engine, operation.id)

    def story(self, subject):
        with self.engine.ledger.read() as connection:
            return [(each["type"], each["actor"], each["data"]) for each in journal.story(connection, subject)]

    def retries(self, refund):
        """How often somebody has retried it."""
        return sum(kind == "refund.retried" for kind, _, _ in self.story(refund.id))


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A migrated SQLite database, to be copied."""
    path = tmp_path_factory.mktemp("template") / "refundry.db"
    upgrade(f"sqlite:///{path}")

    return path.read_bytes()


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request, tmp_path, migrated):
    """An engine over an empty ledger of either kind, with its people."""
    if request.param == "sqlite":
        path = tmp_path / "refundry.db"
        path.write_bytes(migrated)
        url, drop = f"sqlite:///{path}", lambda _url: None
    else:
        postgres = request.getfixturevalue("postgres")
        url, drop = postgres.create(template=postgres.template("refundry_bulk", upgrade)), postgres.drop
    bench = World(url)
    people.create(bench.engine, FIRST, "ada", frozenset({Role.ADMIN}))
    for who in (OLI, VIC, PIA):
        people.create(bench.engine, people.recognise(bench.engine, "ada"), who.name, who.roles)
    yield bench
    bench.close()
    drop(url)


# -- the preview -----------------------------------------------------------------------------------------------------


def test_a_preview_has_three_groups_with_reasons_and_sums(world):
    safe = world.dead(2)
    [checked] = world.dead(provider_refund_id="theirs")
    [never] = world.dead(cause=Cause.MISMATCH)

    plan = preview(world.engine, OLI, Kind.RETRY, ALL)

    assert [each.refund.id for each in plan.of(Lot.WILL_BE_DONE)] == [each.id for each in safe]
    assert [(each.refund.id, each.why[:20]) for each in plan.of(Lot.CHECK_FIRST)] == [
        (checked.id, "verdict: check_first")
    ]
    assert [(each.refund.id, "contradicts" in each.why) for each in plan.of(Lot.SKIPPED)] == [(never.id, True)]
    assert plan.sums(Lot.WILL_BE_DONE) == [{"provider": "smartretry", "currency": "USD", "count": 2, "amount": 5000}]


def test_a_query_narrows_and_one_about_people_is_refused(world):
    world.dead(2)
    [other] = world.dead(cause=Cause.ATTEMPTS_EXHAUSTED)

    plan = preview(world.engine, OLI, Kind.RETRY, Selection(query="cause:attempts_exhausted account:shop"))

    assert [each.refund.id for each in plan.planned] == [other.id]
    for query in (
        "lin@example.com",
        "name:smith",
        "name:!",
        "customer:lucky",
        "Lin Smith",
        "smith:",
        "state:review smith",
    ):
        with pytest.raises(InvalidJob, match="kept with its query"):
            preview(world.engine, OLI, Kind.RETRY, Selection(query=query))


def test_who_is_named_and_not_there_is_told(world):
    with pytest.raises(NotFound, match="rf_nobody"):
        preview(world.engine, OLI, Kind.RETRY, Selection(ids=("rf_nobody",)))


def test_what_waits_for_a_second_person_or_in_another_operation_is_skipped(world):
    asked, taken, free = world.dead(3)
    review.ask_settle(world.engine, OLI, asked.id, outcome="returned", reason="seen", evidence=b"portal")
    first = world.start(Selection(ids=(taken.id,)))

    plan = preview(world.engine, OLI, Kind.RETRY, ALL)

    assert {each.refund.id: each.why for each in plan.of(Lot.SKIPPED)} == {
        asked.id: "a request about it waits for a second person",
        taken.id: f"it waits in {first.id}",
    }
    assert [each.refund.id for each in plan.of(Lot.WILL_BE_DONE)] == [free.id]


def test_each_kind_takes_what_the_single_act_takes(world):
    queued = world.refund()
    [unsent] = world.dead()
    [lost] = world.dead(ambiguous=True, provider_refund_id="theirs")

    cancels = preview(world.engine, OLI, Kind.CANCEL, ALL)
    checks = preview(world.engine, OLI, Kind.CHECK, ALL)

    assert [each.refund.id for each in cancels.of(Lot.WILL_BE_DONE)] == [queued.id, unsent.id]
    assert [each.refund.id for each in cancels.of(Lot.CHECK_FIRST)] == [lost.id]
    assert [each.refund.id for each in checks.of(Lot.WILL_BE_DONE)] == [lost.id]
    assert "cannot be asked" in checks.of(Lot.SKIPPED)[0].why
    assert preview(world.engine, OLI, Kind.CANCEL, Selection(query="state:queued")).count == 1
    assert preview(world.engine, OLI, Kind.CANCEL, Selection(query="state:pending")).planned == []


# -- started ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actor", [VIC, PIA])
def test_who_may_not_act_may_neither_preview_nor_start_nor_stop(world, actor):
    world.dead()
    operation = world.start()

    with pytest.raises(Forbidden, match="operator"):
        preview(world.engine, actor, Kind.RETRY, ALL)
    with pytest.raises(Forbidden, match="operator"):
        bulk.start(world.engine, actor, Kind.RETRY, ALL, count=1, reason="why")
    with pytest.raises(Forbidden, match="operator"):
        bulk.stop(world.engine, actor, operation.id)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"count": 1}, "not-confirmed"),
        ({"count": None}, "not-confirmed"),
        ({"reason": " "}, "reason-required"),
        ({"reason": "x" * 501}, "reason-required"),
        ({"pace": 0}, "pace-invalid"),
        ({"pace": 101}, "pace-invalid"),
        ({"stop_at": 101}, "stop-at-invalid"),
        ({"operation_id": "bo_'; --"}, "operation-invalid"),
    ],
)
def test_what_is_not_well_formed_starts_nothing(world, options, code):
    world.dead(2)

    with pytest.raises(Refused) as refused:
        bulk.start(world.engine, OLI, Kind.RETRY, ALL, **{"count": 2, "reason": "why", **options})

    assert refused.value.code == code
    assert bulk.listed(world.engine, limit=10) == []


def test_what_has_changed_since_the_preview_starts_nothing(world):
    first, _ = world.dead(2)
    plan = preview(world.engine, OLI, Kind.RETRY, ALL)
    review.retry(world.engine, OLI, first.id, reason="alone")
    world.dead()

    with pytest.raises(Conflict, match="look at it again"):
        bulk.start(world.engine, OLI, Kind.RETRY, ALL, count=2, reason="why", digest=plan.digest)


def test_the_same_form_sent_twice_at_once_is_one_operation(world):
    world.dead(3)
    plan = preview(world.engine, OLI, Kind.RETRY, ALL)
    given = {"count": 3, "reason": "why", "digest": plan.digest, "operation_id": new_id("bo", world.now)}
    together = threading.Barrier(2)

    def press(_):
        together.wait()
        return bulk.start(world.engine, OLI, Kind.RETRY, ALL, **given)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(press, range(2))

    assert first.id == second.id
    assert len(bulk.listed(world.engine, limit=10)) == 1
    assert [kind for kind, _, _ in world.story(f"bulk/{first.id}")] == ["bulk.started"]


def test_two_people_at_the_same_moment_never_take_the_same_refund(world):
    world.dead(3)
    together = threading.Barrier(2)

    def press(_):
        together.wait()
        try:
            return bulk.start(world.engine, OLI, Kind.RETRY, ALL, count=3, reason="why")
        except Refused as error:
            return error.code

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(press, range(2)))

    refused = [each for each in found if isinstance(each, str)]
    assert len(refused) == 1
    assert refused[0] in ("changed-since", "nothing-to-do")
    assert len(bulk.listed(world.engine, limit=10)) == 1


# -- carried out -----------------------------------------------------------------------------------------------------


def test_each_refund_is_done_once_at_its_pace_with_its_event_and_the_rest_is_reported(world):
    safe = world.dead(3)
    world.dead(cause=Cause.MISMATCH)
    operation = world.start(pace=4)
    assert ("bulk", operation.id) in world.rung

    pauses = world.carry_out(operation)

    stands = world.look(operation)
    assert (stands.state, stands.total, stands.done, stands.failed, stands.skipped) == (Phase.DONE, 4, 3, 0, 1)
    assert pauses == [0.25] * 3
    assert world.results(operation) == [Result.DONE] * 3 + [Result.SKIPPED]
    assert [world.read(each.id).state for each in safe] == [State.QUEUED] * 3
    kind, actor, data = world.story(safe[0].id)[-1]
    assert (kind, actor, data["bulk"], data["reason"]) == (
        "refund.retried",
        "oli",
        operation.id,
        "the provider is back",
    )
    assert ("send", "shop") in world.rung
    ended = world.story(f"bulk/{operation.id}")[-1]
    assert ended[:2] == ("bulk.done", "system")


def test_checking_and_cancelling_in_many_do_as_the_single_acts(world):
    [lost] = world.dead(ambiguous=True, provider_refund_id="theirs")
    queued = world.refund()

    checks = world.start(kind=Kind.CHECK)
    cancels = world.start(kind=Kind.CANCEL)
    for each in (checks, cancels):
        world.carry_out(each)

    assert world.read(lost.id).due_at == world.now
    assert world.story(lost.id)[-1][0] == "refund.check_asked"
    assert world.read(queued.id).state is State.CANCELLED
    assert ("poll", "shop") in world.rung


def test_what_does_not_hold_any_more_fails_with_the_reason_and_changes_nothing(world):
    first, second = world.dead(2)
    operation = world.start()
    alone = review.retry(world.engine, OLI, first.id, reason="alone")

    world.carry_out(operation)

    assert [(each["result"], each["reason"]) for each in world.report(operation)] == [
        (Result.FAILED, "the refund is queued"),
        (Result.DONE, "retry: queued"),
    ]
    assert world.read(first.id).version == alone.version
    assert world.look(operation).state is Phase.DONE
    assert world.report(operation, result=Result.FAILED)[0]["refund_id"] == first.id
    assert world.read(second.id).state is State.QUEUED


def test_two_workers_at_the_same_operation_do_each_refund_once(world):
    dead = world.dead(12)
    operation = world.start(pace=100)
    other = World(world.engine.ledger.url.render_as_string(hide_password=False))
    together = threading.Barrier(2)

    def work(engine):
        together.wait()
        world.carry_out(operation, engine)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (world.engine, replace(other.engine, worker="another:1"))))
    other.close()

    assert [world.retries(each) for each in dead] == [1] * 12
    assert (world.look(operation).state, world.look(operation).done) == (Phase.DONE, 12)


def test_who_has_lost_the_lease_changes_nothing(world):
    dead = world.dead(3)
    operation = world.start()
    slow = bulk_run.take(world.engine, operation.id, "slow")
    bulk_run.step(world.engine, slow, "slow")
    assert bulk_run.take(world.engine, operation.id, "early") is None
    world.now += bulk_run.LEASE + 1
    bulk_run.take(world.engine, operation.id, "next")

    step = bulk_run.step(world.engine, slow, "slow")

    assert (step.refund, step.last) == (None, True)
    assert [world.retries(each) for each in dead] == [1, 0, 0]


def test_a_worker_that_dies_half_way_is_followed_by_another(world):
    dead = world.dead(4)
    operation = world.start()
    taken = bulk_run.take(world.engine, operation.id, "dies")
    bulk_run.step(world.engine, taken, "dies")
    with world.engine.ledger.engine.connect() as connection:
        # It is killed in the middle of its second refund: the transaction never ends.
        transaction = connection.begin()
        bulk_run._step(connection, world.engine, OLI, operation.id, "dies")
        transaction.rollback()

    world.rung.clear()
    tick.tick(world.engine)
    assert ("bulk", operation.id) not in world.rung
    world.now += bulk_run.LEASE + 1
    tick.tick(world.engine)
    assert ("bulk", operation.id) in world.rung
    world.carry_out(operation)

    assert [world.retries(each) for each in dead] == [1] * 4
    assert (world.look(operation).state, world.look(operation).done) == (Phase.DONE, 4)


def test_what_is_stopped_finishes_the_one_in_hand_and_is_taken_up_by_a_new_preview(world):
    dead = world.dead(4)
    operation = world.start()
    taken = bulk_run.take(world.engine, operation.id, "mine")
    bulk_run.step(world.engine, taken, "mine")

    stopped = bulk.stop(world.engine, OLI, operation.id, reason="enough for now")

    assert (stopped.state, stopped.ended_by, stopped.end_reason) == (Phase.STOPPED, "oli", "enough for now")
    assert bulk_run.step(world.engine, taken, "mine").last
    assert world.results(operation) == [Result.DONE] + [Result.LEFT] * 3
    with pytest.raises(Conflict, match="stopped already"):
        bulk.stop(world.engine, OLI, operation.id)
    again = world.start(Selection(again=operation.id))
    world.carry_out(again)
    assert again.query == f"not done in {operation.id}"
    assert [world.retries(each) for each in dead] == [1] * 4


def test_too_many_failures_stop_it(world):
    dead = world.dead(40)
    operation = world.start(pace=100, stop_at=10)
    for each in dead[:6]:
        review.cancel(world.engine, OLI, each.id, reason="not wanted")

    world.carry_out(operation)

    stands = world.look(operation)
    assert (stands.state, stands.ended_by) == (Phase.STOPPED, "system")
    assert (stands.failed, stands.tried) == (6, 20)
    assert stands.end_reason == "6 of 20 failed or came back, more than 10 %"


def test_what_comes_back_counts_as_failed(world):
    dead = world.dead(40)
    operation = world.start(pace=10, stop_at=10)
    taken = bulk_run.take(world.engine, operation.id, "mine")
    for _ in range(20):
        assert not bulk_run.step(world.engine, taken, "mine").last
    for each in dead[:4]:
        world.move(world.read(each.id), State.REVIEW, cause=Cause.ATTEMPTS_EXHAUSTED, due_at=None)

    assert bulk.came_back(world.engine, operation) == 4
    assert bulk_run.step(world.engine, taken, "mine").last
    assert world.look(operation).end_reason == "4 of 21 failed or came back, more than 10 %"


def test_who_loses_the_role_has_their_operation_stopped(world):
    dead = world.dead(2)
    operation = world.start()
    ada = people.recognise(world.engine, "ada")
    people.change_roles(world.engine, ada, "oli", grant=frozenset(), revoke=frozenset({Role.OPERATOR}))

    world.carry_out(operation)

    assert world.look(operation).state is Phase.STOPPED
    assert "oli may not act any more" in world.look(operation).end_reason
    assert [world.retries(each) for each in dead] == [0, 0]


def test_one_that_cannot_be_done_at_all_keeps_nobody_waiting(world, monkeypatch):
    first, second = world.dead(2)
    operation = world.start()
    real = review.retried

    def broken(connection, engine, actor, refund_id, **more):
        done = real(connection, engine, actor, refund_id, **more)
        if refund_id == first.id:
            raise ZeroDivisionError
        return done

    monkeypatch.setattr(review, "retried", broken)
    world.carry_out(operation)

    assert world.results(operation) == [Result.FAILED, Result.DONE]
    assert world.read(first.id).state is State.REVIEW
    assert world.retries(first) == 0
    assert world.retries(second) == 1


def test_the_database_itself_keeps_a_refund_out_of_two_operations(world):
    [dead] = world.dead()
    world.start()
    with pytest.raises(Exception, match=r"(?i)unique"), world.engine.ledger.write() as connection:
        connection.execute(
            text(
                "INSERT INTO bulk_item SELECT operation, 99, refund_id, reference, account, provider, amount, currency,"
                " result, reason, at FROM bulk_item WHERE refund_id = :id"
            ),
            {"id": dead.id},
        )


def test_the_report_says_how_each_stands_now(world):
    [dead] = world.dead()
    operation = world.start()
    world.carry_out(operation)

    [line] = world.report(operation)

    assert (line["refund_id"], line["now"], line["result"]) == (dead.id, State.QUEUED, Result.DONE)
    assert bulk.view(world.look(operation))["eta_seconds"] is None
    with world.engine.ledger.read() as connection:
        assert rows.due(connection, world.now + 1000) == []
