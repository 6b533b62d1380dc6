"""The page "Refund" (POST /payment/refund), its siblings and the tables of the fact sheet, one by one."""

import base64
import copy
import json
import tomllib
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from pydantic import ValidationError

from domain.outcome import Absent, DeclineClass, Declined, NotSent, NotSentReason, Pending, Succeeded, Unknown
from domain.policy import Recovery
from providers import wire
from providers.base import (
    AdapterSettings,
    Ask,
    Exclusive,
    Health,
    Move,
    NotificationRefused,
    NotificationUnreadable,
    RefundOrder,
    Stores,
)
from providers.jpm_smartpay import LEVELS, UNPROVEN_MAX, JpmSettings, JpmSmartPay, OAuth, create
from tests.unit.providers.support import MANGLED, answer, body_of, talk

BASE = "https://api.smartpay.example"
TOKEN_URL = "https://smartpay-oauth-cons.auth.eu-central-1.amazoncognito.com/oauth2/token"
TRANSACTION = "5f0c6c0e-7d8f-4a54-9a2b-0d9b1a6b8c11"
HANDLE = "0b9d3c1e-5f63-4d0a-9d7e-0a6f0f7b8c11"
REFUND_ID = "7d9f1d2a-0000-4000-8000-000000000001"
DECISIVE = (Succeeded, Declined, NotSent)

MODIFICATION = {
    "creationDate": "2024-05-20T10:35:45.123Z",
    "lastStatusDate": "2024-05-20T10:35:46.001Z",
    "modificationAmount": {"amount": 25.00, "currencyCode": "EUR", "description": "Return"},
    "modificationData": {
        "customReferences": {"custom1": "a", "custom2": "b", "custom3": "c"},
        "modificationId": HANDLE,
        "paymentSplitResults": [
            {"destinationReference": "partner-1", "splitUniqueReference": "split-1", "status": "SUCCESS"}
        ],
        "programRefundId": "program-refund-1",
        "programRefundStatus": "success",
        "reconciliationReferenceId": "REC-REFUND-1",
        "refundId": REFUND_ID,
        "type": "REFUND",
    },
    "status": "REFUNDED",
    "statusHistory": [
        {
            "modificationAmount": {
                "option": "VISA",
                "storedPaymentOptionReference": None,
                "amount": 25.00,
                "currencyCode": "EUR",
                "description": "Return",
            },
            "status": "REFUND_PENDING",
            "statusDate": "2024-05-20T10:35:45.123Z",
        }
    ],
}
CAPTURE = {
    "modificationAmount": {"amount": "100.00", "currencyCode": "EUR", "description": "Capture"},
    "modificationData": {"captureId": REFUND_ID, "modificationId": "capture-1", "type": "CAPTURE"},
    "status": "CAPTURED",
}
TRANSACTION_BODY = {
    "reconciliationReferenceId": "REC-PAYMENT-1",
    "description": "Order 1",
    "paymentStatus": "CAPTURED",
    "creationDate": "2024-05-19T10:35:45.123Z",
    "lastStatusDate": "2024-05-20T10:35:46.001Z",
    "partnerReference": "order-1",
    "transactionOverview": {
        "transactionId": TRANSACTION,
        "amount": "100.00",
        "currencyCode": "EUR",
        "customerAccountId": "customer-1",
        "deal": {"amount": 100.00, "dealReference": "deal-1", "typeCode": "3RIPSS"},
        "mit": False,
        "paymentMethod": "VISA",
        "paymentOrigin": "CHECKOUT",
    },
}


def settings(**changes):
    given = {
        "base_url": BASE,
        "merchant_key": "merchant-1",
        "authentication_key": "secret-key",
        "origin": "https://shop.example",
        **changes,
    }

    return JpmSettings(**{name: value for name, value in given.items() if value is not None})


def with_oauth(**changes):
    oauth = OAuth(token_url=TOKEN_URL, client_id="client-1", client_secret="secret-of-client")

    return settings(authentication_key=None, oauth=oauth, **changes)


def order(**changes):
    given = {
        "refund_id": "rf_1",
        "reference": "RMA-1",
        "handle": HANDLE,
        "payment_id": TRANSACTION,
        "amount": 2500,
        "currency": "EUR",
        **changes,
    }

    return RefundOrder(**given)


def entry(**changes):
    """The documented modification with other members; `data` changes its modificationData."""
    data = changes.pop("data", {})
    shown = {**copy.deepcopy(MODIFICATION), **changes}
    shown["modificationData"] = {**shown["modificationData"], **data}

    return shown


def posted(*entries, status=200, **members):
    return answer(status, {**TRANSACTION_BODY, "modification": list(entries), **members})


def shown(*entries, status=200, **members):
    return answer(status, {**TRANSACTION_BODY, "modifications": list(entries), **members})


def error(level, **details):
    return {"error": level, "errorDetails": {"context": {}, **details}}


