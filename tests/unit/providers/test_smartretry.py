"""The examples of "Refund" and the tables of the fact sheet, one by one."""

import hashlib
import hmac
import json
from dataclasses import replace

import pytest

from domain.outcome import (
    Absent,
    DeclineClass,
    Declined,
    NotSent,
    NotSentReason,
    Pending,
    Succeeded,
    Unknown,
)
from domain.policy import Recovery
from domain.reconcile import Listed
from providers.base import Exclusive, Health, Notification, NotificationRefused, Stores
from providers.smartretry import FINAL, FIXABLE
from tests.unit.providers import support
from tests.unit.providers.support import MANGLED, answer, body_of, talk

BASE = "https://api.smartretry.com"
REFUND_ID = "rf_01J9Z8Q4T7M2"
# The response example of "Refund", with our own id echoed.
ACCEPTED = {
    "transaction_id": "TX2E6G8H",
    "order_id": "OR7B9E1D",
    "merchant_transaction_id": REFUND_ID,
    "accepted": True,
}
NOW = 1_774_915_200.0


def status(word, reason="AUTH.APPROVED", **changes):
    shown = {
        "transaction_id": "TX2E6G8H",
        "type": "refund",
        "amount": 25.00,
        "currency": "USD",
        "arn": "74537604221431003881865",
        "created_at": "2026-03-31T00:00:00.000Z",
        "updated_at": "2026-03-31T00:00:00.000Z",
        "order": {"order_id": "OR7B9E1D"},
        "status": {"status": word, "reasonCode": reason, "name": "A name", "domain": "AUTH"},
    }

    return answer(200, {name: value for name, value in (shown | changes).items() if value is not ...})


def problem(http, reason, headers=None):
    body = {"type": "about:blank", "title": "No", "status": http, "detail": "No.", "reason_code": reason}

    return answer(http, body, headers)


@pytest.fixture(scope="module")
def smartretry():
    return support.provider("smartretry")


@pytest.fixture(scope="module")
def order():
    return support.order("smartretry")


def test_the_refund_of_the_document_is_asked_for_as_documented(smartretry):
    asked = support.order("smartretry", refund_id="refund-20260331-001", handle="refund-20260331-001")
    shown = {**ACCEPTED, "merchant_transaction_id": "refund-20260331-001"}
    heard = talk(smartretry.refund(asked), answer(200, shown))
    request = smartretry.authorize(heard.requests[0])

    assert (request.method, str(request.url)) == ("POST", f"{BASE}/v1/payments/refund/ABC123")
    assert request.headers["x-api-key"] == "sk_test_SecretOfSmartRetry"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"] == "refund-20260331-001"
    assert body_of(request) == {
        "transaction_reference_id": "TX8A3F2C",
        "order_reference_id": "OR7B9E1D",
        "merchant_transaction_id": "refund-20260331-001",
        "amount": 25.00,
        "currency": "USD",
    }
    assert heard.end == Pending(facts=heard.end.facts)
    assert heard.end.facts.provider_refund_id == "TX2E6G8H"


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        (1000, "USD", b'"amount":10.00,'),
        (2550, "EUR", b'"amount":25.50,'),
        (1000, "JPY", b'"amount":1000,'),
        (1000, "KWD", b'"amount":1.000,'),
        (10**15, "USD", b'"amount":10000000000000.00,'),
    ],
)
def test_amounts_are_written_in_major_units_with_the_currencys_decimals(smartretry, amount, currency, written):
    """Page overview, "Amounts"."""
    content = next(smartretry.refund(support.order("smartretry", amount=amount, currency=currency))).request.content

    assert written in content


@pytest.mark.parametrize(
    ("decimals", "amount", "written"),
    [(0, 2500, b'"amount":25,'), (4, 2500, b'"amount":25.0000,'), (0, 2550, b'"amount":25.50,')],
)
def test_an_accounts_own_decimals_change_the_writing_and_never_the_value(decimals, amount, written):
    smartretry = support.provider("smartretry", currency_exponents={"USD": decimals})
    content = next(smartretry.refund(support.order("smartretry", amount=amount))).request.content

    assert written in content
    assert talk(smartretry.status(support.order("smartretry")), status("APPROVED")).end.facts.amount == 2500


def test_the_whole_of_an_untouched_payment_goes_without_an_amount(smartretry):
    body = body_of(next(smartretry.refund(support.order("smartretry", whole=True))).request)

    assert "amount" not in body
    assert "currency" not in body


