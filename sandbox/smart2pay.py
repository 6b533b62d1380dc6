"""Smart2Pay GlobalPay, from "Create a Refund" and its sibling pages.

Two systems behind one URL shape, told apart by the site that calls: alternative payment methods
(asynchronous) and cards (mostly synchronous). Amounts are integers with two fixed decimals.
"""

import hmac
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sandbox.accounts import CARD_SITE, SMART2PAY_SITES
from sandbox.check import is_integer, is_match, is_text
from sandbox.core import Json, Payment, Refund, RefundState, Stored, World
from sandbox.edge import Call, Endpoint, Message, Provider, Reply, dump
from sandbox.faults import Fault, FieldError, Kind
from sandbox.money import minor_from_two_decimals, two_decimals_from_minor
from sandbox.smart2pay_methods import (
    CARD,
    IDEAL,
    KLARNA_INVOICE,
    KLARNA_PAY_NOW,
    LATAM,
    LOCAL_API,
    LOCAL_NO_INFO,
    METHOD_NAMES,
    METHODS,
    STATE_IDS,
    STATUS_NAMES,
    TYPE_NEEDS,
    Method,
    reason,
    refund_type,
)
from sandbox.when import compact

NAME = "smart2pay"
REQUEST_IDS = "smart2pay.request_ids"
KEY_LIFETIME = 24 * 3600.0
HANDLE = re.compile(r"[0-9a-zA-Z_-]{1,50}")
CODE = re.compile(r"[A-Z]{3}")
DIGITS = re.compile(r"\d{1,12}")
QUANTITY = re.compile(r"\d{1,3}")
OPEN, SUCCESS, FAILED = 1, 2, 4
PARTIALLY_REFUNDED, REFUNDED, CHARGED_BACK = 21, 22, 26
REFUNDABLE_CARD = (11, 35, PARTIALLY_REFUNDED)
STATUS = {
    RefundState.PENDING: OPEN,
    RefundState.SUCCEEDED: SUCCESS,
    RefundState.DECLINED: FAILED,
}
ACCOUNT_OF_SITE = {site: account for account, (site, _) in SMART2PAY_SITES.items()}
DETAIL_FIELDS = (
    "CustomerAccountNumber",
    "CPFAccountHolder",
    "BankName",
    "BankAccountType",
    "BankBranch",
    "BankCode",
    "BankAgencyCode",
    "BankAccountNumber",
    "BankSWIFTID",
    "BankSortCode",
    "CustomerIBAN",
)
CUSTOMER_FIELDS = (
    "MerchantCustomerID",
    "Email",
    "FirstName",
    "LastName",
    "Gender",
    "SocialSecurityNumber",
    "Phone",
    "Company",
    "DateOfBirth",
)
ADDRESS_FIELDS = (
    "City",
    "ZipCode",
    "State",
    "Street",
    "StreetNumber",
    "HouseNumber",
    "HouseExtension",
    "Country",
)
Accepts = Callable[[Any], bool]


class Rejected(Exception):
    """A refund refused before it was created."""

    def __init__(self, code: int, status: int = 400) -> None:
        """Keep the return code and the HTTP status."""
        super().__init__(str(code))
        self.code = code
        self.status = status


class FailedRecord(Rejected):
    """A refund that was created and failed in the same moment."""


def failure(status: int) -> Reply:
    """An answer that says nothing about the refund."""
    return Reply(status, {"Message": "Too many requests" if status == 429 else "Internal error"})


# Who is calling


def account_of(call: Call) -> str | None:
    """The site's account, if SiteID:ApiKey is right."""
    given = call.basic()
    account = ACCOUNT_OF_SITE.get(given[0]) if given else None
    if given is None or account is None:
        return None
    expected = SMART2PAY_SITES[account][1]

    return account if hmac.compare_digest(given[1].encode(), expected.encode()) else None


SiteHandler = Callable[[World, Call, str], Reply]


def authenticated(handle: SiteHandler) -> Callable[[World, Call], Reply]:
    """HTTP Basic with the site's key; else 401."""

    def guarded(world: World, call: Call) -> Reply:
        account = account_of(call)
        if account is None:
            denied = Reply(401, {"Message": "Authorization has been denied for this request."})
            return denied.with_headers(("WWW-Authenticate", "Basic"))

        return handle(world, call, account)

    return guarded


