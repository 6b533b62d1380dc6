"""J.P. Morgan Mobility Payments' SmartPay, from "Refund" (POST /payment/refund) and its siblings.

Amounts are decimals of two places in major units. A modificationId replays its first result for
ever. No document lists the refund statuses: REFUND_PENDING, then REFUNDED or FAILED.
"""

import hmac
import string
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from sandbox.accounts import (
    JPM_AUTHENTICATION_KEY,
    JPM_CLIENT_ID,
    JPM_CLIENT_SECRET,
    JPM_MERCHANT_KEY,
    JPM_WEBHOOK_PASSWORD,
    JPM_WEBHOOK_USER,
)
from sandbox.check import exact_number, is_text
from sandbox.core import Json, Payment, Refund, RefundState, Stored, World
from sandbox.edge import INVALID, Call, Endpoint, Handler, Message, Provider, Reply, dump
from sandbox.faults import Fault, FieldError, Kind
from sandbox.money import minor_from_major, two_decimals_from_minor
from sandbox.when import millis_z

NAME = "jpm_smartpay"
TOKENS = "jpm_smartpay.tokens"
ID_LENGTH = 36
TOKEN_SECONDS = 3600
FOR_EVER = float("inf")
STATES = (
    "CAPTURED",
    "SETTLED",
    "CREATED",
    "AUTHORIZATION_PENDING",
    "AUTHORIZATION_COMPLETED",
    "CAPTURE_PENDING",
    "CANCELLATION_PENDING",
    "CANCELLED",
    "EXPIRED",
    "FAILED",
)
REFUNDABLE = ("CAPTURED", "SETTLED")
STATUS = {
    RefundState.PENDING: "REFUND_PENDING",
    RefundState.SUCCEEDED: "REFUNDED",
    RefundState.DECLINED: "FAILED",
}
FIELDS = (
    "transactionId",
    "modificationId",
    "merchantKey",
    "modifiedAmount",
    "description",
    "customReferences",
)
CUSTOM = ("custom1", "custom2", "custom3")
CHARGED_BACK = "COMPLETED"
DECLINED_TEXT = "Refund declined by the payment provider"


def error(status: int, text: str, level: str = "gateway_processing") -> Reply:
    """The error object of the document: error, errorDetails."""
    which = "gatewayDescription" if level == "gateway_processing" else "paymentProviderDescription"

    return Reply(status, {"error": level, "errorDetails": {"context": {}, which: text}})


def failure(status: int) -> Reply:
    """An answer that says nothing about the refund."""
    return error(status, "Too many requests" if status == 429 else "Internal error")


# Authentication


def guarded(handle: Handler) -> Handler:
    """The required headers, then Basic or Bearer."""

    def checked(world: World, call: Call) -> Reply:
        if not _authenticated(world, call):
            return error(401, "Unauthorized").with_headers(("WWW-Authenticate", "Basic"))
        wrong = _wrong_header(call)
        if wrong:
            return error(400, f"Header {wrong} is missing or wrong")

        return handle(world, call)

    return checked


def _authenticated(world: World, call: Call) -> bool:
    scheme, _, token = call.headers.get("authorization", "").partition(" ")
    if scheme == "Bearer":
        return world.stored(TOKENS, token) is not None

    return call.basic() == (JPM_MERCHANT_KEY, JPM_AUTHENTICATION_KEY)


def _wrong_header(call: Call) -> str | None:
    headers = call.headers
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return "Content-Type"
    if headers.get("accept-language") != "en-US":
        return "Accept-Language"

    return next((name for name in ("Origin", "User-Agent") if not headers.get(name.lower())), None)


