"""Every example of "Create a Refund", and the tables of the fact sheet, one by one."""

import base64
import json
from uuid import UUID

import pytest
from pydantic import ValidationError

from domain.outcome import Absent, DeclineClass, Declined, NotSent, NotSentReason, Pending, Succeeded, Unknown
from domain.policy import Recovery
from providers.base import AdapterSettings, Ask, Exclusive, Health, Move, NotificationRefused, RefundOrder
from providers.smart2pay import REASONS, Reason, Smart2Pay, Smart2PaySettings, create
from tests.unit.providers.support import MANGLED, answer, body_of, talk

APM_BASE = "https://paytest.smart2pay.com"
CARD_BASE = "https://securetest.smart2pay.com"
HANDLE = "rf_0b9d3c1e5f634d0a9d7e0a6f0f7b8c11"
SECRET = "+9KeGzKF7W8S/79a5R33YJUg7E7WFNcZbjGfzLV3bXSnFCOyFt"


def adapter_of(flavour="apm", **changes):
    base = CARD_BASE if flavour == "card" else APM_BASE

    return Smart2Pay(
        Smart2PaySettings(**{"base_url": base, "site_id": 30201, "api_key": SECRET, "flavour": flavour, **changes})
    )


@pytest.fixture
def apm():
    return adapter_of()


@pytest.fixture
def card():
    return adapter_of("card")


def order(**changes):
    given = {
        "refund_id": "rf_1",
        "reference": "RMA-1",
        "handle": HANDLE,
        "payment_id": "4520424",
        "amount": 100,
        "currency": "EUR",
        **changes,
    }

    return RefundOrder(**given)


def record(**changes):
    """A refund of ours as the provider shows it; `status` and `reasons` make its Status."""
    status, reasons = changes.pop("status", 1), changes.pop("reasons", None)
    names = {1: "Open", 2: "Success", 4: "Failed"}
    shown = {
        "ID": 36675,
        "Created": "20190516075916",
        "MerchantTransactionID": HANDLE,
        "OriginatorTransactionID": None,
        "InitialPaymentID": 4520424,
        "Amount": "100",
        "Currency": "EUR",
        "Status": {"ID": status, "Info": names.get(status), "Reasons": reasons},
        "SplitID": 0,
    }

    return {**shown, **changes}


def code(number, info="the text of the provider"):
    return [{"Code": str(number), "Info": info}]


def rejected(number, **changes):
    """A refusal before creation: neither id nor status."""
    return record(ID=None, Created=None, InitialPaymentID=None, status=None, reasons=code(number), **changes)


def created(shown, status=201):
    return answer(status, {"Refund": shown}, {"Content-Type": "application/json; charset=utf-8"})


def listed(*records, status=200):
    return answer(status, {"Refunds": list(records)})


def refunded(adapter, *responses, **changes):
    return talk(adapter.refund(order(**changes)), *responses).end


# Every request and response of the document. The document's own handles stand in for ours.

KLARNA_ARTICLE = {"Name": None, "Price": 0, "VAT": 0, "Discount": 0, "Type": None, "DiscountValue": 0}
EMPTY = {"Details": None, "Customer": None, "BillingAddress": None, "BankAddress": None, "Articles": None}
OPEN = {"ID": 1, "Info": "Open", "Reasons": None}
LATAM_DETAILS = {
    "CustomerAccountNumber": "A88888888888",
    "BankAccountType": "I",
    "BankName": "Banco do Brasil",
    "BankBranch": "Branch1234",
}

