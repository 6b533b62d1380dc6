"""Notifications: their signatures checked by independent means, and their bad manners."""

import hmac
import json
import time
from base64 import b64decode
from hashlib import sha256

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
ACCOUNTS = ["smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart2pay_card", "smart_glocal"]


def check_smartpay(own, headers, body):
    number = sum(DIGITS.index(digit) * 62**power for power, digit in enumerate(own["webhook_secret"][::-1]))
    message = headers["smartpay-signature-timestamp"].encode() + b"." + body
    expected = hmac.new(number.to_bytes(30, "big"), message, sha256).hexdigest()
    assert headers["smartpay-signature"] == expected
    assert len(headers["smartpay-signature-timestamp"]) == 13
    event = json.loads(body)
    assert event["eventData"]["type"] == "refund.created"
    assert event["id"] == headers["smartpay-event-id"]
    return event["eventData"]["data"]["id"]


def check_smartretry(own, headers, body):
    parts = dict(part.split("=", 1) for part in headers["x-smartretry-signature"].split(","))
    message = parts["t"].encode() + b"." + body
    key = own["webhook_secret"].encode()
    assert parts["v1"] == hmac.new(key, message, sha256).hexdigest()
    assert abs(time.time() - int(parts["t"])) < 60
    event = json.loads(body)
    assert event["type"] == "transaction.approved"
    return event["data"]["transaction_id"]


