import csv
import io
import json

import pytest

from engine.view import refund_view
from ledger import queries

CREATE = (
    *("refunds", "create", "--account", "shop", "--payment", "PAY00001", "--order", "ORD00001"),
    *("--amount", "1", "--currency", "EUR"),
)


def test_a_refund_is_created_and_shown_by_any_kind_of_id(create, refundry):
    made = create("R-1")

    assert made["state"] == "queued"
    assert made["amount"] == 1250
    for word in (made["id"], "R-1", "PAY00001", "ORD00001", made["handle"]):
        told = refundry("refunds", "show", word, "-o", "json")
        assert told.status == 0
        assert told.json()["id"] == made["id"]


def test_json_is_the_refund_exactly_as_it_is_answered_everywhere(create, refundry, engine):
    create("R-1")
    with engine.ledger.read() as connection:
        (refund,) = queries.find(connection, "R-1")

    shown = refundry("refunds", "show", "R-1", "-o", "json").json()

    assert list(shown) == list(refund_view(engine, refund))
    assert shown == json.loads(json.dumps(refund_view(engine, refund)))


def test_a_reference_is_made_and_told_where_none_was_given(home, refundry):
    told = refundry(*CREATE)

    assert told.status == 0
    assert "reference cli_" in told.out


def test_the_same_reference_again_is_the_same_refund(create, refundry):
    first, again = create("R-1"), create("R-1")

    assert again["id"] == first["id"]
    assert len(refundry("refunds", "list", "-o", "json").json()) == 1


def test_the_same_reference_with_other_content_is_a_conflict(create, refundry):
    create("R-1")

    told = refundry(*CREATE, "--reference", "R-1", "-o", "json")

    assert told.status == 4
    assert told.problem()["code"] == "reference-conflict"
    assert told.problem()["errors"][0]["pointer"] == "#/amount"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("--account nobody --payment PAY00001 --amount 1 --currency EUR", 1, "#/account"),
        ("--account shop --payment PAY00001 --order ORD00001 --amount 1 --currency EUR --reason bored", 1, "#/reason"),
        ("--account shop --payment PAY00001 --amount 1.234 --currency EUR", 2, "more decimals"),
        ("--account shop --payment PAY00001 --amount 1 --currency eur", 2, "ISO 4217"),
        ("--account shop --payment PAY00001 --amount one --currency EUR", 2, "not a decimal number"),
        ("--account shop --payment PAY00001 --amount 1_000 --currency EUR", 2, "not a decimal number"),
        ("--account shop --payment PAY00001 --amount 1", 2, "--currency"),
        ("--account shop --amount 1 --currency EUR", 2, "--payment or --order"),
    ],
)
def test_what_cannot_be_refunded_is_said_in_one_line(home, refundry, arguments, status, words):
    told = refundry("refunds", "create", *arguments.split())

    assert told.status == status
    assert words in told.err
    assert len(told.err.splitlines()) == 1
    assert refundry("refunds", "list", "-o", "json").json() == []


def test_a_rehearsal_accepts_nothing(home, refundry):
    told = refundry(*CREATE, "--dry-run")

    assert told.status == 0
    assert "would be accepted" in told.out
    assert refundry("refunds", "list", "-o", "json").json() == []


def test_a_large_refund_waits_for_a_second_person(home, refundry):
    (home / "refundry.toml").write_text(
        (home / "refundry.toml").read_text() + "\n[approvals]\nthreshold = {EUR = 100}\n"
    )

    told = refundry(*CREATE)

    assert told.status == 5
    assert "approval" in told.out
    assert refundry(*CREATE, "--dry-run").status == 0


def test_lists_are_narrowed_by_state_account_words_and_time(create, move, refundry):
    create("R-1")
    create("R-2", payment="PAY00002")
    create("R-3", payment="PAY00003", account="other")
    move("R-2", "cancelled")

    def found(*arguments):
        return {each["reference"] for each in refundry("refunds", "list", *arguments, "-o", "json").json()}

    assert found() == {"R-1", "R-2", "R-3"}
    assert found("--state", "cancelled") == {"R-2"}
    assert found("--state", "cancelled", "--state", "queued", "--account", "shop") == {"R-1", "R-2"}
    assert found("PAY00002") == {"R-2"}
    assert found("state:queued", "account:other") == {"R-3"}
    assert found("order:ORD00001") == {"R-1"}
    assert found("--since", "1h") == {"R-1", "R-2", "R-3"}
    assert found("--since", "0s") == set()


