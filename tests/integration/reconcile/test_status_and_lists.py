"""Asking again, and comparing with the provider's lists: every kind of difference found, and none invented."""

import asyncio
import time
from dataclasses import replace

import httpx
import pytest
from structlog.testing import capture_logs

from domain.outcome import Unknown
from domain.reconcile import Kind, Source, Standing
from domain.state import State
from engine import books, schedule
from ledger import external, journal, queries
from sandbox.core import RefundState
from signals.limits import Limits

PROVIDERS = ("smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart2pay_card", "smart_glocal")
LISTING = tuple(name for name in PROVIDERS if name != "smartretry")
DAY = 86_400.0


def at_provider(world, refund):
    """The sandbox's own record of a refund of ours."""
    return next(
        each for made in world.network.app.state.world.made.values() for each in made if each.handle == refund.handle
    )


def taken_back(world, refund):
    world.network.app.state.world._flip(at_provider(world, refund), world.now)


def outbox(world):
    with world.engine.ledger.read() as connection:
        return connection.exec_driver_sql("SELECT refund_id, state FROM outbox ORDER BY no").all()


def sound(world):
    """Sums, chains and books hold."""
    with world.engine.ledger.read() as connection:
        assert queries.balances(connection) == []
        assert journal.verify(connection)[1] == []
    assert books.check(world.engine) == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_where_all_agrees_nothing_is_found(world, provider):
    refunds = [world.paid(provider) for _ in range(3)]
    world.wait(3600)
    found = [world.run(provider, source) for source in schedule.sources(world.engine.accounts[provider])]

    assert [(run.state, run.differing, run.unanswered) for run in found] == [("complete", 0, 0)] * len(found)
    assert all(run.compared == run.matched == len(refunds) for run in found)
    assert world.differences() == []
    sound(world)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_success_that_the_provider_took_back_moves_state_money_and_shop(world, provider):
    refund = world.paid(provider)
    taken_back(world, refund)
    world.wait(3600)
    run = world.run(provider)
    [found] = world.differences()

    assert (run.state, run.differing) == ("complete", 1)
    assert (found.kind, found.refund_id, found.resolution) == (Kind.STATE_MISMATCH, refund.id, "adopted")
    assert world.read(refund.id).state is State.REVERSED
    assert outbox(world)[-1] == (refund.id, "reversed")
    with world.engine.ledger.read() as connection:
        assert queries.dead(connection, limit=10)[0].id == refund.id
    sound(world)


def test_a_late_success_after_failed_is_booked_and_somebody_has_to_see_it(world):
    refund = world.submitted("smart2pay")
    world.network.control(
        "PUT", "faults", [{"provider": "smart2pay", "call": "refund", "fault": "decline", "first": 1}]
    )
    failed = world.work("smart2pay", refund)
    assert failed.state is State.FAILED
    record = at_provider(world, refund)
    record.state = record.verdict = RefundState.SUCCEEDED
    world.network.app.state.world._move_money(record, world.now)
    world.run("smart2pay")
    [found] = world.differences(states=("open",))

    assert world.read(refund.id).state is State.SUCCEEDED
    assert (found.kind, found.resolution) == (Kind.STATE_MISMATCH, "adopted")
    assert "see that the customer" in found.note
    assert world.run("smart2pay").differing == 0
    assert [each.id for each in world.differences(states=("open",))] == [found.id]
    sound(world)


def test_a_refund_whose_outcome_was_lost_is_found_without_a_difference(world):
    refund = world.submitted("smartpay")
    world.network.trouble = [lambda _answer: Unknown(reason="cut")]
    world.turn("send", "smartpay")
    assert world.read(refund.id).state is State.UNKNOWN
    run = world.run("smartpay")

    assert world.read(refund.id).state is State.SUCCEEDED
    assert (run.state, run.differing) == ("complete", 0)
    assert len(world.network.bodies) == 1


def test_a_refund_that_the_provider_does_not_have_is_missing_there(world):
    refund = world.paid("smartpay")
    del world.network.app.state.world.refunds["smartpay", at_provider(world, refund).id]
    run = world.run("smartpay")

    assert (run.state, run.differing) == ("complete", 1)
    assert world.kinds() == [(Kind.MISSING_AT_PROVIDER, refund.id)]