def test_accepted_is_not_done(smartretry, order):
    assert isinstance(talk(smartretry.refund(order), answer(200, ACCEPTED)).end, Pending)


def test_a_refund_that_is_not_accepted_is_read_once_more(smartretry, order):
    refused = talk(smartretry.refund(order), answer(200, {**ACCEPTED, "accepted": False})).end

    assert isinstance(refused, Pending)
    assert refused.facts.provider_refund_id == "TX2E6G8H"
    assert talk(smartretry.refund(order), answer(200, {"accepted": False})).end == Declined(
        code="NOT_ACCEPTED", message="accepted: false"
    )


def test_the_optional_members_of_the_answer_may_be_missing(smartretry, order):
    shown = {"transaction_id": "TX2E6G8H", "accepted": True}

    assert isinstance(talk(smartretry.refund(order), answer(200, shown)).end, Pending)


@pytest.mark.parametrize(
    "change",
    [
        {"accepted": None},
        {"accepted": "true"},
        {"accepted": 1},
        {"transaction_id": None},
        {"transaction_id": 7},
        {"transaction_id": ""},
        {"accepted": False, "transaction_id": 7},
    ],
)
def test_an_answer_that_says_neither_yes_nor_no_proves_nothing(smartretry, order, change):
    assert isinstance(talk(smartretry.refund(order), answer(200, ACCEPTED | change)).end, Unknown)


def test_the_answer_of_another_refund_is_a_contradiction(smartretry, order):
    assert talk(smartretry.refund(order), answer(200, {**ACCEPTED, "merchant_transaction_id": "x"})).end.contradiction


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("PROCESSING", Pending),
        ("APPROVED", Succeeded),
        ("DECLINED", Declined),
        ("ERROR", Declined),
        ("CANCELLED", Declined),
        ("UNKNOWN", Unknown),
    ],
)
def test_every_documented_status(smartretry, order, word, kind):
    end = talk(smartretry.status(order), status(word)).end

    assert type(end) is kind
    assert (end.facts.status, end.facts.amount, end.facts.currency) == (word, 2500, "USD")
    assert end.facts.reconciliation_id == "74537604221431003881865"
    if kind is Declined:
        assert end.own_record
    if kind is Unknown:
        assert end.contradiction


@pytest.mark.parametrize("word", [None, "", "approved", "REFUNDED", 7, True, ["APPROVED"], {"a": 1}])
def test_a_status_nobody_knows_is_pending_with_an_alert(smartretry, order, word):
    end = talk(smartretry.status(order), status(word)).end

    assert isinstance(end, Pending)
    assert end.facts.alert


@pytest.mark.parametrize("shown", [..., None, "APPROVED", ["APPROVED"], {}])
def test_a_refund_without_a_status_is_pending_with_an_alert(smartretry, order, shown):
    end = talk(smartretry.status(order), status("APPROVED", status=shown)).end

    assert isinstance(end, Pending)
    assert end.facts.alert


@pytest.mark.parametrize("reason", ["REFUND_PENDING_APPROVAL", "PROCESSOR.REFUND_PENDING_APPROVAL"])
def test_a_refund_that_waits_for_approval_is_pending(smartretry, order, reason):
    assert isinstance(talk(smartretry.status(order), status("DECLINED", reason)).end, Pending)


def test_an_account_may_teach_a_status(order):
    smartretry = support.provider("smartretry", status_map={"HELD": "pending"})

    assert talk(smartretry.status(order), status("HELD")).end.facts.alert is None


def test_the_status_is_asked_as_documented(smartretry, order):
    heard = talk(smartretry.status(order), status("APPROVED"))

    assert (heard.requests[0].method, str(heard.requests[0].url)) == (
        "GET",
        f"{BASE}/v1/payments/status/ABC123/TX2E6G8H",
    )


def test_an_id_cannot_lead_the_path_astray(smartretry, order):
    heard = talk(smartretry.status(replace(order, provider_refund_id="../../x")), status("APPROVED"))

    assert heard.requests[0].url.raw_path == b"/v1/payments/status/ABC123/..%2F..%2Fx"


@pytest.mark.parametrize("kind", ["sale", "preauth", "capture", "void", "recurring_init", "recurring", "payout"])
def test_the_status_of_something_else_is_a_contradiction(smartretry, order, kind):
    assert talk(smartretry.status(order), status("APPROVED", type=kind)).end.contradiction