EXAMPLES = {
    "a refund": {
        "order": {"handle": "s2ptest_gi10", "amount": 100, "description": "Refund Test Description"},
        "payment": "4520424",
        "request": {"MerchantTransactionID": "s2ptest_gi10", "Amount": 100, "Description": "Refund Test Description"},
        "response": {
            "ID": 36675,
            "Created": "20190516075916",
            "MerchantTransactionID": "s2ptest_gi10",
            "OriginatorTransactionID": None,
            "InitialPaymentID": 4520424,
            "Amount": "100",
            "Currency": "EUR",
            "Description": "Refund Test Description",
            "TypeID": 5,
            "SiteID": 30201,
            **EMPTY,
            "Status": OPEN,
            "SplitID": 0,
        },
        "facts": ("36675", 100, "EUR"),
    },
    "Klarna Invoice": {
        "order": {
            "handle": "s2ptest_g30",
            "amount": 980,
            "method": "klarna_invoice",
            "items": ({"id": "1231", "quantity": 1},),
        },
        "payment": "3006154",
        "request": {
            "MerchantTransactionID": "s2ptest_g30",
            "Amount": 980,
            "Articles": [{"MerchantArticleID": "1231", "Quantity": 1}],
        },
        "response": {
            "ID": 0,
            "Created": None,
            "MerchantTransactionID": "s2ptest_g30",
            "OriginatorTransactionID": None,
            "InitialPaymentID": 0,
            "Amount": "980",
            "Currency": None,
            "Description": None,
            "TypeID": 0,
            "SiteID": 30201,
            **EMPTY,
            "Articles": [{"MerchantArticleID": "1231", "Quantity": 1, **KLARNA_ARTICLE}],
            "Status": OPEN,
            "SplitID": 0,
        },
        "facts": (None, 980, None),
    },
    "Klarna Pay Now Standalone": {
        "order": {
            "handle": "Refund_1716201346",
            "amount": 100,
            "currency": "GBP",
            "method": "klarna_pay_now",
            "description": "test",
            "originator_reference": "12345",
            "items": ({"id": "5009000", "quantity": 1},),
        },
        "payment": "6906966",
        "request": {
            "MerchantTransactionID": "Refund_1716201346",
            "Amount": 100,
            "Currency": "GBP",
            "Description": "test",
            "OriginatorTransactionID": "12345",
            "Articles": [{"MerchantArticleID": "5009000", "Quantity": 1}],
        },
        "response": {
            "ID": 93602,
            "Created": "20240520103545",
            "MerchantTransactionID": "Refund_1716201346",
            "OriginatorTransactionID": "12345",
            "InitialPaymentID": 6906966,
            "Amount": "100",
            "Currency": "GBP",
            "Description": "test",
            "TypeID": 1,
            "SiteID": 30563,
            **EMPTY,
            "Articles": [
                {
                    "MerchantArticleID": "5009000",
                    "Name": None,
                    "Quantity": 1,
                    "Price": "0",
                    "VAT": "0",
                    "Discount": "0",
                    "Type": None,
                    "TaxType": 0,
                    "DiscountValue": "0",
                }
            ],
            "Status": OPEN,
            "MethodTransactionID": None,
            "SplitID": 0,
        },
        "facts": ("93602", 100, "GBP"),
    },
    "LATAM": {
        "order": {
            "handle": "s2ptest_f201",
            "amount": 400,
            "currency": "PLN",
            "method": "32",
            "bank_account": {
                "account_number": "A88888888888",
                "account_type": "I",
                "bank_name": "Banco do Brasil",
                "branch": "Branch1234",
                "iban": None,
            },
            "customer": {"email": "test@test.com", "first_name": "John", "last_name": "Smith", "phone": None},
        },
        "payment": "4070604",
        "request": {
            "MerchantTransactionID": "s2ptest_f201",
            "Amount": 400,
            "Details": LATAM_DETAILS,
            "Customer": {"Email": "test@test.com", "FirstName": "John", "LastName": "Smith"},
        },
        "response": {
            "ID": 27601,
            "Created": "20180914091320",
            "MerchantTransactionID": "s2ptest_f201",
            "OriginatorTransactionID": None,
            "InitialPaymentID": 4070604,
            "Amount": "400",
            "Currency": "PLN",
            "Description": None,
            "TypeID": 10,
            "SiteID": 30201,
            **EMPTY,
            "Details": LATAM_DETAILS,
            "Customer": {
                "ID": 336,
                "MerchantCustomerID": None,
                "Email": "test@test.com",
                "FirstName": "John",
                "LastName": "Smith",
                "Gender": None,
                "SocialSecurityNumber": None,
                "Phone": None,
                "Company": None,
                "DateOfBirth": None,
            },
            "Status": OPEN,
            "SplitID": 0,
        },
        "facts": ("27601", 400, "PLN"),
    },
}
CARD_RESPONSE = {
    "ID": 263,
    "SiteID": 1010,
    "Created": "20161205095348",
    "MerchantTransactionID": "s2ptest_h19",
    "OriginatorTransactionID": "108_a",
    "InitialPaymentID": 0,
    "Amount": 1000,
    "Currency": "EUR",
    "Description": "refund reason",
    "StatementDescriptor": None,
    "CaptureID": 546,
    "Customer": None,
    "BillingAddress": None,
    "BankAddress": None,
    "Articles": None,
    "Status": {"ID": 2, "Info": "Success", "Reasons": []},
    "SplitID": 0,
}
BUSY_RESPONSE = {
    "ID": 36677,
    "Created": "20190516080948",
    "MerchantTransactionID": "s2ptest_gi11",
    "OriginatorTransactionID": None,
    "InitialPaymentID": 4520424,
    "Amount": "100",
    "Currency": "EUR",
    "Description": "Refund Test Description",
    "TypeID": 5,
    "SiteID": 30201,
    **EMPTY,
    "Status": {"ID": 4, "Info": "Failed", "Reasons": [{"Code": "134", "Info": "Another refund is already in process"}]},
    "SplitID": 0,
}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_each_example_is_the_request_that_is_built_and_an_answer_that_is_read(apm, example):
    heard = talk(apm.refund(order(payment_id=example["payment"], **example["order"])), created(example["response"]))
    (move,) = heard.steps

    assert isinstance(move, Move)
    assert move.request.method == "POST"
    assert str(move.request.url) == f"{APM_BASE}/v1/payments/{example['payment']}/refunds"
    assert body_of(move.request) == {"Refund": example["request"]}
    assert isinstance(heard.end, Pending)
    facts = heard.end.facts
    assert (facts.provider_refund_id, facts.amount, facts.currency) == example["facts"]
    assert (facts.status, facts.alert) == ("Open", None)


def test_the_example_of_a_card(card):
    asked = order(
        handle="s2ptest_h19",
        payment_id="202246",
        originator_reference="108_a",
        amount=1000,
        description="refund reason",
        statement_descriptor="refund ",
        capture_id="546",
    )
    heard = talk(card.refund(asked), created(CARD_RESPONSE))
    (request,) = heard.requests

    assert str(request.url) == f"{CARD_BASE}/v1/payments/202246/refunds"
    assert body_of(request) == {
        "Refund": {
            "MerchantTransactionID": "s2ptest_h19",
            "OriginatorTransactionID": "108_a",
            "Amount": 1000,
            "Description": "refund reason",
            "StatementDescriptor": "refund ",
            "CaptureID": 546,
        }
    }
    assert isinstance(heard.end, Succeeded)
    assert (heard.end.facts.provider_refund_id, heard.end.facts.amount) == ("263", 1000)


