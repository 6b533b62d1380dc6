"""The examples of "Refund an order" and the tables of the fact sheet, one by one."""

import hashlib
import hmac
import json
from dataclasses import replace

import pytest

from domain.errors import ConfigurationError
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
from domain.reconcile import Listed, Verdict
from providers.base import Exclusive, Health, Notification, NotificationRefused, Stores
from providers.smartpay import METADATA_HANDLE, signature, signing_key
from tests.unit.providers import support
from tests.unit.providers.support import HANDLE, MANGLED, answer, body_of, talk

BASE = "https://api.smartpay.co/v1"
PAYMENT = "payment_test_GDEATBKK8XAp9XGf6J4U4"
ORDER = "order_test_bA1znhGULw5lROfDTpHChv"
REFUND = {
    "id": "refund_test_abc",
    "object": "refund",
    "payment": PAYMENT,
    "amount": 1000,
    "currency": "JPY",
    "reason": "requested_by_customer",
    "reference": "RMA-1001",
    "lineItems": [],
    "metadata": {METADATA_HANDLE: HANDLE},
    "status": "succeeded",
    "test": True,
    "createdAt": 1653028523020,
    "updatedAt": 1653028523020,
}
WITHOUT_STATUS = {key: value for key, value in REFUND.items() if key != "status"}
PAYMENT_OBJECT = {
    "id": PAYMENT,
    "object": "payment",
    "amount": 2100,
    "currency": "JPY",
    "status": "processed",
}
NOW = 1_653_028_523.5


@pytest.fixture(scope="module")
def smartpay():
    return support.provider("smartpay")


@pytest.fixture(scope="module")
def order():
    return support.order("smartpay")


@pytest.fixture(scope="module")
def known(order):
    return replace(order, provider_refund_id="refund_test_abc")


def test_the_refund_of_the_document_is_asked_for_as_documented(smartpay):
    asked = support.order("smartpay", description="Customer return", reference="my_merchant_refund_reference")
    heard = talk(smartpay.refund(asked), answer(200, {**REFUND, "reference": "my_merchant_refund_reference"}))
    request = smartpay.authorize(heard.requests[0])

    assert (request.method, str(request.url)) == ("POST", f"{BASE}/refunds")
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == "Basic sk_test_SecretOfSmartpay"
    assert request.headers["Idempotency-Key"] == HANDLE
    assert body_of(request) == {
        "amount": 1000,
        "currency": "JPY",
        "description": "Customer return",
        "lineItems": [],
        "payment": PAYMENT,
        "reason": "requested_by_customer",
        "reference": "my_merchant_refund_reference",
        "metadata": {METADATA_HANDLE: HANDLE},
    }
    assert isinstance(heard.end, Succeeded)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("requested_by_customer", "requested_by_customer"),
        ("fraudulent", "fraudulent"),
        ("duplicate", "requested_by_customer"),
        ("other", "requested_by_customer"),
    ],
)
def test_a_reason_is_sent_as_one_of_the_two_that_exist(smartpay, ours, theirs):
    heard = talk(smartpay.refund(support.order("smartpay", reason=ours)), answer(200, REFUND))

    assert body_of(heard.requests[0])["reason"] == theirs


def test_items_and_metadata_of_the_shop_go_along(smartpay):
    asked = support.order("smartpay", items=({"id": "1231", "quantity": 1}, {"sku": "x"}), metadata={"rma": "7"})
    body = body_of(talk(smartpay.refund(asked), answer(200, REFUND)).requests[0])

    assert body["lineItems"] == ["1231"]
    assert body["metadata"] == {METADATA_HANDLE: HANDLE, "rma": "7"}


def test_never_more_than_twenty_pairs_of_metadata_are_sent(smartpay):
    asked = support.order("smartpay", metadata={f"k{n}": "v" for n in range(30)} | {METADATA_HANDLE: "forged"})
    metadata = body_of(talk(smartpay.refund(asked), answer(200, REFUND)).requests[0])["metadata"]

    assert len(metadata) == 20
    assert metadata[METADATA_HANDLE] == HANDLE


