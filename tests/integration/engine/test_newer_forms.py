"""What a newer program wrote in a form of its own: left alone, told, and in the end a person's; nobody waits for it."""

import json

import pytest
import structlog
from sqlalchemy import update

from domain.state import State
from engine.inbox import refuse_message
from ledger import rejected
from ledger.models import attempt, refund
from tests.support.one_process import Bench, lost, one_after_another


@pytest.fixture
def bench(database_url):
    made = Bench(database_url)
    yield made
    made.close()


def rewrite(bench, table, which, **values):
    with bench.engine.ledger.write() as connection:
        connection.execute(update(table).where(which).values(**values))


def newer(bench, made):
    """Its job, as a newer program might keep it."""
    rewrite(bench, refund, refund.c.id == made.id, job=f'{{"form":2,{bench.read(made.id).job[1:]}')


def test_a_job_of_a_newer_form_is_told_and_left_and_the_others_are_paid(bench):
    theirs, ours = bench.refund(), bench.refund()
    newer(bench, theirs)
    with structlog.testing.capture_logs() as lines:
        bench.turn("send")

    assert bench.read(ours.id).state is State.PENDING
    assert (bench.read(theirs.id).state, bench.read(theirs.id).attempts) == (State.QUEUED, 0)
    assert len(bench.network.sent) == 1
    (line,) = [line for line in lines if line["event"] == "refund.newer_form"]
    assert line["refund_id"] == theirs.id


def test_where_no_program_knows_the_form_a_person_is_asked(bench):
    theirs = bench.refund()
    newer(bench, theirs)
    for _ in range(20):
        bench.turn("send")
        if bench.read(theirs.id).state is State.REVIEW:
            break
        bench.until_due(theirs.id)

    assert (bench.read(theirs.id).state, bench.read(theirs.id).cause) == (State.REVIEW, "leases_lost")
    assert bench.network.sent == []


def test_a_frozen_request_of_a_newer_form_is_not_sent_and_none_is_written_for_it(bench):
    made = bench.refund()
    bench.answering(lost)
    bench.turn("send")
    headers = '{"form":2,"headers":[]}'
    rewrite(bench, attempt, attempt.c.refund_id == made.id, headers=headers)
    bench.answering(one_after_another([lost]))
    bench.until_due(made.id)
    with structlog.testing.capture_logs() as lines:
        bench.turn("recover")

    stands = bench.read(made.id)
    assert (stands.state, stands.attempts, stands.ambiguous) == (State.UNKNOWN, 1, True)
    assert len([request for request in bench.network.sent if request.method == "POST"]) == 1
    assert "refund.newer_form" in [line["event"] for line in lines]


def test_a_refund_whose_customer_cannot_be_read_does_not_hold_up_its_account(bench):
    sealed = bench.refund(customer={"email": "ann@example.com"})
    rewrite(bench, refund, refund.c.id == sealed.id, personal=b"sealed with a key that is gone")
    other = bench.refund()
    bench.turn("send")

    assert bench.read(other.id).state is State.PENDING
    assert (bench.read(sealed.id).state, bench.read(sealed.id).attempts) == (State.QUEUED, 0)


def test_a_message_with_other_arguments_is_kept_once_with_all_that_it_said(bench):
    message = {"args": [], "kwargs": {"job": {"reference": "R-9"}, "priority": 3}}
    for _ in range(2):
        refuse_message(bench.engine, message, "celery:1")
    with bench.engine.ledger.read() as connection:
        (listed,) = rejected.listed(connection)
        kept = rejected.get(connection, listed["id"])

    assert kept["source"] == "celery:1"
    assert "other arguments than `job`" in kept["errors"]
    assert json.loads(bench.engine.vault.open(kept["body"])) == message