@pytest.mark.parametrize(("shown", "odd"), [("TX000000", True), (..., False)])
def test_the_status_of_another_transaction_proves_nothing(smartretry, order, shown, odd):
    end = talk(smartretry.status(order), status("APPROVED", transaction_id=shown)).end

    assert isinstance(end, Unknown)
    assert end.contradiction is odd


@pytest.mark.parametrize(
    ("changes", "amount", "currency"),
    [
        ({"amount": 24.99}, 2499, "USD"),
        ({"amount": 25.001}, -1, "USD"),
        ({"amount": 25, "currency": "JPY"}, 25, "JPY"),
        ({"amount": 25, "currency": "dollars"}, -1, "dollars"),
        ({"amount": 25, "currency": "usd"}, -1, "usd"),
        ({"currency": "USDX"}, -1, "USDX"),
        ({"currency": {}}, -1, "?"),
        ({"amount": ..., "currency": ...}, None, None),
        ({"currency": ...}, 2500, None),
    ],
)
def test_amount_and_currency_of_an_answer_are_passed_on(smartretry, order, changes, amount, currency):
    end = talk(smartretry.status(order), status("APPROVED", **changes)).end

    assert isinstance(end, Succeeded)
    assert (end.facts.amount, end.facts.currency) == (amount, currency)


@pytest.mark.parametrize("form", ["{}", "PROCESSOR.{}", "PROCESSOR/{}", "VALIDATION/{}/DETAIL"])
@pytest.mark.parametrize("reason", sorted(FINAL | FIXABLE))
@pytest.mark.parametrize("http", [400, 403, 404, 422])
def test_a_refusal_with_a_known_reason_is_a_no(smartretry, order, http, reason, form):
    end = talk(smartretry.refund(order), problem(http, form.format(reason))).end

    kind = DeclineClass.FINAL if reason in FINAL else DeclineClass.FIXABLE
    assert end == Declined(code=reason, message="No.", kind=kind)


@pytest.mark.parametrize(
    ("http", "reason"),
    [
        (400, ""),
        (400, "SOMETHING_NEW"),
        (422, "BUSINESS_RULE"),
        (404, "RECURRING_NOT_FOUND"),
        (400, "DUPLICATE_TRANSACTION"),
        (400, "RELATED_TRANSACTION_LOCKED"),
        (400, "TIMEOUT"),
        (400, "PROVIDER_TIMEOUT"),
        (400, "TEMPORARILY_UNAVAILABLE"),
        (403, "INVALID_AMOUNTS"),
        (201, "INVALID_AMOUNT"),
        (302, "INVALID_AMOUNT"),
        (418, "INVALID_AMOUNT"),
        (409, "STATE"),
        (503, "RESOURCE_LOCKED"),
        *((status, "INVALID_AMOUNT") for status in (408, 409, 500, 502, 503, 504)),
    ],
)
def test_any_other_refusal_proves_nothing(smartretry, order, http, reason):
    end = talk(smartretry.refund(order), problem(http, reason)).end

    assert isinstance(end, Unknown)
    assert not end.contradiction


def test_a_key_known_with_another_body_is_for_a_person(smartretry, order):
    assert talk(smartretry.refund(order), problem(409, "IDEMPOTENCY_CONFLICT")).end.contradiction


@pytest.mark.parametrize("header", ["Idempotency-Replayed", "X-Idempotency-Replayed"])
def test_a_throttled_call_was_not_sent_and_a_replayed_one_is_stored(smartretry, order, header):
    fresh = problem(429, "RATE_LIMIT_EXCEEDED", {"Retry-After": "3", header: "false"})
    again = problem(429, "RATE_LIMIT_EXCEEDED", {header: "true"})

    assert talk(smartretry.refund(order), fresh).end == NotSent(reason=NotSentReason.THROTTLED, retry_after=3.0)
    assert talk(smartretry.refund(order), again).end.stored


@pytest.mark.parametrize(
    ("http", "reason", "stored"),
    [
        (401, "INVALID_API_KEY", False),
        (401, "", False),
        (403, "TERMINAL_NOT_FOUND", True),
        (404, "TERMINAL_NOT_FOUND", True),
        (403, "INVALID_API_KEY", True),
    ],
)
def test_refused_credentials_are_no_verdict_and_may_be_stored(smartretry, order, http, reason, stored):
    end = talk(smartretry.refund(order), problem(http, reason)).end

    assert end == NotSent(reason=NotSentReason.CREDENTIALS, detail=reason or "HTTP 401", stored=stored)