def test_a_refund_of_everything_still_names_its_amount(smartpay):
    heard = talk(smartpay.refund(support.order("smartpay", whole=True)), answer(200, REFUND))

    assert body_of(heard.requests[0])["amount"] == 1000
    assert smartpay.capabilities.omit_amount is False


@pytest.mark.parametrize("missing", ["payment_id", "amount", "currency"])
def test_nothing_is_sent_before_payment_and_amount_are_known(smartpay, missing):
    heard = talk(smartpay.refund(support.order("smartpay", **{missing: None})))

    assert heard.steps == []
    assert heard.end.reason is NotSentReason.ASK_FAILED


def test_an_account_may_count_yen_in_hundredths():
    smartpay = support.provider("smartpay", currency_exponents={"JPY": 2})
    heard = talk(smartpay.refund(support.order("smartpay")), answer(200, {**REFUND, "amount": 100_000}))

    assert body_of(heard.requests[0])["amount"] == 100_000
    assert heard.end.facts.amount == 1000
    assert smartpay.capabilities.exponents == {"JPY": 2}


@pytest.mark.parametrize(("word", "kind"), [("succeeded", Succeeded), ("failed", Declined)])
@pytest.mark.parametrize("call", ["refund", "status", "lookup"])
def test_every_documented_status_is_final_wherever_it_is_read(smartpay, known, call, word, kind):
    shown = {**REFUND, "status": word}
    body = {**PAYMENT_OBJECT, "refunds": [shown]} if call == "lookup" else shown
    end = talk(getattr(smartpay, call)(known), answer(200, body)).end

    assert isinstance(end, kind)
    assert (end.facts.provider_refund_id, end.facts.status) == ("refund_test_abc", word)
    assert (end.facts.amount, end.facts.currency) == (1000, "JPY")
    if kind is Declined:
        assert end.own_record
        assert end.kind is DeclineClass.FINAL


@pytest.mark.parametrize("word", ["pending", "SUCCEEDED", "succeeded ", "", 1, True, ["succeeded"], {"a": 1}])
def test_a_status_nobody_knows_is_pending_with_an_alert(smartpay, order, word):
    end = talk(smartpay.refund(order), answer(200, {**REFUND, "status": word})).end

    assert isinstance(end, Pending)
    assert end.facts.alert
    assert end.facts.provider_refund_id == "refund_test_abc"


def test_an_account_may_teach_a_status():
    smartpay = support.provider("smartpay", status_map={"pending": "pending", "refunded": "succeeded"})
    pending = talk(smartpay.refund(support.order("smartpay")), answer(200, {**REFUND, "status": "pending"})).end
    paid = talk(smartpay.refund(support.order("smartpay")), answer(200, {**REFUND, "status": "refunded"})).end

    assert isinstance(pending, Pending)
    assert pending.facts.alert is None
    assert isinstance(paid, Succeeded)


def test_a_missing_status_is_read_once_more(smartpay, order):
    heard = talk(smartpay.refund(order), answer(200, WITHOUT_STATUS), answer(200, REFUND))

    assert [request.method for request in heard.requests] == ["POST", "GET"]
    assert str(heard.requests[1].url) == f"{BASE}/refunds/refund_test_abc"
    assert isinstance(heard.end, Succeeded)