@pytest.fixture
def adapter():
    return JpmSmartPay(settings())


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def oauth(clock):
    return JpmSmartPay(with_oauth(), clock)


def token(value="token-1", **changes):
    return answer(200, {"access_token": value, "expires_in": 3600, "token_type": "Bearer", **changes})


def refunded(adapter, response, **changes):
    return talk(adapter.refund(order(**changes)), response).end


# The request


def test_a_part_refund_is_the_documented_request(adapter):
    heard = talk(adapter.refund(order(description="Return", custom_references=("a", "b", "c"))), posted(entry()))
    (move,) = heard.steps

    assert isinstance(move, Move)
    assert move.request.method == "POST"
    assert str(move.request.url) == f"{BASE}/payment/refund"
    assert body_of(move.request) == {
        "transactionId": TRANSACTION,
        "modificationId": HANDLE,
        "merchantKey": "merchant-1",
        "modifiedAmount": {"amount": 25.00, "currencyCode": "EUR", "description": "Return"},
        "customReferences": {"custom1": "a", "custom2": "b", "custom3": "c"},
    }


def test_the_documented_headers_are_sent_and_no_credentials(adapter):
    (request,) = talk(adapter.refund(order()), posted(entry())).requests

    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept-language"] == "en-US"
    assert request.headers["origin"] == "https://shop.example"
    assert request.headers["user-agent"].startswith("refundry/")
    assert "authorization" not in request.headers


def test_the_user_agent_names_the_version_of_the_project(adapter):
    (request,) = talk(adapter.refund(order()), posted(entry())).requests
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]

    assert request.headers["user-agent"] == f"refundry/{project['version']}"


@pytest.mark.parametrize(
    ("amount", "written"), [(1, b"0.01"), (10, b"0.10"), (2500, b"25.00"), (123456789012345, b"1234567890123.45")]
)
def test_the_amount_is_a_number_with_two_decimals(adapter, amount, written):
    (request,) = talk(adapter.refund(order(amount=amount)), posted()).requests

    assert b'"amount":' + written + b"," in request.content


def test_a_whole_refund_names_no_amount(adapter):
    (request,) = talk(adapter.refund(order(whole=True, description="Return")), posted(entry())).requests

    assert body_of(request) == {"transactionId": TRANSACTION, "modificationId": HANDLE, "merchantKey": "merchant-1"}


@pytest.mark.parametrize("missing", [{"amount": None}, {"currency": None}])
def test_a_refund_of_an_unknown_amount_never_becomes_a_whole_one(adapter, missing):
    heard = talk(adapter.refund(order(**missing)), posted(entry()))

    assert heard.steps == []
    assert heard.end.reason is NotSentReason.ASK_FAILED


def test_a_replay_is_the_same_bytes(adapter):
    (first,) = talk(adapter.refund(order()), posted()).requests
    (again,) = talk(adapter.refund(order()), posted()).requests

    assert first.content == again.content
    assert adapter.capabilities.recovery is Recovery.REPLAY
    assert adapter.capabilities.max_replays == 1


def test_basic_is_the_merchant_key_and_the_authentication_key(adapter):
    (request,) = talk(adapter.refund(order()), posted()).requests
    signed = adapter.authorize(request)

    expected = base64.b64encode(b"merchant-1:secret-key").decode()
    assert signed.headers["authorization"] == f"Basic {expected}"
    assert signed.content == request.content


@pytest.mark.parametrize("call", ["status", "lookup", "payment"])
def test_everything_else_is_asked_of_the_transaction(adapter, call):
    heard = talk(getattr(adapter, call)(order()), shown())
    (step,) = heard.steps

    assert isinstance(step, Ask)
    assert step.request.method == "GET"
    assert str(step.request.url) == f"{BASE}/payment/status/{TRANSACTION}"
    assert step.request.headers["accept-language"] == "en-US"
    assert step.request.headers["origin"] == "https://shop.example"
    assert step.request.headers["user-agent"].startswith("refundry/")
    assert step.request.headers["content-type"] == "application/json"


def test_a_payment_id_cannot_leave_its_place_in_the_path(adapter):
    (request,) = talk(adapter.status(order(payment_id="a/../b?c#d")), shown()).requests

    assert str(request.url) == f"{BASE}/payment/status/a%2F..%2Fb%3Fc%23d"


def test_the_handle_is_a_uuid_of_36_characters(adapter):
    from uuid import UUID

    assert adapter.handle(UUID(HANDLE)) == HANDLE
    assert len(HANDLE) == adapter.capabilities.handle_max_length == 36


# The answer


def test_the_documented_answer_tells_every_fact(adapter):
    outcome = refunded(adapter, posted(entry()))

    assert isinstance(outcome, Succeeded)
    assert outcome.facts.provider_refund_id == REFUND_ID
    assert outcome.facts.reconciliation_id == "REC-REFUND-1"
    assert outcome.facts.amount == 2500
    assert outcome.facts.currency == "EUR"
    assert outcome.facts.status == "REFUNDED"
    assert outcome.facts.alert is None