def test_the_same_cause_is_one_difference_and_ends_by_itself(world):
    refund = world.paid("smartpay")
    refunds = world.network.app.state.world.refunds
    record = refunds.pop(("smartpay", at_provider(world, refund).id))
    world.run("smartpay")
    world.run("smartpay")
    assert len(world.differences()) == 1
    refunds["smartpay", record.id] = record
    world.run("smartpay")
    [found] = world.differences()

    assert (found.state, found.closed_by, found.note) == (
        Standing.CLOSED,
        "reconciliation",
        "ours and theirs agree now",
    )
    del refunds["smartpay", record.id]
    world.run("smartpay")
    [found] = world.differences()
    assert (found.state, found.closed_by) == (Standing.OPEN, None)


def test_what_is_pending_for_too_long_is_late_until_it_is_final(world):
    world.network.control("PUT", "faults", [{"provider": "smart2pay", "call": "refund", "fault": "stuck", "first": 1}])
    refund = world.submitted("smart2pay")
    world.turn("send", "smart2pay")
    assert world.read(refund.id).state is State.PENDING
    world.run("smart2pay")
    assert world.kinds() == []
    world.wait(6 * DAY)
    world.run("smart2pay")
    assert world.kinds() == [(Kind.LATE, refund.id)]
    record = at_provider(world, refund)
    record.due_at = world.now
    world.network.app.state.world.finish_now(record)
    world.run("smart2pay")

    assert world.read(refund.id).state is State.SUCCEEDED
    assert world.kinds() == []


@pytest.mark.parametrize("provider", LISTING)
def test_a_refund_made_elsewhere_is_counted_and_shown_once(world, provider):
    refund = world.paid(provider, captured=5000)
    made = world.network.control(
        "POST", "external", {"provider": provider, "payment": refund.payment_id, "amount": 700}
    )
    world.wait(3600)
    world.run(provider, Source.LIST)
    world.run(provider, Source.LIST)
    [found] = world.differences()

    assert (found.kind, found.amount, found.resolution) == (Kind.MISSING_HERE, 700, "external")
    with world.engine.ledger.read() as connection:
        [booked] = external.listed(connection)
    assert (booked["amount"], booked["booked"], booked["provider_refund_id"]) == (700, True, made["refund_id"])
    assert world.run(provider).differing == 0
    sound(world)


@pytest.mark.parametrize("provider", ["smart_glocal", "jpm_smartpay"])
def test_a_chargeback_in_the_list_is_no_duplicate_of_ours(world, provider):
    refund = world.paid(provider, captured=5000)
    asked = {"provider": provider, "payment": refund.payment_id, "amount": 1000, "chargeback": True}
    world.network.control("POST", "external", asked)
    world.wait(3600)
    world.run(provider, Source.LIST)

    assert [each.kind for each in world.differences()] == [Kind.MISSING_HERE]
    assert "chargeback" in world.differences()[0].note
    sound(world)


@pytest.mark.parametrize("provider", LISTING)
def test_a_second_refund_that_is_like_ours_is_a_duplicate(world, provider):
    refund = world.paid(provider, captured=5000)
    world.network.control("POST", "external", {"provider": provider, "payment": refund.payment_id, "amount": 1000})
    world.wait(3600)
    with capture_logs() as told:
        world.run(provider, Source.LIST)

    assert [each.kind for each in world.differences(states=("open",))] == [Kind.DUPLICATE_AT_PROVIDER]
    alerts = [(each["event"], each["kind"]) for each in told if each["log_level"] == "error"]
    assert alerts == [("recon.difference", "duplicate_at_provider")]
    sound(world)


@pytest.mark.parametrize("provider", LISTING)
def test_what_is_in_no_list_is_missing_at_the_provider(world, provider):
    refund, kept = world.paid(provider), world.paid(provider)
    record = at_provider(world, refund)
    record.payment.refunds.remove(record)
    inside = world.network.app.state.world
    inside.made[record.payment.account].remove(record)
    inside.refunds.pop((record.provider, record.id), None)
    world.wait(3600)
    run = world.run(provider, Source.LIST)

    assert run.state == "complete"
    assert world.kinds() == [(Kind.MISSING_AT_PROVIDER, refund.id)]
    assert world.read(kept.id).state is State.SUCCEEDED