def issue_token(world: World, call: Call) -> Reply:
    """POST /oauth2/token: client credentials in the form body, a token for an hour."""
    form = {name: values[0] for name, values in parse_qs(call.body.decode("latin-1")).items()}
    if form.get("grant_type") != "client_credentials":
        return Reply(400, {"error": "unsupported_grant_type"})
    known = hmac.compare_digest(form.get("client_secret", "").encode(), JPM_CLIENT_SECRET.encode())
    if form.get("client_id") != JPM_CLIENT_ID or not known:
        return Reply(401, {"error": "invalid_client"})
    token = world.token(string.ascii_letters + string.digits, 40)
    reply = Reply(200, {"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"})
    world.store(TOKENS, token, Stored("", reply, world.clock() + TOKEN_SECONDS))

    return reply


# Refund


@guarded
def create_refund(world: World, call: Call) -> Reply:
    """POST /payment/refund: the same modificationId always gets the result of the first."""
    body = call.json()
    if body is INVALID or not isinstance(body, dict):
        return error(400, "The body must be a JSON object")
    problem = _problem(body)
    if problem:
        return error(400, problem)
    if body["merchantKey"] != JPM_MERCHANT_KEY:
        return error(403, "merchantKey is not yours")
    stored = world.stored(NAME, body["modificationId"])
    if stored is None:
        reply = _with_ignored(_create(world, call, body), body)
        stored = Stored(call.fingerprint(), reply, FOR_EVER)
        call.stored = world.store(NAME, body["modificationId"], stored)

    return stored.reply


def _create(world: World, call: Call, body: Json) -> Reply:
    payment = world.payment(NAME, body["transactionId"])
    if payment is None:
        return error(404, "Unknown transactionId")
    amount = payment.amount
    if body.get("modifiedAmount") is not None:
        given = body["modifiedAmount"]
        if given["currencyCode"] != payment.currency:
            return error(400, "currencyCode differs from the transaction's")
        exact = minor_from_major(exact_number(given["amount"]) or Decimal(0), payment.currency)
        if exact is None:
            return error(400, "modifiedAmount.amount has too many decimals for the currency")
        amount = exact
    refusal = _refusal(payment, amount)
    if refusal:
        return refusal
    refund = world.draft(payment, new_uuid(world), amount, handle=body["modificationId"], asked=body)
    call.refund = world.open_refund(refund, call.rule, at_once=False)

    return Reply(200, {**transaction(payment), "modification": modification(refund)})


def _refusal(payment: Payment, amount: int) -> Reply | None:
    level = "payment_provider_processing"
    if payment.state not in REFUNDABLE:
        return error(400, "Transaction is neither captured nor settled")
    if amount > payment.remaining():
        return error(400, "Amount exceeds what is left of the transaction", level)
    if not payment.partial_refunds and amount != payment.amount:
        return error(400, "Partial refunds are not available", level)

    return None


def _with_ignored(reply: Reply, body: Json) -> Reply:
    """Unknown request fields are named, not refused (release notes 5.5)."""
    ignored = [name for name in body if name not in FIELDS]
    if not ignored or reply.payload is None:
        return reply

    return replace(reply, payload={**reply.payload, "ignoredProperties": ignored})


def _problem(body: Json) -> str | None:
    for name, (accepted, expected) in CHECKS.items():
        required = name in FIELDS[:3]
        if body.get(name) is None:
            if required:
                return f"{name} is required"
        elif not accepted(body[name]):
            return f"{name} must be {expected}"

    return None


def _is_modified_amount(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    number = exact_number(value.get("amount"))
    whole = number is not None and number > 0 and number == round(number, 2)
    described = value.get("description") is None or is_text(value["description"], 0, 127)

    return whole and is_text(value.get("currencyCode"), 3, 3) and described


def _is_custom(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in CUSTOM and (each is None or is_text(each, 0, 255)) for name, each in value.items()
    )


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "transactionId": (lambda value: is_text(value, 1, ID_LENGTH), "1 to 36 characters"),
    "modificationId": (lambda value: is_text(value, 1, ID_LENGTH), "1 to 36 characters"),
    "merchantKey": (lambda value: is_text(value, 1, ID_LENGTH), "1 to 36 characters"),
    "modifiedAmount": (
        _is_modified_amount,
        "an object: amount (a number above 0, two decimals at most), currencyCode (3), description",
    ),
    "description": (lambda value: is_text(value, 0, 127), "at most 127 characters"),
    "customReferences": (_is_custom, "an object of custom1 to custom3, 255 characters each"),
}


