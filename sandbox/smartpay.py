"""Smartpay (Japan), from "Refund an order" and the vendor's reference pages and SDKs.

Synchronous: a refund is succeeded or failed in the answer. Amounts are in the smallest unit.
"""

import hmac
import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from sandbox.accounts import SMARTPAY_SECRET_KEY, SMARTPAY_WEBHOOK_SECRET
from sandbox.check import is_integer, is_text, is_texts
from sandbox.core import Json, Payment, Refund, RefundState, Stored, World
from sandbox.edge import INVALID, Call, Endpoint, Handler, Message, Provider, Reply, dump
from sandbox.faults import Fault, FieldError, Kind
from sandbox.when import millis

NAME = "smartpay"
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits
BASE62 = {digit: value for value, digit in enumerate(ALPHABET)}
SIGNING_KEY_BYTES = 30
KEY_LIFETIME = 6 * 3600.0
CURRENCY = "JPY"
REASONS = ("requested_by_customer", "fraudulent")
REQUIRED = ("amount", "currency", "payment", "reason")
OPTIONAL = ("description", "lineItems", "metadata", "reference")
METADATA_PAIRS = 20
DEFAULT_PAGE, LONGEST_PAGE = 20, 100
ORDER_STATES = (
    "succeeded",
    "pending",
    "requires_authorization",
    "requires_capture",
    "canceled",
    "rejected",
    "failed",
)
STATUS = {
    RefundState.SUCCEEDED: "succeeded",
    RefundState.DECLINED: "failed",
    RefundState.PENDING: "pending",  # in no document; what a stuck fault shows
}


def error(status: int, code: str, message: str, details: list[str] | None = None) -> Reply:
    """The error shape of the SDKs: statusCode, errorCode, message, details."""
    body = {"statusCode": status, "errorCode": code, "message": message, "details": details or []}

    return Reply(status, body)


def failure(status: int) -> Reply:
    """An answer that says nothing about the refund."""
    code = "request.too-many" if status == 429 else "internal.error"

    return error(status, code, "Try again later.")


def authenticated(handle: Handler) -> Handler:
    """The secret key stands raw behind `Basic`: neither base64 nor a colon."""

    def guarded(world: World, call: Call) -> Reply:
        given = call.headers.get("authorization", "")
        if hmac.compare_digest(given.encode(), f"Basic {SMARTPAY_SECRET_KEY}".encode()):
            return handle(world, call)
        return Reply(401, {"statusCode": 401, "scheme": "Basic", "realm": "Smartpay API"})

    return guarded


# Create a refund


@authenticated
def create_refund(world: World, call: Call) -> Reply:
    """POST /refunds: at most one refund per Idempotency-Key within six hours."""
    key = call.headers.get("idempotency-key")
    if key is None:
        return _create(world, call)
    stored = world.stored(NAME, key)
    if stored is None:
        return _create_once(world, call, key)
    if stored.fingerprint != call.fingerprint():
        message = "This Idempotency-Key was used with another request."
        return error(409, "idempotency.key-conflict", message)

    return stored.reply.with_headers(("Idempotency-Replayed", "true"))


def _create_once(world: World, call: Call, key: str) -> Reply:
    reply = _create(world, call)
    if reply.status == 200:
        expires = world.clock() + KEY_LIFETIME
        call.stored = world.store(NAME, key, Stored(call.fingerprint(), reply, expires))

    return reply


def _create(world: World, call: Call) -> Reply:
    body = call.json()
    problems = _problems(body)
    if problems:
        return error(400, "request.invalid", "The request is invalid.", problems)
    payment = _visible_payment(world, body["payment"])
    if payment is None:
        return error(404, "payment.not-found", "There is no such payment.")
    if body["amount"] > payment.remaining():
        message = "The amount exceeds what is left of the payment."
        return error(403, "amount.insufficient", message)
    refund = world.draft(payment, new_id(world, "refund", 21), body["amount"], handle=handle_of(call), asked=body)
    call.refund = world.open_refund(refund, call.rule, at_once=True)

    return Reply(200, refund_object(refund))


