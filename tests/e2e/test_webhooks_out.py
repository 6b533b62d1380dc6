"""Real workers tell a real receiver of what becomes of refunds."""

import signal
from collections import Counter

import pytest
from standardwebhooks.webhooks import Webhook

from engine import webhooks
from engine.people import Actor, Role
from engine.submit import submit
from tests.support.processes import wait_until
from tests.support.receiver import Receiver

ADMIN = Actor("ada", frozenset(Role))
SETTINGS = {
    "webhooks": {
        "allow_http": True,
        "allow_networks": ["127.0.0.0/8"],
        "retry_schedule": [0, 0.2, 0.5, *[1] * 40],
        "timeout": 3,
    }
}


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


def stories(received):
    """The versions of each refund in the order of their first arrival, and the last type."""
    told = {}
    for got in received:
        refund, version = got.event
        if version not in told.setdefault(refund, {}):
            told[refund][version] = got.json["type"]

    return told


def streamed(system):
    """Every change of state, as the stream has it."""
    return {
        (fields[b"refund_id"].decode(), int(fields[b"version"]))
        for _, fields in system.redis.client().xrange("refundry:events")
    }


def deliveries(system):
    """How many deliveries stand in each state."""
    return Counter(each["state"] for each in webhooks.sent(system.engine, limit=1000))


def assert_all_told_in_order(system, receiver):
    wait_until(lambda: streamed(system) == {got.event for got in receiver.good}, what="every event of the stream")
    for versions in stories(receiver.good).values():
        assert list(versions) == sorted(versions)


def wait_for_all(receiver, count, *, timeout=60):
    def everybody():
        told = stories(receiver.good)
        return len(told) == count and all("refund.succeeded" in versions.values() for versions in told.values())

    wait_until(everybody, timeout=timeout, what=f"{count} stories with a happy end")


def test_a_worker_tells_every_state_in_order_signed_and_soon(stack, receiver):
    system = stack(sections=SETTINGS)
    _, secret = webhooks.create(system.engine, ADMIN, receiver.url)
    system.enqueue(system.jobs("smartretry", 5))
    wait_for_all(receiver, 5)

    for versions in stories(receiver.got).values():
        assert list(versions) == sorted(versions) == list(range(1, len(versions) + 1))
        assert list(versions.values()) == ["refund.accepted", "refund.sent", "refund.pending", "refund.succeeded"]
    for got in receiver.got:
        assert Webhook(secret).verify(got.body, dict(got.headers)) == got.json
    assert len({got.id for got in receiver.got}) == len(receiver.got) == 20


def test_a_receiver_that_was_away_gets_every_event_once_it_is_back(stack, receiver):
    system = stack(sections=SETTINGS)
    webhooks.create(system.engine, ADMIN, receiver.url)
    receiver.fail(503)
    system.enqueue(system.jobs("smartpay", 5))
    system.settle(5)
    wait_until(lambda: len(receiver.got) >= 10, what="ten attempts in vain")
    receiver.work()
    wait_for_all(receiver, 5)

    assert_all_told_in_order(system, receiver)
    wait_until(lambda: deliveries(system) == {"delivered": len(receiver.good)}, what="every answer written down")
    taken: dict[str, list[int]] = {}
    for got in receiver.good:
        taken.setdefault(got.event[0], []).append(got.event[1])
    assert all(versions == sorted(set(versions)) for versions in taken.values())
    assert len({got.id for got in receiver.good}) == len(receiver.good) == len(streamed(system))


def test_a_worker_killed_in_the_middle_loses_no_event(stack, receiver):
    settings = {"webhooks": {**SETTINGS["webhooks"], "timeout": 1}}
    system = stack(sections=settings)
    webhooks.create(system.engine, ADMIN, receiver.url)
    receiver.hang()
    system.enqueue(system.jobs("smartpay", 5))
    wait_until(lambda: len(receiver.got) >= 3, what="requests without an answer")
    system.workers[0].kill(signal.SIGKILL)
    receiver.work()
    system.start_worker()
    wait_for_all(receiver, 5, timeout=90)

    assert_all_told_in_order(system, receiver)
    assert len({got.id for got in receiver.got}) == len(streamed(system))


def test_without_redis_the_receiver_is_told_all_the_same(stack, receiver):
    system = stack(sections=SETTINGS)
    webhooks.create(system.engine, ADMIN, receiver.url)
    system.enqueue(system.jobs("smartpay", 1, tag="first-"))
    wait_for_all(receiver, 1)
    jobs = system.jobs("smartpay", 3, tag="second-")
    system.redis.kill()
    for job in jobs:
        submit(system.engine, job, actor="test", via="api")
    wait_for_all(receiver, 4, timeout=90)

    system.redis.start()
    assert_all_told_in_order(system, receiver)