def test_the_example_of_an_error(apm):
    asked = order(handle="s2ptest_gi11", description="Refund Test Description")
    heard = talk(apm.refund(asked), created(BUSY_RESPONSE, 400), listed(BUSY_RESPONSE))
    move, ask = heard.steps

    assert body_of(move.request) == {
        "Refund": {"MerchantTransactionID": "s2ptest_gi11", "Amount": 100, "Description": "Refund Test Description"}
    }
    assert isinstance(ask, Ask)
    assert str(ask.request.url) == f"{APM_BASE}/v1/payments/4520424/refunds"
    assert heard.end == NotSent(
        reason=NotSentReason.BUSY, detail="Another refund is already in process", retry_after=30.0, renew_handle=True
    )


@pytest.mark.parametrize(
    ("site", "key", "header"),
    [
        (30201, SECRET, "Basic MzAyMDE6KzlLZUd6S0Y3VzhTLzc5YTVSMzNZSlVnN0U3V0ZOY1piakdmekxWM2JYU25GQ095RnQ="),
        (
            30199,
            "8mz/IlfJZz22UXURQRytotLPCzdYRPzEf4zr47AQdNYlbQLiMg",
            "Basic MzAxOTk6OG16L0lsZkpaejIyVVhVUlFSeXRvdExQQ3pkWVJQekVmNHpyNDdBUWROWWxiUUxpTWc=",
        ),
        ("1010", "gabi", "Basic MTAxMDpnYWJp"),
    ],
)
def test_the_documented_authorization_is_added_by_authorize_only(site, key, header):
    adapter = adapter_of(site_id=site, api_key=key)
    (request,) = talk(adapter.refund(order()), created(record())).requests

    assert "authorization" not in request.headers
    assert adapter.authorize(request).headers["authorization"] == header


# The request


def test_both_handles_are_renewed_together(apm):
    first, again, renewed = (
        talk(apm.refund(order(handle=handle)), created(record())).requests[0] for handle in (HANDLE, HANDLE, "rf_1")
    )

    assert first.headers["content-type"] == "application/json; charset=utf-8"
    assert UUID(first.headers["requestid"])
    assert (first.headers["requestid"], first.content) == (again.headers["requestid"], again.content)
    assert first.headers["requestid"] != renewed.headers["requestid"]


def test_the_handle_fits_the_documented_form(apm):
    handle = apm.handle(UUID("0b9d3c1e-5f63-4d0a-9d7e-0a6f0f7b8c11"))

    assert handle == HANDLE
    assert len(handle) <= apm.capabilities.handle_max_length == 50


@pytest.mark.parametrize("missing", [{"amount": None}, {"currency": None}])
def test_a_refund_of_an_unknown_amount_is_not_sent(apm, missing):
    heard = talk(apm.refund(order(**missing)), created(record()))

    assert heard.steps == []
    assert heard.end.reason is NotSentReason.ASK_FAILED


def body(adapter, **changes):
    (request,) = talk(adapter.refund(order(**changes)), created(record())).requests

    return body_of(request)["Refund"]


def test_a_sepa_refund_names_iban_and_bic_as_bank_code(apm):
    shown = body(
        apm,
        bank_account={"iban": "DE89370400440532013000", "bic": "COBADEFFXXX"},
        customer={"first_name": "John", "last_name": "Smith"},
    )

    assert shown["Details"] == {"CustomerIBAN": "DE89370400440532013000", "BankCode": "COBADEFFXXX"}
    assert shown["Customer"] == {"FirstName": "John", "LastName": "Smith"}


@pytest.mark.parametrize(
    ("bank", "details"),
    [
        ({"account_number": "1", "bic": "COBADEFFXXX"}, {"CustomerAccountNumber": "1", "BankSWIFTID": "COBADEFFXXX"}),
        (
            {"iban": "DE89370400440532013000", "bic": "COBADEFFXXX", "bank_code": "37040044"},
            {"CustomerIBAN": "DE89370400440532013000", "BankSWIFTID": "COBADEFFXXX", "BankCode": "37040044"},
        ),
        (
            {"holder_document": "12345678909", "agency_code": "0001", "sort_code": "102030"},
            {"CPFAccountHolder": "12345678909", "BankAgencyCode": "0001", "BankSortCode": "102030"},
        ),
    ],
)
def test_bank_details_have_the_documented_names(apm, bank, details):
    assert body(apm, bank_account=bank)["Details"] == details


def test_customer_and_addresses_have_the_documented_names(apm):
    address = {
        "street": "Main",
        "street_number": "1",
        "house_number": "2",
        "house_extension": "b",
        "city": "Berlin",
        "zip_code": "10115",
        "state": "BE",
        "country": "DE",
    }
    documented = {
        "Street": "Main",
        "StreetNumber": "1",
        "HouseNumber": "2",
        "HouseExtension": "b",
        "City": "Berlin",
        "ZipCode": "10115",
        "State": "BE",
        "Country": "DE",
    }
    customer = {"reference": "lucky", "phone": "+49", "document": "123", "country": "DE", "address": address}
    shown = body(apm, customer=customer, bank_account={"address": address})

    assert shown["Customer"] == {"MerchantCustomerID": "lucky", "Phone": "+49", "SocialSecurityNumber": "123"}
    assert shown["BillingAddress"] == shown["BankAddress"] == documented
    assert "Details" not in shown


def test_members_for_cards_are_not_sent_for_other_methods(apm):
    shown = body(apm, capture_id="546", statement_descriptor="shop")

    assert shown == {"MerchantTransactionID": HANDLE, "Amount": 100}


@pytest.mark.parametrize(
    ("currency", "decimals", "amount", "wire"),
    [("JPY", 0, 1000, 1000), ("JPY", 2, 1000, 100_000), ("KWD", 3, 1234, 1234), ("KWD", 2, 1230, 123)],
)
def test_a_configured_currency_is_sent_and_read_with_its_decimals(currency, decimals, amount, wire):
    adapter = adapter_of(currency_exponents={currency: decimals})
    heard = talk(
        adapter.refund(order(amount=amount, currency=currency)), created(record(Amount=str(wire), Currency=currency))
    )

    assert body_of(heard.requests[0])["Refund"]["Amount"] == wire
    assert heard.end.facts.amount == amount
    assert adapter.capabilities.exponents == {currency: decimals}