# Status


@guarded
def get_status(world: World, call: Call) -> Reply:
    """GET /payment/status/{transactionId}: the transaction with all its modifications."""
    payment = world.payment(NAME, call.params["id"])
    if payment is None:
        return error(404, "Unknown transactionId")
    for refund in payment.refunds:
        world.bend(refund, call.rule)
    done = [capture_modification(payment)] if payment.state in REFUNDABLE else []
    done += [modification(refund) for refund in payment.refunds]

    return Reply(200, {**transaction(payment), "modifications": done})


def transaction(payment: Payment) -> Json:
    """The initial payment; its status stays CAPTURED after refunds."""
    updated = max([payment.created_at, *(refund.updated_at for refund in payment.refunds)])

    return {
        "reconciliationReferenceId": f"PAY-{payment.number:08d}",
        "description": f"Order {payment.number}",
        "paymentStatus": payment.state,
        "creationDate": millis_z(payment.created_at),
        "lastStatusDate": millis_z(updated),
        "partnerReference": payment.reference,
        "transactionOverview": {
            "transactionId": payment.id,
            "amount": decimal(payment.amount, payment.currency),
            "currencyCode": payment.currency,
            "paymentMethod": payment.method or "CARDS",
            "paymentOrigin": "CHECKOUT",
            "mit": False,
        },
    }


def modification(refund: Refund) -> Json:
    """A refund (or chargeback) as the document's modification object."""
    status = CHARGED_BACK if refund.chargeback else STATUS[refund.state]
    amount = _modification_amount(refund)
    history = [{"status": STATUS[RefundState.PENDING], "statusDate": millis_z(refund.created_at)}]
    if refund.final:
        history.append({"status": status, "statusDate": millis_z(refund.updated_at)})
    shown: Json = {
        "creationDate": millis_z(refund.created_at),
        "lastStatusDate": millis_z(refund.updated_at),
        "modificationAmount": amount,
        "modificationData": _modification_data(refund),
        "status": status,
        "statusHistory": [{**each, "modificationAmount": amount} for each in history],
    }
    if refund.state is RefundState.DECLINED:
        shown["error"] = error(200, DECLINED_TEXT, "payment_provider_processing").payload

    return shown


def _modification_amount(refund: Refund) -> Json:
    asked = refund.asked.get("modifiedAmount") or {}
    description = asked.get("description") or refund.asked.get("description") or "Refund"

    return {
        "amount": decimal(refund.amount, refund.currency),
        "currencyCode": refund.currency,
        "description": description,
        "option": refund.payment.method or "CARDS",
    }


def _modification_data(refund: Refund) -> Json:
    data = {
        "modificationId": refund.handle or f"panel-{refund.number}",
        "type": "CHARGEBACK" if refund.chargeback else "REFUND",
        "refundId": refund.id,
        "reconciliationReferenceId": f"REF-{refund.number}",
        "customReferences": refund.asked.get("customReferences"),
        "paymentSplitResults": _split_results(refund),
    }

    return {name: value for name, value in data.items() if value is not None}


def _split_results(refund: Refund) -> list[Json]:
    """One destination, once the refund is done; the payment option split_error makes it fail."""
    if refund.state is not RefundState.SUCCEEDED:
        return []
    failed = refund.payment.split_error
    result = {
        "destinationReference": "main",
        "splitUniqueReference": f"SPL-{refund.number}",
        "status": "ERROR" if failed else "SUCCESS",
    }

    return [{**result, "error": "[0026] Limit exceeded"} if failed else result]


