"""The product under `deploy/redis/users.acl`: what each user may do, and what not even a worker may."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from tests.support.servers import RedisServer
from tests.support.stack import Stack

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    subprocess.run(["sh", folder / "deploy" / "secrets.sh"], check=True)
    return folder / "secrets"


class GuardedRedis(RedisServer):
    """A Redis with the users file; `url` is the workers'."""

    def __init__(self, folder, secrets):
        super().__init__(folder, aclfile=str(secrets / "redis_users"))
        self._secrets = secrets

    @property
    def url(self):
        return self.url_of("worker")

    def url_of(self, name):
        return (
            (self._secrets / f"{name}_redis_url").read_text().strip().replace("@redis:6379", f"@127.0.0.1:{self.port}")
        )

    def as_user(self, name):
        return redis.Redis.from_url(self.url_of(name))


@pytest.fixture
def server(tmp_path, secrets):
    server = GuardedRedis(tmp_path / "redis", secrets)
    try:
        server.start()
        yield server
    finally:
        server.process.remove()


@pytest.fixture
def running(tmp_path, server, sqlite_url):
    stack = Stack(tmp_path / "stack", sqlite_url, server)
    yield stack
    stack.stop()


def test_the_whole_system_works_as_the_worker_s_user(running, server):
    stack = running.start()
    jobs = stack.jobs("smartretry", 5)
    shop = server.as_user("shop")
    for job in jobs:
        shop.xadd("refundry:intake", {"job": json.dumps(job)})

    assert stack.settle(5) == {"succeeded": 5}
    assert server.as_user("listener").xlen("refundry:events") > 0
    assert "NOPERM" not in "".join(worker.tail(100_000) for worker in stack.workers)
    denied = server.as_user("listener")
    with pytest.raises(redis.exceptions.NoPermissionError):
        denied.xadd("refundry:events", {"state": "succeeded"})


def test_a_shop_puts_jobs_in_and_sees_nothing(server):
    shop = server.as_user("shop")
    shop.xadd("refundry:intake", {"job": "{}"})

    for forbidden in (
        lambda: shop.xrange("refundry:intake"),
        lambda: shop.xadd("refundry:events", {"state": "succeeded"}),
        lambda: shop.lpush("refundry.send", "{}"),
        lambda: shop.keys("*"),
        shop.flushall,
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            forbidden()


def test_nobody_enters_without_a_password(server):
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis(port=server.port).set("a", "b")
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis.from_url(re.sub(r":[^:@]+@", ":wrong@", server.url)).ping()
    assert redis.Redis(port=server.port, username="probe", password="none").ping()


def test_not_even_a_worker_empties_or_reconfigures_the_server(server):
    worker = server.as_user("worker")

    for forbidden in (worker.flushall, worker.config_get, worker.shutdown, lambda: worker.set("other", "key")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            forbidden()


def test_flower_hears_of_tasks_and_can_start_none(server, tmp_path, sqlite_url):
    stack = Stack(tmp_path / "stack", sqlite_url, server, sections={"celery": {"events": True}})
    flower, heard = Celery(broker=server.url_of("flower")), set()

    def hear(event):
        heard.add(event["type"])
        receiver.should_stop = {"worker-heartbeat", "task-succeeded"} <= heard

    try:
        stack.start()
        with flower.connection_for_read() as connection:
            receiver = flower.events.Receiver(connection, handlers={"*": hear})
            receiver.capture(timeout=60)
        with pytest.raises(OperationalError, match="no permissions"):
            flower.send_task("refunds.tick", queue="refundry.send", retry=False)
        with pytest.raises(redis.exceptions.NoPermissionError):
            server.as_user("flower").xadd("refundry:intake", {"job": "{}"})
    finally:
        stack.stop()
        flower.close()

    assert "NOPERM" not in "".join(worker.tail(100_000) for worker in stack.workers)