# At the door


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({}, []),
        ({"amount": None, "currency": None}, []),
        ({"payment_id": None}, ["#/payment/id"]),
        ({"payment_id": "45x"}, ["#/payment/id"]),
        ({"payment_id": "1" * 13}, ["#/payment/id"]),
        ({"capture_id": "c1"}, ["#/payment/capture_id"]),
        ({"amount": 10**12}, ["#/amount"]),
        ({"description": ""}, []),
        ({"description": "two\nlines"}, ["#/description"]),
        ({"originator_reference": "108_a"}, []),
        ({"originator_reference": "108/a"}, ["#/originator_reference"]),
        ({"customer": {"first_name": "x" * 51}}, ["#/customer/first_name"]),
        ({"customer": {"last_name": "x" * 51}}, ["#/customer/last_name"]),
        ({"customer": {"last_name": None}}, []),
        ({"method": "klarna_invoice"}, ["#/items"]),
        ({"method": "75"}, ["#/items"]),
        ({"method": "75", "items": ({"id": "1", "quantity": 1},)}, []),
        ({"currency": "JPY"}, ["#/currency"]),
        ({"currency": "CLP"}, ["#/currency"]),
        ({"currency": "KRW"}, ["#/currency"]),
        ({"currency": "BHD"}, ["#/currency"]),
        ({"currency": "XXX"}, ["#/currency"]),
    ],
)
def test_what_the_provider_would_refuse_is_refused_at_the_door(apm, changes, pointers):
    faults = []
    warnings = apm.check(order(**changes), lambda pointer, detail: faults.append(pointer))

    assert faults == pointers
    assert len(warnings) == ("capture_id" in changes)


def test_an_amount_is_never_rounded():
    faults = []
    adapter_of(currency_exponents={"KWD": 2}).check(
        order(amount=1234, currency="KWD"), lambda pointer, detail: faults.append(pointer)
    )

    assert faults == ["#/currency"]


@pytest.mark.parametrize(
    "method",
    [
        "32",
        "1080",
        "1081",
        "1083",
        "1084",
        "1086",
        "1087",
        "1089",
        "1090",
        "1092",
        "1093",
        "1094",
        "1096",
        "1098",
        "1099",
        "1103",
        "1104",
        "1107",
        "1108",
    ],
)
def test_latam_methods_without_bank_details_give_a_warning_and_no_fault(apm, method):
    faults = []
    full = EXAMPLES["LATAM"]["order"]
    warned = apm.check(order(method=method), lambda pointer, detail: faults.append(pointer))
    complete = {name: full[name] for name in ("bank_account", "customer")}

    assert faults == []
    assert "account_number" in warned[0]
    assert "first_name" in warned[0]
    assert apm.check(order(method=method, **complete), faults.append) == ()


# Statuses


@pytest.mark.parametrize(
    ("status", "expected", "alert"),
    [
        (1, Pending, False),
        (2, Succeeded, False),
        (3, Pending, True),
        (4, Declined, False),
        (5, Pending, True),
        (6, Pending, False),
        (7, Pending, False),
        (8, Pending, False),
        (14, Pending, True),
        (18, Pending, False),
        (21, Pending, True),
        (22, Pending, True),
        (77, Pending, True),
        (None, Pending, True),
        ("x", Pending, True),
        (True, Pending, True),
        ([2], Pending, True),
    ],
)
@pytest.mark.parametrize("flavour", ["apm", "card"])
@pytest.mark.parametrize("member", ["Status", "StateDetails"])
def test_each_status_of_a_refund_of_ours(flavour, status, expected, alert, member):
    adapter = adapter_of(flavour)
    shown = record(status=status if isinstance(status, int) else None)
    shown[member] = {"ID": status, "Info": "words", "Reasons": None}
    if member == "StateDetails":
        del shown["Status"]
    known = order(provider_refund_id="36675")

    for outcome in (
        talk(adapter.refund(order()), created(shown)).end,
        talk(adapter.status(known), answer(200, {"Refund": shown})).end,
        talk(adapter.lookup(order()), listed(shown)).end,
    ):
        assert isinstance(outcome, expected)
        assert bool(outcome.facts.alert) is alert
        assert outcome.facts.provider_refund_id == "36675"


def test_a_status_may_come_as_text(apm):
    assert isinstance(refunded(apm, created(record(status="2"))), Succeeded)


def test_the_statuses_are_a_setting():
    adapter = adapter_of(status_map={"3": "failed"})

    assert isinstance(talk(adapter.lookup(order()), listed(record(status=3))).end, Declined)


@pytest.mark.parametrize("reasons", [None, [], "", {}])
def test_a_failed_record_without_reasons_is_a_no_all_the_same(apm, reasons):
    outcome = talk(apm.lookup(order()), listed(record(status=4, reasons=reasons))).end

    assert isinstance(outcome, Declined)
    assert (outcome.code, outcome.own_record) == ("FAILED", True)


def test_the_facts_of_a_record(card):
    shown = record(status=2, MethodTransactionID="ARN-1", Amount=1154, Currency="USD")
    facts = talk(card.lookup(order()), listed(shown)).end.facts

    assert (facts.provider_refund_id, facts.status, facts.reconciliation_id) == ("36675", "Success", "ARN-1")
    assert (facts.amount, facts.currency) == (1154, "USD")