def payment_of_site(world: World, call: Call, account: str) -> Payment | None:
    """The payment in the path, if it belongs to the site."""
    payment = world.payment(NAME, call.params["id"])

    return payment if payment and payment.account == account else None


# Create a refund


@authenticated
def create_refund(world: World, call: Call, account: str) -> Reply:
    """POST /v1/payments/{id}/refunds; cards replay the first answer to a RequestId for 24 h."""
    key = call.headers.get("requestid")
    if key is None or account != CARD_SITE:
        return _create(world, call, account)
    stored = world.stored(REQUEST_IDS, key)
    if stored is None:
        expires = world.clock() + KEY_LIFETIME
        fresh = Stored(call.fingerprint(), _create(world, call, account), expires)
        stored = call.stored = world.store(REQUEST_IDS, key, fresh)
    elif stored.fingerprint != call.fingerprint():
        return rejection(world, call, account, Rejected(20))

    return stored.reply


def _create(world: World, call: Call, account: str) -> Reply:
    try:
        payment, asked, amount = _accepted(world, call, account)
    except FailedRecord as failed:
        return _failed_record(world, call, account, failed.code)
    except Rejected as rejected:
        return rejection(world, call, account, rejected)
    refund = _draft(world, payment, asked, amount)
    call.refund = world.open_refund(refund, call.rule, at_once=account == CARD_SITE)
    status = 400 if refund.state is RefundState.DECLINED else 201

    return Reply(status, {"Refund": created_object(refund)})


def _draft(world: World, payment: Payment, asked: Json, amount: int) -> Refund:
    handle = asked.get("MerchantTransactionID")
    capture = asked.get("CaptureID")
    only = next(iter(payment.captures), None)
    refund = world.draft(
        payment,
        str(world.next_number()),
        amount,
        handle=handle,
        asked=asked,
        capture_id=only if capture is None else str(capture),
    )
    if handle is not None:
        world.handles[payment.account, handle] = refund

    return refund


def _failed_record(world: World, call: Call, account: str, code: int) -> Reply:
    payment = payment_of_site(world, call, account)
    asked = call.member("Refund")
    if payment is None:
        return rejection(world, call, account, Rejected(17, 404))
    amount = minor_from_two_decimals(int(asked["Amount"]), payment.currency) or 0
    refund = world.refuse_refund(_draft(world, payment, asked, amount), str(code))

    return Reply(400, {"Refund": refund_object(refund)})


def _accepted(world: World, call: Call, account: str) -> tuple[Payment, Json, int]:
    """Every rule of the documents, in the order in which the sandbox applies them."""
    card = account == CARD_SITE
    payment = payment_of_site(world, call, account)
    if payment is None:
        raise Rejected(17, 404)
    asked = call.member("Refund")
    if not isinstance(asked, dict):
        raise Rejected(2)
    _check_fields(asked, card=card)
    amount = _check_amount_and_currency(payment, asked, card=card)
    if (account, asked.get("MerchantTransactionID")) in world.handles:
        raise Rejected(20)
    _check_state(payment, card=card)
    _check_method(payment, asked)
    _check_available(payment, asked, amount, card=card)

    return payment, asked, amount


def _check_fields(asked: Json, *, card: bool) -> None:
    fields = {**COMMON_FIELDS, **(CARD_FIELDS if card else APM_FIELDS)}
    for name, value in asked.items():
        if name not in fields:
            raise Rejected(2)
        accepted, code, card_code = fields[name]
        if value is not None and not accepted(value):
            raise Rejected(card_code if card else code)


def _check_amount_and_currency(payment: Payment, asked: Json, *, card: bool) -> int:
    if asked.get("Amount") is None:
        raise Rejected(2201 if card else 1)
    if asked.get("Currency") not in (None, payment.currency):
        raise Rejected(2202 if card else 120)
    if method_name(payment) == KLARNA_PAY_NOW and asked.get("Currency") is None:
        raise Rejected(1)
    amount = minor_from_two_decimals(int(asked["Amount"]), payment.currency)
    if not amount:
        raise Rejected(2201 if card else 118)

    return amount