@pytest.mark.parametrize("name", ["modification", "modifications"])
@pytest.mark.parametrize("several", [True, False])
def test_the_modification_is_an_object_or_an_array_under_either_name(adapter, name, several):
    value = [CAPTURE, entry()] if several else entry()
    response = answer(200, {**TRANSACTION_BODY, name: value})

    for call in (adapter.refund, adapter.status, adapter.lookup):
        assert isinstance(talk(call(order()), response).end, Succeeded)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("REFUNDED", Succeeded),
        ("SUCCESS", Succeeded),
        ("SUCCEEDED", Succeeded),
        ("COMPLETED", Succeeded),
        ("SETTLED", Succeeded),
        ("refunded", Succeeded),
        ("REFUND_PENDING", Pending),
        ("PENDING", Pending),
        ("CREATED", Pending),
        ("CAPTURE_PENDING", Pending),
        ("REFUND_INITIALIZED", Pending),
        ("AUTORIZATION_INITIALIZED", Pending),
        ("FAILED", Declined),
        ("REFUND_FAILED", Declined),
        ("ERROR", Declined),
        ("REJECTED", Declined),
        ("CANCELLED", Declined),
    ],
)
def test_each_status_word_of_the_map(adapter, word, expected):
    for call, response in (
        (adapter.refund, posted(entry(status=word))),
        (adapter.status, shown(entry(status=word))),
        (adapter.lookup, shown(entry(status=word))),
    ):
        outcome = talk(call(order()), response).end

        assert isinstance(outcome, expected)
        assert outcome.facts.alert is None
        assert outcome.facts.status == word


@pytest.mark.parametrize("word", ["CAPTURED", "PARTIALLY_REFUNDED", "", None, 7, True, ["REFUNDED"], {"a": 1}])
def test_a_word_outside_the_map_is_pending_with_an_alert(adapter, word):
    outcome = refunded(adapter, posted(entry(status=word)))

    assert isinstance(outcome, Pending)
    assert outcome.facts.provider_refund_id == REFUND_ID
    assert outcome.facts.alert


def test_an_absent_status_is_no_proof_but_of_existence(adapter):
    without = {name: value for name, value in entry().items() if name != "status"}

    assert isinstance(refunded(adapter, posted(without)), Pending)


def test_the_map_is_a_setting():
    adapter = JpmSmartPay(settings(status_map={"Zurückgezahlt": "succeeded", "REFUNDED": "pending"}))

    assert isinstance(refunded(adapter, posted(entry(status="ZURÜCKGEZAHLT"))), Succeeded)
    assert isinstance(refunded(adapter, posted(entry(status="REFUNDED"))), Pending)


@pytest.mark.parametrize(
    "payment_status",
    [
        "CREATED",
        "CAPTURED",
        "SETTLED",
        "REFUNDED",
        "AUTHORIZATION_PENDING",
        "AUTHORIZATION_COMPLETED",
        "FAILED",
        "CAPTURE_PENDING",
        "CANCELLATION_PENDING",
        "EXPIRED",
        "CANCELLED",
    ],
)
def test_the_status_of_the_payment_never_judges_the_refund(adapter, payment_status):
    pending = shown(entry(status="REFUND_PENDING"), paymentStatus=payment_status)
    absent = shown(CAPTURE, paymentStatus=payment_status)

    assert isinstance(talk(adapter.status(order()), pending).end, Pending)
    assert talk(adapter.lookup(order()), absent).end == Absent()
    assert isinstance(refunded(adapter, posted(CAPTURE, paymentStatus=payment_status)), Unknown)


# Errors, splits and programs inside a 200


def test_the_payment_providers_refusal_of_a_failed_refund_is_a_no(adapter):
    refusal = error("payment_provider_processing", paymentProviderDescription="Card expired")
    outcome = refunded(adapter, posted(entry(status="FAILED", error=refusal)))

    assert isinstance(outcome, Declined)
    assert outcome.own_record
    assert outcome.kind is DeclineClass.FINAL
    assert outcome.code == "FAILED"
    assert outcome.message == "Card expired"
    assert outcome.facts.provider_refund_id == REFUND_ID


@pytest.mark.parametrize("level", sorted(LEVELS))
@pytest.mark.parametrize("word", ["REFUND_PENDING", "REFUNDED", "SOMETHING", "", None])
def test_an_error_without_a_failed_status_is_left_to_the_status_call(adapter, level, word):
    outcome = refunded(adapter, posted(entry(status=word, error=error(level))))

    assert isinstance(outcome, Unknown)
    assert outcome.facts.provider_refund_id == REFUND_ID


