"""Smart2Pay's payment methods, refund types and return codes, as its documents list them."""

from typing import Any, NamedTuple

CARD, IDEAL, KLARNA_INVOICE = "card", "ideal", "klarna_invoice"
KLARNA_PAY_NOW = "klarna_pay_now"

NAME_PATTERN = "^.{1,50}$"
IBAN_PATTERN = "^[a-zA-Z]{2}[0-9]{2}[a-zA-Z0-9]{4}[0-9]{7}([a-zA-Z0-9]?){0,16}$"
BIC_PATTERN = "^[a-zA-Z]{4}[a-zA-Z]{2}[a-zA-Z0-9]{2}[XXX0-9]{0,3}$"

NATIVE, SEPA, SEPA_NO_INFO, LOCAL_NO_INFO, LOCAL_API = 1, 2, 5, 8, 10
TYPE_NAMES = {
    0: "Card",
    1: "Native",
    2: "SEPA Bank Transfer",
    3: "SWIFT Bank Transfer",
    4: "Manual Support Work, no info",
    5: "SEPA Bank Transfer, no info",
    6: "SWIFT Bank Transfer, no info",
    7: "Local Bank Transfer",
    8: "Local Bank Transfer, no info",
    9: "Manual Support Work, details needed",
    10: "Local Bank Transfer 2 API",
}
TYPE_NEEDS: dict[int, dict[str, dict[str, str]]] = {
    SEPA: {
        "Customer": {"FirstName": NAME_PATTERN, "LastName": NAME_PATTERN},
        "Details": {"CustomerIBAN": IBAN_PATTERN, "BankCode": BIC_PATTERN},
    },
    LOCAL_API: {
        "Customer": {"Email": "^.+@.+$", "FirstName": NAME_PATTERN, "LastName": NAME_PATTERN},
        "Details": {
            "CustomerAccountNumber": "^.+$",
            "BankAccountType": "^.+$",
            "BankName": "^.+$",
            "BankBranch": "^.+$",
        },
    },
}


class Method(NamedTuple):
    """A payment method: its number, the refund types it can take, whether partial ones exist."""

    id: int
    types: tuple[int, ...]
    partial: bool = True


LATAM = {
    "debito_banco_do_brasil": 32,
    "santander_rio": 1080,
    "cash_payments_argentina": 1081,
    "boleto": 1083,
    "online_bank_transfer_brazil": 1084,
    "servipag": 1086,
    "webpay": 1087,
    "pse_colombia": 1089,
    "cash_payment_colombia": 1090,
    "oxxo": 1092,
    "spei": 1093,
    "bank_transfer_mexico": 1094,
    "redpagos": 1096,
    "cash_payment_peru": 1098,
    "bank_transfer_peru": 1099,
    "rapi_pago": 1103,
    "pago_facil": 1104,
    "netbanking": 1107,
    "upi": 1108,
}
METHODS = {
    IDEAL: Method(2, (SEPA_NO_INFO,)),
    CARD: Method(6, (0,)),
    "bank_transfer": Method(1, (SEPA,)),
    "mrcash": Method(3, (SEPA,)),
    "giropay": Method(4, (SEPA_NO_INFO,)),
    "eps": Method(5, (SEPA_NO_INFO,)),
    "sofort": Method(9, (SEPA_NO_INFO,)),
    "przelewy24": Method(12, (NATIVE,)),
    "onecard": Method(13, (4,), partial=False),
    "poli": Method(18, (3,)),
    "payu": Method(19, (3,), partial=False),
    "sibs": Method(20, (SEPA,)),
    "moneta": Method(22, (4,)),
    "paysera": Method(23, (4,)),
    "alipay": Method(24, (NATIVE,)),
    KLARNA_INVOICE: Method(75, (NATIVE,)),
    KLARNA_PAY_NOW: Method(1999, (NATIVE,)),  # no document gives its number
    **{name: Method(number, (LOCAL_API, LOCAL_NO_INFO)) for name, number in LATAM.items()},
}
METHOD_NAMES = {**{name: name for name in METHODS}, **{str(each.id): name for name, each in METHODS.items()}}

STATE_IDS = {
    "success": 2,
    "captured": 11,
    "partially_captured": 35,
    "open": 1,
    "cancelled": 3,
    "failed": 4,
    "expired": 5,
    "authorized": 9,
    "disputed": 19,
}
STATUS_NAMES = {
    1: "Open",
    2: "Success",
    3: "Cancelled",
    4: "Failed",
    5: "Expired",
    9: "Authorized",
    11: "Captured",
    19: "Disputed",
    21: "PartiallyRefunded",
    22: "Refunded",
    26: "ChargedBack",
    35: "PartiallyCaptured",
}
REASONS = {
    1: "Missing parameter",
    2: "Validation failed",
    14: "Generic error",
    16: "Error, try again later",
    17: "Payment invalid",
    18: "Refund invalid",
    20: "MerchantTransactionID is duplicated",
    23: "Refund has already been processed",
    116: "Customer details are missing or invalid",
    117: "Bank details are missing or invalid",
    118: "Amount invalid",
    120: "Currency invalid",
    128: "Article missing",
    134: "Another refund is already in process",
    2200: "Refund MerchantTransactionID invalid",
    2201: "Refund amount invalid",
    2202: "Refund currency invalid",
    2203: "Refund description invalid",
    2204: "Refund statement descriptor invalid",
    2205: "Refund state invalid",
    2206: "Amount exceeds the payment's available amount",
    2207: "Another refund is in process",
    2208: "Partial refunds not available",
    2209: "Refund originator transaction ID invalid",
}
CARD_REASONS = {20: "Key is duplicated"}


def reason(code: int, *, card: bool) -> dict[str, str]:
    """Code (a string in the examples) and Info."""
    info = CARD_REASONS.get(code, REASONS[code]) if card else REASONS[code]

    return {"Code": str(code), "Info": info}


def refund_type(method: Method, number: int) -> dict[str, Any]:
    """A refund type as the types call shows it: a pattern must be sent, null is not needed."""
    needs = TYPE_NEEDS.get(number, {})

    return {
        "Name": TYPE_NAMES[number],
        "ID": number,
        "AllowsPartialRefund": method.partial,
        "Customer": needs.get("Customer"),
        "BillingAddress": None,
        "BankAddress": None,
        "Details": needs.get("Details"),
    }