def _check_state(payment: Payment, *, card: bool) -> None:
    status = payment_status(payment)
    if status == REFUNDED:
        raise Rejected(23)
    if status not in (REFUNDABLE_CARD if card else (SUCCESS,)):
        raise Rejected(2205 if card else 17)


def _check_method(payment: Payment, asked: Json) -> None:
    method = method_of(payment)
    if method_name(payment) == KLARNA_INVOICE and not asked.get("Articles"):
        raise Rejected(128)
    if method_name(payment) in LATAM:
        return
    needs = TYPE_NEEDS.get(method.types[0], {})
    for part, code in (("Customer", 116), ("Details", 117)):
        given = asked.get(part) or {}
        for name, pattern in needs.get(part, {}).items():
            if not is_match(given.get(name), re.compile(pattern)):
                raise Rejected(code)


def _check_available(payment: Payment, asked: Json, amount: int, *, card: bool) -> None:
    if payment.has_open_refund():
        raise Rejected(2207) if card else FailedRecord(134)
    capture = asked.get("CaptureID")
    if capture is not None and str(capture) not in payment.captures:
        raise Rejected(2)
    if capture is None and len(payment.captures) > 1:
        raise Rejected(2)
    available = payment.remaining(None if capture is None else str(capture))
    if card and payment.remaining() == 0:
        raise Rejected(23)
    if amount > available:
        raise FailedRecord(2206) if card else Rejected(118)
    if not payment.partial_refunds and amount != payment.amount:
        raise Rejected(2208 if card else 118)


def _is_amount(value: Any) -> bool:
    return is_match(str(value) if is_integer(value) else value, DIGITS) and int(value) > 0


def _is_number(value: Any) -> bool:
    return is_match(str(value) if is_integer(value) else value, DIGITS)


def _is_handle(value: Any) -> bool:
    return is_match(value, HANDLE)


def _is_line(value: Any) -> bool:
    return is_text(value, 1, 255)


def _texts(names: tuple[str, ...]) -> Accepts:
    """An object of these members, each a string."""

    def accepted(value: Any) -> bool:
        return isinstance(value, dict) and all(
            name in names and (each is None or is_text(each)) for name, each in value.items()
        )

    return accepted


def _are_articles(value: Any) -> bool:
    return isinstance(value, list) and all(_is_article(each) for each in value)


def _is_article(value: Any) -> bool:
    if not isinstance(value, dict) or not is_text(value.get("MerchantArticleID"), 1):
        return False
    quantity = value.get("Quantity")

    return is_integer(quantity, 1) and is_match(str(quantity), QUANTITY)


Field = tuple[Callable[[Any], bool], int, int]
COMMON_FIELDS: dict[str, Field] = {
    "MerchantTransactionID": (_is_handle, 2, 2200),
    "Amount": (_is_amount, 118, 2201),
    "Currency": (lambda value: is_match(value, CODE), 120, 2202),
    "Description": (_is_line, 2, 2203),
    "OriginatorTransactionID": (_is_handle, 2, 2209),
    "Articles": (_are_articles, 128, 2),
    "Details": (_texts(DETAIL_FIELDS), 117, 2),
    "Customer": (_texts(CUSTOMER_FIELDS), 116, 2),
    "BillingAddress": (_texts(ADDRESS_FIELDS), 2, 2),
    "BankAddress": (_texts(ADDRESS_FIELDS), 2, 2),
    "SplitID": (_is_number, 2, 2),
}
APM_FIELDS: dict[str, Field] = {"TokenLifetime": (_is_number, 2, 2)}
CARD_FIELDS: dict[str, Field] = {
    "StatementDescriptor": (_is_line, 2, 2204),
    "CaptureID": (_is_number, 2, 2),
}


# Reading