@pytest.mark.parametrize("word", ["FAILED", "REFUNDED", "PENDING", None])
@pytest.mark.parametrize(
    "odd", [error("gateway_processing"), error("other"), {"x": 1}, "gateway_processing", ["x"], error({"a": 1})]
)
def test_an_error_of_the_gateway_or_of_no_known_level_decides_nothing(adapter, odd, word):
    outcome = refunded(adapter, posted(entry(status=word, error=odd)))

    assert isinstance(outcome, Unknown)


@pytest.mark.parametrize("nothing", [None, {}, ""])
def test_an_empty_error_is_none(adapter, nothing):
    assert isinstance(refunded(adapter, posted(entry(error=nothing))), Succeeded)


def test_a_text_in_the_status_history_is_no_error(adapter):
    history = [{"status": "FAILED", "statusDate": "2024-05-20T10:35:45Z", "error": "refused"}]

    assert isinstance(refunded(adapter, posted(entry(statusHistory=history))), Succeeded)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            {
                "paymentSplitResults": [
                    {"splitUniqueReference": "s1", "status": "SUCCESS"},
                    {
                        "destinationReference": "partner-2",
                        "splitUniqueReference": "s2",
                        "status": "ERROR",
                        "error": "[0026] Limit exceeded",
                    },
                ]
            },
            "partner-2: [0026] Limit exceeded",
        ),
        ({"programRefundStatus": "error", "programRefundErrorMessage": "no funds"}, "program refund: no funds"),
    ],
)
def test_a_failed_booking_behind_a_refund_that_succeeded_is_an_alert_and_no_reason_to_refund_again(adapter, data, told):
    outcome = refunded(adapter, posted(entry(data=data)))

    assert isinstance(outcome, Succeeded)
    assert told in outcome.facts.alert


def test_a_failed_booking_does_not_make_a_pending_refund_final(adapter):
    data = {"paymentSplitResults": [{"splitUniqueReference": "s", "status": "ERROR"}]}

    assert isinstance(refunded(adapter, posted(entry(status="REFUND_PENDING", data=data))), Pending)


def test_ignored_properties_are_an_alert(adapter):
    outcome = refunded(adapter, posted(entry(), ignoredProperties=["modifiedAmount"]))

    assert isinstance(outcome, Succeeded)
    assert "modifiedAmount" in outcome.facts.alert


@pytest.mark.parametrize("results", [None, "x", 3, {"status": "ERROR"}, ["x", None]])
def test_split_results_that_are_none_disturb_nothing(adapter, results):
    outcome = refunded(adapter, posted(entry(data={"paymentSplitResults": results})))

    assert isinstance(outcome, Succeeded)


# Amounts in the answer


@pytest.mark.parametrize("amount", ["25.00", 25.00, 25, "25"])
def test_the_amount_is_a_number_or_a_text(adapter, amount):
    said = {"amount": amount, "currencyCode": "EUR"}

    assert refunded(adapter, posted(entry(modificationAmount=said))).facts.amount == 2500


def test_another_amount_is_told_as_it_is(adapter):
    said = {"amount": "26.00", "currencyCode": "USD"}
    facts = refunded(adapter, posted(entry(modificationAmount=said))).facts

    assert (facts.amount, facts.currency) == (2600, "USD")


def test_an_amount_that_the_currency_cannot_have_matches_nothing(adapter):
    said = {"amount": "25.001", "currencyCode": "EUR"}

    assert refunded(adapter, posted(entry(modificationAmount=said))).facts.amount == -1


@pytest.mark.parametrize("amount", ["", "--5", "²", "1E999999", "-25.00", "25,00", True, 1e300])
def test_what_is_no_amount_matches_nothing(adapter, amount):
    said = {"amount": amount, "currencyCode": "EUR"}

    assert refunded(adapter, posted(entry(modificationAmount=said))).facts.amount == -1


@pytest.mark.parametrize("said", [None, {}, {"currencyCode": "EUR"}, {"amount": None, "currencyCode": "EUR"}])
def test_an_absent_amount_is_none(adapter, said):
    assert refunded(adapter, posted(entry(modificationAmount=said))).facts.amount is None


@pytest.mark.parametrize("said", [[], "25.00", 25, {"amount": [25], "currencyCode": "EUR"}, {"amount": {}}])
def test_an_amount_that_is_there_in_another_shape_matches_nothing(adapter, said):
    assert refunded(adapter, posted(entry(modificationAmount=said))).facts.amount == -1


def test_an_amount_without_a_currency_is_one_of_the_orders_currency(adapter):
    facts = refunded(adapter, posted(entry(modificationAmount={"amount": 25}))).facts

    assert (facts.amount, facts.currency) == (2500, None)