@pytest.mark.parametrize(
    "again",
    [answer(200, WITHOUT_STATUS), answer(500), answer(429), answer(401), answer(200, b"<html>"), answer(404)],
)
def test_a_status_that_stays_missing_is_pending_and_no_success(smartpay, order, again):
    end = talk(smartpay.refund(order), answer(200, WITHOUT_STATUS), again).end

    assert isinstance(end, Pending)
    assert end.facts.alert
    assert end.facts.provider_refund_id == "refund_test_abc"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "amount.insufficient", DeclineClass.FINAL),
        (404, "payment.not-found", DeclineClass.FINAL),
        (400, "request.invalid", DeclineClass.FIXABLE),
        (400, "token.invalid", DeclineClass.FIXABLE),
    ],
)
def test_a_documented_refusal_is_a_no(smartpay, order, status, code, kind):
    body = {"statusCode": status, "errorCode": code, "message": "No.", "details": []}
    end = talk(smartpay.refund(order), answer(status, body)).end

    assert end == Declined(code=code, message="No.", kind=kind)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "refund.not-found"),
        (404, "order.not-found"),
        (409, "order.cannot-cancel"),
        (409, "order.cannot-capture"),
        (409, "payment.excessive-amount"),
        (400, "amount.insufficient"),
        (403, "payment.not-found"),
        (404, "amount.insufficient"),
        (403, ""),
        (400, "something.new"),
        (402, "amount.insufficient"),
        (422, "amount.insufficient"),
        (418, "request.invalid"),
        (201, "request.invalid"),
        (302, "payment.not-found"),
        *((status, "internal") for status in (408, 425, 500, 501, 502, 503, 504, 520)),
        *((status, "amount.insufficient") for status in (408, 409, 500, 503)),
    ],
)
def test_any_other_refusal_proves_nothing(smartpay, order, status, code):
    end = talk(smartpay.refund(order), answer(status, {"statusCode": status, "errorCode": code})).end

    assert isinstance(end, Unknown)
    assert not end.contradiction


@pytest.mark.parametrize("status", [400, 409, 422])
@pytest.mark.parametrize("code", ["idempotency.key-conflict", "idempotent.mismatch"])
def test_a_fault_about_the_key_is_for_a_person(smartpay, order, status, code):
    end = talk(smartpay.refund(order), answer(status, {"errorCode": code})).end

    assert isinstance(end, Unknown)
    assert end.contradiction


def test_a_refused_key_pauses_the_account_and_judges_no_refund(smartpay, order):
    body = {"statusCode": 401, "scheme": "Basic", "realm": "Smartpay API"}
    end = talk(smartpay.refund(order), answer(401, body)).end

    assert end == NotSent(reason=NotSentReason.CREDENTIALS, detail="HTTP 401")


def test_a_throttled_call_was_not_sent(smartpay, order):
    end = talk(smartpay.refund(order), answer(429, {}, {"Retry-After": "7"})).end

    assert end == NotSent(reason=NotSentReason.THROTTLED, retry_after=7.0)


@pytest.mark.parametrize("status", [200, 201, 400, 403, 404, 422, 500])
@pytest.mark.parametrize("body", MANGLED.values(), ids=MANGLED)
@pytest.mark.parametrize("call", ["refund", "status", "lookup"])
def test_a_mangled_answer_proves_nothing(smartpay, known, call, body, status):
    assert isinstance(talk(getattr(smartpay, call)(known), answer(status, body)).end, Unknown)


@pytest.mark.parametrize(
    "change",
    [
        {"payment": "payment_test_other"},
        {"payment": {"id": "payment_test_other"}},
        {"metadata": {METADATA_HANDLE: "another"}},
    ],
)
@pytest.mark.parametrize("call", ["refund", "status"])
def test_an_answer_about_another_refund_is_a_contradiction(smartpay, known, call, change):
    end = talk(getattr(smartpay, call)(known), answer(200, REFUND | change)).end

    assert isinstance(end, Unknown)
    assert end.contradiction


@pytest.mark.parametrize("change", [{"id": None}, {"id": ""}, {"id": 7}, {"object": "payment"}])
def test_a_yes_that_shows_no_refund_is_no_yes(smartpay, order, change):
    assert isinstance(talk(smartpay.refund(order), answer(200, REFUND | change)).end, Unknown)


@pytest.mark.parametrize(
    ("change", "amount", "currency"),
    [
        ({"amount": 999}, 999, "JPY"),
        ({"currency": "USD"}, 1000, "USD"),
        ({"currency": "jpy"}, -1, "jpy"),
        ({"currency": []}, -1, "?"),
        ({"amount": None, "currency": None}, None, None),
        ({"amount": "1000"}, -1, "JPY"),
        ({"amount": 10**30}, -1, "JPY"),
        ({"amount": 1000.0}, 1000, "JPY"),
        ({"currency": None}, 1000, None),
    ],
)
def test_amount_and_currency_of_an_answer_are_passed_on(smartpay, order, change, amount, currency):
    end = talk(smartpay.refund(order), answer(200, REFUND | change)).end

    assert isinstance(end, Succeeded)
    assert (end.facts.amount, end.facts.currency) == (amount, currency)


