"""Where a message on a Redis list gets lost. None of it costs us a refund: see test_our_design.py."""

import os
import signal

import kombu
import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError, ResponseError

from tests.pitfalls.conftest import QUEUE, SHORT, with_options
from tests.support.processes import wait_until
from tests.support.servers import RedisServer

EARLY = {"task_acks_late": False, "task_reject_on_worker_lost": False}
LATE = {"task_acks_late": True, "task_reject_on_worker_lost": False}
# The visibility time-out and a sweep.
LATER = 1.5


@with_options(**SHORT)
def test_m1_a_message_between_brpop_and_unacked_is_lost_with_its_worker(lab_setup):
    """M1: a message that BRPOP has handed out and the worker has not yet noted exists nowhere; no setting helps."""
    lab_setup.freeze_at_the_queue()
    lab_setup.send("lost")
    wait_until(lambda: lab_setup.queued() == 0, what="the message handed out")
    assert lab_setup.held() == 0
    lab_setup.worker.kill()

    lab_setup.another_worker()
    lab_setup.sweep(LATER)
    lab_setup.assert_nothing_is_left()
    assert lab_setup.journal.starts("lost") == 0


@pytest.mark.parametrize("options", [EARLY, LATE], ids=["early", "late"])
def test_m2_a_task_whose_child_is_killed_is_lost(lab_setup):
    """M2: a prefork child killed in its task (OOM) takes the task along, late acknowledgement or not."""
    lab_setup.send("victim", 60)
    lab_setup.wait_for_start("victim")
    os.kill(lab_setup.journal.pid("victim"), signal.SIGKILL)

    wait_until(lambda: b"WorkerLostError" in lab_setup.worker.logs(), what="the loss noticed")
    lab_setup.sweep()
    lab_setup.assert_nothing_is_left()
    assert lab_setup.journal.starts("victim") == 1


def test_m2_reject_on_worker_lost_runs_it_again(lab_setup):
    """M2: with `task_reject_on_worker_lost` a task whose child is killed runs again at once."""
    lab_setup.send("victim", 60)
    lab_setup.wait_for_start("victim")
    os.kill(lab_setup.journal.pid("victim"), signal.SIGKILL)

    lab_setup.wait_for_end("victim")
    assert lab_setup.journal.starts("victim") == 2


@with_options(**EARLY)
def test_m3_a_task_whose_worker_is_killed_is_lost_when_acknowledged_early(lab_setup):
    """M3: with early acknowledgement, Celery's default, a killed worker loses what it was doing."""
    lab_setup.send("victim", 60)
    lab_setup.wait_for_start("victim")
    assert lab_setup.held() == 0
    lab_setup.worker.kill()

    lab_setup.another_worker()
    lab_setup.sweep()
    assert lab_setup.journal.starts("victim") == 1


@with_options(**SHORT)
def test_m3_a_killed_workers_task_is_invisible_until_the_visibility_time_out(lab_setup):
    """M3: redelivery after a kill waits for the visibility time-out, however soon a new worker is there."""
    lab_setup.send("victim", 60)
    lab_setup.wait_for_start("victim")
    lab_setup.worker.kill()
    assert lab_setup.held() == 1

    lab_setup.another_worker()
    lab_setup.wait_for_end("victim")
    first, second = lab_setup.journal.moments("start", "victim")
    assert second - first > 0.9


def test_a_killed_main_process_takes_its_children_along(lab_setup):
    """Section 7: when only the main process is killed its children die too, and the message waits in `unacked`."""
    lab_setup.send("victim", 60)
    lab_setup.wait_for_start("victim")
    child = lab_setup.journal.pid("victim")
    os.kill(lab_setup.worker.pid, signal.SIGKILL)

    wait_until(lambda: not os.path.exists(f"/proc/{child}"), what="the end of the child")  # noqa: PTH110
    assert lab_setup.held() == 1


@pytest.mark.parametrize(("appendonly", "left"), [("no", 0), ("yes", 200)])
def test_m7_a_redis_without_persistence_forgets_its_queues(tmp_path, appendonly, left):
    """M7: without an append-only file, the default of many images, a killed Redis has lost every accepted message."""
    server = RedisServer(tmp_path / "redis", appendonly=appendonly, appendfsync="always")
    try:
        server.start()
        publish(server, 200)
        server.kill()
        server.start()
        with server.client() as client:
            assert client.llen(QUEUE) == left
    finally:
        server.process.remove()


def test_m9_a_message_for_an_unknown_task_is_discarded(lab_setup):
    """M9: a task name that the worker does not know (a rolling deployment) loses the message without trace."""
    lab_setup.setup.app.send_task("lab.not_registered_yet", args=[1])
    lab_setup.sweep()

    lab_setup.assert_nothing_is_left()
    assert b"unregistered task" in lab_setup.worker.logs()


