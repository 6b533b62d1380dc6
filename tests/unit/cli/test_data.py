import json

import pytest

JOB = {
    "reference": "R-1",
    "account": "shop",
    "payment": {"id": "PAY00001", "order_id": "ORD00001"},
    "amount": 100,
    "currency": "EUR",
    "customer": {"email": "john@example.com", "last_name": "Smith"},
}
ERASE = ("data", "erase", "--customer", "john@example.com", "--reason", "request 4711")


@pytest.fixture
def submitted(home, refundry):
    def submit(**more):
        told = refundry("submit", "-", "--format", "json", stdin=json.dumps({**JOB, **more}).encode())
        assert told.status == 0, told.err

    return submit


def test_a_customer_is_erased_and_what_is_open_is_listed(home, refundry, submitted, move):
    submitted()
    submitted(reference="R-2", payment={"id": "PAY00002", "order_id": "ORD00002"})
    move("R-1", "cancelled", due_at=None)

    counted = refundry(*ERASE, "--dry-run", "-o", "json")
    erased = refundry(*ERASE, "-o", "json")
    again = refundry(*ERASE)
    shown = refundry("refunds", "show", "R-1", "-o", "json").json()

    assert (counted.status, erased.status, again.status) == (1, 1, 1)
    assert counted.json() == erased.json()
    assert erased.json()["refunds"] == 1
    assert [each["why"] for each in erased.json()["kept"]] == ["it is queued"]
    assert "erased 0 refunds, 0 rejected jobs; 1 stay" in again.out
    assert "it is queued" in again.out
    assert shown["customer"] is None
    assert refundry("audit", "verify").status == 0
    assert "request 4711" in refundry("audit", "list", "--subject", "erasure/%").out


def test_nobody_is_erased_with_status_0(home, refundry):
    assert refundry(*ERASE, "-o", "json").json() == {"refunds": 0, "rejected_jobs": 0, "kept": []}
    assert refundry(*ERASE).status == 0


def test_a_purge_needs_its_setting(home, refundry, submitted, move):
    submitted()
    move("R-1", "cancelled", due_at=None)
    unset = refundry("data", "purge")
    settings = home / "refundry.toml"
    settings.write_text(settings.read_text() + '[retention]\npersonal = "1s"\n')

    assert unset.status == 1
    assert "retention.personal" in unset.err
    assert refundry("data", "purge", "--dry-run").status == 0


def test_only_admins_erase(home, refundry, people):
    for command in (ERASE, ("data", "purge")):
        assert refundry(*command, "--actor", "oli").status == 1
    assert refundry(*ERASE, "--actor", "ada").status == 0