@authenticated
def list_refunds(world: World, call: Call, account: str) -> Reply:
    """GET /v1/payments/{id}/refunds: reduced detail, newest first."""
    payment = payment_of_site(world, call, account)
    if payment is None:
        return rejection(world, call, account, Rejected(17, 404))
    for refund in payment.refunds:
        world.bend(refund, call.rule)
    newest = [refund for refund in reversed(payment.refunds) if not refund.chargeback]

    return Reply(200, {"Refunds": [reduced_object(refund) for refund in newest]})


@authenticated
def get_refund(world: World, call: Call, account: str) -> Reply:
    """GET /v1/payments/{id}/refunds/{rid}."""
    refund = _refund_in_path(world, call, account)
    if refund is None:
        return rejection(world, call, account, Rejected(18, 404))
    world.bend(refund, call.rule)

    return Reply(200, {"Refund": refund_object(refund)})


@authenticated
def get_refund_status(world: World, call: Call, account: str) -> Reply:
    """GET /v1/payments/{id}/refunds/{rid}/status: cards only, StateDetails instead of Status."""
    refund = _refund_in_path(world, call, account)
    if refund is None or account != CARD_SITE:
        return rejection(world, call, account, Rejected(18, 404))
    world.bend(refund, call.rule)
    body = {
        "ID": int(refund.id),
        "InitialPaymentID": int(refund.payment.id),
        "MerchantTransactionID": handle_shown(refund),
        "StateDetails": status_object(refund),
        "SplitID": 0,
    }

    return Reply(200, {"Refund": body})


@authenticated
def get_payment(world: World, call: Call, account: str) -> Reply:
    """GET /v1/payments/{id}."""
    payment = payment_of_site(world, call, account)
    if payment is None:
        return payment_rejection(account)
    for refund in payment.refunds:
        world.bend(refund, call.rule)

    return Reply(200, {"Payment": payment_object(payment)})


@authenticated
def get_payment_status(world: World, call: Call, account: str) -> Reply:
    """GET /v1/payments/{id}/status: cards only."""
    payment = payment_of_site(world, call, account)
    if payment is None or account != CARD_SITE:
        return payment_rejection(account)
    shown = payment_object(payment)

    return Reply(200, {"Payment": {name: shown[name] for name in ("ID", "SiteID", "Status")}})


@authenticated
def list_captures(world: World, call: Call, account: str) -> Reply:
    """GET /v1/payments/{id}/captures: cards only."""
    payment = payment_of_site(world, call, account)
    if payment is None or account != CARD_SITE:
        return payment_rejection(account)

    return Reply(200, {"Captures": captures(payment)})


@authenticated
def list_refund_types(world: World, call: Call, account: str) -> Reply:
    """GET /v1/payments/{id}/refunds/types."""
    payment = payment_of_site(world, call, account)
    if payment is None:
        return payment_rejection(account)
    method = method_of(payment)._replace(partial=payment.partial_refunds)

    return Reply(200, {"RefundTypes": [refund_type(method, each) for each in method.types]})


@authenticated
def list_method_types(_: World, call: Call, __: str) -> Reply:
    """GET /v1/refunds/types/{method}/{country}/{currency}."""
    known = [method for method in METHODS.values() if str(method.id) == call.params["method"]]
    types = [refund_type(method, each) for method in known for each in method.types]

    return Reply(200, {"RefundTypes": types})


def _refund_in_path(world: World, call: Call, account: str) -> Refund | None:
    refund = world.refund(NAME, call.params["rid"])
    payment = payment_of_site(world, call, account)
    hidden = refund is None or refund.payment is not payment or refund.chargeback

    return None if hidden else refund


# Objects


def refund_object(refund: Refund) -> Json:
    """A refund with all its detail; cards show other members than the rest."""
    return _card_object(refund) if refund.payment.account == CARD_SITE else _apm_object(refund)


def created_object(refund: Refund) -> Json:
    """As the create call answers it: Klarna Invoice has no id yet, cards no payment."""
    shown = refund_object(refund)
    if method_name(refund.payment) == KLARNA_INVOICE:
        unknown = {"ID": 0, "InitialPaymentID": 0, "TypeID": 0}
        return {**shown, **unknown, "Created": None, "Currency": None, "Description": None}
    if refund.payment.account == CARD_SITE:
        return {**shown, "InitialPaymentID": 0}

    return shown


