"""Each fault on a real socket, and what it does to the ledger."""

import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

ACCOUNTS = ["smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart2pay_card", "smart_glocal"]
SYNCHRONOUS = ["smartpay", "smart2pay_card"]
every_account = pytest.mark.parametrize("account", ACCOUNTS)


def raw_exchange(request: httpx.Request, seconds: float = 3.0) -> bytes:
    """Everything a client hears on a socket of its own until the server closes it."""
    request.read()
    where = urlsplit(str(request.url))
    lines = [f"{request.method} {where.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    with socket.create_connection((where.hostname, where.port), seconds) as connection:
        connection.settimeout(seconds)
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        connection.sendall(request.content)
        heard = b""
        try:
            while chunk := connection.recv(65536):
                heard += chunk
        except ConnectionResetError:
            pass
    return heard


def settled_ledger(merchant: Any, count: int) -> list[Any]:
    until = time.monotonic() + 2.0
    while len(merchant.ledger()) < count and time.monotonic() < until:
        time.sleep(0.01)
    return merchant.ledger()


@every_account
def test_answer_lost_moves_money_and_sends_no_byte(merchant, account):
    payment = merchant.pay(account)
    merchant.faults({"fault": "answer_lost"})

    heard = raw_exchange(merchant.refund_call(account, payment))

    assert heard == b""
    assert len(settled_ledger(merchant, 1)) == 1
    assert merchant.requests("refund")[0]["answered"] == "cut"


@every_account
def test_request_lost_moves_nothing_and_sends_no_byte(merchant, account):
    payment = merchant.pay(account)
    merchant.faults({"fault": "request_lost"})

    heard = raw_exchange(merchant.refund_call(account, payment))

    time.sleep(0.06)
    assert heard == b""
    assert merchant.ledger() == []


def test_a_client_sees_a_cut_connection_as_a_disconnect(merchant):
    payment = merchant.pay("smartpay")
    merchant.faults({"fault": "answer_lost"})

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        merchant.refund("smartpay", payment)


@every_account
@pytest.mark.parametrize(("fault", "moved"), [("error_500_before", 0), ("error_500_after", 1)])
def test_a_500_may_come_before_or_after_the_money(merchant, account, fault, moved):
    payment = merchant.pay(account, pending_seconds=0)
    merchant.faults({"fault": fault})

    answer = merchant.refund(account, payment)

    assert answer.status_code == 500
    assert len(merchant.ledger()) == moved


@every_account
def test_throttled_says_when_to_come_back_and_does_nothing(merchant, account):
    payment = merchant.pay(account, pending_seconds=0)
    merchant.faults({"fault": "throttled", "first": 1})

    throttled, second = merchant.refund(account, payment), merchant.refund(account, payment)

    assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "1")
    assert second.status_code in (200, 201)
    assert len(merchant.ledger()) == 1


@every_account
def test_slow_answers_after_its_seconds(merchant, account):
    payment = merchant.pay(account, pending_seconds=0)
    merchant.faults({"fault": "slow", "seconds": 0.1})

    began = time.monotonic()
    answer = merchant.refund(account, payment)

    assert time.monotonic() - began >= 0.1
    assert answer.status_code in (200, 201)
    assert len(merchant.ledger()) == 1


def test_hang_processes_and_never_answers(merchant):
    payment = merchant.pay("smartpay")
    merchant.faults({"fault": "hang"})

    with pytest.raises(TimeoutError):
        raw_exchange(merchant.refund_call("smartpay", payment), seconds=0.2)

    assert len(merchant.ledger()) == 1


def test_a_hang_is_cut_after_its_seconds(merchant):
    payment = merchant.pay("smartpay")
    merchant.faults({"fault": "hang", "seconds": 0.05})

    assert raw_exchange(merchant.refund_call("smartpay", payment)) == b""


@every_account
def test_html_comes_with_200_after_the_money(merchant, account):
    payment = merchant.pay(account, pending_seconds=0)
    merchant.faults({"fault": "html"})

    answer = merchant.refund(account, payment)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert len(merchant.ledger()) == 1


@every_account
def test_truncated_is_cut_json_with_the_length_of_the_cut_body(merchant, account):
    payment = merchant.pay(account, pending_seconds=0)
    merchant.faults({"fault": "truncated"})

    answer = merchant.refund(account, payment)

    assert int(answer.headers["content-length"]) == len(answer.content) > 0
    with pytest.raises(ValueError, match=r".+"):
        json.loads(answer.content)
    assert len(merchant.ledger()) == 1