def test_m10_a_hard_time_limit_acknowledges_the_message(lab_setup):
    """M10: a task killed by its hard time limit counts as done, in spite of late acknowledgement and rejection."""
    lab_setup.send("victim", 60, time_limit=1)
    lab_setup.wait_for_start("victim")
    wait_until(lambda: b"Hard time limit" in lab_setup.worker.logs(), what="the time limit")

    lab_setup.sweep()
    lab_setup.assert_nothing_is_left()
    assert lab_setup.journal.starts("victim") == 1


@pytest.mark.parametrize(("policy", "lost"), [("allkeys-lru", True), ("noeviction", False)])
def test_m11_an_evicting_redis_throws_queues_away(tmp_path, policy, lost):
    """M11: with `allkeys-lru`, which Celery's documentation offers, other keys push the queue out of memory."""
    server = RedisServer(tmp_path / "redis", maxmemory="6mb", maxmemory_policy=policy, appendonly="no")
    try:
        server.start()
        publish(server, 200)
        with server.client() as client:
            stuff(client)
            assert client.llen(QUEUE) == (0 if lost else 200)
        if not lost:
            with pytest.raises((OperationalError, RedisError), match="maxmemory"):
                publish(server, 1)
    finally:
        server.process.remove()


def stuff(client):
    """Other people's keys, many times the memory there is."""
    for number in range(20_000):
        try:
            client.set(f"other:{number}", b"x" * 4096)
        except ResponseError:
            return
        if number % 200 == 0 and not client.exists(QUEUE):
            return


def publish(server, count):
    with kombu.Connection(server.url) as connection, connection.channel() as channel:
        queue = kombu.Queue(QUEUE, routing_key=QUEUE)
        producer = kombu.Producer(channel)
        for number in range(count):
            producer.publish({"number": number}, routing_key=QUEUE, declare=[queue], retry=False)


def test_m12_a_forgotten_binding_loses_nothing(lab_setup):
    """M12: the default direct exchange needs no `_kombu.binding` key, so losing that key loses no message."""
    lab_setup.redis.delete("_kombu.binding.celery")
    lab_setup.send("bound")

    lab_setup.wait_for_end("bound")


def test_m13_what_cannot_be_decoded_is_removed_without_trace(lab_setup):
    """M13: a message whose body cannot be decoded disappears; the worker goes on."""
    body = '{"body": "=", "content-type": "application/json", "headers": {}, "properties": {"delivery_tag": "t", '
    body += '"body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": "celery"}}}'
    lab_setup.redis.lpush(QUEUE, body)
    lab_setup.sweep()

    lab_setup.assert_nothing_is_left()
    assert lab_setup.worker.status == "running"


def test_m13_what_is_no_message_at_all_ends_the_worker(lab_setup):
    """M13: an element of the list that is not JSON is removed, and with this kombu the worker that took it ends."""
    lab_setup.redis.lpush(QUEUE, b"no JSON")

    assert lab_setup.worker.wait() != 0
    assert b"Unrecoverable error: JSONDecodeError" in lab_setup.worker.logs()
    lab_setup.assert_nothing_is_left()
    lab_setup.another_worker()
    lab_setup.sweep()


def test_a_flush_takes_what_is_queued_and_what_runs_goes_on(lab_setup):
    """Section 7: after FLUSHALL the running task finishes, everything queued is gone silently, new messages arrive."""
    lab_setup.send("running", 1.5)
    lab_setup.wait_for_start("running")
    for number in range(5):
        lab_setup.send(f"queued{number}")
    lab_setup.redis.flushall()

    lab_setup.wait_for_end("running")
    lab_setup.sweep(1)
    assert sum(lab_setup.journal.starts(f"queued{number}") for number in range(1, 5)) == 0
    assert lab_setup.worker.status == "running"


def test_a_redis_that_comes_back_empty_is_consumed_again_and_publishing_meanwhile_fails(lab_setup):
    """Section 7: a worker outlives a Redis that restarts without its data; a producer is told while it is down."""
    lab_setup.broker.kill()
    with pytest.raises(OperationalError):
        lab_setup.send("nowhere", retry_policy={"max_retries": 1})
    for file in lab_setup.broker.cwd.rglob("*.aof"):
        file.unlink()
    for file in lab_setup.broker.cwd.rglob("*.manifest"):
        file.unlink()
    lab_setup.broker.start()
    lab_setup.broker.wait_for_log("Ready to accept connections")

    lab_setup.send("after")
    lab_setup.wait_for_end("after", timeout=20)
    assert lab_setup.worker.status == "running"
