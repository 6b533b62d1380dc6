import pytest
from sqlalchemy.exc import IntegrityError

from domain.state import State
from ledger import approvals
from ledger.approvals import NEW_HANDLE, SEND, SETTLE
from tests.integration.ledger.support import NOW, accepted, every, renamed, sql


def ask(ledger, refund, *, number=1, actor="anna", kind=SETTLE, now=NOW, **changes):
    values = {"rule": "rule", "params": {"outcome": "returned"}, "reason": "why", "expires": 100.0, **changes}
    about = {"refund_id": refund.id, "snapshot": approvals.snapshot(refund)}
    approval_id = f"ap_{number}"
    ledger.run(
        lambda connection: approvals.ask(
            connection, **about, approval_id=approval_id, kind=kind, actor=actor, now=now, **values
        )
    )
    with ledger.read() as connection:
        return approvals.get(connection, approval_id)


def close(ledger, request, status, actor, now=NOW + 1):
    return ledger.run(
        lambda connection: approvals.close(connection, request, status=status, actor=actor, now=now, reason="because")
    )


@pytest.fixture
def refund(ledger):
    return accepted(ledger, state=State.AWAITING_APPROVAL, due_at=None)


def test_a_request_keeps_what_was_asked_and_about_what(ledger, refund):
    request = ask(ledger, refund, evidence=b"sealed", evidence_hash="hash")

    assert (request.kind, request.requested_by, request.status, request.expires_at) == (
        SETTLE,
        "anna",
        "open",
        NOW + 100,
    )
    assert (request.params, request.evidence_hash, request.decided_by) == ('{"outcome":"returned"}', "hash", None)
    assert approvals.stands_as(request, refund)


@pytest.mark.parametrize(
    "change",
    [
        {"state": State.QUEUED},
        {"amount": 5},
        {"handle": "other"},
        {"attempts": 7},
        {"ambiguous": True},
        {"provider_refund_id": "re_1"},
        {"provider_status": "NEW"},
    ],
)
def test_a_refund_that_has_moved_on_is_not_the_one_that_was_asked_about(ledger, refund, change):
    request = ask(ledger, refund)

    assert not approvals.stands_as(request, renamed(refund, **change))


def test_what_the_decision_is_not_about_may_change(ledger, refund):
    request = ask(ledger, refund)

    assert approvals.stands_as(request, renamed(refund, version=9, assignee="bert", updated_at=NOW + 5, polls=3))


def test_a_refund_has_one_open_request(ledger, refund):
    ask(ledger, refund)

    with pytest.raises(IntegrityError):
        ask(ledger, refund, number=2, actor="bert", kind=NEW_HANDLE)


def test_after_a_decision_there_may_be_another_request(ledger, refund):
    close(ledger, ask(ledger, refund), "denied", "bert")

    assert ask(ledger, refund, number=2).status == "open"


@pytest.mark.parametrize("status", ["approved", "denied"])
def test_the_database_refuses_that_one_person_asks_and_decides(ledger, refund, status):
    request = ask(ledger, refund)

    with pytest.raises(IntegrityError):
        close(ledger, request, status, "anna")
    assert every(ledger, approvals.approval)[0].status == "open"


def test_who_asked_may_withdraw(ledger, refund):
    assert close(ledger, ask(ledger, refund), "withdrawn", "anna")


def test_nobody_approves_anonymously(ledger, refund):
    ask(ledger, refund)

    with pytest.raises(IntegrityError):
        sql(ledger, "UPDATE approval SET status = 'approved'")


def test_a_status_that_does_not_exist_is_refused(ledger, refund):
    ask(ledger, refund)

    with pytest.raises(IntegrityError):
        sql(ledger, "UPDATE approval SET status = 'maybe'")


def test_the_first_decision_counts(ledger, refund):
    request = ask(ledger, refund)

    assert close(ledger, request, "denied", "bert")
    assert not close(ledger, request, "approved", "carl")
    (row,) = every(ledger, approvals.approval)
    assert (row.status, row.decided_by, row.decided_at, row.decision_reason) == ("denied", "bert", NOW + 1, "because")


def test_a_request_about_nothing_is_refused(ledger, refund):
    with pytest.raises(IntegrityError):
        ask(ledger, renamed(refund, id="rf_none"))


def test_requests_whose_time_is_over_are_found(ledger, refund):
    request = ask(ledger, refund)
    with ledger.read() as connection:
        before, after = (approvals.overdue(connection, now) for now in (NOW + 99, NOW + 100))

    assert (before, after) == ([], [request])
    close(ledger, request, "expired", "system")
    with ledger.read() as connection:
        assert approvals.overdue(connection, NOW + 100) == []


def test_requests_are_listed_oldest_first(ledger, refund):
    other = accepted(ledger)
    newer = ask(ledger, refund, number=1, now=NOW + 5)
    older = ask(ledger, other, number=2, now=NOW)
    close(ledger, newer, "denied", "bert")
    with ledger.read() as connection:
        open_ones = approvals.listed(connection)
        all_of_them = approvals.listed(connection, status=None)
        about = approvals.open_for(connection, other.id)

    assert open_ones == about == [older]
    assert [each.id for each in all_of_them] == ["ap_2", "ap_1"]


def test_a_large_refund_asks_to_be_sent(ledger, refund):
    ledger.run(
        lambda connection: approvals.ask_to_send(
            connection, refund, approval_id="ap_1", actor="anna", now=NOW, expires=60.0
        )
    )
    with ledger.read() as connection:
        request = approvals.get(connection, "ap_1")
        none = approvals.get(connection, "ap_none")

    assert (request.kind, request.refund_id, request.expires_at) == (SEND, refund.id, NOW + 60)
    assert none is None
