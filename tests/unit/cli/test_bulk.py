import asyncio

import pytest

from domain.decision import Cause
from engine import bulk_run


@pytest.fixture
def safe(create, move):
    """Makes refunds whose retry is safe."""

    def make(count=3):
        for number in range(1, count + 1):
            create(f"S-{number}", payment=f"PAY1000{number}")
            move(f"S-{number}", "review", cause=Cause.LEASES_LOST, due_at=None)

    return make


@pytest.fixture
def started(safe, refundry):
    """An operation over three refunds."""
    safe()
    told = refundry("dead", "retry", "--all", "--confirm", 3, "--reason", "workers are back", "-o", "json")
    assert told.status == 0, told.err
    return told.json()


@pytest.fixture
def carry_out(engine):
    """As a worker would, without the pauses."""

    async def inline(work, *arguments):
        return work(*arguments)

    def go(operation):
        asyncio.run(bulk_run.carry_out(engine, operation["id"], inline, sleep=lambda _seconds: asyncio.sleep(0)))

    return go


def test_a_query_is_previewed_confirmed_and_started(safe, review, refundry):
    safe()
    review("R-9", Cause.MISMATCH)

    shown = refundry("dead", "retry", "--all", "--dry-run")
    told = refundry("dead", "retry", "--query", "cause:leases_lost", "--confirm", 3, "--reason", "back")

    assert shown.status == 0
    assert "3 will be done (37.50 EUR at smartretry): --confirm 3; 0 to be checked first, 1 skipped" in shown.out
    assert "contradicts" in shown.out
    assert told.status == 0, told.err
    assert "3 refunds, 10 a second: refundry bulk show bo_" in told.out


def test_what_a_script_names_by_a_query_is_started(safe, refundry):
    safe()

    told = refundry("dead", "retry", "--query", "cause:leases_lost", "-o", "json")

    assert told.status == 0, told.err
    assert (told.json()["total"], told.json()["reason"]) == (3, "refundry dead retry --query 'cause:leases_lost'")


def test_a_preview_parses(safe, refundry):
    safe(1)

    [row] = refundry("bulk", "start", "retry", "--query", "ref:S-1", "--dry-run", "-o", "json").json()

    assert (row["lot"], row["reference"], row["amount"], row["why"]) == ("will_be_done", "S-1", 1250, "")


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        (("--reason", "back"), 1, "not-confirmed"),
        (("--confirm", 2, "--reason", "back"), 1, "not-confirmed"),
        (("--confirm", 3), 1, "reason-required"),
        (("--confirm", 3, "--reason", "back", "--pace", 0), 2, "usage"),
        (("--confirm", 3, "--reason", "back", "--stop-at", 101), 2, "usage"),
    ],
)
def test_what_is_not_confirmed_is_not_started(safe, refundry, more, status, code):
    safe()

    told = refundry("dead", "retry", "--all", *more, "-o", "json")

    assert (told.status, told.problem()["code"]) == (status, code)
    assert refundry("bulk", "list").out == "no bulk operations\n"


def test_where_nothing_fits_that_is_said(home, refundry):
    assert refundry("dead", "retry", "--query", "cause:leases_lost", "--dry-run").out == "nothing fits\n"
    assert refundry("dead", "retry", "--query", "cause:leases_lost").out == "nothing fits\n"
    assert refundry("dead", "retry", "--all", "--confirm", 0, "--reason", "x").status == 1
    assert refundry("bulk", "start", "check", "--query", "lin@example.com", "--dry-run").status == 2


def test_an_operation_is_listed_and_shown_with_each_result(started, carry_out, refundry):
    carry_out(started)

    (listed,) = refundry("bulk", "list", "-o", "json").json()
    shown = refundry("bulk", "show", started["id"], "--follow", "-o", "json")
    table = refundry("bulk", "show", started["id"], "--result", "done")

    assert (listed["id"], listed["state"], listed["done"], listed["query"]) == (started["id"], "done", 3, "")
    assert shown.status == 0
    assert [each["result"] for each in shown.json()["items"]] == ["done"] * 3
    assert shown.json()["came_back"] == 0
    for part in ("retry with the same handle: all", "By system: workers are back", "3 done", "S-2", "queued"):
        assert part in table.out


def test_what_was_stopped_is_taken_up_again(started, refundry):
    told = refundry("bulk", "stop", started["id"], "--reason", "enough")
    followed = refundry("bulk", "show", started["id"], "--follow")
    again = refundry("bulk", "start", "retry", "--again", started["id"], "--confirm", 3, "--reason", "on", "-o", "json")

    assert told.out == f"{started['id']} stopped: 0 had their turn, 3 left\n"
    assert followed.status == 1
    assert "Ended by system: enough" in followed.out
    assert again.json()["query"] == f"not done in {started['id']}"
    assert refundry("bulk", "stop", started["id"]).status == 4


def test_following_waits_for_the_end(started, carry_out, refundry, monkeypatch):
    monkeypatch.setattr("cli.bulk.time.sleep", lambda _seconds: carry_out(started))

    assert refundry("bulk", "show", started["id"], "--follow").status == 0


def test_who_may_not_act_may_look(started, people, refundry):
    assert refundry("bulk", "list", "--actor", "pia").status == 0
    assert refundry("bulk", "stop", started["id"], "--actor", "pia").status == 1
    assert refundry("bulk", "start", "cancel", "--all", "--dry-run", "--actor", "pia").status == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("start", "retry"),
        ("start", "retry", "--all", "--query", "x"),
        ("start", "settle", "--all"),
        ("show",),
    ],
)
def test_half_a_command_is_a_usage_fault(home, refundry, arguments):
    assert refundry("bulk", *arguments).status == 2


def test_what_is_not_there_is_not_found(home, refundry):
    assert refundry("bulk", "show", "bo_nothing").status == 3
    assert refundry("bulk", "stop", "bo_nothing").status == 3
    assert refundry("bulk", "start", "retry", "--again", "bo_nothing", "--dry-run").status == 3


def test_many_are_assigned_at_once(safe, review, refundry):
    safe()
    review("R-9", Cause.MISMATCH)

    shown = refundry("bulk", "assign", "--query", "cause:leases_lost", "--dry-run", "-o", "json")
    told = refundry("bulk", "assign", "anna", "--query", "cause:leases_lost")
    after = refundry("refunds", "list", "assignee:anna", "-o", "json")

    assert len(shown.json()) == 3
    assert {each["assignee"] for each in shown.json()} == {None}
    assert (told.status, told.out.strip()) == (0, "3 refunds assigned to anna"), told.err
    assert {each["reference"] for each in after.json()} == {"S-1", "S-2", "S-3"}
    assert refundry("bulk", "assign", "anna").status == 2
    assert refundry("bulk", "assign", "--all").status == 2
    assert refundry("bulk", "assign", "anna", "--all", "--nobody").status == 2
    assert refundry("bulk", "assign", "--all", "--nobody").out.strip() == "4 refunds assigned to nobody"