@pytest.mark.parametrize(("currency", "shown"), [([], "?"), ({}, "?"), ("", "?"), ("XYZ", "XYZ")])
def test_a_currency_that_is_none_matches_nothing(adapter, currency, shown):
    said = {"amount": 25, "currencyCode": currency}
    facts = refunded(adapter, posted(entry(modificationAmount=said))).facts

    assert (facts.amount, facts.currency) == (-1, shown)


# Whose entry it is


@pytest.mark.parametrize(
    "data",
    [
        {"modificationId": "another"},
        {"modificationId": None},
        {"modificationId": [HANDLE]},
        {"modificationId": HANDLE + " "},
    ],
)
def test_another_refund_of_the_transaction_is_not_ours(adapter, data):
    assert isinstance(refunded(adapter, posted(entry(data=data))), Unknown)
    assert isinstance(talk(adapter.status(order()), shown(entry(data=data))).end, Unknown)
    assert talk(adapter.lookup(order()), shown(entry(data=data))).end == Absent()


@pytest.mark.parametrize("kind", ["CAPTURE", "CANCELATION", "CANCELLATION", "CHARGEBACK", "SETTLEMENT", None, "", []])
def test_an_entry_of_ours_that_is_no_refund_proves_nothing(adapter, kind):
    response = shown(entry(data={"type": kind}))

    for call in (adapter.refund, adapter.status, adapter.lookup):
        assert isinstance(talk(call(order()), response).end, Unknown)


def test_two_entries_of_our_modification_prove_nothing(adapter):
    response = shown(entry(), entry(status="FAILED"))

    for call in (adapter.refund, adapter.status, adapter.lookup):
        assert isinstance(talk(call(order()), response).end, Unknown)


def test_the_look_up_finds_ours_among_others(adapter):
    others = [CAPTURE, entry(status="FAILED", data={"modificationId": "x"}), entry()]

    assert isinstance(talk(adapter.lookup(order()), shown(*others)).end, Succeeded)


def test_only_a_readable_200_can_show_that_a_refund_is_absent(adapter):
    assert talk(adapter.lookup(order()), shown()).end == Absent()
    assert talk(adapter.lookup(order()), shown(CAPTURE)).end == Absent()
    for response in (
        answer(200, TRANSACTION_BODY),
        answer(200, {**TRANSACTION_BODY, "modifications": None}),
        answer(200, {**TRANSACTION_BODY, "modifications": "none"}),
        answer(200, {**TRANSACTION_BODY, "modifications": [CAPTURE, "x"]}),
        shown(CAPTURE, status=202),
        shown(CAPTURE, status=404),
        shown(CAPTURE, status=500),
        answer(404, error("gateway_processing", gatewayDescription="Unknown transactionId")),
    ):
        assert isinstance(talk(adapter.lookup(order()), response).end, Unknown)


# Errors of HTTP


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 301, 302])
def test_nothing_is_read_of_an_answer_that_may_not_be_the_providers(adapter, status):
    for call in (adapter.refund, adapter.status, adapter.lookup):
        assert isinstance(talk(call(order()), posted(entry(), status=status)).end, Unknown)
        assert isinstance(talk(call(order()), posted(entry(status="FAILED"), status=status)).end, Unknown)


@pytest.mark.parametrize("status", [400, 402, 403, 404, 405, 410, 418, 422])
@pytest.mark.parametrize("level", [*sorted(LEVELS), "other"])
def test_a_4xx_without_our_entry_is_left_to_the_status_call(adapter, status, level):
    body = error(level, gatewayDescription="Amount exceeds", paymentProviderDescription="Refused")

    for call in (adapter.refund, adapter.status, adapter.lookup):
        assert isinstance(talk(call(order()), answer(status, body)).end, Unknown)


def test_a_400_with_our_failed_entry_is_the_providers_record(adapter):
    refusal = error("payment_provider_processing", paymentProviderDescription="Refused")
    outcome = refunded(adapter, posted(entry(status="FAILED", error=refusal), status=400))

    assert isinstance(outcome, Declined)
    assert outcome.own_record


@pytest.mark.parametrize("word", ["REFUNDED", "REFUND_PENDING", "SOMETHING"])
def test_a_400_with_our_entry_and_no_refusal_contradicts_itself(adapter, word):
    assert isinstance(refunded(adapter, posted(entry(status=word), status=400)), Unknown)


def test_a_401_with_basic_is_about_the_credentials(adapter):
    for call in (adapter.refund, adapter.status, adapter.lookup):
        outcome = talk(call(order()), answer(401, error("gateway_processing"))).end

        assert isinstance(outcome, NotSent)
        assert outcome.reason is NotSentReason.CREDENTIALS


@pytest.mark.parametrize("status", [200, 201, 204, 400, 402, 403, 404])
@pytest.mark.parametrize("body", MANGLED.values(), ids=MANGLED)
def test_a_mangled_body_proves_nothing(adapter, status, body):
    for call in (adapter.refund, adapter.status, adapter.lookup):
        assert isinstance(talk(call(order()), answer(status, body)).end, Unknown)
    facts = talk(adapter.payment(order()), answer(status, body)).end

    assert facts.problem or facts.captured is None
    assert not facts.final


