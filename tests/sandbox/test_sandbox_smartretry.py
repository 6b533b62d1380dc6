"""SmartRetry against "Refund" and the API reference."""

import asyncio
import json

import httpx
import pytest

from sandbox.app import create_app

REFUND = "/v1/payments/refund/ABC123"
DOCUMENT_REQUEST = {
    "transaction_reference_id": "TX8A3F2C",
    "order_reference_id": "OR7B9E1D",
    "merchant_transaction_id": "refund-20260331-001",
    "amount": 25.00,
}


@pytest.fixture
def document_payment(merchant):
    return merchant.pay("smartretry", 10_000, id="TX8A3F2C", order_id="OR7B9E1D", currency="USD")


def post(merchant, body, path=REFUND, **headers):
    sent = {**merchant.headers("smartretry"), **headers}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return merchant.http.send(merchant.request("POST", "smartretry", path, sent, content))


def without(name):
    return {key: value for key, value in DOCUMENT_REQUEST.items() if key != name}


def test_the_documents_curl_gets_the_documents_answer(merchant, document_payment, eventually):
    answer = post(merchant, DOCUMENT_REQUEST, **{"Idempotency-Key": "refund-20260331-001"})

    body = answer.json()
    assert answer.status_code == 200
    assert len(body.pop("transaction_id")) == 8
    assert body == {
        "order_id": "OR7B9E1D",
        "merchant_transaction_id": "refund-20260331-001",
        "accepted": True,
    }
    eventually(lambda: len(merchant.ledger()) == 1)
    (entry,) = merchant.ledger()
    assert (entry["amount"], entry["currency"]) == (2500, "USD")
    assert entry["handle"] == "refund-20260331-001"


def test_the_status_goes_from_processing_to_approved(merchant, document_payment, eventually):
    slow = merchant.pay("smartretry", 5000, pending_seconds=60, currency="USD")
    waiting = merchant.refund("smartretry", slow, 2500).json()["transaction_id"]
    refund_id = post(merchant, DOCUMENT_REQUEST).json()["transaction_id"]

    def status():
        return merchant.get("smartretry", f"/v1/payments/status/ABC123/{refund_id}").json()

    first = merchant.get("smartretry", f"/v1/payments/status/ABC123/{waiting}").json()
    assert (first["type"], first["amount"], first["currency"]) == ("refund", 25.0, "USD")
    assert first["status"]["status"] == "PROCESSING"
    eventually(lambda: status()["status"]["status"] == "APPROVED")
    assert status()["status"]["reasonCode"] == "AUTH.APPROVED"


def test_a_declined_refund_is_not_accepted(merchant, document_payment):
    merchant.faults({"fault": "decline"})

    answer = post(merchant, DOCUMENT_REQUEST)

    assert (answer.status_code, answer.json()["accepted"]) == (200, False)


def test_without_an_amount_the_full_amount_is_refunded(merchant, document_payment, eventually):
    post(merchant, without("amount"))

    eventually(lambda: [entry["amount"] for entry in merchant.ledger()] == [10_000])


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (REFUND, {"x-api-key": "wrong"}, 401, "INVALID_API_KEY"),
        ("/v1/payments/refund/XYZ999", {}, 404, "TERMINAL_NOT_FOUND"),
        ("/v1/payments/refund/ABC1234", {}, 404, "TERMINAL_NOT_FOUND"),
        (REFUND, {"Idempotency-Key": "with space"}, 400, "INVALID_IDEMPOTENCY_KEY"),
        (REFUND, {"Idempotency-Key": "k" * 256}, 400, "INVALID_IDEMPOTENCY_KEY"),
    ],
)
def test_key_terminal_and_idempotency_key_are_checked(merchant, document_payment, path, headers, status, code):
    answer = post(merchant, DOCUMENT_REQUEST, path, **headers)

    assert (answer.status_code, answer.json()["reason_code"]) == (status, code)
    assert {"type", "title", "status", "detail"} < set(answer.json())
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"transaction_reference_id": None}, 400, "MISSING_REQUIRED_FIELD"),
        ({"order_reference_id": None}, 400, "MISSING_REQUIRED_FIELD"),
        ({"transaction_reference_id": "TX"}, 400, "INVALID_TRANSACTION_REFERENCE"),
        ({"transaction_reference_id": "TX000000"}, 404, "TRANSACTION_NOT_FOUND"),
        (
            {"order_reference_id": "OR000000"},
            400,
            "ORDER_ID_DID_NOT_MATCH_REFERENCED_TRANSACTION_ORDER_ID",
        ),
        ({"amount": "25.00"}, 400, "INVALID_AMOUNT"),
        ({"amount": 0.99}, 400, "INVALID_AMOUNT"),
        ({"amount": 25.001}, 400, "INVALID_AMOUNT"),
        ({"amount": True}, 400, "INVALID_AMOUNT"),
        ({"amount": 1_000_000_000}, 400, "INVALID_AMOUNT"),
        ({"amount": 100.01}, 400, "REFUND_AMOUNT_EXCEEDED"),
        ({"currency": "usd"}, 400, "INVALID_CURRENCY"),
        ({"currency": "EUR"}, 400, "CURRENCY_DID_NOT_MATCH_REFERENCED_TRANSACTION_CURRENCY"),
        ({"merchant_transaction_id": "sale-1"}, 400, "DUPLICATE_TRANSACTION"),
        ({"note": "x"}, 400, "INVALID_REQUEST"),
    ],
)
def test_each_field_is_checked(merchant, document_payment, change, status, code):
    answer = post(merchant, {**DOCUMENT_REQUEST, **change})

    assert (answer.status_code, answer.json()["reason_code"]) == (status, code)