def test_the_status_call_reads_one_refund(smartpay, known):
    heard = talk(smartpay.status(known), answer(200, {**REFUND, "payment": PAYMENT_OBJECT}))

    assert (heard.requests[0].method, str(heard.requests[0].url)) == (
        "GET",
        f"{BASE}/refunds/refund_test_abc",
    )
    assert isinstance(heard.end, Succeeded)


def test_an_id_cannot_lead_the_path_astray(smartpay, order):
    heard = talk(smartpay.status(replace(order, provider_refund_id="../orders/x?y#z")), answer(404))

    assert heard.requests[0].url.raw_path == b"/v1/refunds/..%2Forders%2Fx%3Fy%23z"


def test_a_refund_that_is_not_there_is_absent(smartpay, known):
    missing = answer(404, {"statusCode": 404, "errorCode": "refund.not-found"})

    assert talk(smartpay.status(known), missing).end == Absent()
    assert isinstance(talk(smartpay.status(known), answer(404, {"errorCode": "payment.not-found"})).end, Unknown)


def test_the_status_of_another_refund_is_a_contradiction(smartpay, known):
    end = talk(smartpay.status(known), answer(200, {**REFUND, "id": "refund_test_other"})).end

    assert end.contradiction


@pytest.mark.parametrize("code", ["amount.insufficient", "payment.not-found", "request.invalid"])
@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("call", ["status", "lookup"])
def test_a_question_that_is_refused_judges_no_refund(smartpay, known, call, code, status):
    end = talk(getattr(smartpay, call)(known), answer(status, {"errorCode": code})).end

    assert isinstance(end, Unknown)


def test_the_lookup_asks_the_payment_for_its_refunds(smartpay, order):
    heard = talk(smartpay.lookup(order), answer(200, {**PAYMENT_OBJECT, "refunds": [REFUND]}))

    assert str(heard.requests[0].url) == f"{BASE}/payments/{PAYMENT}?expand=all"
    assert isinstance(heard.end, Succeeded)


def test_refunds_that_come_as_ids_are_read_one_by_one(smartpay, order):
    other = {**REFUND, "id": "refund_test_1", "metadata": {METADATA_HANDLE: "another"}}
    listed = answer(200, {**PAYMENT_OBJECT, "refunds": ["refund_test_1", "refund_test_abc"]})
    heard = talk(smartpay.lookup(order), listed, answer(200, other), answer(200, REFUND))

    assert [request.url.path for request in heard.requests[1:]] == [
        "/v1/refunds/refund_test_1",
        "/v1/refunds/refund_test_abc",
    ]
    assert isinstance(heard.end, Succeeded)


def test_a_refund_that_cannot_be_read_leaves_the_lookup_open(smartpay, order):
    listed = answer(200, {**PAYMENT_OBJECT, "refunds": ["refund_test_1"]})

    assert isinstance(talk(smartpay.lookup(order), listed, answer(500)).end, Unknown)
    assert isinstance(talk(smartpay.lookup(order), listed, answer(200, b"<html>")).end, Unknown)


def test_a_payment_without_refunds_proves_absence(smartpay, order):
    assert talk(smartpay.lookup(order), answer(200, {**PAYMENT_OBJECT, "refunds": []})).end == Absent()


@pytest.mark.parametrize("odd", [None, 7, {}, {"status": "succeeded"}, [REFUND]])
def test_a_list_with_something_odd_in_it_proves_no_absence(smartpay, order, odd):
    assert isinstance(talk(smartpay.lookup(order), answer(200, {**PAYMENT_OBJECT, "refunds": [odd]})).end, Unknown)


