"""Every provider: an answer lost after the money moved ends succeeded, with one payment."""

import pytest

from tests.e2e.conftest import PROVIDERS

AFTER = ("answer_lost", "error_500_after", "html", "truncated", "hang")


def test_each_provider_survives_each_loss_after_the_money_moved(stack):
    system = stack()
    jobs = []
    faults = []
    for provider in PROVIDERS:
        for fault in AFTER:
            [job] = system.jobs(provider, 1, tag=f"{fault}-")
            faults.append({"fault": fault, "payment": job["payment"].get("id"), "first": 1})
            jobs.append(job)
    system.faults(*faults)
    system.enqueue(jobs)

    assert system.settle(len(jobs), timeout=90) == {"succeeded": len(jobs)}
    system.assert_paid_once()


@pytest.mark.parametrize("then", ["throttled", "request_lost", "decline", "error_500_before"])
def test_a_trouble_of_the_next_attempt_changes_nothing_after_a_lost_answer(stack, then):
    system = stack()
    jobs = [job for provider in PROVIDERS for job in system.jobs(provider, 1)]
    faults = []
    for job in jobs:
        payment = job["payment"]["id"]
        faults += [
            {"fault": "answer_lost", "payment": payment, "first": 1},
            {"fault": then, "payment": payment, "first": 1, "after": 1},
        ]
    system.faults(*faults)
    system.enqueue(jobs)

    assert system.settle(len(jobs), timeout=90) == {"succeeded": len(jobs)}
    system.assert_paid_once()


def test_a_replay_sends_the_same_bytes(stack):
    system = stack()
    jobs = system.jobs("smartretry", 5) + system.jobs("smartpay", 5) + system.jobs("jpm_smartpay", 5)
    system.faults({"fault": "answer_lost", "first": 15})
    system.enqueue(jobs)
    system.settle(15)
    bodies: dict[str, set[str]] = {}
    for request in system.requests():
        if request["call"] == "refund":
            bodies.setdefault(request["handle"], set()).add(request["sha256"])

    assert len(bodies) == 15
    assert all(len(hashes) == 1 for hashes in bodies.values())
    system.assert_paid_once()


def test_a_handle_past_its_lifetime_without_a_lookup_ends_in_review_untouched(stack):
    system = stack(smartretry={"handle_lifetime": 4, "retry_backoff": {"base": 3, "cap": 3}})
    jobs = system.jobs("smartretry", 3)
    system.faults({"fault": "answer_lost", "probability": 1.0})
    system.enqueue(jobs)
    system.settle(3, allow=frozenset({"review"}))
    sent = len([request for request in system.requests("smartretry") if request["call"] == "refund"])

    assert system.states() == {"review": 3}
    assert {row["cause"] for row in system.rows()} == {"handle_expired"}
    assert all(row["ambiguous"] for row in system.rows())
    system.assert_paid_once()
    assert sent == len([request for request in system.requests("smartretry") if request["call"] == "refund"])