@pytest.mark.parametrize("cut", range(1, 600, 37))
def test_a_truncated_answer_proves_nothing(adapter, cut):
    whole = posted(entry()).content

    assert isinstance(refunded(adapter, answer(200, whole[: len(whole) - cut])), Unknown)


@pytest.mark.parametrize("odd", [None, [], "x", 3, True, [None], {"type": "REFUND"}])
def test_odd_modification_data_proves_nothing(adapter, odd):
    response = posted({**entry(), "modificationData": odd})

    assert isinstance(refunded(adapter, response), Unknown)


# The payment


def test_the_captures_are_added_up(adapter):
    pending = {**CAPTURE, "status": "CAPTURE_PENDING"}
    done = {**CAPTURE, "status": "SUCCESS", "modificationAmount": {"amount": 20.5, "currencyCode": "EUR"}}
    facts = talk(adapter.payment(order()), shown(CAPTURE, done, pending, entry())).end

    assert (facts.captured, facts.currency, facts.problem) == (12050, "EUR", None)


@pytest.mark.parametrize(
    ("payment_status", "captured"),
    [("CAPTURED", 10000), ("SETTLED", 10000), ("AUTHORIZATION_COMPLETED", None), ("FAILED", None), (None, None)],
)
def test_with_automatic_capture_the_amount_of_the_transaction_counts(adapter, payment_status, captured):
    facts = talk(adapter.payment(order()), shown(paymentStatus=payment_status)).end

    assert facts.captured == captured
    assert facts.problem is None


def test_a_capture_without_a_readable_amount_makes_the_cap_unknown(adapter):
    odd = {**CAPTURE, "modificationAmount": {"amount": "many", "currencyCode": "EUR"}}

    assert talk(adapter.payment(order()), shown(CAPTURE, odd)).end.captured is None


def test_a_transaction_that_the_provider_does_not_know_is_a_final_problem(adapter):
    unknown = answer(404, error("gateway_processing", gatewayDescription="Unknown transactionId"))
    facts = talk(adapter.payment(order()), unknown).end

    assert facts.final
    assert facts.problem_code == "TRANSACTION_NOT_FOUND"


@pytest.mark.parametrize(
    "response",
    [answer(404, {"message": "Not Found"}), answer(404, b"<html>"), answer(403, error("gateway_processing"))],
)
def test_a_404_of_somebody_else_is_no_final_problem(adapter, response):
    facts = talk(adapter.payment(order()), response).end

    assert facts.problem
    assert not facts.final


# OAuth


def test_a_token_is_fetched_before_the_move(oauth):
    heard = talk(oauth.refund(order()), token(), posted(entry()))
    ask, move = heard.steps

    assert isinstance(ask, Ask)
    assert isinstance(move, Move)
    assert str(ask.request.url) == TOKEN_URL
    assert parse_qs(ask.request.content.decode()) == {"grant_type": ["client_credentials"]}
    assert isinstance(heard.end, Succeeded)


def test_the_clients_secret_is_added_to_the_form_by_authorize_only(oauth):
    heard = talk(oauth.refund(order()), token(), posted(entry()))
    form = oauth.authorize(heard.requests[0])

    assert b"secret" not in heard.requests[0].content
    assert form.method == "POST"
    assert str(form.url) == TOKEN_URL
    assert form.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in form.headers
    assert parse_qs(form.content.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["client-1"],
        "client_secret": ["secret-of-client"],
    }


def test_the_move_carries_the_token_by_authorize_only(oauth):
    heard = talk(oauth.refund(order()), token(), posted(entry()))

    assert "authorization" not in heard.requests[1].headers
    assert oauth.authorize(heard.requests[1]).headers["authorization"] == "Bearer token-1"


def test_without_a_token_nothing_is_added_to_a_request(oauth, adapter):
    (request,) = talk(adapter.refund(order()), posted()).requests

    assert "authorization" not in oauth.authorize(request).headers


def test_a_token_is_used_until_it_is_about_to_expire(oauth, clock):
    talk(oauth.refund(order()), token(), posted(entry()))
    clock.now += 3600 - 61
    kept = talk(oauth.status(order()), shown(entry()))
    clock.now += 2
    fetched = talk(oauth.status(order()), token("token-2"), shown(entry()))

    assert len(kept.steps) == 1
    assert len(fetched.steps) == 2
    assert oauth.authorize(fetched.requests[1]).headers["authorization"] == "Bearer token-2"


@pytest.mark.parametrize("expires_in", [None, "soon", "--5", [], 0, 30, -5])
def test_a_token_without_a_lifetime_serves_one_conversation(oauth, expires_in):
    first = talk(oauth.refund(order()), token(expires_in=expires_in), posted(entry()))
    again = talk(oauth.status(order()), token("token-2"), shown(entry()))

    assert isinstance(first.end, Succeeded)
    assert len(again.steps) == 2


