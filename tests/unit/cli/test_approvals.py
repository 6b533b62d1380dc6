import pytest


@pytest.fixture
def request_id(review, people, home, refundry, monkeypatch):
    """A request by oli to send a refund under a new handle."""
    monkeypatch.setenv("REFUNDRY_ACTOR", "oli")
    review("R-1")
    (home / "portal.txt").write_text("nothing under this handle")
    told = refundry(
        *("dead", "retry", "R-1", "--new-handle", "--evidence", "portal.txt", "--reason", "not there", "-o", "json")
    )
    assert told.status == 5
    return told.json()["approval"]


def test_open_requests_are_listed(request_id, refundry):
    (found,) = refundry("approvals", "list", "-o", "json").json()

    assert found["id"] == request_id
    assert found["kind"] == "new_handle"
    assert found["requested_by"] == "oli"
    assert "send it under a new handle" in refundry("approvals", "list").out


def test_mine_are_those_that_i_asked_for(request_id, refundry):
    assert len(refundry("approvals", "list", "--mine", "-o", "json").json()) == 1
    assert refundry("approvals", "list", "--mine", "--actor", "pia").out == "nothing waits for approval\n"


def test_another_person_approves_and_nobody_twice(request_id, refundry):
    told = refundry("approvals", "approve", request_id, "--actor", "pia", "-o", "json")

    assert told.status == 0
    assert told.json()["state"] == "queued"
    assert refundry("approvals", "approve", request_id, "--actor", "pia").status == 4


def test_nobody_approves_their_own(request_id, refundry):
    refundry("users", "grant", "oli", "--role", "approver", "--actor", "ada")

    told = refundry("approvals", "approve", request_id)

    assert told.status == 1
    assert "another approver" in told.err


def test_the_role_is_asked_for(request_id, refundry):
    told = refundry("approvals", "approve", request_id, "--actor", "ada")

    assert told.status == 1
    assert "approver" in told.err


def test_a_request_is_denied_with_a_reason(request_id, refundry):
    assert refundry("approvals", "deny", request_id, "--actor", "pia").status == 2
    assert refundry("approvals", "deny", request_id, "--reason", "no proof", "--actor", "pia").status == 0
    assert refundry("approvals", "list").out == "nothing waits for approval\n"


def test_a_request_is_taken_back_by_whom_it_is(request_id, refundry):
    assert refundry("approvals", "withdraw", request_id, "--actor", "pia").status == 1
    assert refundry("approvals", "withdraw", request_id).status == 0


def test_a_request_that_does_not_exist_is_not_found(people, refundry):
    assert refundry("approvals", "approve", "ap_x", "--actor", "pia").status == 3