def capture_modification(payment: Payment) -> Json:
    """The capture, first of the modifications."""
    return {
        "creationDate": millis_z(payment.created_at),
        "lastStatusDate": millis_z(payment.created_at),
        "modificationAmount": {
            "amount": decimal(payment.amount, payment.currency),
            "currencyCode": payment.currency,
            "description": "Capture",
        },
        "modificationData": {
            "modificationId": payment.reference,
            "type": "CAPTURE",
            "reconciliationReferenceId": f"PAY-{payment.number:08d}",
        },
        "status": "CAPTURED",
        "statusHistory": [],
    }


def decimal(minor: int, currency: str) -> float:
    """Major units with two places, as a JSON number."""
    return (two_decimals_from_minor(minor, currency) or 0) / 100


# Faults, notifications, payments made for a test


def garble(_: World, __: Call, reply: Reply, fault: Fault) -> Reply:
    """The answer with a status nobody knows, or another amount, in each refund of it."""
    payload = dict(reply.payload or {})
    if "modification" in payload:
        payload["modification"] = _garbled(payload["modification"], fault)
    if "modifications" in payload:
        payload["modifications"] = [_garbled(each, fault) for each in payload["modifications"]]

    return replace(reply, payload=payload)


def _garbled(shown: Json, fault: Fault) -> Json:
    if shown["modificationData"]["type"] != "REFUND":
        return shown
    if fault is Fault.UNKNOWN_STATUS:
        return {**shown, "status": "SANDBOX_UNHEARD_OF"}
    amount = shown["modificationAmount"]

    return {**shown, "modificationAmount": {**amount, "amount": amount["amount"] + 1}}


def notification(world: World, refund: Refund) -> Message:
    """A hint without a status: objectType refund, objectId the refundId."""
    event = {
        "id": refund.payment.id,
        "merchantKey": JPM_MERCHANT_KEY,
        "createdAt": millis_z(world.clock()),
        "context": {},
        "data": {"refundId": refund.id},
        "origin": "api",
        "eventType": "updated",
        "objectId": refund.id,
        "objectType": "refund",
        "metadata": {"reconciliationReferenceId": f"REF-{refund.number}"},
        "sourceSystem": "SMARTPAY",
    }
    pair = b64encode(f"{JPM_WEBHOOK_USER}:{JPM_WEBHOOK_PASSWORD}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {pair}"}

    return Message(headers, dump(event))


def new_payment(world: World, payment: Payment) -> None:
    """Give a new payment its id."""
    if two_decimals_from_minor(payment.amount, payment.currency) is None:
        raise FieldError("amount", "must have at most two decimals in major units")
    payment.id = payment.id or new_uuid(world)
    if len(payment.id) > ID_LENGTH:
        raise FieldError("id", f"must have at most {ID_LENGTH} characters")


def new_refund(world: World, _: Payment) -> tuple[str, Json]:
    """Id and fields of a refund made in the merchant panel."""
    return new_uuid(world), {}


def new_uuid(world: World) -> str:
    """A random UUID."""
    return str(UUID(int=world.ids.getrandbits(128), version=4))


def handle_of(call: Call) -> str | None:
    """The merchant's handle."""
    return call.text("modificationId")


def _payment_in_body(world: World, call: Call) -> Payment | None:
    return world.payment(NAME, call.text("transactionId"))


def _payment_in_path(world: World, call: Call) -> Payment | None:
    return world.payment(NAME, call.params["id"])


def _no_payment(_: World, __: Call) -> Payment | None:
    return None


REFUND, EITHER = (Kind.REFUND,), (Kind.STATUS, Kind.LOOKUP)
PROVIDER = Provider(
    name=NAME,
    prefix="/jpm_smartpay",
    endpoints=(
        Endpoint("POST", "/payment/refund", REFUND, create_refund, _payment_in_body, handle_of),
        Endpoint("GET", "/payment/status/{id}", EITHER, get_status, _payment_in_path),
        Endpoint("POST", "/oauth2/token", (), issue_token, _no_payment),
    ),
    failure=failure,
    garble=garble,
    notification=notification,
    new_payment=new_payment,
    new_refund=new_refund,
    states=STATES,
    default_currency="EUR",
)
