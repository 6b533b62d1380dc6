"""The sandbox notifies a running door: whatever the manners, one right outcome at every provider."""

import httpx
import pytest

from ledger import external, notification
from tests.e2e.conftest import PROVIDERS
from tests.support.door import door
from tests.support.processes import wait_until
from tests.support.receiver import Receiver

#: What a sender's HTTP client adds by itself.
OF_THE_CLIENT = {"host", "content-length", "connection", "accept", "accept-encoding", "user-agent"}
MANNERS = {
    "before the answer": {"before_answer": True},
    "before a lost answer": {"before_answer": True},
    "twice": {"times": 2},
    "late": {"delay": 2},
}


def targets(system, url, **manners):
    body = {provider: {"url": f"{url}/{provider}", **manners} for provider in PROVIDERS}
    system.sandbox.put("/_sandbox/webhooks", json=body).raise_for_status()


def received(system, **which):
    with system.engine.ledger.read() as connection:
        return notification.listed(connection, limit=1000, **which)


def booked(system):
    with system.engine.ledger.read() as connection:
        return external.listed(connection)


def looked_at(system, count):
    def done():
        rows = received(system)
        return len(rows) >= count and all(row["state"] in ("done", "refused") for row in rows)

    wait_until(done, timeout=90, what=f"{count} notifications looked at, {received(system)}")


@pytest.mark.parametrize("manners", MANNERS)
def test_notifications_leave_one_right_outcome(stack, manners):
    system = stack()
    with door(system.engine) as url:
        targets(system, url, **MANNERS[manners])
        jobs = [job for provider in PROVIDERS for job in system.jobs(provider, 3)]
        if "lost" in manners:
            system.faults({"fault": "answer_lost", "probability": 0.7})
        system.enqueue(jobs)
        assert system.settle(len(jobs), timeout=90) == {"succeeded": len(jobs)}
        looked_at(system, len(jobs))

        assert booked(system) == []
        assert {row["account"] for row in received(system)} == set(PROVIDERS)
        assert all(row["verified"] for row in received(system))
        system.assert_paid_once()


def test_what_is_made_elsewhere_and_what_is_forged(stack):
    system = stack()
    with door(system.engine) as url:
        targets(system, url)
        jobs = [job for provider in PROVIDERS for job in system.jobs(provider, 1)]
        system.enqueue(jobs)
        system.settle(len(jobs), timeout=90)
        looked_at(system, len(jobs))
        rows = {row["account"]: row for row in system.rows()}
        for provider, row in rows.items():
            made = {"provider": provider, "payment": row["payment_id"], "amount": 100}
            system.sandbox.post("/_sandbox/external", json=made).raise_for_status()
            asked = {"provider": provider, "refund_id": row["provider_refund_id"]}
            again = system.sandbox.post("/_sandbox/notify", json={**asked, "how": "replayed"}).json()
            forged = system.sandbox.post("/_sandbox/notify", json={**asked, "how": "wrong_signature"}).json()
            assert (again["status"] in (200, 204), forged["status"]) == (True, 401)
        wait_until(lambda: len(booked(system)) == len(rows), timeout=60, what=f"booked: {booked(system)}")

        assert {each["account"] for each in booked(system)} == set(PROVIDERS)
        assert len(received(system, unverified=True)) == len(PROVIDERS)
        assert system.states() == {"succeeded": len(jobs)}
        system.assert_paid_once()


@pytest.fixture
def network():
    """Takes what the providers send, and delivers nothing."""
    made = Receiver()
    yield made
    made.close()


def test_the_last_that_was_told_may_come_first(stack, network):
    """Successes and what was taken back afterwards come in the wrong order, twice, each after a forged copy."""
    system = stack(beats=0)  # nobody else asks about what is final
    targets(system, network.url)
    taken_back = {"call": "refund", "fault": "late_flip", "first": 1, "seconds": 6}
    system.faults(*({"provider": provider, **taken_back} for provider in PROVIDERS))
    jobs = [job for provider in PROVIDERS for job in system.jobs(provider, 2)]
    system.enqueue(jobs)
    assert system.settle(len(jobs), timeout=90) == {"succeeded": len(jobs)}
    told = len(jobs) + len(PROVIDERS) - 1  # Smartpay has no word for a refund that was taken back
    wait_until(lambda: len(network.got) == told, timeout=60, what=f"{told} notifications sent")
    with door(system.engine) as url:
        for got in reversed(network.got):
            address = f"{url}/{got.path.rpartition('/')[2]}"
            headers = {name: value for name, value in got.headers.items() if name not in OF_THE_CLIENT}
            unsigned = {"content-type": headers["content-type"]}
            assert httpx.post(address, headers=unsigned, content=got.body).status_code == 401
            for _ in range(2):
                assert httpx.post(address, headers=headers, content=got.body).is_success
    reversed_ones = {"succeeded": len(jobs) - len(PROVIDERS) + 1, "reversed": len(PROVIDERS) - 1}
    wait_until(lambda: system.states() == reversed_ones, timeout=60, what=f"{reversed_ones}, {system.states()}")
    looked_at(system, told)

    genuine = [row for row in received(system) if row["verified"]]
    assert [row["deliveries"] for row in genuine] == [2] * told
    assert system.states() == reversed_ones
    assert booked(system) == []
    assert len(system.moved()) == len(jobs)
    system.assert_paid_once()


def test_they_are_looked_at_while_redis_is_away(stack, redis_server):
    system = stack(workers=1)
    with door(system.engine) as url:
        [job] = system.jobs("smart2pay", 1)
        system.enqueue([job])
        system.settle(1, timeout=60)
        redis_server.kill()
        targets(system, url)
        made = {"provider": "smart2pay", "payment": job["payment"]["id"], "amount": 100}
        system.sandbox.post("/_sandbox/external", json=made).raise_for_status()
        wait_until(lambda: len(booked(system)) == 1, timeout=60, what=f"booked: {received(system)}")

        assert booked(system)[0]["amount"] == 100