@pytest.mark.parametrize("query", ["colour:red", "state:lost", 'name:"Lin'])
def test_a_wrong_query_is_a_usage_fault(home, refundry, query):
    told = refundry("refunds", "list", query)

    assert told.status == 2
    assert len(told.err.splitlines()) == 1


def test_pages_follow_each_other_by_the_cursor(create, refundry):
    made = [create(f"R-{number}", payment=f"PAY0000{number}")["id"] for number in range(5)]

    first = refundry("refunds", "list", "--limit", "2", "-o", "json").json()
    second = refundry("refunds", "list", "--limit", "2", "--cursor", first[-1]["id"], "-o", "json").json()
    everything = refundry("refunds", "list", "--limit", "0", "-o", "jsonl").out.splitlines()

    assert [each["id"] for each in first + second] == made[:0:-1]
    assert len(everything) == 5
    assert f"--cursor {first[-1]['id']}" in refundry("refunds", "list", "--limit", "2").err


def test_csv_has_a_column_for_each_member_and_no_formulas(home, refundry):
    refundry(*CREATE, "--reference", "=1+1")

    (row,) = csv.DictReader(io.StringIO(refundry("refunds", "list", "-o", "csv").out))

    assert row["reference"] == "'=1+1"
    assert row["amount"] == "100"
    assert row["payment.order_id"] == "ORD00001"
    assert row["failure.code"] == ""


def test_empty_lists_stay_readable_in_every_format(home, refundry):
    assert refundry("refunds", "list").out == "no refund fits\n"
    assert refundry("refunds", "list", "-o", "json").json() == []
    assert refundry("refunds", "list", "-o", "jsonl").out == ""
    assert refundry("refunds", "list", "-o", "csv").out.startswith("id,object,state")


def test_the_story_is_told_in_order(create, refundry):
    create("R-1")
    refundry("refunds", "note", "R-1", "called", "the", "customer")

    story = refundry("refunds", "show", "R-1", "--timeline", "-o", "json").json()["timeline"]

    assert [each["type"] for each in story["events"]] == ["refund.accepted", "refund.noted"]
    assert story["events"][1]["note"] == "called the customer"
    assert story["attempts"] == []
    assert "refund.accepted" in refundry("refunds", "show", "R-1", "--raw").out


def test_several_hits_are_listed(create, refundry):
    create("R-1", payment="PAYSAME0")
    create("R-2", payment="PAYSAME0")

    assert {each["reference"] for each in refundry("refunds", "show", "PAYSAME0", "-o", "json").json()} == {
        "R-1",
        "R-2",
    }
    told = refundry("refunds", "cancel", "PAYSAME0")
    assert told.status == 2
    assert "2 refunds" in told.err


def test_what_does_not_exist_is_not_found(home, refundry):
    for command in (
        ("show", "x"),
        ("cancel", "x"),
        ("check", "x"),
        ("retry", "x"),
        ("note", "x", "y"),
        ("assign", "x"),
    ):
        assert refundry("refunds", *command).status == 3


def test_a_refund_that_was_never_sent_is_cancelled_once(create, refundry):
    create("R-1")

    assert refundry("refunds", "cancel", "R-1", "--reason", "mistake", "-o", "json").json()["state"] == "cancelled"
    assert refundry("refunds", "cancel", "R-1").status == 4


def test_there_is_nothing_to_ask_about_a_queued_refund(create, refundry):
    create("R-1")

    assert refundry("refunds", "check", "R-1").status == 4
    assert refundry("refunds", "retry", "R-1").status == 4


def test_a_pending_refund_is_asked_about_at_once(create, move, refundry):
    create("R-1")
    move("R-1", "sending")
    move("R-1", "pending", due_at=9e9, provider_refund_id="TX1")

    told = refundry("refunds", "check", "R-1")

    assert told.status == 0
    assert "is being asked about" in told.out


def test_refunds_are_assigned_and_given_back(create, refundry):
    create("R-1")

    assert refundry("refunds", "assign", "R-1", "oli", "--reason", "knows the shop").status == 0
    assert refundry("refunds", "assign", "R-1").status == 0
    assert refundry("refunds", "note", "R-1").status == 2
