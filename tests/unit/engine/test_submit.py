import json
from copy import deepcopy

import pytest
from sqlalchemy import func, select

from domain.errors import Conflict, Forbidden, InvalidJob, Refused
from domain.state import State
from engine.people import Actor, Role
from engine.submit import submit, submit_by, submit_many
from ledger import approvals
from ledger.models import approval, event, metadata, outbox, payment, refund
from ledger.payments import standing
from tests.unit.engine.support import JPY, NOW, USD, Rung, an_engine, limited


@pytest.fixture
def rung():
    return Rung()


@pytest.fixture
def engine(tmp_path, rung):
    made = an_engine(tmp_path / "refundry.db", rung)
    yield made
    made.close()


@pytest.fixture
def careful(tmp_path, rung):
    """An engine that asks a second person from 500 yen on."""
    made = an_engine(
        tmp_path / "refundry.db",
        rung,
        approvals={"threshold": {"JPY": 500}, "applies_to": ["console"], "expires": "1h"},
    )
    yield made
    made.close()


def send(engine, job=JPY, *, via="api", **changes):
    return submit(engine, {**job, **changes}, actor="anna", via=via)


def count(engine, table):
    with engine.ledger.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar()


def rows(engine, table):
    with engine.ledger.read() as connection:
        return connection.execute(select(table)).all()


def pointers(receipt):
    return [error.pointer for error in receipt.problem.errors]


def test_an_accepted_job_is_a_queued_refund_and_a_worker_is_called(engine, rung):
    receipt = send(engine)

    made = receipt.refund
    assert (receipt.problem, receipt.replayed) == (None, False)
    assert (made.state, made.amount, made.currency, made.account, made.provider) == (
        State.QUEUED,
        1000,
        "JPY",
        "jp",
        "smartpay",
    )
    assert (made.due_at, made.resolved, made.payment_ref) == (NOW, True, "payment-1")
    assert made.id.startswith("rf_")
    assert made.handle != made.reference
    assert rung.heard == [("send", "jp")]


def test_the_same_job_again_is_answered_with_the_first_refund(engine, rung):
    first = send(engine)
    again = submit(engine, json.dumps(JPY), actor="bert", via="stream")

    assert again.replayed
    assert again.refund.id == first.refund.id
    assert rung.heard == [("send", "jp")]
    assert count(engine, refund) == 1


def test_another_content_under_a_known_reference_names_the_fields_and_not_their_values(engine):
    first = send(engine, customer={"email": "john@example.com"}, description="x")
    receipt = send(engine, customer={"email": "jane@example.com"}, amount=999)

    assert isinstance(receipt.problem, Conflict)
    assert receipt.problem.code == "reference-conflict"
    assert pointers(receipt) == ["#/amount", "#/customer/email", "#/description"]
    assert first.refund.id in str(receipt.problem)
    assert "jane" not in str(receipt.problem) + repr(receipt.problem.errors)


def test_over_the_cap_is_refused_with_what_is_left(engine):
    send(engine, amount=1500)
    receipt = send(engine, reference="R-2", amount=601)

    assert isinstance(receipt.problem, Refused)
    assert receipt.problem.code == "amount-exceeds-refundable"
    assert str(receipt.problem) == "#/amount: 601 is more than the 600 still refundable"


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        (
            {"payment": {"id": "payment-1", "amount": 2000, "currency": "JPY"}},
            "payment-amount-differs",
            "#/payment/amount",
        ),
        ({"expect_refundable": 2100}, "expect-refundable-differs", "#/expect_refundable"),
    ],
)
def test_what_does_not_fit_the_payment_is_refused(engine, changes, code, pointer):
    send(engine)
    receipt = send(engine, reference="R-2", **changes)

    assert (receipt.problem.code, pointers(receipt)) == (code, [pointer])


def test_an_expectation_that_holds_is_accepted(engine):
    send(engine)

    assert send(engine, reference="R-2", expect_refundable=1100).refund


def test_another_currency_than_the_payments_is_refused(engine):
    payment_of = {"id": "TX8A3F2C", "order_id": "OR7B9E1D", "amount": 5000, "currency": "USD"}
    send(engine, USD, payment=payment_of)
    receipt = send(engine, USD, reference="R-2", currency="EUR")

    assert (receipt.problem.code, pointers(receipt)) == ("currency-mismatch", ["#/currency"])


def test_an_account_that_is_not_configured_is_named(engine):
    receipt = send(engine, account="nobody")

    assert (receipt.problem.errors[0].code, pointers(receipt)) == ("unknown-account", ["#/account"])