def page(*refunds, token=None):
    return answer(200, {"object": "collection", "data": list(refunds), "maxResults": 100, "nextPageToken": token})


def test_without_refunds_in_the_payment_all_pages_are_read(smartpay, order):
    other = {**REFUND, "id": "refund_test_1", "payment": "payment_test_other", "metadata": {}}
    heard = talk(smartpay.lookup(order), answer(200, PAYMENT_OBJECT), page(other, token="p2"), page(REFUND))

    assert [str(request.url) for request in heard.requests[1:]] == [
        f"{BASE}/refunds?maxResults=100",
        f"{BASE}/refunds?maxResults=100&pageToken=p2",
    ]
    assert isinstance(heard.end, Succeeded)


def test_only_a_complete_listing_proves_absence(smartpay, order):
    payment = answer(200, PAYMENT_OBJECT)

    assert talk(smartpay.lookup(order), payment, page()).end == Absent()
    assert isinstance(talk(smartpay.lookup(order), payment, page(token="p"), answer(502)).end, Unknown)
    assert isinstance(talk(smartpay.lookup(order), payment, answer(200, {"data": "?"})).end, Unknown)
    assert isinstance(talk(smartpay.lookup(order), payment, answer(200, {})).end, Unknown)


def test_only_in_a_complete_listing_is_a_refund_without_metadata_the_only_one(smartpay, order):
    bare = {**REFUND, "metadata": {}}
    payment = answer(200, PAYMENT_OBJECT)

    assert isinstance(talk(smartpay.lookup(order), payment, page(bare)).end, Succeeded)
    assert isinstance(talk(smartpay.lookup(order), payment, page(bare, token="p"), answer(502)).end, Unknown)
    assert isinstance(talk(smartpay.lookup(order), payment, page(REFUND, token="p"), answer(502)).end, Succeeded)


def test_an_endless_listing_ends_and_proves_nothing(smartpay, order):
    heard = talk(smartpay.lookup(order), answer(200, PAYMENT_OBJECT), page(token="again"))

    assert isinstance(heard.end, Unknown)
    assert len(heard.steps) == 51


def test_a_refund_without_metadata_is_ours_if_nothing_else_fits(smartpay, order):
    bare = {**REFUND, "metadata": {}}
    payment = {**PAYMENT_OBJECT, "refunds": [bare, {**bare, "id": "refund_test_2", "amount": 999}]}

    assert isinstance(talk(smartpay.lookup(order), answer(200, payment)).end, Succeeded)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 999},
        {"reference": "RMA-1002"},
        {"payment": "payment_test_other"},
        {"metadata": {METADATA_HANDLE: "another"}},
    ],
)
def test_a_refund_that_differs_in_anything_is_not_ours(smartpay, order, change):
    payment = {**PAYMENT_OBJECT, "refunds": [{**REFUND, "metadata": {}} | change]}

    assert talk(smartpay.lookup(order), answer(200, payment)).end == Absent()


def test_two_refunds_that_could_be_ours_are_for_a_person(smartpay, order):
    twins = [{**REFUND, "metadata": {}}, {**REFUND, "metadata": {}, "id": "refund_test_2"}]
    end = talk(smartpay.lookup(order), answer(200, {**PAYMENT_OBJECT, "refunds": twins})).end

    assert end.contradiction


def test_the_same_refund_on_two_pages_is_one(smartpay, order):
    end = talk(smartpay.lookup(order), answer(200, PAYMENT_OBJECT), page(REFUND, token="p2"), page(REFUND)).end

    assert isinstance(end, Succeeded)


@pytest.mark.parametrize("call", ["status", "lookup"])
def test_a_question_may_be_throttled_or_refused(smartpay, known, call):
    ask = getattr(smartpay, call)

    assert talk(ask(known), answer(429, {})).end.reason is NotSentReason.THROTTLED
    assert talk(ask(known), answer(401, {})).end.reason is NotSentReason.CREDENTIALS