def _problems(body: Any) -> list[str]:
    if body is INVALID or not isinstance(body, dict):
        return ["body: must be a JSON object, sent as application/json"]
    missing = [f"{name}: is required" for name in REQUIRED if body.get(name) is None]
    unknown = [f"{name}: is unknown" for name in body if name not in (*REQUIRED, *OPTIONAL)]
    given = {name: value for name, value in body.items() if value is not None}
    wrong = [
        f"{name}: must be {expected}"
        for name, (accepted, expected) in FIELDS.items()
        if name in given and not accepted(given[name])
    ]

    return missing + unknown + wrong


FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "amount": (lambda value: is_integer(value, 1), "a positive integer of the smallest unit"),
    "currency": (lambda value: value == CURRENCY, f"a supported currency ({CURRENCY})"),
    "payment": (is_text, "a payment id"),
    "reason": (lambda value: value in REASONS, " or ".join(REASONS)),
    "reference": (is_text, "a string"),
    "description": (is_text, "a string"),
    "lineItems": (is_texts, "a list of line item ids"),
    "metadata": (
        lambda value: isinstance(value, dict) and len(value) <= METADATA_PAIRS,
        f"an object of at most {METADATA_PAIRS} pairs",
    ),
}


# Reading


@authenticated
def get_refund(world: World, call: Call) -> Reply:
    """GET /refunds/{id}."""
    refund = _visible_refund(world, call.params["id"])
    if refund is None:
        return error(404, "refund.not-found", "There is no such refund.")
    world.bend(refund, call.rule)
    shown = refund_object(refund)
    if expands(call):
        shown["payment"] = payment_object(refund.payment, expand=False)

    return Reply(200, shown)


@authenticated
def list_refunds(world: World, call: Call) -> Reply:
    """GET /refunds: newest first, paged; no filter is known."""
    made = [each for each in world.made.get(NAME, []) if not each.chargeback]
    size = page_size(call.query.get("maxResults"))
    start = page_start(call.query.get("pageToken"), len(made))
    if size is None or start is None:
        wrong = "maxResults" if size is None else "pageToken"
        return error(400, "request.invalid", "The request is invalid.", [f"{wrong}: is invalid"])
    page = made[max(0, start - size) : start][::-1]
    for refund in page:
        world.bend(refund, call.rule)
    rest = start - len(page)
    body = {
        "object": "collection",
        "data": [refund_object(refund) for refund in page],
        "maxResults": size,
        "results": len(page),
        "pageToken": call.query.get("pageToken"),
        "nextPageToken": page_token(rest) if rest else None,
    }

    return Reply(200, body)


@authenticated
def get_order(world: World, call: Call) -> Reply:
    """GET /orders/{id}: `payments` holds ids, objects with expand=all."""
    payments = world.orders.get((NAME, call.params["id"]))
    if not payments:
        return error(404, "order.not-found", "There is no such order.")
    for payment in payments:
        _bend_refunds(world, payment, call)

    return Reply(200, order_object(call.params["id"], payments, expand=expands(call)))


@authenticated
def get_payment(world: World, call: Call) -> Reply:
    """GET /payments/{id}: `refunds` holds ids, objects with expand=all."""
    payment = _visible_payment(world, call.params["id"])
    if payment is None:
        return error(404, "payment.not-found", "There is no such payment.")
    _bend_refunds(world, payment, call)

    return Reply(200, payment_object(payment, expand=expands(call)))


def expands(call: Call) -> bool:
    """Whether ids are to be answered as objects."""
    return call.query.get("expand") == "all"


def page_size(given: str | None) -> int | None:
    """How many a page holds; None for nonsense."""
    if given is None:
        return DEFAULT_PAGE

    return min(int(given), LONGEST_PAGE) if given.isdecimal() and int(given) else None