def test_a_question_with_refused_credentials_stores_nothing(smartretry, order):
    end = talk(smartretry.status(order), problem(404, "TERMINAL_NOT_FOUND")).end

    assert end == NotSent(reason=NotSentReason.CREDENTIALS, detail="TERMINAL_NOT_FOUND")


@pytest.mark.parametrize("reason", sorted((FINAL | FIXABLE) - {"TRANSACTION_NOT_FOUND"}))
@pytest.mark.parametrize("http", [400, 403, 404, 422])
def test_a_question_that_is_refused_judges_no_refund(smartretry, order, http, reason):
    assert isinstance(talk(smartretry.status(order), problem(http, reason)).end, Unknown)


@pytest.mark.parametrize("http", [400, 404])
def test_a_transaction_that_is_not_there_is_absent(smartretry, order, http):
    assert talk(smartretry.status(order), problem(http, "TRANSACTION_NOT_FOUND")).end == Absent()
    assert isinstance(talk(smartretry.status(order), answer(http, b"<html>")).end, Unknown)


@pytest.mark.parametrize("http", [200, 201, 400, 403, 404, 422, 500])
@pytest.mark.parametrize("body", MANGLED.values(), ids=MANGLED)
@pytest.mark.parametrize("call", ["refund", "status"])
def test_a_mangled_answer_proves_nothing(smartretry, order, call, body, http):
    assert isinstance(talk(getattr(smartretry, call)(order), answer(http, body)).end, Unknown)


def test_no_lookup_exists(smartretry, order):
    heard = talk(smartretry.lookup(order))

    assert heard.steps == []
    assert isinstance(heard.end, Unknown)
    assert not smartretry.capabilities.lookup


@pytest.mark.parametrize(
    ("kind", "word", "captured"),
    [
        ("sale", "APPROVED", 2500),
        ("capture", "APPROVED", 2500),
        ("recurring", "APPROVED", 2500),
        ("preauth", "APPROVED", None),
        ("sale", "DECLINED", None),
        ("sale", "PROCESSING", None),
        (None, "APPROVED", None),
    ],
)
def test_only_an_approved_sale_or_capture_took_money(smartretry, order, kind, word, captured):
    heard = talk(smartretry.payment(order), status(word, type=kind))

    assert heard.requests[0].url.path == "/v1/payments/status/ABC123/TX8A3F2C"
    assert heard.end.captured == captured
    assert bool(heard.end.problem) is (captured is None)


@pytest.mark.parametrize("changes", [{"amount": 25.001}, {"amount": "many"}, {"amount": 0}, {"currency": []}])
def test_what_cannot_be_read_of_a_payment_caps_nothing(smartretry, order, changes):
    end = talk(smartretry.payment(order), status("APPROVED", **{"type": "sale"} | changes)).end

    assert (end.captured, end.problem) == (None, None)


@pytest.mark.parametrize(
    ("http", "reason", "final"),
    [
        (404, "TRANSACTION_NOT_FOUND", True),
        (400, "TRANSACTION_NOT_FOUND", True),
        (404, "TERMINAL_NOT_FOUND", False),
        (401, "INVALID_API_KEY", False),
        (500, "TRANSACTION_NOT_FOUND", False),
    ],
)
def test_only_a_documented_refusal_makes_a_payment_impossible(smartretry, order, http, reason, final):
    end = talk(smartretry.payment(order), problem(http, reason)).end

    assert end.final is final
    assert end.problem
    assert end.credentials_refused is (reason in ("TERMINAL_NOT_FOUND", "INVALID_API_KEY"))


@pytest.mark.parametrize(("http", "health"), [(200, Health.OK), (503, Health.UNREACHABLE)])
def test_a_ping_asks_for_the_health_page(smartretry, http, health):
    heard = talk(smartretry.ping(), answer(http, {}))

    assert str(heard.requests[0].url) == f"{BASE}/health/"
    assert heard.end is health


EVENT = json.dumps(
    {
        "id": "evt_1",
        "type": "transaction.approved",
        "created_at": "2026-03-31T00:00:00Z",
        "data": {"transaction_id": "TX2E6G8H", "merchant_transaction_id": REFUND_ID, "status": {}},
    }
).encode()