ORDER_OBJECT = {
    "id": ORDER,
    "object": "order",
    "amount": 2100,
    "createdAt": 1644978270631,
    "currency": "JPY",
    "discounts": [],
    "expiresAt": 1645583167495,
    "lineItems": [],
    "metadata": {},
    "payments": [PAYMENT],
    "shippingInfo": {},
    "status": "succeeded",
    "test": True,
    "updatedAt": 1644978437889,
}


@pytest.fixture(scope="module")
def by_order():
    return support.order("smartpay", payment_id=None, order_id=ORDER, amount=None, currency=None)


def test_the_order_of_the_document_leads_to_its_payment(smartpay, by_order):
    heard = talk(smartpay.payment(by_order), answer(200, ORDER_OBJECT), answer(200, PAYMENT_OBJECT))

    assert [str(request.url) for request in heard.requests] == [
        f"{BASE}/orders/{ORDER}?expand=all",
        f"{BASE}/payments/{PAYMENT}?expand=all",
    ]
    assert heard.requests[0].headers["Accept"] == "application/json"
    assert heard.end.payment_ids == (PAYMENT,)
    assert (heard.end.captured, heard.end.currency) == (2100, "JPY")


def test_an_order_may_hold_its_payments_as_objects(smartpay, by_order):
    heard = talk(smartpay.payment(by_order), answer(200, {**ORDER_OBJECT, "payments": [PAYMENT_OBJECT]}))

    assert len(heard.steps) == 1
    assert (heard.end.payment_ids, heard.end.captured) == ((PAYMENT,), 2100)


def test_the_payments_of_an_order_are_all_named(smartpay, by_order):
    payments = [PAYMENT, {**PAYMENT_OBJECT, "id": "payment_test_2"}]
    end = talk(smartpay.payment(by_order), answer(200, {**ORDER_OBJECT, "payments": payments})).end

    assert end.payment_ids == (PAYMENT, "payment_test_2")
    assert end.captured is None


@pytest.mark.parametrize(
    ("status", "final"),
    [
        ("pending", False),
        ("requires_authorization", False),
        ("requires_capture", False),
        ("succeeded", False),
        ("canceled", True),
        ("rejected", True),
        ("failed", True),
        ("unheard of", False),
    ],
)
def test_an_order_without_a_payment_is_final_once_none_will_come(smartpay, by_order, status, final):
    end = talk(smartpay.payment(by_order), answer(200, {**ORDER_OBJECT, "payments": [], "status": status})).end

    assert end.problem
    assert end.final is final


def test_an_order_that_cannot_be_read_is_a_problem_and_not_final(smartpay, by_order):
    for payments in (None, [7], "x", [{}]):
        end = talk(smartpay.payment(by_order), answer(200, {**ORDER_OBJECT, "payments": payments})).end

        assert end.problem
        assert not end.final


def test_a_payment_tells_what_was_captured_and_what_went_back(smartpay, order):
    refunds = [REFUND, {**REFUND, "id": "refund_test_2", "amount": 100, "status": "failed"}]
    heard = talk(smartpay.payment(order), answer(200, {**PAYMENT_OBJECT, "refunds": refunds}))

    assert str(heard.requests[0].url) == f"{BASE}/payments/{PAYMENT}?expand=all"
    assert (heard.end.captured, heard.end.refunded, heard.end.currency) == (2100, 1000, "JPY")
    assert heard.end.problem is None


@pytest.mark.parametrize("refunds", [None, ["refund_test_abc"], [{**REFUND, "amount": "?"}], [REFUND, {"amount": 0.5}]])
def test_what_went_back_is_unknown_unless_all_of_it_is_shown(smartpay, order, refunds):
    assert talk(smartpay.payment(order), answer(200, {**PAYMENT_OBJECT, "refunds": refunds})).end.refunded is None


@pytest.mark.parametrize(
    ("status", "code", "final"),
    [
        (404, "payment.not-found", True),
        (404, "order.not-found", True),
        (404, "", False),
        (401, "", False),
        (500, "payment.not-found", False),
    ],
)
def test_only_a_documented_404_makes_a_payment_impossible(smartpay, order, by_order, status, code, final):
    for asked in (order, by_order):
        end = talk(smartpay.payment(asked), answer(status, {"errorCode": code})).end

        assert end.final is final
        assert end.problem
        assert end.problem_code == (code if final else None)
        assert end.credentials_refused is (status == 401)


