"""Reconciliation by real processes: a worker finds what the provider took back; one that is killed is followed."""

from domain.reconcile import Source
from engine import books, schedule
from ledger import reconcile as runs
from tests.support.processes import wait_until


def test_a_worker_goes_on_with_the_run_of_one_that_was_killed(stack):
    stack = stack(beats=0)
    stack.faults({"provider": "smartpay", "call": "refund", "fault": "late_flip", "first": 1, "seconds": 1})
    stack.enqueue(stack.jobs("smartpay", 60))
    wait_until(lambda: stack.states().get("succeeded") == 60, timeout=60, what="60 refunds paid")
    wait_until(lambda: any(entry["reversed_at"] for entry in stack.moved()), what="one of them taken back")
    stack.faults({"provider": "smartpay", "call": "status", "fault": "slow", "seconds": 0.3})
    run = schedule.begin(stack.engine, "smartpay", Source.STATUS, started_by="test")
    stack.engine.ring("reconcile", "smartpay")
    wait_until(lambda: _run(stack, run.id).compared > 0, timeout=60, what="the first questions")
    stack.workers[0].kill()
    left = _run(stack, run.id)
    with stack.engine.ledger.write() as connection:  # the killed worker's lease is over
        connection.exec_driver_sql("UPDATE recon_run SET lease_until = 0")
    stack.faults()
    stack.start_worker().wait_for_log("ready.")
    stack.engine.ring("reconcile", "smartpay")
    wait_until(lambda: _run(stack, run.id).state != "running", timeout=60, what="the run to end")
    done = _run(stack, run.id)

    assert left.state == "running"
    assert (done.state, done.compared, done.differing) == ("complete", 60, 1)
    assert stack.states() == {"succeeded": 59, "reversed": 1}
    assert books.check(stack.engine) == []


def _run(stack, run_id):
    with stack.engine.ledger.read() as connection:
        found = runs.get(connection, run_id)
    assert found is not None

    return found