def test_a_preauthorization_cannot_be_refunded(merchant):
    payment = merchant.pay("smartretry", state="preauth")

    answer = merchant.refund("smartretry", payment)

    assert answer.json()["reason_code"] == "INVALID_TRANSACTION_REFERENCE"


def test_partial_refunds_go_on_until_nothing_is_left(merchant, document_payment):
    codes = [
        post(merchant, {**DOCUMENT_REQUEST, "amount": amount}).json().get("reason_code") for amount in (60, 41, 40, 1)
    ]

    assert codes == [None, "REFUND_AMOUNT_EXCEEDED", None, "FULL_REFUND_ALREADY_PROCESSED"]


def test_a_key_replays_the_first_answer_and_refuses_another_body(merchant, document_payment):
    key = {"Idempotency-Key": "k-1"}
    first, replay = (post(merchant, DOCUMENT_REQUEST, **key) for _ in range(2))
    other = post(merchant, {**DOCUMENT_REQUEST, "amount": 26}, **key)
    respelt = post(merchant, json.dumps(DOCUMENT_REQUEST, indent=1).encode(), **key)

    assert replay.content == first.content
    assert first.headers["Idempotency-Replayed"] == "false"
    assert replay.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Idempotency-Key"] == "k-1"
    assert first.headers["Idempotency-Expires"] == replay.headers["Idempotency-Expires"]
    for conflict in (other, respelt):
        assert conflict.status_code == 409
        assert conflict.json()["reason_code"] == "IDEMPOTENCY_CONFLICT"


def test_a_refusal_is_stored_under_the_key_too(merchant):
    key = {"Idempotency-Key": "k-2"}
    before = post(merchant, DOCUMENT_REQUEST, **key)
    merchant.pay("smartretry", 10_000, id="TX8A3F2C", order_id="OR7B9E1D", currency="USD")
    after = post(merchant, DOCUMENT_REQUEST, **key)

    assert before.status_code == 404
    assert after.content == before.content
    assert after.headers["Idempotency-Replayed"] == "true"


def test_a_key_is_forgotten_after_a_day():
    now = [1_700_000_000.0]
    app = create_app(clock=lambda: now[0])

    async def scenario():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as http:
            body = {"provider": "smartretry", "amount": 10_000, "id": "TX8A3F2C"}
            await http.post("/_sandbox/payments", json={**body, "order_id": "OR7B9E1D"})
            own = (await http.get("/_sandbox/credentials")).json()["smartretry"]
            headers = {"x-api-key": own["api_key"], "Idempotency-Key": "k"}
            ids = []
            for wait in (0, 24 * 3600 - 1, 1):
                now[0] += wait
                url = f"{own['base_url']}{REFUND}"
                answer = await http.post(url, json=DOCUMENT_REQUEST, headers=headers)
                ids.append(answer.json()["transaction_id"])
            return ids

    ids = asyncio.run(scenario())

    assert ids[0] == ids[1] != ids[2]


def test_yen_has_no_decimals_and_dinars_have_three(merchant, eventually):
    yen = merchant.pay("smartretry", 1000, currency="JPY")
    dinar = merchant.pay("smartretry", 5000, currency="KWD")

    def refund(payment, amount):
        body = {
            "transaction_reference_id": payment["id"],
            "order_reference_id": payment["order_id"],
            "amount": amount,
        }
        return post(merchant, body).json()

    assert refund(yen, 10.5)["reason_code"] == "INVALID_AMOUNT"
    assert refund(yen, 400)["accepted"]
    assert refund(dinar, 1.001)["accepted"]
    eventually(lambda: sorted(entry["amount"] for entry in merchant.ledger()) == [400, 1001])


def test_the_original_can_be_asked_and_shows_no_refunded_total(merchant, document_payment):
    sale = merchant.get("smartretry", "/v1/payments/status/ABC123/TX8A3F2C").json()
    unknown = merchant.get("smartretry", "/v1/payments/status/ABC123/TX000000")

    assert (sale["type"], sale["amount"], sale["status"]["status"]) == ("sale", 100.0, "APPROVED")
    assert (unknown.status_code, unknown.json()["reason_code"]) == (404, "TRANSACTION_NOT_FOUND")


def test_health_needs_no_key(merchant):
    for path in ("/health/", "/health/ready", "/health/live"):
        assert merchant.http.get(f"/smartretry{path}").status_code == 200