def test_a_401_with_a_kept_token_drops_it_and_was_never_sent(oauth):
    talk(oauth.refund(order()), token(), posted(entry()))
    refused = talk(oauth.refund(order()), answer(401, b""))
    after = talk(oauth.refund(order()), token("token-2"), posted(entry()))

    assert refused.end == NotSent(reason=NotSentReason.CONNECTION, detail="token expired")
    assert len(after.steps) == 2


def test_a_401_with_a_fresh_token_is_about_the_credentials(oauth):
    outcome = talk(oauth.refund(order()), token(), answer(401, b"")).end

    assert isinstance(outcome, NotSent)
    assert outcome.reason is NotSentReason.CREDENTIALS


def test_a_401_does_not_drop_a_token_that_came_since(oauth):
    talk(oauth.refund(order()), token(), posted(entry()))
    slow = oauth.refund(order())
    next(slow)
    talk(oauth.ping(), token("token-2"))
    with pytest.raises(StopIteration):
        slow.send(answer(401, b""))

    assert len(talk(oauth.status(order()), shown(entry())).steps) == 1


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (answer(401, b""), NotSentReason.CREDENTIALS),
        (answer(400, {"error": "invalid_client"}), NotSentReason.CREDENTIALS),
        (answer(400, {"error": "unauthorized_client"}), NotSentReason.CREDENTIALS),
        (answer(400, {"error": "invalid_request"}), NotSentReason.ASK_FAILED),
        (answer(400, {"error": ["invalid_client"]}), NotSentReason.ASK_FAILED),
        (answer(200, {"expires_in": 3600}), NotSentReason.ASK_FAILED),
        (answer(200, b"<html>"), NotSentReason.ASK_FAILED),
        (answer(503, b""), NotSentReason.ASK_FAILED),
    ],
)
def test_without_a_token_nothing_is_sent(oauth, response, reason):
    for call in (oauth.refund, oauth.status, oauth.lookup):
        heard = talk(call(order()), response)

        assert heard.moves == []
        assert isinstance(heard.end, NotSent)
        assert heard.end.reason is reason
    assert talk(oauth.payment(order()), response).end.problem


def test_a_secret_stands_in_no_request_and_no_text(oauth, adapter):
    talk(oauth.refund(order()), token("very-secret"), posted(entry()))
    texts = [repr(one._settings) for one in (oauth, adapter)]

    assert not any(secret in text for text in texts for secret in ("secret-of-client", "secret-key"))


@pytest.mark.parametrize(
    ("response", "health"),
    [
        (token(), Health.OK),
        (answer(401, b""), Health.CREDENTIALS_REFUSED),
        (answer(400, {"error": "invalid_client"}), Health.CREDENTIALS_REFUSED),
        (answer(500, b""), Health.UNREACHABLE),
        (answer(200, b"<html>"), Health.UNREACHABLE),
    ],
)
def test_the_check_fetches_a_token(oauth, response, health):
    assert talk(oauth.ping(), response).end is health


def test_nothing_harmless_tries_an_authentication_key(adapter):
    heard = talk(adapter.ping(), token())

    assert heard.steps == []
    assert heard.end is Health.NO_CHECK


# Notifications

EVENT = {
    "id": TRANSACTION,
    "merchantKey": "merchant-1",
    "createdAt": "2024-05-20T10:35:46.001Z",
    "context": {},
    "data": {},
    "origin": "api",
    "eventType": "updated",
    "objectId": REFUND_ID,
    "objectType": "refund",
    "metadata": {"reconciliationReferenceId": "REC-REFUND-1"},
}


def signed(user="hooks", password="pass"):
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_a_refund_event_names_the_refund_and_the_transaction(adapter):
    hint = adapter.notification({}, json.dumps(EVENT).encode(), 0.0)

    assert (hint.kind, hint.provider_refund_ids, hint.payment_id) == ("refund", (REFUND_ID,), TRANSACTION)


def test_a_payment_event_names_the_transaction_only(adapter):
    event = {**EVENT, "objectType": "payment", "objectId": TRANSACTION, "id": None}
    hint = adapter.notification({}, json.dumps(event).encode(), 0.0)

    assert (hint.kind, hint.provider_refund_ids, hint.payment_id) == ("payment", (), TRANSACTION)


def test_where_basic_was_agreed_it_is_checked():
    adapter = JpmSmartPay(settings(webhook_user="hooks", webhook_password="pass"))
    body = json.dumps(EVENT).encode()

    assert adapter.notification(signed(), body, 0.0).kind == "refund"
    for headers in ({}, signed("hooks", "wrong"), signed("", ""), {"authorization": "Bearer ü"}):
        with pytest.raises(NotificationRefused):
            adapter.notification(headers, body, 0.0)