def test_a_list_that_breaks_off_is_never_clean(world, monkeypatch):
    monkeypatch.setattr("providers.smartpay.PAGE_SIZE", 2)
    for _ in range(5):
        world.paid("smartpay")
    world.wait(3600)
    world.network.control(
        "PUT",
        "faults",
        [{"provider": "smartpay", "call": "lookup", "fault": "error_500_before", "after": 1, "first": 9}],
    )
    run = world.run("smartpay", Source.LIST)

    assert run.state == "partial"
    assert "broke off" in run.note
    assert world.differences() == []
    world.network.control("PUT", "faults", [])
    assert world.run("smartpay", Source.LIST).state == "complete"


def test_questions_without_an_answer_leave_a_run_partial(world):
    world.paid("smartpay")
    world.network.trouble = []
    send = world.network.send

    async def cut(request):
        return Unknown(reason="cut") if request.method == "GET" else await send(request)

    world.network.send = cut
    run = world.run("smartpay")

    assert (run.state, run.unanswered) == ("partial", 1)
    assert world.differences() == []


def test_a_run_that_was_killed_goes_on_where_it_stood(world, monkeypatch):
    monkeypatch.setattr("engine.reconcile.BATCH", 2)
    refunds = [world.paid("smartpay") for _ in range(6)]
    started = schedule.begin(world.engine, "smartpay", Source.STATUS, started_by="test")
    asked = []
    send = world.network.send

    async def killed(request):
        asked.append(str(request.url).rpartition("/")[2])
        if len(asked) == 4:
            raise KeyboardInterrupt
        return await send(request)

    world.network.send = killed
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(world.reconciler("smartpay").turn())
    world.network.send = send
    world.another_process()
    assert world.go_on("smartpay", started.id).state == "running"
    world.wait(3600)
    world.network.asked.clear()
    run = world.go_on("smartpay", started.id)

    assert (run.state, run.compared, run.matched) == ("complete", 6, 6)
    again = [str(request.url).rpartition("/")[2] for request in world.network.asked]
    assert again == [each.provider_refund_id for each in refunds[2:]]


def test_while_payments_are_due_one_is_asked_at_a_time(world):
    for _ in range(4):
        world.paid("smartpay")
    world.submitted("smartpay")
    most = flying = 0
    send = world.network.send

    async def counted(request):
        nonlocal most, flying
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        answer = await send(request)
        flying -= 1
        return answer

    world.network.send = counted
    world.run("smartpay")
    assert most == 1
    world.turn("send", "smartpay")
    world.run("smartpay")

    assert most > 1


def test_questions_keep_to_the_rate_limit(world):
    """Twelve questions at five a second, a second's worth of them at once."""
    for _ in range(12):
        world.paid("smartpay")
    account = world.engine.accounts["smartpay"]
    alone = 4 * 5.0  # without Redis a process keeps to its share
    world.engine.accounts["smartpay"] = replace(account, limit=replace(account.limit, rate=alone))
    world.engine.__dict__["limits"] = Limits(None, world.engine.worker)  # by a clock that goes
    world.network.asked.clear()
    began = time.monotonic()
    run = world.run("smartpay")

    assert (run.state, run.compared, len(world.network.asked)) == ("complete", 12, 12)
    assert time.monotonic() - began >= (12 - 5) / 5


def test_while_the_breaker_is_open_nothing_is_asked_and_the_run_waits(world):
    world.paid("smartpay")
    account = world.engine.accounts["smartpay"]
    world.engine.limits.report("smartpay", account.limit, good=0, bad=100)
    world.network.asked.clear()
    run = world.run("smartpay")

    assert run.state == "running"
    assert world.network.asked == []


def test_the_schedule_starts_each_source_once_and_calls_a_worker(world):
    world.rung.clear()
    schedule.start_due(world.engine)
    schedule.start_due(world.engine)
    with world.engine.ledger.read() as connection:
        from ledger.reconcile import runs

        started = [(each.account, each.source) for each in runs(connection, limit=100)]

    assert len(started) == len(set(started))
    assert ("smartpay", Source.LIST) in started
    assert ("smartretry", Source.STATUS) in started
    assert ("reconcile", "smartpay") in world.rung


def test_an_answer_nobody_can_read_invents_nothing(world):
    refund = world.paid("jpm_smartpay")

    async def html(_request):
        return httpx.Response(200, text="<html>")

    world.network.send = html
    run = world.run("jpm_smartpay")
    lists = world.run("jpm_smartpay", Source.LIST)

    assert (run.state, lists.state) == ("partial", "partial")
    assert world.differences() == []
    assert world.read(refund.id).state is State.SUCCEEDED
