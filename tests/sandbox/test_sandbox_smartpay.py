"""Smartpay against "Refund an order" and the reference pages."""

import asyncio
import hmac
import json
from hashlib import sha256

import httpx
import pytest

from sandbox.app import create_app
from sandbox.smartpay import signing_key

DOCUMENT_PAYMENT = "payment_test_GDEATBKK8XAp9XGf6J4U4"
DOCUMENT_ORDER = "order_test_bA1znhGULw5lROfDTpHChv"
DOCUMENT_REQUEST = {
    "amount": 1000,
    "currency": "JPY",
    "description": "Customer return",
    "lineItems": [],
    "payment": DOCUMENT_PAYMENT,
    "reason": "requested_by_customer",
    "reference": "my_merchant_refund_reference",
}


@pytest.fixture
def document_payment(merchant):
    return merchant.pay("smartpay", 2100, id=DOCUMENT_PAYMENT, order_id=DOCUMENT_ORDER)


def post(merchant, body, **headers):
    sent = {**merchant.headers("smartpay"), **headers}
    request = merchant.request("POST", "smartpay", "/refunds", sent, json.dumps(body).encode())
    return merchant.http.send(request)


def test_the_documents_order_has_its_fields_and_the_payment_id(merchant, document_payment):
    order = merchant.get("smartpay", f"/orders/{DOCUMENT_ORDER}").json()

    assert order["id"] == DOCUMENT_ORDER
    assert (order["object"], order["amount"], order["currency"]) == ("order", 2100, "JPY")
    assert order["payments"] == [DOCUMENT_PAYMENT]
    assert order["status"] == "succeeded"
    assert order["test"] is True
    assert isinstance(order["createdAt"], int)
    assert {"discounts", "expiresAt", "lineItems", "metadata", "shippingInfo"} < set(order)


def test_the_documents_refund_succeeds_with_200(merchant, document_payment):
    answer = post(merchant, DOCUMENT_REQUEST)

    refund = answer.json()
    assert answer.status_code == 200
    assert refund["id"].startswith("refund_test_")
    assert refund["status"] == "succeeded"
    assert {name: refund[name] for name in DOCUMENT_REQUEST} == DOCUMENT_REQUEST
    assert merchant.get("smartpay", f"/refunds/{refund['id']}").json() == refund