@every_account
def test_unknown_status_is_a_word_nobody_knows(merchant, account):
    payment = merchant.pay(account, pending_seconds=0)
    merchant.faults({"fault": "unknown_status"})

    first = merchant.refund(account, payment).json()
    refund_id = merchant.refund_id(account, first)
    later = [merchant.status(account, payment, refund_id).json() for _ in range(2)]
    odd, right = (later[0], later[1]) if account == "smartretry" else (first, later[0])

    assert "unheard" in merchant.word(account, odd).lower()
    assert "unheard" not in merchant.word(account, right).lower()
    assert len(merchant.ledger()) == 1


@every_account
def test_wrong_amount_differs_in_the_answer_only(merchant, account):
    payment = merchant.pay(account, pending_seconds=0)
    merchant.faults({"fault": "wrong_amount"})

    first = merchant.refund(account, payment).json()
    refund_id = merchant.refund_id(account, first)
    later = [merchant.status(account, payment, refund_id).json() for _ in range(2)]
    odd, right = (later[0], later[1]) if account == "smartretry" else (first, later[0])

    assert merchant.amount(account, odd) != 1000
    assert merchant.amount(account, right) == 1000
    assert merchant.ledger()[0]["amount"] == 1000


DECLINED = {
    "smartpay": "failed",
    "smartretry": "DECLINED",
    "jpm_smartpay": "FAILED",
    "smart2pay": "Failed",
    "smart2pay_card": "Failed",
    "smart_glocal": "declined",
}
SUCCEEDED = {
    "smartpay": "succeeded",
    "smartretry": "APPROVED",
    "jpm_smartpay": "REFUNDED",
    "smart2pay": "Success",
    "smart2pay_card": "Success",
    "smart_glocal": "accepted",
}
PENDING = {
    "smartretry": "PROCESSING",
    "jpm_smartpay": "REFUND_PENDING",
    "smart2pay": "Open",
    "smart_glocal": "in_progress",
}


@every_account
def test_decline_is_final_and_moves_nothing(merchant, account, eventually):
    payment = merchant.pay(account)
    merchant.faults({"fault": "decline"})

    answer = merchant.refund(account, payment).json()

    eventually(lambda: word_now(merchant, account, payment, answer) == DECLINED[account])
    assert merchant.ledger() == []


@every_account
def test_without_faults_a_refund_is_pending_first_where_it_is_asynchronous(merchant, account, eventually):
    slow = merchant.pay(account, pending_seconds=None if account in SYNCHRONOUS else 60)
    quick = merchant.pay(account)

    waiting = merchant.refund(account, slow, handle="a").json()
    done = merchant.refund(account, quick, handle="b").json()

    assert word_now(merchant, account, slow, waiting) == PENDING.get(account, SUCCEEDED[account])
    eventually(lambda: word_now(merchant, account, quick, done) == SUCCEEDED[account])
    moved = [entry["payment"] for entry in merchant.ledger()]
    assert moved == ([slow["id"], quick["id"]] if account in SYNCHRONOUS else [quick["id"]])


def word_now(merchant, account, payment, answer):
    refund_id = merchant.refund_id(account, answer)
    return merchant.word(account, merchant.status(account, payment, refund_id).json())


@every_account
def test_stuck_stays_pending(merchant, account):
    payment = merchant.pay(account)
    merchant.faults({"fault": "stuck"})

    answer = merchant.refund(account, payment)
    refund_id = merchant.refund_id(account, answer.json())
    time.sleep(0.08)

    assert answer.status_code in (200, 201)
    word = merchant.word(account, merchant.status(account, payment, refund_id).json())
    assert word not in (SUCCEEDED[account], DECLINED[account])
    assert merchant.ledger() == []


@every_account
def test_late_flip_takes_a_reported_success_back(merchant, account, eventually):
    later, sooner = (merchant.pay(account, pending_seconds=0) for _ in range(2))
    merchant.faults(
        {"fault": "late_flip", "seconds": 60, "payment": later["id"]},
        {"fault": "late_flip", "seconds": 0.02, "payment": sooner["id"]},
    )

    kept = merchant.refund(account, later, handle="a").json()
    flipped = merchant.refund(account, sooner, handle="b").json()

    eventually(lambda: word_now(merchant, account, sooner, flipped) == DECLINED[account])
    assert word_now(merchant, account, later, kept) == SUCCEEDED[account]
    first, second = merchant.ledger()
    assert first["reversed_at"] is None
    assert second["reversed_at"] > second["at"]


# Which call is hit


def test_status_faults_leave_refund_calls_alone(merchant):
    payment = merchant.pay("smartpay")
    merchant.faults({"call": "status", "fault": "error_500_before"})

    answer = merchant.refund("smartpay", payment)
    status = merchant.status("smartpay", payment, answer.json()["id"])

    assert (answer.status_code, status.status_code) == (200, 500)


@pytest.mark.parametrize("call", ["status", "lookup"])
@pytest.mark.parametrize("account", ["jpm_smartpay", "smart_glocal"])
def test_one_endpoint_for_status_and_lookup_matches_either(merchant, account, call):
    payment = merchant.pay(account)
    merchant.faults({"call": call, "fault": "throttled"})

    assert merchant.status(account, payment, "").status_code == 429


