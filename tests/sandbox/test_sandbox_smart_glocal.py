"""Smart Glocal against "Payment refunds" and its API reference."""

import json
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

REFUND = "/api/v1/session/refund"


@pytest.fixture
def payment(merchant):
    return merchant.pay("smart_glocal", 1000, id="ps_3230", currency="USD")


def post(merchant, body, path=REFUND, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {**merchant.headers("smart_glocal", content), **headers}
    return merchant.http.send(merchant.request("POST", "smart_glocal", path, sent, content))


def refunds(answer):
    return answer.json()["session"]["acquiring_payments"][0]["refunds"]


def test_the_documents_request_refunds_in_full(merchant, payment, eventually):
    answer = post(merchant, b'{\n"session_id":"ps_3230"\n}')

    session = answer.json()["session"]
    (acquired,) = session["acquiring_payments"]
    (refund,) = acquired["refunds"]
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert (session["id"], session["status"]) == ("ps_3230", "in_progress")
    assert (acquired["id"], acquired["status"]) == ("pm_3230", "succeeded")
    assert acquired["amount_details"] == {"amount": 1000, "currency": "usd"}
    assert refund["id"].startswith("rf_")
    assert refund["status"] == "in_progress"
    assert refund["amount_details"] == {"amount": 1000, "currency": "usd"}
    eventually(lambda: len(merchant.ledger()) == 1)
    done = merchant.status("smart_glocal", payment, "").json()["session"]
    assert done["status"] == "accepted"
    assert done["acquiring_payments"][0]["refunds"][0]["status"] == "accepted"
    assert done["acquiring_payments"][0]["refunds"][0]["finished_at"].endswith("Z")


def test_a_signature_over_other_bytes_or_by_another_key_is_refused(merchant, payment):
    stranger = rsa.generate_private_key(65537, 2048)
    body = b'{"session_id":"ps_3230"}'
    foreign = b64encode(stranger.sign(body, PKCS1v15(), SHA256())).decode()
    other = merchant.headers("smart_glocal", b'{"session_id": "ps_3230"}')["X-PARTNER-SIGN"]

    for wrong in ("", "signature", foreign, other):
        answer = post(merchant, body, **{"X-PARTNER-SIGN": wrong})
        assert answer.status_code == 401
        assert answer.json()["status"] == "error"
        assert answer.json()["error"]["code"] == "authentication_error"
    unknown = post(merchant, body, **{"X-PARTNER-PROJECT": "nobody"})
    assert unknown.json()["error"]["code"] == "identification_error"
    assert merchant.ledger() == []


def test_a_repeated_key_is_an_error_and_no_replay(merchant, payment):
    key = {"X-PARTNER-IDEMPOTENCY-KEY": "k"}
    body = {"session_id": "ps_3230", "amount_details": {"amount": 100, "currency": "usd"}}
    first, again = (post(merchant, body, **key) for _ in range(2))

    assert first.json()["status"] == "ok"
    assert again.status_code == 400
    assert again.json()["error"]["code"] == "idempotency_key_already_exists"
    assert len(refunds(merchant.status("smart_glocal", payment, ""))) == 1


def test_without_a_key_every_request_is_a_refund(merchant, payment):
    body = {"session_id": "ps_3230", "amount_details": {"amount": 100, "currency": "usd"}}
    answers = [post(merchant, body) for _ in range(2)]

    assert [len(refunds(answer)) for answer in answers] == [1, 2]


@pytest.mark.parametrize("metadata", ["rf_1", 5, {"rma": "1001"}])
def test_metadata_comes_back_unless_switched_off(merchant, payment, metadata, eventually):
    silent = merchant.pay("smart_glocal", 1000, echo_metadata=False)

    shown = refunds(post(merchant, {"session_id": "ps_3230", "metadata": metadata}))
    hidden = refunds(post(merchant, {"session_id": silent["id"], "metadata": metadata}))

    assert shown[0]["metadata"] == metadata
    assert "metadata" not in hidden[0]
    eventually(lambda: len(merchant.ledger()) == 2)
    handle = metadata if isinstance(metadata, str) else json.dumps(metadata)
    assert {entry["handle"] for entry in merchant.ledger()} == {handle}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"session_id": 5},
        {"session_id": "ps_0"},
        {"session_id": "ps_3230", "amount_details": {"amount": 100}},
        {"session_id": "ps_3230", "amount_details": {"amount": 0, "currency": "usd"}},
        {"session_id": "ps_3230", "amount_details": {"amount": 1.5, "currency": "usd"}},
        {"session_id": "ps_3230", "amount_details": {"amount": 100, "currency": "USD"}},
        {"session_id": "ps_3230", "amount_details": {"amount": 100, "currency": "eur"}},
        {"session_id": "ps_3230", "amount_details": {"amount": 1001, "currency": "usd"}},
        {"session_id": "ps_3230", "colour": "red"},
        b"[]",
        b"{",
    ],
)
def test_invalid_requests_say_so(merchant, payment, body):
    answer = post(merchant, body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert merchant.ledger() == []


def test_partial_refunds_need_to_be_enabled(merchant):
    payment = merchant.pay("smart_glocal", 1000, partial_refunds=False)

    assert merchant.refund("smart_glocal", payment, 999, "a").status_code == 400
    assert merchant.refund("smart_glocal", payment, 1000, "b").status_code == 200


def test_a_session_without_a_successful_payment_cannot_be_refunded(merchant):
    payment = merchant.pay("smart_glocal", state="in_progress")

    answer = merchant.refund("smart_glocal", payment)

    assert answer.json()["error"]["code"] == "invalid_request"


def test_a_chargeback_shows_as_one_and_reduces_the_rest(merchant, payment):
    body = {"provider": "smart_glocal", "payment": "ps_3230", "amount": 600, "chargeback": True}
    merchant.control("POST", "/external", body)

    (shown,) = refunds(merchant.status("smart_glocal", payment, ""))

    assert (shown["is_chargeback"], shown["status"]) == (True, "accepted")
    assert merchant.refund("smart_glocal", payment, 401, "a").status_code == 400
    assert merchant.refund("smart_glocal", payment, 400, "b").status_code == 200
