import csv
import io

import pytest

from domain.decision import Cause
from domain.errors import FieldError, InvalidJob
from engine.inbox import keep, rejection


@pytest.fixture
def rejected(engine):
    problem = InvalidJob(FieldError("#/amount", "must be more than 0"))
    found = rejection(engine, b'{"reference": "B-1", "account": "shop"}', problem, "stream:1-1")
    keep(engine, [found])
    return found


@pytest.fixture
def evidence(home):
    (home / "portal.txt").write_text("nothing under this handle")
    return "portal.txt"


def test_dead_letters_are_listed_with_cause_verdict_age_and_note(review, rejected, refundry):
    review("R-1")

    told = refundry("dead", "list")

    assert told.status == 0
    for part in ("R-1", "another amount", "a person must decide", "odd", "B-1", "#/amount must be more than 0"):
        assert part in told.out


def test_dead_letters_parse_in_every_format(review, rejected, refundry):
    review("R-1")

    listed = refundry("dead", "list", "-o", "json").json()
    rows = list(csv.DictReader(io.StringIO(refundry("dead", "list", "-o", "csv").out)))

    assert [each["object"] for each in listed] == ["refund", "rejected_job"]
    assert listed[0]["review"]["verdict"]["advice"] == "human_only"
    assert [each["object"] for each in rows] == ["refund", "rejected_job"]
    assert rows[1]["code"] == "validation-failed"


def test_dead_letters_are_counted_by_cause(review, refundry):
    review("R-1")

    (found,) = refundry("dead", "groups", "-o", "json").json()

    assert (found["cause"], found["count"], found["account"]) == ("mismatch", 1, "shop")
    assert refundry("dead", "groups").status == 0


def test_nothing_dead_is_said_so(home, refundry):
    assert refundry("dead", "list").out == "no dead letters\n"
    assert refundry("dead", "groups").out == "no dead letters\n"


def test_what_is_safe_goes_again(review, refundry):
    review("R-1", Cause.LEASES_LOST, ambiguous=False)

    told = refundry("dead", "retry", "R-1", "-o", "json")

    assert told.status == 0
    assert told.json()["state"] == "queued"


def test_what_is_not_safe_is_refused_with_the_verdict(review, refundry):
    review("R-1")

    told = refundry("dead", "retry", "R-1")

    assert told.status == 1
    assert "human_only" in told.err


def test_of_several_each_result_is_told(review, refundry):
    review("R-1", Cause.LEASES_LOST, ambiguous=False)
    review("R-2")

    told = refundry("dead", "retry", "R-1", "R-2", "-o", "json")

    assert told.status == 1
    assert [each["result"].split(":")[0] for each in told.json()] == ["retried", "skipped"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry",),
        ("retry", "R-1", "--query", "x"),
        ("retry", "R-1", "--all"),
        ("retry", "--new-handle"),
        ("settle", "R-1"),
    ],
)
def test_half_a_command_is_a_usage_fault(home, refundry, arguments):
    assert refundry("dead", *arguments).status == 2


def test_a_new_handle_waits_for_a_second_person(review, evidence, refundry):
    review("R-1")

    told = refundry("dead", "retry", "R-1", "--new-handle", "--evidence", evidence, "--reason", "not there")

    assert told.status == 5
    assert "refundry approvals approve ap_" in told.out


def test_settling_waits_for_a_second_person_who_is_another(review, evidence, refundry):
    review("R-1")

    told = refundry(
        "dead", "settle", "R-1", "--outcome", "returned", "--evidence", evidence, "--reason", "seen", "-o", "json"
    )

    assert told.status == 5
    assert told.json()["status"] == "open"
    again = refundry("dead", "settle", "R-1", "--outcome", "returned", "--evidence", evidence, "--reason", "seen")
    assert again.status == 4


def test_evidence_and_reason_are_required(review, evidence, refundry):
    review("R-1")
    settle = ("dead", "settle", "R-1", "--outcome", "returned")

    assert refundry(*settle, "--reason", "seen").status == 2
    assert refundry(*settle, "--reason", "seen", "--evidence", "missing.txt").status == 2
    assert refundry(*settle, "--evidence", evidence).status == 1
    assert refundry(*settle, "--evidence", "-", "--reason", "seen", stdin=b"from the portal").status == 5


def test_a_rejected_job_is_closed_with_a_reason(rejected, refundry):
    assert refundry("dead", "close", rejected.id).status == 1
    assert refundry("dead", "close", rejected.id, "--reason", "sent again, corrected").status == 0
    assert refundry("dead", "close", rejected.id, "--reason", "twice").status == 3
    assert refundry("dead", "list").out == "no dead letters\n"