@pytest.mark.parametrize("account", ["smartpay", "smart2pay", "smart2pay_card"])
def test_lists_are_lookups(merchant, account):
    payment = merchant.pay(account)
    merchant.faults({"call": "lookup", "fault": "throttled"})

    assert merchant.http.send(merchant.lookup_call(account, payment)).status_code == 429


@pytest.mark.parametrize("path", ["/orders/{order_id}", "/payments/{id}", "/refunds"])
def test_smartpay_reads_but_the_refund_are_lookups(merchant, path):
    payment = merchant.pay("smartpay")
    merchant.faults({"call": "lookup", "fault": "throttled"})

    assert merchant.get("smartpay", path.format(**payment)).status_code == 429


def test_a_fault_may_be_meant_for_one_payment(merchant):
    hit, spared = merchant.pay("smartpay"), merchant.pay("smartpay")
    merchant.faults({"fault": "throttled", "payment": hit["id"]})

    assert merchant.refund("smartpay", hit, handle="a").status_code == 429
    assert merchant.refund("smartpay", spared, handle="b").status_code == 200


def test_after_lets_calls_through_and_first_limits_them(merchant):
    payment = merchant.pay("smartpay")
    merchant.faults({"fault": "throttled", "after": 1, "first": 2})

    codes = [merchant.refund("smartpay", payment, 10, handle=f"h{n}").status_code for n in range(5)]

    assert codes == [200, 429, 429, 200, 200]
    assert merchant.control("GET", "/faults")["faults"][0]["hits"] == 2


def test_the_card_site_can_be_named_on_its_own(merchant):
    apm, card = merchant.pay("smart2pay"), merchant.pay("smart2pay_card")
    merchant.faults({"provider": "smart2pay_card", "fault": "throttled"})

    assert merchant.refund("smart2pay", apm).status_code == 201
    assert merchant.refund("smart2pay_card", card).status_code == 429


def test_probability_is_drawn_from_the_seed_and_not_from_the_order_of_calls(merchant):
    def run(order):
        merchant.control("POST", "/reset")
        payments = [merchant.pay("smartpay") for _ in range(30)]
        merchant.faults({"fault": "throttled", "probability": 0.5}, seed=7)
        codes = {n: merchant.refund("smartpay", payments[n], 10, f"h{n}").status_code for n in order}
        return [codes[n] for n in range(30)]

    forth, back = run(range(30)), run(reversed(range(30)))

    assert forth == back
    assert {200, 429} == set(forth)


@every_account
def test_a_fault_on_a_replay_acts_and_moves_nothing_again(merchant, account):
    payment = merchant.pay(account, pending_seconds=0)
    merchant.refund(account, payment)
    merchant.faults({"fault": "answer_lost"})

    heard = raw_exchange(merchant.refund_call(account, payment))

    assert heard == b""
    assert len(merchant.ledger()) == 1


@every_account
def test_ten_lost_answers_in_a_row_pay_once(merchant, account):
    payment = merchant.pay(account, pending_seconds=0)
    merchant.faults({"fault": "answer_lost", "first": 10})

    for _ in range(10):
        assert raw_exchange(merchant.refund_call(account, payment)) == b""
    merchant.refund(account, payment)

    assert len(merchant.ledger()) == 1
    assert len({each["sha256"] for each in merchant.requests("refund")}) == 1


@pytest.mark.parametrize("account", ["smartretry", "jpm_smartpay", "smart2pay", "smart_glocal"])
def test_a_status_call_may_decline_a_pending_refund(merchant, account):
    payment = merchant.pay(account, pending_seconds=60)
    answer = merchant.refund(account, payment).json()
    merchant.faults({"call": "status", "fault": "decline"})

    assert word_now(merchant, account, payment, answer) == DECLINED[account]
    assert merchant.ledger() == []


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        ({"fault": "explode"}, "faults[0].fault"),
        ({}, "faults[0].fault"),
        ({"fault": "slow", "provider": "paypal"}, "faults[0].provider"),
        ({"fault": "slow", "call": "capture"}, "faults[0].call"),
        ({"fault": "slow", "probability": 2}, "faults[0].probability"),
        ({"fault": "slow", "frist": 1}, "faults[0].frist"),
        ({"fault": "slow", "first": True}, "faults[0].first"),
        ({"fault": "html", "seconds": 1}, "faults[0].seconds"),
        ("slow", "faults[0]"),
    ],
)
def test_a_wrong_fault_is_refused_with_its_field(merchant, fault, field):
    reply = merchant.http.put("/_sandbox/faults", json=[fault])

    assert (reply.status_code, reply.json()["field"]) == (422, field)
