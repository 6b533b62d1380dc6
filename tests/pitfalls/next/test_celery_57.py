"""Celery 5.7: the crash that keeps us on 5.6, and what became better."""

import os
import signal

import pytest

from tests.pitfalls.conftest import with_options
from tests.pitfalls.next.conftest import QUICK_SWEEP
from tests.support.processes import wait_until


def restart(broker):
    broker.kill()
    broker.start()
    broker.wait_for_log("Ready to accept connections")


class TestTwoChildren:
    """With one child only, the acknowledgement comes before the reconnection and nothing happens."""

    @pytest.fixture
    def worker_arguments(self):
        return ("--pool=prefork", "--concurrency=2")

    def test_m6_a_worker_exits_when_the_broker_restarts_during_a_late_acknowledged_task(self, lab_setup):
        """M6: the deferred acknowledgement fails, the worker ends, its message stays unacknowledged and runs again."""
        lab_setup.send("running", 5)
        lab_setup.wait_for_start("running")
        restart(lab_setup.broker)

        assert lab_setup.worker.wait(20) != 0
        assert b"hostname" in lab_setup.worker.logs()
        assert lab_setup.journal.ends("running") == 1
        assert lab_setup.held() + lab_setup.queued() == 1


@with_options(task_acks_late=False, task_reject_on_worker_lost=False)
def test_m6_with_early_acknowledgement_it_survives(lab_setup):
    """M6: the crash belongs to the late acknowledgement alone."""
    lab_setup.send("running", 2)
    lab_setup.wait_for_start("running")
    restart(lab_setup.broker)

    lab_setup.wait_for_end("running")
    lab_setup.sweep()
    assert lab_setup.worker.status == "running"


@with_options(task_reject_on_worker_lost=None, task_retry_on_worker_lost=True)
def test_a_killed_child_can_be_a_retry_that_is_counted(lab_setup):
    """M2: `task_retry_on_worker_lost` runs the task again as a retry, which `max_retries` bounds."""
    lab_setup.setup.app.conf.task_default_retry_delay = 1
    lab_setup.send("victim", 60)
    lab_setup.wait_for_start("victim")
    os.kill(lab_setup.journal.pid("victim"), signal.SIGKILL)
    wait_until(lambda: lab_setup.held() + lab_setup.queued() > 0, what="the retry")


@with_options(broker_transport_options={"visibility_timeout": 1, **QUICK_SWEEP})
def test_m3_the_sweep_can_be_made_quick(lab_setup):
    """M3: options bring a killed worker's task back soon after the visibility time-out; 5.6 needs a minute and more."""
    lab_setup.send("victim", 60)
    lab_setup.wait_for_start("victim")
    lab_setup.worker.kill()

    lab_setup.another_worker()
    lab_setup.wait_for_end("victim")


@with_options(broker_transport_options={"visibility_timeout": 1, **QUICK_SWEEP})
def test_m1_a_message_between_brpop_and_unacked_is_still_lost(lab_setup):
    """M1: 5.7 loses it as 5.6 does."""
    lab_setup.freeze_at_the_queue()
    lab_setup.send("lost")
    wait_until(lambda: lab_setup.queued() == 0, what="the message handed out")
    lab_setup.worker.kill()

    lab_setup.another_worker()
    lab_setup.sweep(1.5)
    lab_setup.assert_nothing_is_left()
    assert lab_setup.journal.starts("lost") == 0


@with_options(broker_transport_options={"visibility_timeout": 1, **QUICK_SWEEP})
def test_m4_a_countdown_beyond_the_visibility_time_out_still_runs_again_and_again(lab_setup):
    """M4: still true."""
    lab_setup.send("later", countdown=3)

    lab_setup.wait_for_end("later", times=2, timeout=20)


def test_m13_what_is_no_message_at_all_still_ends_the_worker(lab_setup):
    """M13: an element of the list that is not JSON is removed, and the worker that took it ends."""
    lab_setup.redis.lpush("celery", b"no JSON")

    assert lab_setup.worker.wait() != 0
    assert b"JSONDecodeError" in lab_setup.worker.logs()