def reduced_object(refund: Refund) -> Json:
    """As in the list."""
    detail = ("Details", "Customer", "BillingAddress", "BankAddress", "Articles")

    return {**refund_object(refund), **dict.fromkeys(detail)}


def _apm_object(refund: Refund) -> Json:
    asked = refund.asked
    shown = {
        "ID": int(refund.id),
        "Created": compact(refund.created_at),
        "MerchantTransactionID": handle_shown(refund),
        "OriginatorTransactionID": asked.get("OriginatorTransactionID"),
        "InitialPaymentID": int(refund.payment.id),
        "Amount": str(wire_amount(refund.amount, refund.currency)),
        "Currency": refund.currency,
        "Description": asked.get("Description"),
        "TypeID": type_id(refund),
        "SiteID": site_id(refund.payment.account),
        "Details": asked.get("Details"),
        "Customer": _customer(refund),
        "BillingAddress": asked.get("BillingAddress"),
        "BankAddress": asked.get("BankAddress"),
        "Articles": _articles(refund),
        "Status": status_object(refund),
        "SplitID": 0,
    }
    if method_name(refund.payment) == KLARNA_PAY_NOW:
        shown["MethodTransactionID"] = None

    return shown


def _card_object(refund: Refund) -> Json:
    asked = refund.asked
    capture = refund.capture_id

    return {
        "ID": int(refund.id),
        "SiteID": site_id(refund.payment.account),
        "Created": compact(refund.created_at),
        "MerchantTransactionID": handle_shown(refund),
        "OriginatorTransactionID": asked.get("OriginatorTransactionID"),
        "InitialPaymentID": int(refund.payment.id),
        "Amount": wire_amount(refund.amount, refund.currency),
        "Currency": refund.currency,
        "Description": asked.get("Description"),
        "StatementDescriptor": None,
        "CaptureID": int(capture) if capture else None,
        "Customer": None,
        "BillingAddress": None,
        "BankAddress": None,
        "Articles": None,
        "Status": status_object(refund),
        "SplitID": 0,
    }


def _customer(refund: Refund) -> Json | None:
    asked = refund.asked.get("Customer")
    if not asked:
        return None

    return {"ID": refund.number, **{name: asked.get(name) for name in CUSTOMER_FIELDS}}


def _articles(refund: Refund) -> list[Json] | None:
    asked = refund.asked.get("Articles")
    if not asked:
        return None
    pay_now = method_name(refund.payment) == KLARNA_PAY_NOW
    zero: int | str = "0" if pay_now else 0
    tax = {"TaxType": 0} if pay_now else {}

    return [
        {
            "MerchantArticleID": article["MerchantArticleID"],
            "Name": None,
            "Quantity": article["Quantity"],
            "Price": zero,
            "VAT": zero,
            "Discount": zero,
            "Type": None,
            **tax,
            "DiscountValue": zero,
        }
        for article in asked
    ]


def status_object(refund: Refund) -> Json:
    """ID, Info and, for a failure, Reasons."""
    card = refund.payment.account == CARD_SITE
    number = STATUS[refund.state]
    reasons: list[Json] | None = [] if card else None
    if number == FAILED:
        default = 2205 if card else 18
        reasons = [reason(int(refund.reason or default), card=card)]

    return {"ID": number, "Info": STATUS_NAMES[number], "Reasons": reasons}


def rejection(world: World, call: Call, account: str, rejected: Rejected) -> Reply:
    """Rejected before creation: neither id nor status, only reasons."""
    card = account == CARD_SITE
    asked = call.member("Refund")
    given = asked if isinstance(asked, dict) else {}
    body: Json = {
        "ID": None,
        "Created": None,
        "MerchantTransactionID": given.get("MerchantTransactionID"),
        "OriginatorTransactionID": given.get("OriginatorTransactionID"),
        "InitialPaymentID": None,
        "Amount": given.get("Amount"),
        "Currency": None,
        "Description": given.get("Description"),
        "SiteID": site_id(account),
        "Status": {"ID": None, "Info": None, "Reasons": [reason(rejected.code, card=card)]},
        "SplitID": 0,
    }
    if card:
        body["InvalidRequestID"] = world.next_number()

    return Reply(rejected.status, {"Refund": body})