@pytest.mark.parametrize(
    ("amount", "read"),
    [("100", 100), (100, 100), (None, None), ("", -1), ("1e2", -1), ("--5", -1), ("²", -1), ([], -1)],
)
def test_an_amount_that_is_none_matches_nothing(apm, amount, read):
    assert refunded(apm, created(record(Amount=amount))).facts.amount == read


@pytest.mark.parametrize(("currency", "shown"), [("JPY", "JPY"), ("ZZZ", "ZZZ"), ("eur", "eur"), ([], "?"), ({}, "?")])
def test_another_currency_is_told_and_its_amount_matches_nothing(apm, currency, shown):
    facts = refunded(apm, created(record(Currency=currency))).facts

    assert (facts.amount, facts.currency) == (-1, shown)


# Reasons


def classes(flavour):
    given = {
        "apm": {
            Reason.AMBIGUOUS: [0, 14, 15, 16, 121, 122, 125, *range(103, 116), 23, 2206, 2207, 9999],
            Reason.FINAL: [1, 2, 5, 9, 11, 17, 18, 19, 100, 118, 120, 128],
            Reason.CREDENTIALS: [3, 4, 6, 7, 127],
            Reason.FIXABLE: [101, 102, 116, 117, 119, 123, 124, 126],
            Reason.DUPLICATE: [20],
            Reason.BUSY: [134],
        },
        "card": {
            Reason.FINAL: [
                1,
                2,
                17,
                103,
                104,
                109,
                110,
                111,
                120,
                2200,
                2201,
                2202,
                2203,
                2204,
                2205,
                2206,
                2208,
                2209,
            ],
            Reason.FIXABLE: [100, 101, 105],
            Reason.DUPLICATE: [20, 23],
            Reason.BUSY: [2207],
            Reason.AMBIGUOUS: [13, 18, 19, 21, 22, 134, 1010, 1801, 4996, 4997, 4998, 4999, 5000, 5288],
        },
    }[flavour]

    return [(flavour, number, reason) for reason, numbers in given.items() for number in numbers]


TABLE = [*classes("apm"), *classes("card")]
KNOWN_AT_ONCE = {
    Reason.FINAL: Declined,
    Reason.FIXABLE: Declined,
    Reason.CREDENTIALS: NotSent,
    Reason.DUPLICATE: Unknown,
    Reason.AMBIGUOUS: Unknown,
    Reason.BUSY: NotSent,
}


def test_the_tables_hold_nothing_that_is_not_tested():
    tested = {(flavour, number) for flavour, number, _ in TABLE}
    held = {(flavour, number) for flavour, table in REASONS.items() for number in table}

    assert held <= tested


@pytest.mark.parametrize(("flavour", "number", "reason"), TABLE)
@pytest.mark.parametrize("status", [400, 402, 404])
def test_each_reason_of_a_refusal_before_creation(flavour, number, reason, status):
    outcome = refunded(adapter_of(flavour), created(rejected(number), status), listed())

    assert isinstance(outcome, KNOWN_AT_ONCE[reason])
    if isinstance(outcome, Declined):
        assert outcome.code == str(number)
        assert outcome.kind is DeclineClass(reason)
        assert not outcome.own_record
    if isinstance(outcome, NotSent):
        assert outcome.reason == reason


@pytest.mark.parametrize(("flavour", "number", "reason"), TABLE)
def test_each_reason_of_a_record_that_failed(flavour, number, reason):
    adapter = adapter_of(flavour)
    shown = record(status=4, reasons=code(number))
    mend = reason in (Reason.FIXABLE, Reason.CREDENTIALS, Reason.BUSY)
    outcomes = [
        talk(adapter.status(order(provider_refund_id="36675")), answer(200, {"Refund": shown})).end,
        talk(adapter.lookup(order()), listed(shown)).end,
    ]
    if reason is not Reason.BUSY:
        outcomes.append(refunded(adapter, created(shown, 400)))

    for outcome in outcomes:
        if reason is Reason.DUPLICATE:
            assert isinstance(outcome, Unknown)
        else:
            assert isinstance(outcome, Declined)
            assert outcome.own_record
            assert outcome.kind is (DeclineClass.FIXABLE if mend else DeclineClass.FINAL)


@pytest.mark.parametrize("number", [118, "118"])
def test_a_code_is_a_number_or_a_text(apm, number):
    shown = rejected(118)
    shown["Status"]["Reasons"] = [{"Code": number, "Info": "Amount invalid"}]
    outcome = refunded(apm, created(shown, 400))

    assert (outcome.code, outcome.message) == ("118", "Amount invalid")


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [((118, 20), Unknown), ((118, 14), Unknown), ((118, 101), Declined), ((118, 3), NotSent), ((3, 9999), Unknown)],
)
def test_of_several_reasons_the_most_careful_counts(apm, numbers, expected):
    shown = rejected(118)
    shown["Status"]["Reasons"] = [{"Code": str(number)} for number in numbers]

    assert isinstance(refunded(apm, created(shown, 400)), expected)


@pytest.mark.parametrize("odd", ["118", [118], [None], {"Code": 118}, [{"Code": None}], [{"Code": [118]}], [{}]])
def test_reasons_that_cannot_be_read_prove_nothing(apm, odd):
    shown = rejected(118)
    shown["Status"]["Reasons"] = odd

    assert isinstance(refunded(apm, created(shown, 400)), Unknown)


# Another refund in process


@pytest.fixture(params=[("apm", 134), ("card", 2207)], ids=["134", "2207"])
def busy(request):
    flavour, number = request.param

    return adapter_of(flavour), number


def renewed(outcome):
    return isinstance(outcome, NotSent) and outcome.reason is NotSentReason.BUSY and outcome.renew_handle


