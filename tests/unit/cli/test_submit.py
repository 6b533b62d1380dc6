import csv
import io
import json

import pytest


def job(reference="S-1", **changes):
    return {
        "reference": reference,
        "account": "shop",
        "payment": {"id": "PAY00001", "order_id": "ORD00001"},
        "amount": 100,
        "currency": "EUR",
        **changes,
    }


def lines(*jobs):
    return "".join(json.dumps(each) + "\n" for each in jobs).encode()


@pytest.fixture
def references(refundry):
    return lambda: {each["reference"] for each in refundry("refunds", "list", "--limit", "0", "-o", "json").json()}


def test_one_job_or_a_list_of_them_in_json(home, refundry, references):
    (home / "one.json").write_text(json.dumps(job("S-1")))
    (home / "two.json").write_text(json.dumps([job("S-2"), job("S-3")]))

    assert refundry("submit", "one.json").out == "1 accepted, 0 accepted before, 0 refused\n"
    assert refundry("submit", "two.json").status == 0
    assert references() == {"S-1", "S-2", "S-3"}


def test_bad_lines_are_reported_with_their_number_and_stop_nobody(home, refundry, references):
    (home / "jobs.jsonl").write_bytes(
        lines(job("S-1")) + b"\nnot json\n" + lines(job("S-2", amount=1.5), job("S-3", colour="red"), job("S-4"))
    )

    told = refundry("submit", "jobs.jsonl")

    assert told.status == 1
    assert [line.split(":")[0] for line in told.err.splitlines()] == ["line 3", "line 4", "line 5"]
    assert "never a float" in told.err
    assert told.out == "2 accepted, 0 accepted before, 3 refused\n"
    assert references() == {"S-1", "S-4"}


def test_a_file_handed_in_twice_pays_nothing_twice(home, refundry, references):
    (home / "jobs.jsonl").write_bytes(lines(job("S-1"), job("S-2")))
    refundry("submit", "jobs.jsonl")

    assert refundry("submit", "jobs.jsonl").out == "0 accepted, 2 accepted before, 0 refused\n"
    assert references() == {"S-1", "S-2"}


def test_csv_has_dotted_names_and_amounts_in_two_ways(home, refundry):
    (home / "jobs.csv").write_text(
        "reference,account,payment.id,payment.order_id,payment.amount,amount,currency,metadata.rma,items\n"
        'S-1,shop,PAY00001,ORD00001,21.00 EUR,12.50 EUR,,77,"[{""id"": ""1231"", ""quantity"": 1}]"\n'
        "S-2,shop,PAY00001,ORD00001,2100,850,EUR,,\n"
    )

    told = refundry("submit", "jobs.csv", "-o", "json")

    assert told.status == 1  # the second one names the captured amount without its currency
    first = told.json()[0]["refund"]
    assert (first["amount"], first["currency"], first["metadata"]) == (1250, "EUR", {"rma": "77"})
    assert first["payment"]["amount"] == 2100


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("S-1,shop,PAY00001,12.50,EUR", "like '12.50 EUR'"),
        ("S-1,shop,PAY00001,12.50 EUR,USD", "both EUR and USD"),
        ("S-1,shop,PAY00001", "3 cells"),
        ("S-1,,PAY00001,100,EUR", "#/account"),
    ],
)
def test_a_bad_row_of_csv_is_reported_with_its_line(home, refundry, row, words):
    text = f"reference,account,payment.id,amount,currency\n\n{row}\n"

    told = refundry("submit", "-", "--format", "csv", stdin=text.encode())

    assert told.status == 1
    assert told.err.startswith("line 3: ")
    assert words in told.err


def test_spreadsheets_write_semicolons_and_a_mark_in_front(home, refundry, references):
    text = "\ufeffreference;account;payment.id;payment.order_id;amount\nS-1;shop;PAY00001;ORD00001;1.00 EUR\n"

    assert refundry("submit", "-", "--format", "csv", stdin=text.encode()).status == 0
    assert references() == {"S-1"}


def test_the_account_of_the_command_line_is_for_jobs_that_name_none(home, refundry):
    nameless = {key: value for key, value in job("S-1").items() if key != "account"}
    body = lines(nameless, job("S-2", account="other"))

    told = refundry("submit", "-", "--format", "jsonl", "--account", "shop", "-o", "jsonl", stdin=body)

    assert [json.loads(line)["refund"]["account"] for line in told.out.splitlines()] == ["shop", "other"]


def test_a_rehearsal_reports_only(home, refundry, references):
    body = lines(job("S-1"), job("S-2", currency="XXX"))

    told = refundry("submit", "-", "--format", "jsonl", "--dry-run", stdin=body)

    assert told.status == 1
    assert told.out == "1 would be accepted, 0 accepted before, 1 refused\n"
    assert references() == set()


def test_large_files_go_in_by_batches(home, refundry, references):
    body = lines(*(job(f"S-{number}", amount=1) for number in range(1201)))

    told = refundry("submit", "-", "--format", "jsonl", stdin=body)

    assert told.out == "1201 accepted, 0 accepted before, 0 refused\n"
    assert len(references()) == 1201


def test_results_parse_as_csv(home, refundry):
    body = lines(job("S-1"), job("S-2", account="nobody"))

    rows = list(csv.DictReader(io.StringIO(refundry("submit", "-", "--format", "jsonl", "-o", "csv", stdin=body).out)))

    assert [each["status"] for each in rows] == ["accepted", "rejected"]
    assert rows[0]["refund.reference"] == "S-1"
    assert rows[1]["problem.code"] == "validation-failed"


def test_large_amounts_wait_for_a_second_person(home, refundry):
    (home / "refundry.toml").write_text(
        (home / "refundry.toml").read_text() + "\n[approvals]\nthreshold = {EUR = 100}\n"
    )

    told = refundry("submit", "-", stdin=json.dumps(job("S-1")).encode())

    assert told.status == 5
    assert "1 wait for approval" in told.out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.json", None),
        ("bad.json", b"{"),
        ("bad.csv", b"\n"),
        ("twice.csv", b"reference,reference\n"),
        ("latin.csv", "reference,description\nS-1,Rückgabe\n".encode("latin-1")),
    ],
)
def test_what_is_no_file_of_jobs_is_a_usage_fault(home, refundry, name, content):
    if content is not None:
        (home / name).write_bytes(content)

    told = refundry("submit", name)

    assert told.status == 2
    assert len(told.err.splitlines()) == 1


def test_an_endless_line_is_refused_and_the_next_one_read(home, refundry, references):
    body = b'{"description": "' + b"x" * 3_000_000 + b'"}\n' + lines(job("S-1"))

    told = refundry("submit", "-", "--format", "jsonl", stdin=body)

    assert told.status == 1
    assert "line 1" in told.err
    assert references() == {"S-1"}


def test_submitting_takes_the_role(people, refundry):
    body = json.dumps(job("S-1")).encode()

    assert refundry("submit", "-", "--actor", "pia", stdin=body).status == 1
    assert refundry("submit", "-", "--actor", "oli", stdin=body).status == 0