@pytest.mark.parametrize("change", [{"amount": None}, {"currency": None}, {"amount": "x"}, {"currency": "YEN"}])
def test_a_payment_without_an_amount_is_a_problem(smartpay, order, change):
    end = talk(smartpay.payment(order), answer(200, PAYMENT_OBJECT | change)).end

    assert end.problem
    assert end.captured is None


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (200, Health.OK),
        (401, Health.CREDENTIALS_REFUSED),
        (500, Health.UNREACHABLE),
        (404, Health.UNREACHABLE),
    ],
)
def test_a_ping_reads_a_page_of_one(smartpay, status, health):
    heard = talk(smartpay.ping(), answer(status, {}))

    assert str(heard.requests[0].url) == f"{BASE}/refunds?maxResults=1"
    assert heard.end is health


def event(**data):
    return json.dumps(
        {
            "id": "evt_test_1",
            "object": "event",
            "createdAt": 1653028523020,
            "test": True,
            "eventData": {"type": "refund.created", "version": "2022-02-18", "data": {**REFUND, **data}},
        }
    ).encode()


def headers(body, stamp="1653028523020"):
    secret = support.options("smartpay")["webhook_secret"]

    return {
        "smartpay-signature": signature(secret, stamp.encode() + b"." + body),
        "smartpay-signature-timestamp": stamp,
        "smartpay-subscription-id": "webhookendpoint_test_1",
        "smartpay-event-id": "evt_test_1",
    }


def test_the_signature_of_the_sdks_own_vector():
    assert signature("MOCKSECRETKEY", b"test data") == (
        "ae82b27dd6dafd0dbfc65faff07160833776cf60915782ef991557e51e4d1782"
    )
    assert len(signing_key("MOCKSECRETKEY")) == 10


def test_a_real_secret_is_padded_on_the_left_to_thirty_bytes():
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    for key in (bytes(range(1, 31)), b"\x00" + bytes(range(2, 31)), b"\x00\x00" + b"\xff" * 28, b"\xff" * 30):
        number, digits = int.from_bytes(key, "big"), ""
        while number:
            number, digit = divmod(number, 62)
            digits = alphabet[digit] + digits

        assert signing_key(digits) == key
        assert signing_key("A" + digits) == key
        assert signature(digits, b"m") == hmac.new(key, b"m", hashlib.sha256).hexdigest()


def test_a_short_secret_keeps_one_zero_byte_for_each_leading_a():
    assert signing_key("AAB") == b"\x00\x00\x01"


def test_a_notification_names_the_refund_the_payment_and_our_handle(smartpay):
    body = event()

    assert smartpay.notification(headers(body), body, NOW) == Notification(
        event_id="evt_test_1",
        kind="refund.created",
        provider_refund_ids=("refund_test_abc",),
        handle=HANDLE,
        payment_id=PAYMENT,
        claims=(
            Listed(
                provider_refund_id="refund_test_abc",
                verdict=Verdict.SUCCEEDED,
                status="succeeded",
                at=1653028523.02,
                amount=1000,
                currency="JPY",
                payment_id=PAYMENT,
                handle=HANDLE,
            ),
        ),
    )


def test_a_notification_about_something_else_names_no_refund(smartpay):
    body = event(object="order", id="order_test_1")
    heard = smartpay.notification(headers(body), body, NOW)

    assert heard.provider_refund_ids == ()
    assert heard.payment_id is None


@pytest.mark.parametrize("late", [-301, 301])
def test_an_old_notification_is_refused(smartpay, late):
    body = event()

    with pytest.raises(NotificationRefused, match="300 seconds"):
        smartpay.notification(headers(body), body, 1_653_028_523.02 + late)


