"""Processes killed, frozen and doubled; Redis and the database taken away: each time one payment per refund."""

import threading
import time

import pytest

from tests.e2e.conftest import PROVIDERS
from tests.support.processes import wait_until
from tests.support.stack import Stack

HUNDRED = 102
SLOW = {"fault": "slow", "probability": 1.0, "seconds": 0.7}


def in_flight(system):
    return system.states().get("sending", 0)


def hundred(system):
    return [job for provider in PROVIDERS for job in system.jobs(provider, HUNDRED // len(PROVIDERS))]


def test_a_worker_killed_with_refunds_in_flight_pays_each_once(stack):
    system = stack(workers=1)
    system.faults(SLOW)
    system.enqueue(hundred(system))
    wait_until(lambda: in_flight(system) > 10, what="refunds in flight")
    system.workers[0].kill()
    system.faults()
    system.start_worker()

    assert system.settle(HUNDRED, timeout=90) == {"succeeded": HUNDRED}
    system.assert_paid_once()


def test_flushall_in_the_middle_loses_no_accepted_job(stack):
    system = stack(workers=1)
    system.faults(SLOW)
    system.enqueue(hundred(system))
    wait_until(lambda: sum(system.states().values()) == HUNDRED and in_flight(system), what="all accepted")
    system.redis.client().flushall()
    [more] = system.jobs("smartpay", 1, tag="after-the-flush-")
    system.enqueue([more])

    assert system.settle(HUNDRED + 1, timeout=90) == {"succeeded": HUNDRED + 1}
    system.assert_paid_once()


def test_redis_restarted_without_its_data_loses_no_accepted_job(stack):
    system = stack(workers=1)
    system.faults(SLOW)
    system.enqueue(hundred(system))
    wait_until(lambda: sum(system.states().values()) == HUNDRED and in_flight(system), what="all accepted")
    system.redis.kill()
    system.redis.restart(keep_data=False)

    assert system.settle(HUNDRED, timeout=90) == {"succeeded": HUNDRED}
    system.assert_paid_once()


def test_refunds_are_paid_while_redis_is_gone(stack):
    system = stack(workers=1)
    system.faults(SLOW)
    system.enqueue(hundred(system))
    wait_until(lambda: sum(system.states().values()) == HUNDRED, what="all accepted")
    system.redis.kill()

    assert system.settle(HUNDRED, timeout=90) == {"succeeded": HUNDRED}
    system.assert_paid_once()


def test_two_workers_and_two_beats_pay_each_once(stack):
    system = stack(workers=2, beats=2)
    system.faults({"fault": "answer_lost", "probability": 0.2}, {"fault": "error_500_before", "probability": 0.1})
    system.enqueue(hundred(system))

    assert system.settle(HUNDRED, timeout=90) == {"succeeded": HUNDRED}
    system.assert_paid_once()


def test_a_job_submitted_ten_times_at_once_by_three_ways_in_is_one_refund(stack):
    from engine.submit import submit_many
    from tasks.app import app

    system = stack(workers=2)
    jobs = system.jobs("smartpay", 10)

    def stream():
        system.enqueue(jobs)

    def celery():
        for job in jobs:
            app.send_task("refunds.submit", kwargs={"job": job}, queue="refundry.intake")

    def python():
        submit_many(system.engine, jobs, actor="test", via="api")

    ways = [stream, celery, python, stream, celery, python, stream, celery, python, stream]
    threads = [threading.Thread(target=way) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert system.settle(10) == {"succeeded": 10}
    wait_until(lambda: system.redis.client().xlen("refundry:intake") == 0, what="an empty stream")
    assert system.states() == {"succeeded": 10}
    system.assert_paid_once()


def test_two_partials_racing_over_the_cap_leave_one_refund(stack):
    from engine.submit import submit

    system = stack()
    blocks = system.payments("smartretry", 20, amount=2000)
    receipts = []

    def race(name):
        for number, block in enumerate(blocks):
            job = {"reference": f"{name}-{number}", "account": "smartretry", "payment": block, "amount": 1200}
            receipts.append(submit(system.engine, {**job, "currency": "USD"}, actor="test", via="api"))

    threads = [threading.Thread(target=race, args=(name,)) for name in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(receipt.refund is not None for receipt in receipts) == 20
    assert {receipt.problem.code for receipt in receipts if receipt.problem} == {"amount-exceeds-refundable"}
    assert system.settle(20) == {"succeeded": 20}
    system.assert_paid_once()


def test_a_worker_frozen_past_its_lease_does_not_pay_twice(stack):
    system = stack(workers=1)
    system.faults(SLOW)
    system.enqueue(hundred(system))
    wait_until(lambda: in_flight(system) > 10, what="refunds in flight")
    system.workers[0].pause()
    other = system.start_worker()
    other.wait_for_log("ready.")
    time.sleep(6)  # the lease of five seconds and a little
    system.workers[0].resume()

    assert system.settle(HUNDRED, timeout=90) == {"succeeded": HUNDRED}
    time.sleep(1)
    system.assert_paid_once()


def test_a_warm_shutdown_leaves_nothing_behind_and_nothing_in_doubt(stack):
    system = stack(workers=1)
    system.faults(SLOW)
    system.enqueue(hundred(system))
    wait_until(lambda: in_flight(system) > 10, what="refunds in flight")
    code = system.workers[0].stop(timeout=30)

    assert code == 0
    assert system.states().get("sending", 0) == 0
    assert system.states().get("unknown", 0) == 0
    system.start_worker()
    assert system.settle(HUNDRED, timeout=90) == {"succeeded": HUNDRED}
    system.assert_paid_once()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_database_taken_away_in_the_middle_loses_and_doubles_nothing(tmp_path, redis_server, own_postgres, how):
    system = Stack(tmp_path / "stack", own_postgres.databases.create(), redis_server)
    try:
        system.start(workers=1)
        system.faults(SLOW)
        system.enqueue(hundred(system))
        wait_until(lambda: in_flight(system) > 10, what="refunds in flight")
        own_postgres.kill() if how == "kill" else own_postgres.stop()
        time.sleep(1)
        own_postgres.start()
        system.engine.ledger.dispose()

        assert system.settle(HUNDRED, timeout=90) == {"succeeded": HUNDRED}
        system.assert_paid_once()
    finally:
        system.stop()
