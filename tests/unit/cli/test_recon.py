import csv
import time

import openpyxl
import pytest

THIS_MONTH = time.strftime("%Y-%m", time.gmtime())


@pytest.fixture
def paid(create, move):
    """A refund of 12.50 EUR that succeeded."""

    def make(reference="R-1", **more):
        made = create(reference, **more)
        for state in ("sending", "succeeded"):
            move(reference, state, due_at=None, attempts=1)
        return made

    return make


@pytest.fixture
def upload(home, refundry):
    def make(*lines, name="settlement.csv", account="shop"):
        (home / name).write_text("\n".join(["handle,payment_id,amount,currency", *lines]) + "\n")
        return refundry("recon", "upload", name, "--account", account, "-o", "json")

    return make


def test_a_file_that_agrees_is_done(paid, upload, refundry):
    told = upload(f"{paid()['handle']},,12.50,EUR")

    assert (told.status, told.json()["state"], told.json()["matched"]) == (0, "complete", 1)
    assert refundry("recon", "diffs", "--open").out == "no differences\n"
    assert refundry("recon", "diffs", "--open").status == 0


def test_open_differences_are_the_exit_status_and_shown_side_by_side(paid, upload, refundry):
    told = upload(f"{paid()['handle']},,12.05,EUR")
    listed = refundry("recon", "diffs", "--open", "-o", "json")
    [found] = listed.json()
    shown = refundry("recon", "show", found["id"])

    assert (told.status, listed.status) == (1, 1)
    assert (found["kind"], found["ours"]["amount"], found["theirs"]["amount"]) == ("amount_mismatch", 1250, 1205)
    assert found["resolutions"] == ["accept", "recheck"]
    assert "≠ amount" in shown.out


def test_money_that_may_have_moved_twice_is_an_exit_status_of_its_own(paid, upload, refundry):
    handle = paid()["handle"]
    upload(f"{handle},,12.50,EUR", f"{handle},,12.50,EUR")

    assert refundry("recon", "diffs", "-o", "json").json()[0]["kind"] == "duplicate_at_provider"
    assert refundry("recon", "diffs").status == 2


def test_bad_lines_are_told_on_stderr_and_the_run_is_partial(paid, home, refundry):
    handle = paid()["handle"]
    (home / "bad.csv").write_text(f"handle,amount,currency\n{handle},12.505,EUR\n{handle},12.50,EUR\n")
    told = refundry("recon", "upload", "bad.csv", "--account", "shop")
    [run] = refundry("recon", "list", "-o", "json").json()

    assert told.status == 1
    assert told.err.startswith("line 2: amount: ")
    assert (run["state"], run["bad_lines"], run["matched"]) == ("partial", 1, 1)
    assert refundry("recon", "show", run["id"], "-o", "json").json()["faults"][0]["line"] == 2


def test_the_same_file_is_a_conflict_and_a_missing_one_a_mistake(paid, upload, refundry):
    line = f"{paid()['handle']},,12.50,EUR"
    upload(line)

    assert upload(line, name="again.csv").status == 4
    assert refundry("recon", "upload", "nowhere.csv", "--account", "shop").status == 2


def test_an_account_that_there_is_not_is_not_found(paid, upload, refundry):
    asked = refundry("recon", "run", "--account", "nobody", "-o", "json")

    assert (asked.status, asked.problem()["code"]) == (3, "not-found")
    assert upload(f"{paid()['handle']},,12.50,EUR", account="nobody").status == 3


def test_a_dry_run_reads_says_what_it_holds_and_compares_nothing(paid, home, upload, refundry):
    line = f"{paid()['handle']},,12.05,EUR"
    (home / "settlement.csv").write_text(f"handle,payment_id,amount,currency\n{line}\n")
    told = refundry("recon", "upload", "settlement.csv", "--account", "shop", "--dry-run")

    assert told.status == 0
    assert "1 lines, 12.05 EUR; 1 name a refund of ours" in told.out
    assert refundry("recon", "diffs").out == "no differences\n"
    assert refundry("recon", "list", "-o", "json").json()[0]["state"] == "partial"
    assert upload(line).json()["differing"] == 1


def test_open_differences_are_in_the_status(paid, upload, refundry):
    handle = paid()["handle"]
    upload(f"{handle},,12.05,EUR")
    shown = refundry("status", "-o", "json")
    assert (shown.json()["differences_open"], shown.json()["duplicates_open"]) == (1, 0)
    assert shown.json()["grade"] != "fine"
    assert "Differences to the providers" in refundry("status").out
    upload(f"{handle},,12.05,EUR", f"{handle},,12.05,EUR", name="twice.csv")

    assert refundry("status").status == 2
    assert "may have moved twice" in refundry("status").out