def page_token(position: int) -> str:
    """An opaque token for the page that ends before `position`."""
    return urlsafe_b64encode(f"before:{position}".encode()).decode()


def page_start(token: str | None, total: int) -> int | None:
    """Where a page ends in the order of creation; None for a token we did not give."""
    if token is None:
        return total
    try:
        position = int(urlsafe_b64decode(token).decode().removeprefix("before:"))
    except ValueError:
        return None

    return position if 0 <= position <= total else None


def _bend_refunds(world: World, payment: Payment, call: Call) -> None:
    for refund in payment.refunds:
        world.bend(refund, call.rule)


def _visible_payment(world: World, payment_id: object) -> Payment | None:
    """Payments of orders that were never captured do not exist."""
    payment = world.payment(NAME, payment_id)

    return payment if payment and payment.state == "succeeded" else None


def _visible_refund(world: World, refund_id: str) -> Refund | None:
    refund = world.refund(NAME, refund_id)

    return refund if refund and not refund.chargeback else None


# Objects


def new_id(world: World, kind: str, length: int) -> str:
    """Such as refund_test_ and letters and digits."""
    return f"{kind}_test_{world.token(ALPHABET, length)}"


def refund_object(refund: Refund) -> Json:
    """A refund, with the members of the SDKs' type."""
    asked = refund.asked

    return {
        "id": refund.id,
        "object": "refund",
        "payment": refund.payment.id,
        "amount": refund.amount,
        "currency": refund.currency,
        "reason": asked.get("reason"),
        "reference": asked.get("reference"),
        "description": asked.get("description"),
        "lineItems": asked.get("lineItems") or [],
        "metadata": asked.get("metadata") or {},
        "status": STATUS[refund.state],
        "test": True,
        "createdAt": millis(refund.created_at),
        "updatedAt": millis(refund.updated_at),
    }


def payment_object(payment: Payment, *, expand: bool) -> Json:
    """A payment; `refunded` once nothing is left of it."""
    refunds = [refund for refund in payment.refunds if not refund.chargeback]
    updated = max([payment.created_at, *(refund.updated_at for refund in refunds)])

    return {
        "id": payment.id,
        "object": "payment",
        "order": payment.order_id,
        "amount": payment.amount,
        "currency": payment.currency,
        "reference": payment.reference,
        "description": None,
        "lineItems": [],
        "metadata": {},
        "refunds": [refund_object(each) if expand else each.id for each in refunds],
        "status": "processed" if payment.remaining() else "refunded",
        "test": True,
        "createdAt": millis(payment.created_at),
        "updatedAt": millis(updated),
    }


def order_object(order_id: str, payments: list[Payment], *, expand: bool) -> Json:
    """An order; payments exist only where it was captured."""
    first = payments[0]
    captured = [payment for payment in payments if payment.state == "succeeded"]

    return {
        "id": order_id,
        "object": "order",
        "amount": sum(payment.amount for payment in payments),
        "createdAt": millis(first.created_at),
        "currency": first.currency,
        "discounts": [],
        "expiresAt": millis(first.created_at + 7 * 24 * 3600),
        "lineItems": [],
        "metadata": {},
        "payments": [payment_object(each, expand=True) if expand else each.id for each in captured],
        "reference": first.reference,
        "shippingInfo": {},
        "status": first.state,
        "test": True,
        "updatedAt": millis(first.created_at),
    }


# Faults, notifications, payments made for a test


def garble(_: World, __: Call, reply: Reply, fault: Fault) -> Reply:
    """The answer with a status nobody knows, or another amount, in each refund of it."""
    return Reply(reply.status, _garbled(reply.payload, fault), reply.headers)


def _garbled(value: Any, fault: Fault) -> Any:
    if isinstance(value, list):
        return [_garbled(each, fault) for each in value]
    if not isinstance(value, dict):
        return value
    copy = {name: _garbled(each, fault) for name, each in value.items()}
    if copy.get("object") == "refund":
        if fault is Fault.UNKNOWN_STATUS:
            copy["status"] = "sandbox_unheard_of"
        else:
            copy["amount"] += 1

    return copy