def signed(body, stamp=str(int(NOW)), secret=b"whsec_SecretOfSmartRetry"):
    digest = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()

    return {"x-smartretry-signature": f"t={stamp},v1={digest}"}


def test_a_notification_names_the_refund(smartretry):
    assert smartretry.notification(signed(EVENT), EVENT, NOW) == Notification(
        event_id="evt_1",
        kind="transaction.approved",
        provider_refund_ids=("TX2E6G8H",),
        refund_id=REFUND_ID,
        claims=(Listed(provider_refund_id="TX2E6G8H", refund_id=REFUND_ID),),
    )


@pytest.mark.parametrize("kind", ["declined", "pending", "retry_scheduled", "retry_attempted"])
def test_every_kind_of_event_is_a_hint(smartretry, kind):
    body = EVENT.replace(b"transaction.approved", f"transaction.{kind}".encode())

    assert smartretry.notification(signed(body), body, NOW).kind == f"transaction.{kind}"


@pytest.mark.parametrize("late", [-301, 301])
def test_an_old_notification_is_refused(smartretry, late):
    with pytest.raises(NotificationRefused, match="300 seconds"):
        smartretry.notification(signed(EVENT), EVENT, NOW + late)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-smartretry-signature": ""},
        {"x-smartretry-signature": "t=1"},
        {"x-smartretry-signature": f"t={int(NOW)},v1="},
        {"x-smartretry-signature": f"t={int(NOW)},v1={'0' * 64}"},
        {"x-smartretry-signature": "t=\xb2,v1=\xe9"},
        signed(EVENT, secret=b"another"),
        signed(EVENT + b" "),
    ],
)
def test_a_forged_notification_is_refused(smartretry, headers):
    with pytest.raises(NotificationRefused, match="signature"):
        smartretry.notification(headers, EVENT, NOW)


def test_without_a_secret_nothing_is_believed():
    smartretry = support.provider("smartretry", webhook_secret="")

    with pytest.raises(NotificationRefused):
        smartretry.notification(signed(EVENT, secret=b""), EVENT, NOW)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data":7}', b"<html>"])
def test_a_signed_body_that_is_no_event_is_refused(smartretry, body):
    with pytest.raises(NotificationRefused, match="not an event"):
        smartretry.notification(signed(body), body, NOW)


def faults(order):
    found = []
    warnings = support.provider("smartretry").check(order, lambda pointer, _: found.append(pointer))

    return found, warnings


def test_references_have_exactly_eight_characters(order):
    assert faults(order) == ([], ())
    assert faults(replace(order, payment_id="TX8A3F2", order_id=None))[0] == [
        "#/payment/id",
        "#/payment/order_id",
    ]


def test_an_amount_below_one_is_warned_about(order):
    assert faults(replace(order, amount=99))[1]
    assert not faults(replace(order, amount=100))[1]
    assert not faults(replace(order, amount=1, currency="JPY"))[1]


def test_the_capabilities_are_those_of_the_fact_sheet(smartretry):
    can = smartretry.capabilities

    assert can.recovery is Recovery.REPLAY
    assert can.stores is Stores.REFUSALS
    assert can.exclusive is Exclusive.WHILE_UNKNOWN
    assert (can.handle_lifetime, can.handle_max_length, can.rate_limit) == (86_400, 255, 100)
    assert (can.lookup, can.omit_amount, can.polled) == (False, True, True)


def test_the_fingerprint_names_host_and_terminal(smartretry):
    assert smartretry.fingerprint == "smartretry https://api.smartretry.com ABC123"


def test_while_a_secret_is_renewed_what_either_signed_is_believed():
    both = support.provider("smartretry", webhook_secret=["whsec_new", "whsec_SecretOfSmartRetry"])

    for secret in (b"whsec_new", b"whsec_SecretOfSmartRetry"):
        assert both.notification(signed(EVENT, secret=secret), EVENT, NOW).event_id == "evt_1"
    with pytest.raises(NotificationRefused):
        both.notification(signed(EVENT, secret=b"whsec_older"), EVENT, NOW)


def test_one_of_several_signatures_is_enough(smartretry):
    mine = signed(EVENT)["x-smartretry-signature"]
    headers = {"x-smartretry-signature": f"{mine.replace('v1=', 'v1=00')},{mine.split(',')[1]}"}

    assert smartretry.notification(headers, EVENT, NOW).event_id == "evt_1"
