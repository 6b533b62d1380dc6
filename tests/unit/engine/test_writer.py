import asyncio
import threading

import pytest
from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError, OperationalError

from domain.refund import moved
from domain.state import State
from engine import writer as module
from engine.submit import submit_many
from engine.writer import MOST, GroupWriter, write
from ledger import refunds
from ledger.models import event
from ledger.refunds import Change
from tests.unit.engine.support import JPY, NOW, Rung, an_engine

AWAY = OperationalError("UPDATE", {}, Exception("the connection was closed"))


@pytest.fixture
def engine(tmp_path):
    made = an_engine(tmp_path / "refundry.db", Rung())
    yield made
    made.close()


@pytest.fixture
def ledger(engine):
    return engine.ledger


@pytest.fixture
def some(engine, ledger):
    """Makes that many queued refunds, each of a payment of its own."""

    def make(count):
        jobs = [{**JPY, "reference": f"R-{n}", "payment": {**JPY["payment"], "id": f"p-{n}"}} for n in range(count)]
        receipts = submit_many(engine, jobs, actor="anna", via="api")
        return [read(ledger, receipt.refund.id) for receipt in receipts]

    return make


@pytest.fixture
def commits(ledger, monkeypatch):
    """How many changes each transaction had."""
    sizes = []
    apply = module.apply

    def counted(connection, changes):
        sizes.append(len(changes))
        return apply(connection, changes)

    monkeypatch.setattr(module, "apply", counted)
    return sizes


class Gate:
    """Stands in for the few milliseconds in which changes gather, and for the wait between two tries."""

    def __init__(self):
        self.opened = threading.Event()
        self.waits = []

    def __call__(self, seconds):
        self.waits.append(seconds)
        assert self.opened.wait(20)


def read(ledger, refund_id):
    with ledger.read() as connection:
        return refunds.get(connection, refund_id)


def a_change(refund, state=State.CANCELLED, **changes):
    after = moved(refund, state, NOW, **{"due_at": None, **changes})

    return Change(before=refund, after=after, type=f"refund.{state}", actor="w", fenced=False)


def answers(group, changes, gate):
    """What becomes of changes that are asked for together; faults are answers too."""

    async def ask():
        asked = [asyncio.ensure_future(group.execute(change)) for change in changes]
        await asyncio.sleep(0)
        gate.opened.set()
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)

    return asyncio.run(ask())


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def group(ledger, gate):
    made = GroupWriter(ledger, sleep=gate)
    yield made
    gate.opened.set()
    made.close()


def test_what_gathers_is_written_in_one_transaction(ledger, some, commits, gate, group):
    made = some(10)

    assert answers(group, [a_change(each) for each in made], gate) == [read(ledger, each.id) for each in made]
    assert sum(commits) == 10
    assert len(commits) <= 2
    assert {read(ledger, each.id).state for each in made} == {State.CANCELLED}


def test_a_future_tells_who_won(ledger, some, gate, group):
    (refund,) = some(1)
    stale = replace(refund, version=7)

    assert answers(group, [a_change(stale), a_change(refund)], gate) == [None, read(ledger, refund.id)]


def test_a_transaction_has_its_most(some, commits, gate, group):
    (refund,) = some(1)
    changes = [a_change(replace(refund, id=f"rf_{n}")) for n in range(MOST + 50)]

    assert not any(answers(group, changes, gate))
    assert max(commits) <= MOST
    assert sum(commits) == MOST + 50


def test_what_is_queued_is_written_before_the_end(ledger, some, gate, group):
    made = some(3)

    async def ask_and_close():
        asked = [asyncio.ensure_future(group.execute(a_change(each))) for each in made]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.to_thread(group.close)
        return await asyncio.gather(*asked)

    assert asyncio.run(ask_and_close()) == [read(ledger, each.id) for each in made]
    assert {read(ledger, each.id).state for each in made} == {State.CANCELLED}