def check_jpm_smartpay(own, headers, body):
    pair = b64decode(headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == f"{own['webhook_user']}:{own['webhook_password']}"
    event = json.loads(body)
    assert (event["objectType"], event["eventType"]) == ("refund", "updated")
    return event["objectId"]


def check_smart2pay(own, headers, body):
    pair = b64decode(headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == f"{own['site_id']}:{own['api_key']}"
    return str(json.loads(body)["Refund"]["ID"])


def check_smart_glocal(own, headers, body):
    key = load_pem_public_key(own["provider_public_key"].encode())
    key.verify(b64decode(headers["x-partner-sign"]), body, PKCS1v15(), SHA256())
    event = json.loads(body)
    assert event["type"] == "payment_refunded"
    return event["session"]["acquiring_payments"][0]["refunds"][-1]["id"]


CHECKS = {
    "smartpay": check_smartpay,
    "smartretry": check_smartretry,
    "jpm_smartpay": check_jpm_smartpay,
    "smart2pay": check_smart2pay,
    "smart2pay_card": check_smart2pay,
    "smart_glocal": check_smart_glocal,
}


@pytest.mark.parametrize("account", ACCOUNTS)
def test_a_final_refund_is_notified_with_a_valid_signature(merchant, listener, account):
    listener.status = 204
    merchant.control("PUT", "/webhooks", {account: listener.url})
    payment = merchant.pay(account)

    answer = merchant.refund(account, payment).json()
    ((_, headers, body),) = listener.wait()

    refund_id = merchant.refund_id(account, answer)
    assert CHECKS[account](merchant.credentials[account], headers, body) == refund_id


def test_what_was_sent_and_the_reply_can_be_read(merchant, listener, eventually):
    listener.status = 204
    merchant.control("PUT", "/webhooks", {"smart2pay": listener.url})
    merchant.refund("smart2pay", merchant.pay("smart2pay"))
    ((_, _, body),) = listener.wait()

    eventually(lambda: merchant.control("GET", "/notifications")[0]["status"] == 204)
    (sent,) = merchant.control("GET", "/notifications")
    assert (sent["provider"], sent["url"]) == ("smart2pay", listener.url)
    assert sent["body"].encode() == body
    assert json.loads(body)["Refund"]["Status"]["Info"] == "Success"


def test_an_unreachable_listener_is_noted(merchant, eventually):
    merchant.control("PUT", "/webhooks", {"smartpay": "http://127.0.0.1:9/hook"})
    merchant.refund("smartpay", merchant.pay("smartpay"))

    eventually(lambda: bool(merchant.control("GET", "/notifications")[0]["error"]))


@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_bytes_can_be_had_without_sending(merchant, account):
    answer = merchant.refund(account, merchant.pay(account, pending_seconds=0)).json()
    refund_id = merchant.refund_id(account, answer)

    made = merchant.control("POST", "/notification", {"provider": account, "refund_id": refund_id})

    headers = {name.lower(): value for name, value in made["headers"].items()}
    body = made["body"].encode()
    assert CHECKS[account](merchant.credentials[account], headers, body) == refund_id
    assert merchant.control("GET", "/notifications") == []


@pytest.mark.parametrize("account", ACCOUNTS)
def test_it_may_come_before_the_answer(merchant, listener, account):
    target = {"url": listener.url, "before_answer": True}
    merchant.control("PUT", "/webhooks", {account: target})
    payment = merchant.pay(account)
    merchant.faults({"fault": "slow", "seconds": 0.1})

    merchant.refund(account, payment)
    answered = time.monotonic()

    ((heard, _, _),) = listener.wait()
    assert heard < answered - 0.05


def test_it_may_come_twice_or_late_or_without_authentication(merchant, listener):
    target = {"url": listener.url, "times": 2, "delay": 0.2, "auth": False}
    merchant.control("PUT", "/webhooks", {"jpm_smartpay": target})
    payment = merchant.pay("jpm_smartpay", pending_seconds=0)
    merchant.refund("jpm_smartpay", payment)
    answered = time.monotonic()

    (first, headers, body), (_, _, again) = listener.wait(2)

    assert first - answered > 0.05
    assert body == again
    assert "authorization" not in headers


def test_it_comes_after_a_lost_answer_too(merchant, listener):
    merchant.control("PUT", "/webhooks", {"smartpay": listener.url})
    merchant.faults({"fault": "error_500_after"})
    merchant.refund("smartpay", merchant.pay("smartpay"))

    assert len(listener.wait()) == 1


def test_a_flip_is_notified_where_the_provider_has_such_an_event(merchant, listener):
    targets = {"smartpay": listener.url, "smart_glocal": listener.url}
    merchant.control("PUT", "/webhooks", targets)
    merchant.faults({"fault": "late_flip", "seconds": 0.2})
    merchant.refund("smartpay", merchant.pay("smartpay"))
    merchant.refund("smart_glocal", merchant.pay("smart_glocal", pending_seconds=0))

    heard = [json.loads(body) for _, _, body in listener.wait(3)]

    flipped = heard[-1]["session"]["acquiring_payments"][0]["refunds"][0]
    assert flipped["status"] == "declined"
    assert sum("eventData" in event for event in heard) == 1


def test_a_chargeback_is_notified_by_smart_glocal(merchant, listener):
    merchant.control("PUT", "/webhooks", {"smart_glocal": listener.url})
    payment = merchant.pay("smart_glocal")
    body = {"provider": "smart_glocal", "payment": payment["id"], "chargeback": True}
    merchant.control("POST", "/external", body)

    ((_, _, heard),) = listener.wait()

    (refund,) = json.loads(heard)["session"]["acquiring_payments"][0]["refunds"]
    assert refund["is_chargeback"] is True


def test_unknown_targets_are_refused(merchant):
    for body, field in (({"paypal": "x"}, "paypal"), ({"smartpay": {"ulr": "x"}}, "smartpay.ulr")):
        reply = merchant.http.put("/_sandbox/webhooks", json=body)
        assert (reply.status_code, reply.json()["field"]) == (422, field)


@pytest.mark.parametrize("account", ACCOUNTS)
def test_on_demand_one_is_sent_genuine_forged_or_once_more(merchant, listener, account):
    listener.status = 401
    answer = merchant.refund(account, merchant.pay(account, pending_seconds=0)).json()
    refund_id = merchant.refund_id(account, answer)
    merchant.control("PUT", "/webhooks", {account: listener.url})
    asked = {"provider": account, "refund_id": refund_id}
    sent = {
        how: merchant.control("POST", "/notify", {**asked, "how": how})
        for how in ("genuine", "replayed", "unsigned", "wrong_signature", "changed_body")
    }
    genuine, replayed, unsigned, wrong, changed = [(headers, body) for _, headers, body in listener.wait(5)]

    assert {each["status"] for each in sent.values()} == {401}
    assert replayed[1] == genuine[1]
    assert all(replayed[0][name] == genuine[0][name] for name in replayed[0] if "sign" in name)
    CHECKS[account](merchant.credentials[account], *genuine)
    for headers, body in (unsigned, wrong):
        with pytest.raises((AssertionError, KeyError, ValueError, InvalidSignature)):
            CHECKS[account](merchant.credentials[account], headers, body)
    assert json.loads(changed[1])["added"] == 1


def test_nothing_is_sent_on_demand_without_a_target(merchant):
    answer = merchant.refund("smart2pay", merchant.pay("smart2pay")).json()
    refund_id = merchant.refund_id("smart2pay", answer)

    reply = merchant.http.post("/_sandbox/notify", json={"provider": "smart2pay", "refund_id": refund_id})

    assert reply.status_code == 404