def test_the_secret_key_goes_raw_behind_basic(merchant, document_payment):
    key = merchant.credentials["smartpay"]["secret_key"]

    for wrong in ("", key, f"Bearer {key}", "Basic c2tfdGVzdDo=", f"Basic {key}:"):
        answer = post(merchant, DOCUMENT_REQUEST, Authorization=wrong)
        assert answer.status_code == 401
        assert set(answer.json()) == {"statusCode", "scheme", "realm"}
    assert merchant.ledger() == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"amount": None}, "amount"),
        ({"currency": None}, "currency"),
        ({"payment": None}, "payment"),
        ({"reason": None}, "reason"),
        ({"amount": 0}, "amount"),
        ({"amount": -5}, "amount"),
        ({"amount": 10.5}, "amount"),
        ({"amount": "10"}, "amount"),
        ({"amount": True}, "amount"),
        ({"currency": "jpy"}, "currency"),
        ({"currency": "USD"}, "currency"),
        ({"reason": "other"}, "reason"),
        ({"lineItems": [1]}, "lineItems"),
        ({"metadata": {str(n): n for n in range(21)}}, "metadata"),
        ({"reference": 5}, "reference"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_fields_are_named(merchant, document_payment, change, problem):
    answer = post(merchant, {**DOCUMENT_REQUEST, **change})

    error = answer.json()
    assert (answer.status_code, error["errorCode"]) == (400, "request.invalid")
    assert error["statusCode"] == 400
    assert [detail.split(":")[0] for detail in error["details"]] == [problem]


def test_an_unknown_payment_is_not_found(merchant):
    answer = post(merchant, DOCUMENT_REQUEST)

    assert (answer.status_code, answer.json()["errorCode"]) == (404, "payment.not-found")


def test_more_than_what_is_left_is_insufficient(merchant, document_payment):
    first = post(merchant, DOCUMENT_REQUEST)
    too_much = post(merchant, {**DOCUMENT_REQUEST, "amount": 1101})
    rest = post(merchant, {**DOCUMENT_REQUEST, "amount": 1100})
    after = post(merchant, {**DOCUMENT_REQUEST, "amount": 1})

    assert [each.status_code for each in (first, too_much, rest, after)] == [200, 403, 200, 403]
    assert too_much.json()["errorCode"] == "amount.insufficient"
    payment = merchant.get("smartpay", f"/payments/{DOCUMENT_PAYMENT}").json()
    assert (payment["status"], len(payment["refunds"])) == ("refunded", 2)


def test_the_same_key_replays_and_another_body_conflicts(merchant, document_payment):
    first = post(merchant, DOCUMENT_REQUEST, **{"Idempotency-Key": "k"})
    replay = post(merchant, DOCUMENT_REQUEST, **{"Idempotency-Key": "k"})
    other = post(merchant, {**DOCUMENT_REQUEST, "amount": 1}, **{"Idempotency-Key": "k"})

    assert replay.content == first.content
    assert replay.headers["Idempotency-Replayed"] == "true"
    assert other.status_code == 409
    assert "idempot" in other.json()["errorCode"]
    assert [entry["handle"] for entry in merchant.ledger()] == ["k"]


def test_a_key_is_forgotten_after_six_hours():
    now = [1_700_000_000.0]
    app = create_app(clock=lambda: now[0])

    async def scenario():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as http:
            body = {"provider": "smartpay", "amount": 2100, "id": DOCUMENT_PAYMENT}
            await http.post("/_sandbox/payments", json=body)
            own = (await http.get("/_sandbox/credentials")).json()["smartpay"]
            headers = {"Authorization": f"Basic {own['secret_key']}", "Idempotency-Key": "k"}
            ids = []
            for wait in (0, 6 * 3600 - 1, 1):
                now[0] += wait
                url = f"{own['base_url']}/refunds"
                answer = await http.post(url, json=DOCUMENT_REQUEST, headers=headers)
                ids.append(answer.json()["id"])
            return ids, (await http.get("/_sandbox/ledger")).json()

    ids, ledger = asyncio.run(scenario())

    assert ids[0] == ids[1] != ids[2]
    assert len(ledger) == 2


def test_an_order_may_have_several_payments_and_expands_them(merchant):
    made = merchant.control(
        "POST",
        "/payments",
        {"provider": "smartpay", "amount": 700, "count": 3, "payments_per_order": 3},
    )
    order_id = made["payments"][0]["order_id"]

    plain = merchant.get("smartpay", f"/orders/{order_id}").json()
    expanded = merchant.get("smartpay", f"/orders/{order_id}?expand=all").json()

    assert plain["payments"] == made["ids"]
    assert [payment["id"] for payment in expanded["payments"]] == made["ids"]
    assert {payment["order"] for payment in expanded["payments"]} == {order_id}
    assert plain["amount"] == 2100


def test_an_order_that_was_not_captured_has_no_payment(merchant):
    payment = merchant.pay("smartpay", 700, state="requires_capture")

    order = merchant.get("smartpay", f"/orders/{payment['order_id']}").json()

    assert (order["status"], order["payments"]) == ("requires_capture", [])
    assert merchant.refund("smartpay", payment, 100).status_code == 404


def test_payments_show_refunds_as_ids_or_objects(merchant, document_payment):
    refund = post(merchant, DOCUMENT_REQUEST).json()

    plain = merchant.get("smartpay", f"/payments/{DOCUMENT_PAYMENT}").json()
    expanded = merchant.get("smartpay", f"/payments/{DOCUMENT_PAYMENT}?expand=all").json()

    assert plain["refunds"] == [refund["id"]]
    assert expanded["refunds"] == [refund]


def test_the_list_is_paged(merchant):
    payment = merchant.pay("smartpay", 1000)
    made = [merchant.refund("smartpay", payment, 1, f"k{n}").json()["id"] for n in range(45)]

    seen, pages, token = [], 0, ""
    while token is not None:
        page = merchant.get("smartpay", f"/refunds?{token}").json()
        seen += [refund["id"] for refund in page["data"]]
        pages += 1
        after = page["nextPageToken"]
        token = None if after is None else f"pageToken={after}"

    assert (page["object"], page["maxResults"], page["results"]) == ("collection", 20, 5)
    assert (seen, pages) == (made[::-1], 3)
    assert merchant.get("smartpay", "/refunds?pageToken=%C3%A9").status_code == 400


def test_the_vendors_fixture_signs_as_published():
    key = signing_key("MOCKSECRETKEY").lstrip(b"\0")

    signed = hmac.new(key, b"test data", sha256).hexdigest()

    assert signed == "ae82b27dd6dafd0dbfc65faff07160833776cf60915782ef991557e51e4d1782"


def test_a_body_must_be_said_to_be_json(merchant, document_payment):
    answer = post(merchant, DOCUMENT_REQUEST, **{"Content-Type": "text/plain"})

    assert (answer.status_code, answer.json()["errorCode"]) == (400, "request.invalid")