@pytest.mark.parametrize("near", [-299, 0, 299])
def test_a_notification_within_five_minutes_is_taken(smartpay, near):
    body = event()

    assert smartpay.notification(headers(body), body, 1_653_028_523.02 + near).event_id == "evt_test_1"


@pytest.mark.parametrize(
    "change",
    [
        {"smartpay-signature": ""},
        {"smartpay-signature": "0" * 64},
        {"smartpay-signature": "\xe9"},
        {"smartpay-signature-timestamp": "1653028523021"},
        {"smartpay-signature-timestamp": ""},
        {"smartpay-signature-timestamp": "\xb2"},
    ],
)
def test_a_forged_notification_is_refused(smartpay, change):
    body = event()

    with pytest.raises(NotificationRefused, match="signature"):
        smartpay.notification(headers(body) | change, body, NOW)


def test_a_changed_body_is_refused(smartpay):
    body = event()

    with pytest.raises(NotificationRefused):
        smartpay.notification(headers(body), body + b" ", NOW)


def test_without_a_secret_nothing_is_believed():
    smartpay = support.provider("smartpay", webhook_secret="")
    body = event()

    for given in ("", signature("", b"1653028523020." + body)):
        with pytest.raises(NotificationRefused, match="signature"):
            smartpay.notification(headers(body) | {"smartpay-signature": given}, body, NOW)


@pytest.mark.parametrize(
    ("key", "value"),
    [("webhook_secret", "no-base62!"), ("secret_key", "sk_test_1\n"), ("secret_key", "sk_test_\xe9")],
)
def test_a_secret_that_cannot_be_used_stops_the_start(key, value):
    with pytest.raises(ConfigurationError) as refused:
        support.provider("smartpay", **{key: value})

    assert refused.value.lines[0].startswith(f"accounts.smartpay.{key}: expected ")
    assert value not in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"eventData":7}', b"<html>"])
def test_a_signed_body_that_is_no_event_is_refused(smartpay, body):
    with pytest.raises(NotificationRefused, match="not an event"):
        smartpay.notification(headers(body), body, NOW)


def faults(smartpay, order):
    found = {}
    warnings = smartpay.check(order, lambda pointer, detail: found.update({pointer: detail}))

    return found, warnings


def test_a_job_needs_a_payment_or_an_order(smartpay):
    assert faults(smartpay, support.order("smartpay")) == ({}, ())
    assert faults(smartpay, support.order("smartpay", payment_id=None, order_id=ORDER)) == ({}, ())
    assert list(faults(smartpay, support.order("smartpay", payment_id=None))[0]) == ["#/payment/id"]


def test_metadata_must_leave_room_for_our_handle(smartpay):
    nineteen = {f"k{n}": "v" for n in range(19)}

    assert faults(smartpay, support.order("smartpay", metadata=nineteen))[0] == {}
    assert list(faults(smartpay, support.order("smartpay", metadata=nineteen | {"z": "v"}))[0]) == ["#/metadata"]
    reserved = support.order("smartpay", metadata={METADATA_HANDLE: "x"})
    assert list(faults(smartpay, reserved)[0]) == [f"#/metadata/{METADATA_HANDLE}"]


def test_a_live_payment_under_a_test_key_is_warned_about(smartpay):
    assert faults(smartpay, support.order("smartpay", payment_id="payment_live_1"))[1]


def test_the_capabilities_are_those_of_the_fact_sheet(smartpay):
    can = smartpay.capabilities

    assert can.recovery is Recovery.REPLAY
    assert can.handle_lifetime == 6 * 3600
    assert can.stores is Stores.REFUSALS
    assert can.exclusive is Exclusive.WHILE_UNKNOWN
    assert can.currencies == {"JPY"}
    assert (can.polled, can.payment_facts, can.order_lookup, can.matches_handle) == (False, True, True, True)


@pytest.mark.parametrize(("key", "environment"), [("sk_test_1", "test"), ("sk_live_1", "live"), ("other", "unknown")])
def test_the_fingerprint_tells_test_from_live_and_shows_no_key(key, environment):
    assert support.provider("smartpay", secret_key=key).fingerprint == f"smartpay {BASE} {environment}"