@pytest.mark.parametrize("reasons", ["same", None])
def test_busy_takes_a_new_handle_where_the_list_shows_ours_as_failed(busy, reasons):
    adapter, number = busy
    failed = record(status=4, reasons=code(number))
    shown = record(status=4, reasons=code(number) if reasons else None)
    outcome = refunded(adapter, created(failed, 400), listed(record(MerchantTransactionID="other"), shown))

    assert renewed(outcome)
    assert outcome.retry_after == 30.0


def test_busy_takes_a_new_handle_where_nothing_of_ours_was_created(busy):
    adapter, number = busy
    others = listed(record(MerchantTransactionID="other"))

    assert renewed(refunded(adapter, created(rejected(number), 400), others))
    assert renewed(refunded(adapter, created(rejected(number), 400), listed()))


def test_a_record_that_was_created_and_is_not_listed_is_unknown(busy):
    adapter, number = busy
    outcome = refunded(adapter, created(record(status=4, reasons=code(number)), 400), listed())

    assert isinstance(outcome, Unknown)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (record(status=1), Pending),
        (record(status=2), Succeeded),
        (record(status=77), Pending),
        (record(status=4, reasons=code(17)), Declined),
        (record(status=4, reasons=code(20)), Unknown),
    ],
)
def test_busy_with_ours_listed_otherwise_is_judged_by_that_record(busy, shown, expected):
    adapter, number = busy

    assert isinstance(refunded(adapter, created(rejected(number), 400), listed(shown)), expected)


def test_a_failed_repeat_does_not_hide_our_first_refund(busy):
    adapter, number = busy
    failed = record(ID=36680, status=4, reasons=code(number))

    outcome = refunded(adapter, created(failed, 400), listed(failed, record(status=1)))

    assert isinstance(outcome, Pending)
    assert outcome.facts.provider_refund_id == "36675"


@pytest.mark.parametrize(
    "unreadable",
    [
        listed(status=500),
        listed(status=401),
        listed(status=404),
        answer(200, {"Refund": record(status=4)}),
        answer(200, {"Refunds": None}),
        listed(record(MerchantTransactionID=None)),
        listed("x"),
        *[answer(200, body) for body in MANGLED.values()],
    ],
)
def test_busy_with_a_list_that_cannot_be_read_is_unknown(busy, unreadable):
    adapter, number = busy

    assert isinstance(refunded(adapter, created(rejected(number), 400), unreadable), Unknown)
    assert isinstance(refunded(adapter, created(record(status=4, reasons=code(number)), 400), unreadable), Unknown)


# What an answer to the refund call does not prove


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 302])
@pytest.mark.parametrize("shown", [record(status=2), record(status=4), rejected(118), rejected(134)])
def test_nothing_is_read_of_an_answer_that_may_not_be_the_providers(apm, status, shown):
    assert isinstance(refunded(apm, created(shown, status), listed()), Unknown)
    known = order(provider_refund_id="36675")
    assert isinstance(talk(apm.status(known), answer(status, {"Refund": shown})).end, Unknown)
    assert isinstance(talk(apm.lookup(order()), listed(shown, status=status)).end, Unknown)


@pytest.mark.parametrize("status", [400, 402, 403, 404, 405, 410, 422])
def test_a_4xx_without_a_known_reason_is_unknown(apm, status):
    for shown in (
        rejected(9999),
        record(ID=None, status=None),
        {"Status": None},
        {"Status": "Failed"},
        {},
        None,
        "Failed",
    ):
        assert isinstance(refunded(apm, created(shown, status)), Unknown)
    assert isinstance(refunded(apm, answer(status, {"Message": "Refused"})), Unknown)


@pytest.mark.parametrize("status", [1, 2, 7, 77])
def test_a_400_with_a_record_that_did_not_fail_contradicts_itself(apm, status):
    assert isinstance(refunded(apm, created(record(status=status), 400)), Unknown)
    assert isinstance(refunded(apm, created(record(status=status, reasons=code(118)), 400)), Unknown)


@pytest.mark.parametrize(
    "shown",
    [
        record(ID=36675, status=None, reasons=code(118)),
        record(ID="x", status=None, reasons=code(118)),
        record(ID=None, status="x", reasons=code(118)),
        record(ID=None, status=77, reasons=code(118)),
    ],
)
def test_a_refusal_beside_a_record_or_a_status_that_is_not_failed_is_unknown(apm, shown):
    assert isinstance(refunded(apm, created(shown, 400)), Unknown)


@pytest.mark.parametrize("shown", [record(ID=0, status=None), record(ID=None, status=None, reasons=code(118))])
def test_a_201_that_shows_neither_record_nor_status_is_unknown(apm, shown):
    assert isinstance(refunded(apm, created(shown)), Unknown)


def test_a_failed_answer_without_a_record_is_not_our_own_record(apm):
    outcome = refunded(apm, created(record(ID=None, status=4, reasons=code(118)), 400))

    assert isinstance(outcome, Declined)
    assert not outcome.own_record


@pytest.mark.parametrize("handle", ["another", 7])
@pytest.mark.parametrize("status", [201, 400])
@pytest.mark.parametrize("shown", [record(status=2), record(status=4), rejected(118), rejected(134), rejected(3)])
def test_an_answer_about_another_handle_proves_nothing(apm, handle, status, shown):
    other = {**shown, "MerchantTransactionID": handle}

    assert isinstance(refunded(apm, created(other, status), listed()), Unknown)


@pytest.mark.parametrize("handle", [None, ""])
def test_a_record_without_a_handle_is_not_our_own_record(apm, handle):
    for status, shown in ((201, record(status=2)), (201, record(status=1)), (400, record(status=4))):
        other = {**shown, "MerchantTransactionID": handle}

        assert isinstance(refunded(apm, created(other, status)), Unknown)