def test_a_window_is_bounded(home, refundry):
    told = refundry("recon", "run", "--account", "shop", "--from", "2026-01-01", "--to", "2026-03-01")

    assert (told.status, "31 days at most" in told.err) == (1, True)


def test_accepting_waits_for_another_person(paid, upload, refundry, people, monkeypatch):
    monkeypatch.setenv("REFUNDRY_ACTOR", "oli")
    upload(f"{paid()['handle']},,12.05,EUR")
    [found] = refundry("recon", "diffs", "-o", "json").json()
    asked = refundry(
        *(
            "recon",
            "resolve",
            found["id"],
            "--resolution",
            "accept",
            "--code",
            "fee",
            "--reason",
            "theirs",
            "-o",
            "json",
        )
    )
    listed = refundry("approvals", "list")
    done = refundry("approvals", "approve", asked.json()["approval"], "--actor", "pia", "-o", "json")

    assert (asked.status, done.status) == (5, 0)
    assert "accept the difference fee" in listed.out
    assert (done.json()["state"], done.json()["reason_code"]) == ("closed", "fee")
    assert refundry("recon", "diffs", "--open").status == 0


def test_a_way_that_is_not_allowed_and_a_difference_that_is_not_there(paid, upload, refundry):
    upload(f"{paid()['handle']},,12.05,EUR")
    [found] = refundry("recon", "diffs", "-o", "json").json()

    assert refundry("recon", "resolve", found["id"], "--resolution", "external", "--reason", "x").status == 1
    assert refundry("recon", "resolve", "rd_none", "--resolution", "recheck").status == 3
    assert refundry("recon", "show", "rc_none").status == 3


def test_a_difference_has_an_owner(paid, upload, refundry):
    upload(f"{paid()['handle']},,12.05,EUR")
    [found] = refundry("recon", "diffs", "-o", "json").json()
    refundry("recon", "assign", found["id"], "--to", "fin")

    assert refundry("recon", "show", found["id"], "-o", "json").json()["owner"] == "fin"


def test_a_provider_that_does_not_answer_leaves_the_run_partial(paid, move, refundry, engine):
    paid()
    with engine.ledger.write() as connection:
        connection.exec_driver_sql("UPDATE refund SET provider_refund_id = 'TX1'")
    told = refundry("recon", "run", "--account", "shop", "-o", "json")

    assert told.status == 1
    assert [(run["source"], run["state"], run["unanswered"]) for run in told.json()] == [("status", "partial", 1)]


def test_the_books_are_right_and_open_money_is_aged(paid, create, refundry):
    paid()
    create("R-2", payment="PAY00002")

    assert refundry("recon", "books", "check").out == "the books are right\n"
    [open_money] = refundry("recon", "books", "ageing", "-o", "json").json()
    assert (open_money["currency"], open_money["count"], open_money["1h"], open_money["1d"]) == ("EUR", 1, 1250, 0)


def test_books_that_were_tampered_with_are_told(paid, refundry, engine):
    paid()
    refundry("recon", "books", "check")
    with engine.ledger.write() as connection:
        connection.exec_driver_sql("UPDATE posting SET amount = amount + 1 WHERE book = 'refunded'")
    told = refundry("recon", "books", "check", "-o", "json")

    assert told.status == 1
    assert {each["what"] for each in told.json()} == {"the postings in EUR do not sum to zero", "refunded"}


def test_a_month_is_exported_for_finance_and_runs_no_formula(paid, home, refundry):
    paid("=R-1")
    told = refundry("recon", "books", "export", "--month", THIS_MONTH, "--to", "month.csv", "-o", "json")
    refundry("recon", "books", "export", "--month", THIS_MONTH, "--to", "month.xlsx")
    with (home / "month.csv").open(encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    sheet = openpyxl.load_workbook(home / "month.xlsx").active

    assert told.json()["postings"] == len(rows) == 4
    assert [row["amount"] for row in rows] == ["-12.50", "12.50", "-12.50", "12.50"]
    assert {row["reference"] for row in rows} == {"'=R-1"}
    assert sheet.max_row == 5
    assert all(cell.data_type != "f" for row in sheet.iter_rows() for cell in row)


def test_a_month_that_is_none_and_a_file_of_another_kind_are_mistakes(home, refundry):
    assert refundry("recon", "books", "export", "--month", "November", "--to", "a.csv").status == 1
    assert refundry("recon", "books", "export", "--month", "2026-11", "--to", "a.pdf").status == 2