def notification(world: World, refund: Refund) -> Message | None:
    """The event refund.created; no other concerns refunds."""
    if refund.chargeback:
        return None
    event_id = f"evt_test_{world.token(ALPHABET, 22)}"
    event = {
        "id": event_id,
        "object": "event",
        "createdAt": millis(refund.updated_at),
        "test": True,
        "eventData": {
            "type": "refund.created",
            "version": "2022-02-18",
            "data": refund_object(refund),
        },
    }
    body = dump(event)
    timestamp = str(millis(world.clock()))
    headers = {
        "Content-Type": "application/json",
        "Smartpay-Signature": signature(timestamp, body),
        "Smartpay-Signature-Timestamp": timestamp,
        "Smartpay-Subscription-Id": "webhookendpoint_test_sandbox",
        "Smartpay-Event-Id": event_id,
    }

    return Message(headers, body)


def signature(timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over `timestamp.body`, keyed with the base62-decoded secret, as hex."""
    return hmac.new(signing_key(), timestamp.encode() + b"." + body, sha256).hexdigest()


def signing_key(secret: str = SMARTPAY_WEBHOOK_SECRET) -> bytes:
    """The secret as a big-endian base62 number (A-Z a-z 0-9), padded on the left to 30 bytes."""
    number = 0
    for digit in secret:
        number = number * len(ALPHABET) + BASE62[digit]

    return number.to_bytes(SIGNING_KEY_BYTES, "big")


def new_payment(world: World, payment: Payment) -> None:
    """Give a new payment its ids; only yen exist here."""
    if payment.currency != CURRENCY:
        raise FieldError("currency", f"must be {CURRENCY} for {NAME}")
    payment.id = payment.id or new_id(world, "payment", 21)
    payment.order_id = payment.order_id or new_id(world, "order", 22)
    payment.pending_seconds = None


def new_refund(world: World, _: Payment) -> tuple[str, Json]:
    """Id and fields of a refund made on the dashboard."""
    return new_id(world, "refund", 21), {"reason": REASONS[0], "description": "Dashboard refund"}


def handle_of(call: Call) -> str | None:
    """The merchant's handle."""
    return call.headers.get("idempotency-key")


def _payment_in_body(world: World, call: Call) -> Payment | None:
    return world.payment(NAME, call.text("payment"))


def _payment_of_refund(world: World, call: Call) -> Payment | None:
    refund = world.refund(NAME, call.params["id"])

    return refund.payment if refund else None


def _payment_in_path(world: World, call: Call) -> Payment | None:
    return world.payment(NAME, call.params["id"])


def _payment_of_order(world: World, call: Call) -> Payment | None:
    return next(iter(world.orders.get((NAME, call.params["id"]), [])), None)


def _no_payment(_: World, __: Call) -> Payment | None:
    return None


LOOKUP = (Kind.LOOKUP,)
PROVIDER = Provider(
    name=NAME,
    prefix="/smartpay/v1",
    endpoints=(
        Endpoint("POST", "/refunds", (Kind.REFUND,), create_refund, _payment_in_body, handle_of),
        Endpoint("GET", "/refunds", LOOKUP, list_refunds, _no_payment),
        Endpoint("GET", "/refunds/{id}", (Kind.STATUS,), get_refund, _payment_of_refund),
        Endpoint("GET", "/orders/{id}", LOOKUP, get_order, _payment_of_order),
        Endpoint("GET", "/payments/{id}", LOOKUP, get_payment, _payment_in_path),
    ),
    failure=failure,
    garble=garble,
    notification=notification,
    new_payment=new_payment,
    new_refund=new_refund,
    states=ORDER_STATES,
    default_currency=CURRENCY,
    notifies_flips=False,
)