def test_a_401_is_about_the_credentials(apm):
    denied = answer(401, {"Message": "Authorization has been denied for this request."})

    for call in (apm.refund, apm.status, apm.lookup):
        outcome = talk(call(order()), denied).end

        assert isinstance(outcome, NotSent)
        assert outcome.reason is NotSentReason.CREDENTIALS


@pytest.mark.parametrize("status", [200, 201, 204, 400, 402, 403, 404])
@pytest.mark.parametrize("body", MANGLED.values(), ids=MANGLED)
def test_a_mangled_body_proves_nothing(apm, status, body):
    for call in (apm.refund, apm.status, apm.lookup):
        assert isinstance(talk(call(order()), answer(status, body)).end, Unknown)
    facts = talk(apm.payment(order()), answer(status, body)).end

    assert facts.problem
    assert not facts.final


@pytest.mark.parametrize("cut", range(1, 300, 23))
def test_a_truncated_answer_proves_nothing(apm, cut):
    whole = created(record(status=2)).content

    assert isinstance(refunded(apm, answer(201, whole[: len(whole) - cut])), Unknown)


# Asking


def test_the_status_is_asked_by_payment_and_refund(apm):
    heard = talk(apm.status(order(provider_refund_id="36675")), answer(200, {"Refund": record()}))
    (step,) = heard.steps

    assert isinstance(step, Ask)
    assert step.request.method == "GET"
    assert str(step.request.url) == f"{APM_BASE}/v1/payments/4520424/refunds/36675"
    assert isinstance(heard.end, Pending)


def test_a_status_that_shows_another_handle_needs_a_person(apm):
    other = answer(200, {"Refund": record(status=4, MerchantTransactionID="other")})
    outcome = talk(apm.status(order(provider_refund_id="36675")), other).end

    assert isinstance(outcome, Unknown)
    assert outcome.contradiction


@pytest.mark.parametrize("status", [201, 400, 404])
def test_a_status_is_an_answer_of_200_only(apm, status):
    known = order(provider_refund_id="36675")

    for shown in (record(status=2), record(status=4), rejected(18)):
        assert isinstance(talk(apm.status(known), answer(status, {"Refund": shown})).end, Unknown)


def test_the_look_up_finds_ours_in_the_list(apm):
    heard = talk(
        apm.lookup(order()),
        listed(
            record(MerchantTransactionID="other", status=4), record(status=2), record(ID=1, MerchantTransactionID="x")
        ),
    )
    (step,) = heard.steps

    assert isinstance(step, Ask)
    assert str(step.request.url) == f"{APM_BASE}/v1/payments/4520424/refunds"
    assert isinstance(heard.end, Succeeded)


def test_the_look_up_finds_the_id_that_a_201_did_not_tell(apm):
    first = refunded(apm, created(record(ID=0, Created=None, InitialPaymentID=0, Currency=None)))
    found = talk(apm.lookup(order()), listed(record())).end

    assert isinstance(first, Pending)
    assert first.facts.provider_refund_id is None
    assert found.facts.provider_refund_id == "36675"


def test_ours_with_another_amount_is_told_as_it_is(apm):
    assert talk(apm.lookup(order()), listed(record(Amount=999))).end.facts.amount == 999


def test_only_a_readable_list_can_show_that_a_refund_is_absent(apm):
    assert talk(apm.lookup(order()), listed()).end == Absent()
    assert talk(apm.lookup(order()), listed(record(MerchantTransactionID="other"))).end == Absent()
    for response in (
        answer(200, {"Refund": record(MerchantTransactionID="other")}),
        answer(200, {"Refunds": {}}),
        listed(record(MerchantTransactionID=None)),
        listed(record(MerchantTransactionID="other"), None),
        listed(status=201),
        listed(status=404),
    ):
        assert isinstance(talk(apm.lookup(order()), response).end, Unknown)


def test_two_living_records_of_ours_need_a_person(apm):
    outcome = talk(apm.lookup(order()), listed(record(ID=1), record(ID=2, status=2))).end

    assert isinstance(outcome, Unknown)
    assert outcome.contradiction


def test_several_failed_records_of_ours_are_a_no(apm):
    outcome = talk(apm.lookup(order()), listed(record(ID=1, status=4), record(ID=2, status=4))).end

    assert isinstance(outcome, Declined)


# The payment


def payment(status=2, **members):
    shown = {"ID": 4520424, "Amount": "5000", "Currency": "EUR", "Status": {"ID": status}, **members}

    return answer(200, {"Payment": shown})


@pytest.mark.parametrize(
    ("response", "captured"),
    [
        (payment(), 5000),
        (payment(11, CapturedAmount=4000), 4000),
        (payment(11, CapturedAmount="4000"), 4000),
        (payment(9, CapturedAmount=0), None),
        (payment(2, CapturedAmount=0), 5000),
        (payment(2, CapturedAmount=None), 5000),
        *[(payment(status), 5000) for status in (11, 21, 25, 35)],
        *[(payment(status), None) for status in (1, 3, 4, 5, 9, 12, 22, 26, None, "x")],
        (payment(Amount=None), None),
        (payment(Amount="many"), None),
    ],
)
def test_what_was_captured(apm, response, captured):
    heard = talk(apm.payment(order()), response)

    assert str(heard.requests[0].url) == f"{APM_BASE}/v1/payments/4520424"
    assert heard.end.captured == captured
    assert heard.end.currency == "EUR"
    assert heard.end.problem is None


def test_of_several_captures_the_payment_as_a_whole_is_the_cap(card):
    response = payment(
        35, CapturedAmount=5000, CaptureDetails=[{"ID": 545, "Amount": 2000}, {"ID": 546, "Amount": "3000"}]
    )

    assert talk(card.payment(order(capture_id="546")), response).end.captured == 5000
    assert talk(card.payment(order()), response).end.captured == 5000