def payment_rejection(account: str) -> Reply:
    """No such payment at this site."""
    card = account == CARD_SITE
    status = {"ID": None, "Info": None, "Reasons": [reason(17, card=card)]}

    return Reply(404, {"Payment": {"ID": None, "SiteID": site_id(account), "Status": status}})


def payment_object(payment: Payment) -> Json:
    """A payment; cards show what was captured."""
    status = payment_status(payment)
    card = payment.account == CARD_SITE
    amount = wire_amount(payment.amount, payment.currency)
    shown: Json = {
        "ID": int(payment.id),
        "SiteID": site_id(payment.account),
        "Created": compact(payment.created_at),
        "MerchantTransactionID": payment.reference,
        "OriginatorTransactionID": None,
        "Amount": amount if card else str(amount),
        "Currency": payment.currency,
        "Description": None,
        "MethodID": method_of(payment).id,
        "Status": {"ID": status, "Info": STATUS_NAMES[status], "Reasons": [] if card else None},
    }
    if card:
        shown["CapturedAmount"] = amount if status != STATE_IDS["authorized"] else 0
        shown["CaptureDetails"] = captures(payment)

    return shown


def captures(payment: Payment) -> list[Json]:
    """The captures of a card payment."""
    return [
        {
            "ID": int(capture),
            "Amount": wire_amount(amount, payment.currency),
            "Currency": payment.currency,
            "Status": {"ID": 11, "Info": "Captured", "Reasons": []},
        }
        for capture, amount in payment.captures.items()
    ]


def payment_status(payment: Payment) -> int:
    """Cards show refunds in the payment's own status, the rest stay at Success."""
    if payment.charged_back:
        return CHARGED_BACK
    status = STATE_IDS[payment.state]
    done = sum(each.amount for each in payment.refunds if each.state is RefundState.SUCCEEDED)
    if payment.account != CARD_SITE or not done:
        return status

    return REFUNDED if done >= payment.amount else PARTIALLY_REFUNDED


def method_of(payment: Payment) -> Method:
    """The payment's method, by name or number."""
    return METHODS[method_name(payment)]


def method_name(payment: Payment) -> str:
    """The method's name, also where the payment names it by number."""
    if payment.method is None:
        return CARD if payment.account == CARD_SITE else IDEAL

    return METHOD_NAMES[payment.method]


def type_id(refund: Refund) -> int:
    """The refund type, chosen from what the method takes and what was sent."""
    method = method_of(refund.payment)
    if method_name(refund.payment) in LATAM:
        needs = TYPE_NEEDS[LOCAL_API]["Details"]
        given = refund.asked.get("Details") or {}
        return LOCAL_API if all(given.get(name) for name in needs) else LOCAL_NO_INFO

    return method.types[0]


def handle_shown(refund: Refund) -> str:
    """The merchant's MerchantTransactionID, else the generated one."""
    return refund.handle or f"generated_{refund.number}"


def site_id(account: str) -> int:
    """SiteID as a number."""
    return int(SMART2PAY_SITES[account][0])


def wire_amount(amount: int, currency: str) -> int:
    """Minor units as an integer with two fixed decimals."""
    return two_decimals_from_minor(amount, currency) or 0


# Faults, notifications, payments made for a test


def garble(_: World, __: Call, reply: Reply, fault: Fault) -> Reply:
    """The answer with a status nobody knows, or another amount, in each refund of it."""
    payload = dict(reply.payload or {})
    if "Refund" in payload:
        payload["Refund"] = _garbled(payload["Refund"], fault)
    if "Refunds" in payload:
        payload["Refunds"] = [_garbled(each, fault) for each in payload["Refunds"]]

    return replace(reply, payload=payload)


