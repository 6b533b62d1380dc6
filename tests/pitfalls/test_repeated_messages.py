"""Where Celery on Redis runs one task several times, or holds it where nobody sees it. Leases absorb all of it."""

import os
import signal
import time

import kombu
import pytest
from celery import Celery
from kombu.transport import redis as transport

from tests.pitfalls.conftest import QUEUE, SHORT, with_options
from tests.support.processes import wait_until
from tests.support.servers import RedisServer

DEDUPLICATING = {**SHORT, "worker_deduplicate_successful_tasks": True}


@with_options(**SHORT)
def test_m4_a_countdown_beyond_the_visibility_time_out_runs_again_and_again(lab_setup):
    """M4: a task with an ETA later than the visibility time-out is redelivered until then, and runs each time."""
    lab_setup.send("later", countdown=3)
    lab_setup.wait_for_end("later", times=2, timeout=20)

    assert lab_setup.journal.starts("later") > 1


@pytest.mark.parametrize("options", [SHORT, DEDUPLICATING], ids=["plain", "deduplicating"])
class TestLongTasks:
    @pytest.fixture
    def worker_arguments(self):
        return ("--pool=prefork", "--concurrency=2", "--include=tests.support.short_sweep")

    def test_m5_a_task_longer_than_the_visibility_time_out_runs_twice_at_once(self, lab_setup):
        """M5: a task that outlasts the visibility time-out starts again while it runs, de-duplication or not."""
        lab_setup.send("long", 3, again=0)
        lab_setup.wait_for_start("long", times=2)

        assert lab_setup.journal.ends("long") <= 1
        assert time.time() < lab_setup.journal.moments("start", "long")[0] + 3


class TestSeveralChildren:
    @pytest.fixture
    def worker_arguments(self):
        return ("--pool=prefork", "--concurrency=4", "--include=tests.support.short_sweep")

    def test_m6_a_worker_of_this_version_survives_a_broker_that_restarts_during_a_task(self, lab_setup):
        """M6: with late acknowledgement 5.7.0 exits when the broker restarts during a task; this version must not."""
        lab_setup.send("running", 4)
        lab_setup.wait_for_start("running")
        lab_setup.broker.kill()
        lab_setup.broker.start()
        lab_setup.broker.wait_for_log("Ready to accept connections")

        lab_setup.wait_for_end("running")
        lab_setup.sweep()
        wait_until(lambda: lab_setup.held() == 0, what="everything acknowledged")
        assert lab_setup.worker.status == "running"

    def test_connections_that_are_cut_make_running_tasks_run_a_second_time(self, lab_setup):
        """Section 7: after a lost connection unacknowledged messages come again while their tasks still run."""
        for name in ("one", "two"):
            lab_setup.send(name, 3, again=0)
            lab_setup.wait_for_start(name)
        lab_setup.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        for name in ("one", "two"):
            lab_setup.wait_for_end(name, times=2)
        assert lab_setup.worker.logs().count(b"] received") == 4
        assert lab_setup.worker.logs().find(b"succeeded in") > lab_setup.worker.logs().rfind(b"] received")


# -- what a worker holds ----------------------------------------------------------------------------------------------

HELD = 60


def test_m8_one_worker_takes_every_eta_task_and_a_warm_shutdown_gives_them_back(lab_setup):
    """M8: tasks with an ETA all leave the queue into one worker's memory, whatever it may prefetch."""
    for number in range(HELD):
        lab_setup.send(f"later{number}", countdown=600)
    wait_until(lambda: lab_setup.held() == HELD, what="all held by one worker")
    assert lab_setup.queued() == 0

    assert lab_setup.end() == 0
    assert (lab_setup.queued(), lab_setup.held()) == (HELD, 0)


def test_m8_a_killed_worker_leaves_them_where_nobody_sees_them(lab_setup):
    """M8: killed, it leaves them unacknowledged until the visibility time-out."""
    for number in range(HELD):
        lab_setup.send(f"later{number}", countdown=600)
    wait_until(lambda: lab_setup.held() == HELD, what="all held by one worker")

    lab_setup.worker.kill()
    assert (lab_setup.queued(), lab_setup.held()) == (0, HELD)


@with_options(worker_eta_task_limit=5)
def test_a_limit_of_eta_tasks_holds_and_keeps_an_immediate_task_waiting(lab_setup):
    """Section 7: `worker_eta_task_limit` bounds what is held, and blocks the task that could run at once."""
    for number in range(20):
        lab_setup.send(f"later{number}", countdown=600)
    wait_until(lambda: lab_setup.held() >= 5, what="the limit reached")
    lab_setup.send("now")

    time.sleep(1)
    assert lab_setup.held() <= 6
    assert lab_setup.journal.starts("now") == 0


