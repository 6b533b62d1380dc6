"""JPM SmartPay against "Refund" (POST /payment/refund)."""

import json
import re
from uuid import UUID

import pytest


@pytest.fixture
def payment(merchant):
    return merchant.pay("jpm_smartpay", 10_000, currency="EUR")


@pytest.fixture
def body(merchant, payment):
    return merchant.refund_body("jpm_smartpay", payment, 2500, "d9a1c7f2-0001")


def post(merchant, body, **headers):
    sent = {**merchant.headers("jpm_smartpay"), **headers}
    content = json.dumps(body).encode()
    return merchant.http.send(merchant.request("POST", "jpm_smartpay", "/payment/refund", sent, content))


def test_a_partial_refund_answers_every_required_member(merchant, body, payment):
    answer = post(merchant, body)

    shown = answer.json()
    data = shown["modification"]["modificationData"]
    assert answer.status_code == 200
    assert {
        "reconciliationReferenceId",
        "description",
        "paymentStatus",
        "creationDate",
        "lastStatusDate",
        "transactionOverview",
    } < set(shown)
    assert shown["paymentStatus"] == "CAPTURED"
    assert shown["transactionOverview"]["transactionId"] == payment["id"]
    assert shown["modification"]["status"] == "REFUND_PENDING"
    assert shown["modification"]["modificationAmount"]["amount"] == 25.0
    assert data["modificationId"] == "d9a1c7f2-0001"
    assert data["type"] == "REFUND"
    assert UUID(data["refundId"])
    assert {"reconciliationReferenceId", "paymentSplitResults"} < set(data)


def test_the_status_call_lists_modifications_until_refunded(merchant, body, payment, eventually):
    post(merchant, body)

    def modifications():
        return merchant.status("jpm_smartpay", payment, "").json()["modifications"]

    eventually(lambda: modifications()[-1]["status"] == "REFUNDED")
    capture, refund = modifications()
    assert capture["modificationData"]["type"] == "CAPTURE"
    assert [each["status"] for each in refund["statusHistory"]] == ["REFUND_PENDING", "REFUNDED"]
    assert refund["modificationData"]["paymentSplitResults"][0]["status"] == "SUCCESS"
    assert [entry["handle"] for entry in merchant.ledger()] == ["d9a1c7f2-0001"]


def test_the_same_modification_id_always_gets_the_first_result(merchant, body, payment, eventually):
    first = post(merchant, body)
    eventually(lambda: len(merchant.ledger()) == 1)
    replay = post(merchant, body)
    other_body = post(merchant, {**body, "modifiedAmount": {"amount": 1, "currencyCode": "EUR"}})

    assert replay.content == first.content == other_body.content
    assert len(merchant.ledger()) == 1


def test_a_refusal_is_replayed_too(merchant, body):
    missing = {**body, "transactionId": "00000000-0000-4000-8000-000000000000"}
    refused = post(merchant, missing)
    again = post(merchant, body)

    assert refused.status_code == 404
    assert again.content == refused.content


def test_without_modified_amount_the_refund_is_full(merchant, body, eventually):
    del body["modifiedAmount"]
    post(merchant, body)

    eventually(lambda: [entry["amount"] for entry in merchant.ledger()] == [10_000])


@pytest.mark.parametrize("header", ["Content-Type", "Accept-Language", "Origin", "User-Agent"])
def test_the_four_headers_are_required(merchant, body, header):
    sent = {**merchant.headers("jpm_smartpay"), header: ""}
    answer = post(merchant, body, **sent)

    assert answer.status_code == 400
    assert re.search(header, answer.json()["errorDetails"]["gatewayDescription"])


def test_wrong_credentials_are_401(merchant, body):
    for wrong in ("", "Basic bm86bm8=", "Bearer nothing"):
        answer = post(merchant, body, Authorization=wrong)
        assert (answer.status_code, answer.json()["error"]) == (401, "gateway_processing")


def test_a_bearer_token_from_the_token_url_works(merchant, body):
    oauth = merchant.credentials["jpm_smartpay_oauth"]["oauth"]
    form = {
        "grant_type": "client_credentials",
        "client_id": oauth["client_id"],
        "client_secret": oauth["client_secret"],
    }
    token = merchant.http.post(oauth["token_url"], data=form).json()
    denied = merchant.http.post(oauth["token_url"], data={**form, "client_secret": "no"})

    assert token["expires_in"] == 3600
    assert denied.status_code == 401
    assert post(merchant, body, Authorization=f"Bearer {token['access_token']}").status_code == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"transactionId": None}, 400),
        ({"modificationId": None}, 400),
        ({"modificationId": "m" * 37}, 400),
        ({"merchantKey": None}, 400),
        ({"merchantKey": "somebody-else"}, 403),
        ({"modifiedAmount": {"amount": 25}}, 400),
        ({"modifiedAmount": {"amount": "25.00", "currencyCode": "EUR"}}, 400),
        ({"modifiedAmount": {"amount": 0, "currencyCode": "EUR"}}, 400),
        ({"modifiedAmount": {"amount": 25.001, "currencyCode": "EUR"}}, 400),
        ({"modifiedAmount": {"amount": 25, "currencyCode": "EURO"}}, 400),
        ({"modifiedAmount": {"amount": 25, "currencyCode": "USD"}}, 400),
        ({"modifiedAmount": {"amount": 100.01, "currencyCode": "EUR"}}, 400),
        ({"customReferences": {"custom1": "x" * 256}}, 400),
        ({"customReferences": {"custom4": "x"}}, 400),
    ],
)
def test_each_field_is_checked(merchant, body, change, status):
    answer = post(merchant, {**body, **change})

    assert answer.status_code == status
    assert answer.json()["error"] in ("gateway_processing", "payment_provider_processing")
    assert merchant.ledger() == []


def test_unknown_fields_are_named_and_ignored(merchant, body):
    answer = post(merchant, {**body, "colour": "red"})

    assert answer.json()["ignoredProperties"] == ["colour"]


def test_only_captured_and_settled_transactions_can_be_refunded(merchant):
    settled = merchant.pay("jpm_smartpay", state="SETTLED")
    authorized = merchant.pay("jpm_smartpay", state="AUTHORIZATION_COMPLETED")

    assert merchant.refund("jpm_smartpay", settled, handle="a").status_code == 200
    assert merchant.refund("jpm_smartpay", authorized, handle="b").status_code == 400


def test_a_failed_split_shows_beside_a_successful_refund(merchant):
    payment = merchant.pay("jpm_smartpay", pending_seconds=0, split_error=True)

    modification = merchant.refund("jpm_smartpay", payment).json()["modification"]

    assert modification["status"] == "REFUNDED"
    assert modification["modificationData"]["paymentSplitResults"][0]["status"] == "ERROR"


def test_a_declined_refund_carries_the_error_object(merchant):
    payment = merchant.pay("jpm_smartpay", pending_seconds=0)
    merchant.faults({"fault": "decline"})

    modification = merchant.refund("jpm_smartpay", payment).json()["modification"]

    assert modification["status"] == "FAILED"
    assert modification["error"]["error"] == "payment_provider_processing"