@pytest.mark.parametrize(
    ("status", "number", "final"),
    [(404, 17, True), (400, 17, True), (404, 9999, False), (404, 20, False), (500, 17, False)],
)
def test_a_payment_that_cannot_be_read_is_a_final_problem_for_a_known_reason_only(apm, status, number, final):
    unknown = answer(status, {"Payment": {"ID": None, "Status": {"ID": None, "Reasons": code(number)}}})
    facts = talk(apm.payment(order()), unknown).end

    assert facts.problem == f"HTTP {status}"
    assert facts.problem_code == str(number)
    assert facts.final is final


def test_refused_credentials_at_the_payment_question_are_said_as_such(apm):
    facts = talk(apm.payment(order()), answer(401, {})).end

    assert facts.credentials_refused
    assert not facts.final


@pytest.mark.parametrize(
    ("response", "health"),
    [
        (answer(404, {"Payment": {"ID": None}}), Health.OK),
        (answer(400, {"Payment": {"ID": None}}), Health.OK),
        (answer(401, {"Message": "denied"}), Health.CREDENTIALS_REFUSED),
        (answer(404, b"<html>"), Health.UNREACHABLE),
        (answer(403, {"Message": "IP"}), Health.UNREACHABLE),
        (answer(503, {}), Health.UNREACHABLE),
    ],
)
def test_the_check_asks_for_a_payment_that_cannot_be(apm, response, health):
    heard = talk(apm.ping(), response)

    assert str(heard.requests[0].url) == f"{APM_BASE}/v1/payments/0"
    assert heard.end is health


# Notifications


def signed(site="30201", key=SECRET):
    return {"authorization": "Basic " + base64.b64encode(f"{site}:{key}".encode()).decode()}


def test_a_notification_of_a_refund_is_a_hint(apm):
    body = json.dumps({"Refund": record(status=2)}).encode()
    hint = apm.notification(signed(), body, 0.0)

    assert (hint.kind, hint.handle, hint.provider_refund_ids) == ("refund", HANDLE, ("36675",))
    assert hint.payment_id == "4520424"


def test_a_notification_without_ids_still_names_the_handle(apm):
    body = json.dumps({"Refund": record(ID=0, InitialPaymentID=0, SiteID=None)}).encode()
    hint = apm.notification(signed(), body, 0.0)

    assert (hint.handle, hint.provider_refund_ids, hint.payment_id) == (HANDLE, (), None)


@pytest.mark.parametrize("kind", ["Payment", "Preapproval", "Payout", "Dispute"])
def test_other_notifications_name_their_kind(apm, kind):
    hint = apm.notification(signed(), json.dumps({kind: {"ID": 7}}).encode(), 0.0)

    assert hint.kind == kind.lower()
    assert hint.payment_id == ("7" if kind == "Payment" else None)
    assert hint.provider_refund_ids == ()


@pytest.mark.parametrize(
    "headers", [{}, signed(key="wrong"), signed(site="1010"), {"authorization": "ü"}, {"authorization": SECRET}]
)
def test_a_notification_with_other_credentials_is_refused(apm, headers):
    with pytest.raises(NotificationRefused):
        apm.notification(headers, json.dumps({"Refund": record()}).encode(), 0.0)


@pytest.mark.parametrize("body", [*MANGLED.values(), b'{"Refund": null}', b'{"Refund": []}', b'{"Other": {"ID": 1}}'])
def test_a_body_that_is_no_notification_is_refused(apm, body):
    with pytest.raises(NotificationRefused):
        apm.notification(signed(), body, 0.0)


# The account


def test_the_capabilities_are_those_of_the_documents(apm):
    known = apm.capabilities

    assert (known.recovery, known.deduplicates, known.handle_lifetime) == (Recovery.LOOKUP, True, 86_400.0)
    assert (known.lookup, known.matches_handle, known.lookup_delay) == (True, True, 5.0)
    assert (known.exclusive, known.omit_amount, known.payment_facts) == (Exclusive.ALWAYS, False, True)
    assert (known.read_timeout, known.polled, known.partial) == (60.0, True, True)
    assert known.poll_schedule == (60.0, 300.0, 1800.0, 3600.0)
    assert known.poll_horizon == 14 * 86_400


@pytest.mark.parametrize(
    ("flavour", "host"), [("apm", "https://globalpay.smart2pay.com"), ("card", "https://secure.smart2pay.com")]
)
def test_the_flavour_gives_the_live_host(flavour, host):
    adapter = adapter_of(flavour, base_url="")

    assert str(talk(adapter.lookup(order()), listed()).requests[0].url).startswith(f"{host}/v1/")
    assert adapter.fingerprint == f"smart2pay {host} 30201"


def test_the_fingerprint_holds_no_secret(apm):
    assert apm.fingerprint == adapter_of(api_key="new").fingerprint
    assert apm.fingerprint != adapter_of(site_id="1010").fingerprint
    assert SECRET not in repr(apm._settings)


@pytest.mark.parametrize(
    "changes",
    [
        {"site_id": None},
        {"site_id": ""},
        {"site_id": "30201x"},
        {"site_id": True},
        {"site_id": 30201.5},
        {"api_key": ""},
        {"api_key": None},
        {"flavour": "cards"},
        {"secret_key": "x"},
    ],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ValidationError):
        adapter_of(**changes)


def test_the_entry_point_takes_its_own_settings_only():
    assert isinstance(create(Smart2PaySettings(site_id=1, api_key="x")), Smart2Pay)
    with pytest.raises(TypeError):
        create(AdapterSettings(base_url=APM_BASE))