def test_who_stopped_waiting_does_not_hinder_the_others(ledger, some, gate, group):
    first, second = some(2)

    async def ask_and_leave():
        left = asyncio.ensure_future(group.execute(a_change(first)))
        stays = asyncio.ensure_future(group.execute(a_change(second)))
        await asyncio.sleep(0)
        left.cancel()
        gate.opened.set()
        return await asyncio.wait_for(stays, 20)

    assert asyncio.run(ask_and_leave())
    assert read(ledger, first.id).state is State.CANCELLED


def test_a_loop_that_is_gone_does_not_end_the_thread(ledger, some, gate, group):
    first, second = some(2)

    async def ask_and_vanish():
        asked = asyncio.ensure_future(group.execute(a_change(first)))
        await asyncio.sleep(0)
        asked.cancel()

    asyncio.run(ask_and_vanish())

    assert answers(group, [a_change(second)], gate) == [read(ledger, second.id)]
    assert read(ledger, first.id).state is State.CANCELLED


def test_a_change_that_breaks_a_rule_fails_alone(ledger, some):
    first, second, third = some(3)
    sent = [a_change(each, State.SENDING, due_at=NOW) for each in (first, second, third)]
    first, second, third = write(ledger, sent)
    twins = [a_change(each, State.SUCCEEDED, provider_refund_id="re_1") for each in (first, second)]
    good = a_change(third, State.SUCCEEDED, provider_refund_id="re_3")
    results = write(ledger, [*twins, good])

    assert results[0] == read(ledger, first.id)
    assert isinstance(results[1], IntegrityError)
    assert results[2] == read(ledger, third.id)
    assert [read(ledger, each.id).state for each in (first, second, third)] == [
        State.SUCCEEDED,
        State.SENDING,
        State.SUCCEEDED,
    ]


def test_a_broken_rule_reaches_the_one_who_asked_for_it(ledger, some, gate, group):
    first, second = some(2)
    write(ledger, [a_change(each, State.SENDING, due_at=NOW) for each in (first, second)])
    changes = [a_change(read(ledger, each.id), State.SUCCEEDED, provider_refund_id="re_1") for each in (first, second)]
    won, broken = answers(group, changes, gate)

    assert won == read(ledger, first.id)
    assert isinstance(broken, IntegrityError)


def test_a_database_that_is_away_is_waited_for(ledger, some, gate, group, monkeypatch):
    (refund,) = some(1)
    apply, faults = module.apply, [AWAY, AWAY]

    def at_times_away(connection, changes):
        if faults:
            raise faults.pop()
        return apply(connection, changes)

    monkeypatch.setattr(module, "apply", at_times_away)

    assert answers(group, [a_change(refund)], gate) == [read(ledger, refund.id)]
    assert gate.waits.count(0.2) == 2
    assert read(ledger, refund.id).state is State.CANCELLED


def test_patience_ends_and_whoever_waits_hears_of_it(some, gate, group, monkeypatch):
    (refund,) = some(1)

    def away(_connection, _changes):
        raise AWAY

    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setattr(module, "apply", away)

    assert answers(group, [a_change(refund)], gate) == [AWAY]


def test_a_fault_reaches_its_own_step_and_no_other(ledger, some, gate, group, monkeypatch):
    good, bad = some(2)
    apply = module.apply

    def broken_for_one(connection, changes):
        if any(change.before.id == bad.id for change in changes):
            raise ZeroDivisionError
        return apply(connection, changes)

    monkeypatch.setattr(module, "apply", broken_for_one)
    won, fault = answers(group, [a_change(good), a_change(bad)], gate)

    assert won == read(ledger, good.id)
    assert isinstance(fault, ZeroDivisionError)
    assert read(ledger, good.id).state is State.CANCELLED


def test_a_batch_that_was_isolated_writes_each_event_once(ledger, some):
    made = some(3)
    write(ledger, [a_change(each, State.SENDING, due_at=NOW) for each in made])
    write(
        ledger,
        [a_change(read(ledger, each.id), State.SUCCEEDED, provider_refund_id="re_1") for each in made],
    )

    with ledger.read() as connection:
        stories = [len(connection.execute(event.select().where(event.c.subject == each.id)).all()) for each in made]
    assert stories == [3, 2, 2]