@pytest.mark.parametrize(
    ("job", "changes", "pointer"),
    [
        (JPY, {"currency": "EUR", "payment": {"id": "p"}}, "#/currency"),
        (JPY, {"metadata": {str(number): "x" for number in range(20)}}, "#/metadata"),
        (USD, {"payment": {"id": "short", "order_id": "OR7B9E1D"}}, "#/payment/id"),
        (USD, {"payment": {"order_id": "OR7B9E1D"}}, "#/payment/id"),
    ],
)
def test_what_the_provider_would_refuse_is_refused_at_the_door(engine, job, changes, pointer):
    receipt = send(engine, job, **changes)

    assert isinstance(receipt.problem, InvalidJob)
    assert pointer in pointers(receipt)
    assert all(error.code == "provider-rule" for error in receipt.problem.errors)
    assert count(engine, refund) == 0


def test_what_the_provider_may_not_like_is_a_warning(engine):
    receipt = send(engine, USD, amount=99)

    assert receipt.refund
    assert receipt.warnings == ("SmartRetry may refuse an amount below 1.00",)
    assert send(engine, USD, amount=99).warnings == receipt.warnings


def test_an_order_is_taken_where_the_provider_can_find_its_payment(engine):
    made = send(engine, payment={"order_id": "order-1"}, amount=None, currency=None).refund

    assert (made.payment_ref, made.payment_id, made.resolved, made.amount) == ("order:order-1", None, False, None)


def test_without_the_captured_amount_the_provider_is_asked_before_sending(engine):
    assert not send(engine, payment={"id": "payment-1"}).refund.resolved


def test_where_nobody_can_be_asked_the_providers_cap_is_the_only_one(engine):
    blind = limited(engine, "us", payment_facts=False)

    assert send(blind, USD).refund.resolved


@pytest.mark.parametrize(
    ("changes", "pointer", "rule"),
    [
        ({"amount": None}, "#/amount", "is required: smartretry cannot be asked what was captured"),
        (
            {"expect_refundable": 5},
            "#/expect_refundable",
            "cannot be checked: smartretry cannot be asked, give payment.amount",
        ),
    ],
)
def test_where_nobody_can_be_asked_the_job_must_say_it(engine, changes, pointer, rule):
    blind = limited(engine, "us", payment_facts=False)
    told = {"payment": {**USD["payment"], "amount": 5000, "currency": "USD"}}
    (error,) = send(blind, USD, **changes).problem.errors

    assert (error.pointer, error.detail) == (pointer, rule)
    assert send(blind, USD, **{**changes, **told, "expect_refundable": None}).refund


def test_a_part_is_refused_where_only_the_whole_can_be_refunded(engine):
    whole_only = limited(engine, "jp", partial=False)

    assert pointers(send(whole_only)) == ["#/amount"]
    assert send(whole_only, amount=2100).refund


def test_not_before_is_when_it_is_due(engine):
    assert send(engine, not_before="2099-01-01T00:00:00Z").refund.due_at == 4_070_908_800.0
    assert send(engine, reference="R-2", not_before="2020-01-01T00:00:00Z").refund.due_at == NOW


def test_people_and_banks_are_sealed_and_can_be_found(engine):
    customer = {"email": "John@Example.com", "first_name": "John", "last_name": "Smith", "reference": "c-1"}
    made = send(engine, customer=customer, bank_account={"iban": "DE02120300000000202051"}).refund
    (row,) = rows(engine, refund)

    stored = " ".join(str(value) for value in row)
    assert not any(word in stored for word in ("John", "Smith", "example.com", "DE0212"))
    assert json.loads(engine.vault.open(made.personal))["customer"] == customer
    assert row.email_hash == engine.vault.index("email", "john@example.com")
    assert row.name_hash == engine.vault.index("name", "john  SMITH")
    assert row.last_name_hash == engine.vault.index("name", "smith")
    assert row.customer_hash == engine.vault.index("customer", "c-1")


def test_the_trace_goes_with_the_job(engine):
    assert submit(engine, JPY, actor="a", via="api", traceparent="00-abc").refund.traceparent == "00-abc"


def test_handles_are_never_the_same_twice(engine):
    handles = {send(engine, reference=f"R-{number}", amount=1).refund.handle for number in range(20)}

    assert len(handles) == 20


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_bad_job_never_stops_a_good_one(engine, rung):
    receipts = submit_many(
        engine,
        [
            {**JPY, "reference": "a"},
            b"{",
            {**JPY, "reference": "b", "amount": 5000},
            {**JPY, "reference": "c", "account": "nobody"},
            {**USD, "reference": "d"},
            {**JPY, "reference": "a"},
            {**JPY, "reference": "e", "amount": 1200, "payment": {**JPY["payment"], "amount": 2100}},
        ],
        actor="anna",
        via="api",
    )

    assert [bool(receipt.refund) for receipt in receipts] == [True, False, False, False, True, True, False]
    assert receipts[5].replayed
    assert receipts[6].problem.code == "amount-exceeds-refundable"
    assert count(engine, refund) == 2
    assert sorted(rung.heard) == [("send", "jp"), ("send", "us")]