def test_a_large_body_is_read_only_where_its_sender_is_proven(adapter, monkeypatch):
    body = json.dumps({**EVENT, "context": "x" * UNPROVEN_MAX}).encode()
    agreed = JpmSmartPay(settings(webhook_user="hooks", webhook_password="pass"))
    assert agreed.notification(signed(), body, 0.0).kind == "refund"
    monkeypatch.setattr(wire, "json_object", None)

    with pytest.raises(NotificationUnreadable, match="at most 16384 bytes"):
        adapter.notification({}, body, 0.0)


@pytest.mark.parametrize("body", [*MANGLED.values(), b'{"objectType": null}', b'{"objectType": {}}'])
def test_a_body_that_is_no_event_is_refused(adapter, body):
    with pytest.raises(NotificationRefused):
        adapter.notification({}, body, 0.0)


# At the door


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({}, []),
        ({"amount": None, "currency": None}, []),
        ({"payment_id": None}, ["#/payment/id"]),
        ({"payment_id": ""}, ["#/payment/id"]),
        ({"payment_id": "x" * 37}, ["#/payment/id"]),
        ({"description": "x" * 127}, []),
        ({"description": "x" * 128}, ["#/description"]),
        ({"currency": "JPY"}, ["#/currency"]),
        ({"currency": "BHD"}, ["#/currency"]),
        ({"currency": "EURO"}, ["#/currency"]),
    ],
)
def test_what_the_provider_would_refuse_is_refused_at_the_door(adapter, changes, pointers):
    faults = []
    adapter.check(order(**changes), lambda pointer, detail: faults.append(pointer))

    assert faults == pointers


@pytest.mark.parametrize(
    ("currency", "decimals", "amount", "written"),
    [("JPY", 0, 1000, b"1000"), ("JPY", 2, 1000, b"1000.00"), ("KWD", 3, 1234, b"1.234"), ("KWD", 2, 1230, b"1.23")],
)
def test_a_configured_currency_is_sent_with_its_decimals(currency, decimals, amount, written):
    adapter = JpmSmartPay(settings(currency_exponents={currency: decimals}))
    faults = []
    adapter.check(order(amount=amount, currency=currency), lambda pointer, detail: faults.append(pointer))
    (request,) = talk(adapter.refund(order(amount=amount, currency=currency)), posted()).requests

    assert faults == []
    assert b'"amount":' + written + b"," in request.content
    assert adapter.capabilities.exponents == {currency: decimals}


def test_an_amount_is_never_rounded():
    adapter = JpmSmartPay(settings(currency_exponents={"KWD": 2}))
    faults = []
    adapter.check(order(amount=1234, currency="KWD"), lambda pointer, detail: faults.append(pointer))

    assert faults == ["#/currency"]


# The account


def test_the_capabilities_are_those_of_the_documents(adapter):
    known = adapter.capabilities

    assert (known.deduplicates, known.stores, known.handle_lifetime) == (True, Stores.EVERYTHING, None)
    assert (known.lookup, known.matches_handle, known.lookup_delay) == (True, True, 30.0)
    assert (known.exclusive, known.omit_amount, known.payment_facts) == (Exclusive.WHILE_UNKNOWN, True, True)
    assert (known.connect_timeout, known.read_timeout) == (5.0, 90.0)
    assert known.poll_schedule == (5.0, 30.0, 120.0, 600.0, 3600.0)
    assert known.poll_horizon == 10 * 86_400


def test_the_fingerprint_is_host_and_merchant_without_a_secret(adapter):
    other = JpmSmartPay(settings(merchant_key="merchant-2"))

    assert adapter.fingerprint == f"jpm_smartpay {BASE} merchant-1"
    assert adapter.fingerprint != other.fingerprint
    assert JpmSmartPay(settings(authentication_key="new")).fingerprint == adapter.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"authentication_key": None},
        {"oauth": OAuth(token_url=TOKEN_URL, client_id="c", client_secret="s")},
        {"base_url": None},
        {"merchant_key": None},
        {"merchant_key": "x" * 37},
        {"origin": None},
        {"webhook_user": "hooks"},
        {"api_key": "x"},
    ],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ValidationError):
        settings(**changes)


def test_unknown_keys_of_oauth_are_refused():
    with pytest.raises(ValidationError):
        OAuth.model_validate({"token_url": TOKEN_URL, "client_id": "c", "client_secret": "s", "scope": "x"})


def test_the_entry_point_takes_its_own_settings_only():
    assert isinstance(create(settings()), JpmSmartPay)
    with pytest.raises(TypeError):
        create(AdapterSettings(base_url=BASE))


def test_requests_are_httpx_requests_with_a_body_that_can_be_kept(adapter):
    (request,) = talk(adapter.refund(order()), posted()).requests

    assert isinstance(request, httpx.Request)
    assert request.read() == request.content