def _garbled(shown: Json, fault: Fault) -> Json:
    word = "StateDetails" if "StateDetails" in shown else "Status"
    if shown["ID"] is None:
        return shown
    if fault is Fault.UNKNOWN_STATUS:
        return {**shown, word: {"ID": 77, "Info": "SandboxUnheardOf", "Reasons": None}}
    if "Amount" not in shown:
        return shown
    amount = shown["Amount"]

    return {**shown, "Amount": str(int(amount) + 1) if isinstance(amount, str) else amount + 1}


def notification(_: World, refund: Refund) -> Message | None:
    """The refund as the API answers it, with the site's own credentials; expects 204."""
    if refund.chargeback:
        return None
    site, key = SMART2PAY_SITES[refund.payment.account]
    pair = b64encode(f"{site}:{key}".encode()).decode()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Authorization": f"Basic {pair}",
    }

    return Message(headers, dump({"Refund": refund_object(refund)}))


def new_payment(world: World, payment: Payment) -> None:
    """Give a new payment its number, method, captures and state."""
    card = payment.account == CARD_SITE
    if two_decimals_from_minor(payment.amount, payment.currency) is None:
        raise FieldError("amount", "must have at most two decimals in major units")
    if (method_name(payment) == CARD) is not card:
        raise FieldError("method", "does not exist at this site")
    payment.id = payment.id or str(world.next_number())
    if not is_match(payment.id, DIGITS):
        raise FieldError("id", "must be 1 to 12 digits")
    if payment.captures and not card:
        raise FieldError("captures", "exist for cards only")
    if card and not payment.captures:
        payment.captures = {str(world.next_number()): payment.amount}
    if card and payment.state == "success":
        payment.state = "captured" if len(payment.captures) == 1 else "partially_captured"
    payment.partial_refunds = payment.partial_refunds and method_of(payment).partial


def new_refund(world: World, _: Payment) -> tuple[str, Json]:
    """Id and fields of a refund made on the dashboard."""
    return str(world.next_number()), {"Description": "Dashboard refund"}


def scopes(payment: Payment | None) -> tuple[str, ...]:
    """Faults may name the provider or its card site."""
    return (NAME, CARD_SITE) if payment and payment.account == CARD_SITE else (NAME,)


def handle_of(call: Call) -> str | None:
    """The merchant's handle."""
    return call.text("Refund", "MerchantTransactionID")


def _payment_in_path(world: World, call: Call) -> Payment | None:
    return world.payment(NAME, call.params["id"])


def _no_payment(_: World, __: Call) -> Payment | None:
    return None


REFUND, STATUS_CALL, LOOKUP = (Kind.REFUND,), (Kind.STATUS,), (Kind.LOOKUP,)
PAYMENT = "/v1/payments/{id}"
ONE_REFUND = f"{PAYMENT}/refunds/{{rid}}"
TYPES_BEFORE = "/v1/refunds/types/{method}/{country}/{currency}"
PROVIDER = Provider(
    name=NAME,
    prefix="/smart2pay",
    endpoints=(
        Endpoint("POST", f"{PAYMENT}/refunds", REFUND, create_refund, _payment_in_path, handle_of),
        Endpoint("GET", f"{PAYMENT}/refunds", LOOKUP, list_refunds, _payment_in_path),
        Endpoint("GET", f"{PAYMENT}/refunds/types", LOOKUP, list_refund_types, _payment_in_path),
        Endpoint("GET", ONE_REFUND, STATUS_CALL, get_refund, _payment_in_path),
        Endpoint("GET", f"{ONE_REFUND}/status", STATUS_CALL, get_refund_status, _payment_in_path),
        Endpoint("GET", PAYMENT, LOOKUP, get_payment, _payment_in_path),
        Endpoint("GET", f"{PAYMENT}/status", LOOKUP, get_payment_status, _payment_in_path),
        Endpoint("GET", f"{PAYMENT}/captures", LOOKUP, list_captures, _payment_in_path),
        Endpoint("GET", TYPES_BEFORE, LOOKUP, list_method_types, _no_payment),
    ),
    failure=failure,
    garble=garble,
    notification=notification,
    new_payment=new_payment,
    new_refund=new_refund,
    states=tuple(STATE_IDS),
    default_currency="EUR",
    methods=tuple(METHOD_NAMES),
    scopes=scopes,
)