def test_a_batch_of_bad_jobs_asks_nothing_of_the_ledger(engine, rung):
    receipts = submit_many(engine, [b"", b"[]"], actor="anna", via="api")

    assert all(receipt.problem for receipt in receipts)
    assert rung.heard == []


def test_an_empty_batch_is_no_receipts(engine):
    assert submit_many(engine, [], actor="anna", via="api") == []


def test_a_worker_is_called_only_after_the_commit(tmp_path):
    seen = []

    def ring(_lane, _account):
        seen.append(count(engine, refund))

    engine = an_engine(tmp_path / "refundry.db", ring)
    send(engine)
    engine.close()

    assert seen == [1]


# -- dry run ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_and_changes_nothing(engine, rung):
    send(engine)
    before = {table.name: rows(engine, table) for table in metadata.sorted_tables}
    rung.heard.clear()
    good, over, bad, again = submit_many(
        engine,
        [
            {**JPY, "reference": "R-2"},
            {**JPY, "reference": "R-3", "amount": 2000},
            {**JPY, "reference": "R-4", "foo": 1},
            JPY,
        ],
        actor="anna",
        via="cli",
        dry_run=True,
    )

    assert good.refund.state is State.QUEUED
    assert over.problem.code == "amount-exceeds-refundable"
    assert pointers(bad) == ["#/foo"]
    assert again.replayed
    assert {table.name: rows(engine, table) for table in metadata.sorted_tables} == before
    assert rung.heard == []


def test_a_dry_run_opens_no_request(careful):
    (receipt,) = submit_many(careful, [JPY], actor="anna", via="console", dry_run=True)

    assert receipt.refund.state is State.AWAITING_APPROVAL
    assert [count(careful, table) for table in (refund, approval, payment, event, outbox)] == [0] * 5


# -- approvals --------------------------------------------------------------------------------------------------------


def test_a_large_refund_waits_for_a_second_person_with_an_open_request(careful):
    made = send(careful, via="console", amount=500).refund
    with careful.ledger.read() as connection:
        (request,) = approvals.listed(connection)

    assert (made.state, made.due_at) == (State.AWAITING_APPROVAL, None)
    assert (request.refund_id, request.kind, request.requested_by, request.status) == (
        made.id,
        approvals.SEND,
        "anna",
        "open",
    )
    assert (request.requested_at, request.expires_at) == (NOW, NOW + 3600)
    assert approvals.stands_as(request, made)


def test_its_money_is_reserved_while_it_waits(careful):
    send(careful, via="console")
    with careful.ledger.read() as connection:
        purse = standing(connection, "jp", "payment-1")

    assert purse.reserved == 1000


@pytest.mark.parametrize(
    ("via", "changes", "waits"),
    [
        ("console", {"amount": 499}, False),
        ("console", {"amount": 500}, True),
        ("api", {"amount": 2000}, False),
        ("console", {"amount": None}, True),
        ("console", {"amount": None, "currency": None, "payment": {"id": "p"}}, True),
        ("console", {"amount": None, "payment": {"id": "p", "amount": 400, "currency": "JPY"}}, False),
    ],
)
def test_the_threshold_counts_for_the_ways_in_that_are_listed(careful, via, changes, waits):
    made = send(careful, via=via, **changes).refund

    assert (made.state is State.AWAITING_APPROVAL) == waits
    assert count(careful, approval) == waits


def test_a_currency_without_a_threshold_needs_nobody(careful):
    assert send(careful, USD, via="console", amount=10**9).refund.state is State.QUEUED


def test_the_same_large_refund_again_opens_no_second_request(careful):
    send(careful, via="console")

    assert send(careful, via="console").replayed
    assert count(careful, approval) == 1


def test_jobs_are_not_changed_by_submitting_them(engine):
    job = deepcopy(JPY)
    submit(engine, job, actor="anna", via="api")

    assert job == JPY


def test_a_person_without_the_role_submits_nothing(engine):
    with pytest.raises(Forbidden):
        submit_by(engine, Actor("vic", frozenset({Role.VIEWER})), [JPY], via="cli")

    assert submit_by(engine, Actor("oli", frozenset({Role.OPERATOR})), [JPY], via="cli")[0].refund is not None