@with_options(worker_prefetch_multiplier=2)
def test_a_warm_shutdown_finishes_what_runs_and_gives_back_what_waits(lab_setup):
    """Section 7: on SIGTERM the running task ends, the prefetched one returns to the queue at once."""
    lab_setup.send("running", 1.5)
    lab_setup.wait_for_start("running")
    for number in range(3):
        lab_setup.send(f"waiting{number}")
    wait_until(lambda: lab_setup.held() == 2, what="one prefetched")

    assert lab_setup.end() == 0
    assert lab_setup.journal.ends("running") == 1
    assert (lab_setup.queued(), lab_setup.held()) == (3, 0)


class TestSoftShutdown:
    @pytest.fixture
    def default_worker_env(self, default_worker_env):
        return default_worker_env | {"REMAP_SIGTERM": "SIGQUIT"}

    @with_options(
        worker_soft_shutdown_timeout=1, worker_enable_soft_shutdown_on_idle=True, worker_prefetch_multiplier=2
    )
    def test_a_soft_shutdown_gives_back_even_what_runs(self, lab_setup):
        """Section 7: with `REMAP_SIGTERM=SIGQUIT` a prefork worker ends in time and every message is in the queue."""
        lab_setup.send("running", 60)
        lab_setup.wait_for_start("running")
        lab_setup.send("waiting")
        wait_until(lambda: lab_setup.held() == 2, what="one prefetched")

        assert lab_setup.end() == 0
        assert (lab_setup.queued(), lab_setup.held()) == (2, 0)


def test_a_shutdown_that_is_cut_short_leaves_messages_unseen(lab_setup):
    """Section 7: SIGTERM, then SIGKILL before the task is over (docker stop): the messages wait in `unacked`."""
    lab_setup.send("running", 60)
    lab_setup.wait_for_start("running")
    os.kill(lab_setup.worker.pid, signal.SIGTERM)
    lab_setup.worker.wait_for_log("Warm shutdown")
    lab_setup.worker.kill()

    assert (lab_setup.queued(), lab_setup.held()) == (0, 1)


# -- defaults that this version has -----------------------------------------------------------------------------------


def test_the_sweep_for_lost_workers_comes_every_hundred_seconds():
    """Section 7: unacknowledged messages are looked for every 10 seconds, and only every tenth time."""

    class Loop:
        poller = None

        def __init__(self):
            self.every = {}
            self.on_tick = set()
            self.add_reader = None

        def call_repeatedly(self, seconds, callback, *_):
            self.every[callback.__name__] = seconds

    class Connection:
        client = type("Client", (), {"transport_options": {}})()

    loop, cycle = Loop(), transport.MultiChannelPoller()
    poller = transport.Transport.__new__(transport.Transport)
    poller.cycle = cycle
    poller.register_with_event_loop(Connection(), loop)

    assert loop.every["maybe_restore_messages"] == 10
    assert transport.QoS.restore_visible.__defaults__ == (0, 10, 10)


def test_the_broker_connection_has_no_time_out_and_few_connections_unless_told():
    """Section 2: by default a half-open connection hangs a publish for ever, and ten connections are the limit."""
    channel = transport.Channel

    assert (channel.socket_timeout, channel.socket_connect_timeout, channel.max_connections) == (None, None, 10)
    assert channel.visibility_timeout == 3600


def test_anyone_on_the_broker_may_control_the_workers_unless_told():
    """Section 2: remote control is on by default, late acknowledgement and rejection are off."""
    conf = Celery("defaults").conf

    assert conf.worker_enable_remote_control is True
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost) == (False, None)
    assert conf.worker_prefetch_multiplier == 4


def test_priority_zero_comes_first_and_neighbours_are_the_same(tmp_path):
    """Section 2: on Redis 0 is the highest priority, and ten of them are four lists."""
    server = RedisServer(tmp_path / "redis")
    heard = []
    try:
        server.start()
        with kombu.Connection(server.url) as connection, connection.channel() as channel:
            queue = kombu.Queue(QUEUE, routing_key=QUEUE)(channel)
            queue.declare()
            producer = kombu.Producer(channel)
            for priority in (9, 6, 3, 5, 4, 0):
                producer.publish({"priority": priority}, routing_key=QUEUE, priority=priority)
            while (message := queue.get(no_ack=True)) is not None:
                heard.append(message.payload["priority"])
    finally:
        server.process.remove()

    assert heard == [0, 3, 5, 4, 6, 9]
