"""SmartRetry, from "Refund" and the vendor's API reference.

Asynchronous: a refund is accepted (or not), then polled. Amounts are JSON numbers in major units.
"""

import hmac
import re
import string
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import Any

from sandbox.accounts import SMARTRETRY_API_KEY, SMARTRETRY_TERMINAL, SMARTRETRY_WEBHOOK_SECRET
from sandbox.check import exact_number, is_match, is_text
from sandbox.core import Json, Payment, Refund, RefundState, Stored, World
from sandbox.edge import INVALID, Call, Endpoint, Handler, Message, Provider, Reply, dump
from sandbox.faults import Fault, FieldError, Kind
from sandbox.money import major_from_minor, minor_from_major
from sandbox.when import millis_z

NAME = "smartretry"
ALPHABET = string.ascii_uppercase + string.digits
ID_LENGTH = 8
KEY = re.compile(r"[A-Za-z0-9_-]{1,255}")
CURRENCY = re.compile(r"[A-Z]{3}")
KEY_LIFETIME = 24 * 3600.0
SMALLEST, LARGEST = Decimal(1), Decimal(999_999_999)
PROBLEM = "application/problem+json"
FIELDS = (
    "transaction_reference_id",
    "order_reference_id",
    "merchant_transaction_id",
    "amount",
    "currency",
)
STATES = ("settled", "captured", "preauth", "declined")
REFUNDABLE = ("settled", "captured")
STATUS = {
    RefundState.PENDING: ("PROCESSING", "PROCESSOR.PROCESSING", "Processing", "PROCESSOR"),
    RefundState.SUCCEEDED: ("APPROVED", "AUTH.APPROVED", "Approved", "AUTH"),
    RefundState.DECLINED: ("DECLINED", "PROCESSOR.DECLINED", "Declined", "PROCESSOR"),
}


class Refused(Exception):
    """A request the documents do not allow."""

    def __init__(self, status: int, reason_code: str, detail: str, field: str | None = None) -> None:
        """Keep what the problem document says."""
        super().__init__(detail)
        self.reply = problem(status, reason_code, detail, field)


def problem(status: int, reason_code: str, detail: str, field: str | None = None) -> Reply:
    """RFC 7807, as on the errors page."""
    body: Json = {
        "type": f"https://www.smartretry.com/docs/errors/{reason_code.lower()}",
        "title": reason_code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "reason_code": reason_code,
    }
    if field:
        body["context"] = {"field": field}

    return Reply(status, body, media_type=PROBLEM)


def failure(status: int) -> Reply:
    """An answer that says nothing about the refund."""
    if status == 429:
        return problem(429, "RATE_LIMIT_EXCEEDED", "Too many requests.")

    return problem(status, "INTERNAL_ERROR", "Something went wrong.")


def guarded(handle: Handler) -> Handler:
    """API key, then terminal; every answer shows the rate limit."""

    def checked(world: World, call: Call) -> Reply:
        reset = ("X-RateLimit-Reset", str(int(world.clock()) + 1))
        reply = _refusal(call) or handle(world, call)

        return reply.with_headers(("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "99"), reset)

    return checked


def _refusal(call: Call) -> Reply | None:
    given = call.headers.get("x-api-key", "")
    if not hmac.compare_digest(given.encode(), SMARTRETRY_API_KEY.encode()):
        return problem(401, "INVALID_API_KEY", "The API key is missing or wrong.")
    if call.params["terminal"] != SMARTRETRY_TERMINAL:
        return problem(404, "TERMINAL_NOT_FOUND", "No such terminal (exactly 6 characters).")

    return None


# Refund


@guarded
def create_refund(world: World, call: Call) -> Reply:
    """POST /v1/payments/refund/{terminal}; a key holds every non-5xx answer for 24 hours."""
    key = call.headers.get("idempotency-key")
    if key is None:
        return _create(world, call)
    if not is_match(key, KEY):
        detail = "At most 255 characters of A-Z a-z 0-9 _ -"
        return problem(400, "INVALID_IDEMPOTENCY_KEY", detail)
    stored, replayed = world.stored(NAME, key), "true"
    if stored is None:
        expires = world.clock() + KEY_LIFETIME
        fresh = Stored(call.fingerprint(), _create(world, call), expires)
        stored, replayed = world.store(NAME, key, fresh), "false"
        call.stored = stored
    elif stored.fingerprint != call.fingerprint():
        return problem(409, "IDEMPOTENCY_CONFLICT", "The key was used with another request.")

    return stored.reply.with_headers(
        ("Idempotency-Key", key),
        ("Idempotency-Replayed", replayed),
        ("Idempotency-Expires", millis_z(stored.expires_at)),
    )


def _create(world: World, call: Call) -> Reply:
    try:
        payment, amount = _checked(world, call.json())
    except Refused as refused:
        return refused.reply
    refund_id, _ = new_refund(world, payment)
    refund = world.draft(payment, refund_id, amount, handle=handle_of(call), asked=call.json())
    call.refund = world.open_refund(refund, call.rule, at_once=False)
    declined = call.rule is not None and call.rule.fault is Fault.DECLINE
    if declined:
        world.finish_now(refund)
    body = {
        "transaction_id": refund.id,
        "order_id": payment.order_id,
        "merchant_transaction_id": call.member("merchant_transaction_id"),
        "accepted": not declined,
    }

    return Reply(200, {name: value for name, value in body.items() if value is not None})


def _checked(world: World, body: Any) -> tuple[Payment, int]:
    if body is INVALID or not isinstance(body, dict):
        raise Refused(400, "INVALID_REQUEST", "The body must be a JSON object.")
    _check_fields(body)
    payment = world.payment(NAME, body["transaction_reference_id"])
    if payment is None:
        raise Refused(404, "TRANSACTION_NOT_FOUND", "No such transaction.")
    if body["order_reference_id"] != payment.order_id:
        code = "ORDER_ID_DID_NOT_MATCH_REFERENCED_TRANSACTION_ORDER_ID"
        raise Refused(400, code, "Another order.", "order_reference_id")
    if body.get("merchant_transaction_id") == payment.reference:
        detail = "Must differ from the original's."
        raise Refused(400, "DUPLICATE_TRANSACTION", detail, "merchant_transaction_id")
    if body.get("currency") not in (None, payment.currency):
        code = "CURRENCY_DID_NOT_MATCH_REFERENCED_TRANSACTION_CURRENCY"
        raise Refused(400, code, "Another currency.", "currency")
    amount = _amount(body.get("amount"), payment)
    _check_refundable(payment, amount)

    return payment, amount


def _check_fields(body: Json) -> None:
    for name in body:
        if name not in FIELDS:
            raise Refused(400, "INVALID_REQUEST", "Unknown field.", name)
    for name in FIELDS[:2]:
        if body.get(name) is None:
            raise Refused(400, "MISSING_REQUIRED_FIELD", f"{name} is required.", name)
        if not is_text(body[name], ID_LENGTH, ID_LENGTH):
            detail = "Must be a string of exactly 8 characters."
            raise Refused(400, "INVALID_TRANSACTION_REFERENCE", detail, name)
    own = body.get("merchant_transaction_id")
    if own is not None and not is_text(own, 1):
        raise Refused(400, "INVALID_REQUEST", "Must be a string.", "merchant_transaction_id")
    currency = body.get("currency")
    if currency is not None and not is_match(currency, CURRENCY):
        raise Refused(400, "INVALID_CURRENCY", "Must be a three-letter code.", "currency")


def _amount(given: object, payment: Payment) -> int:
    """Major units as a JSON number from 1 to 999999999; left out: the full transaction amount."""
    if given is None:
        return payment.amount
    number = exact_number(given)
    if number is None or not SMALLEST <= number <= LARGEST:
        raise Refused(400, "INVALID_AMOUNT", "A number from 1 to 999999999.", "amount")
    minor = minor_from_major(number, payment.currency)
    if minor is None:
        raise Refused(400, "INVALID_AMOUNT", "Too many decimals for the currency.", "amount")

    return minor


def _check_refundable(payment: Payment, amount: int) -> None:
    if payment.state not in REFUNDABLE:
        detail = "Only a settled sale or capture can be refunded; void a pre-authorization."
        raise Refused(400, "INVALID_TRANSACTION_REFERENCE", detail)
    if payment.charged_back:
        raise Refused(400, "REFUND_NOT_ALLOWED_CHARGEBACK", "The payment was charged back.")
    if payment.remaining() == 0:
        raise Refused(400, "FULL_REFUND_ALREADY_PROCESSED", "Nothing is left.")
    if amount > payment.remaining():
        raise Refused(400, "REFUND_AMOUNT_EXCEEDED", "More than is left.", "amount")


# Status


@guarded
def get_status(world: World, call: Call) -> Reply:
    """GET /v1/payments/status/{terminal}/{transaction_id}, of a refund or of the original."""
    refund = world.refund(NAME, call.params["id"])
    if refund is not None and not refund.chargeback:
        world.bend(refund, call.rule)
        return _garbled_once(refund, Reply(200, refund_transaction(refund)))
    payment = world.payment(NAME, call.params["id"])
    if payment is not None:
        return Reply(200, payment_transaction(payment))

    return problem(404, "TRANSACTION_NOT_FOUND", "No such transaction.")


def health(_: World, __: Call) -> Reply:
    """GET /health/, without authentication."""
    return Reply(200, {"status": "ok"})


def refund_transaction(refund: Refund) -> Json:
    """A refund as the status call shows it."""
    transaction = {
        "transaction_id": refund.id,
        "type": "refund",
        "amount": major_from_minor(refund.amount, refund.currency),
        "currency": refund.currency,
        "merchant_transaction_id": refund.asked.get("merchant_transaction_id"),
        "attempt_number": 1,
        "created_at": millis_z(refund.created_at),
        "updated_at": millis_z(refund.updated_at),
        "order": {"order_id": refund.payment.order_id},
        "status": status_object(refund.state),
    }

    return {name: value for name, value in transaction.items() if value is not None}


def payment_transaction(payment: Payment) -> Json:
    """The original: it shows no refunded total."""
    declined = payment.state == "declined"

    return {
        "transaction_id": payment.id,
        "type": {"preauth": "preauth", "captured": "capture"}.get(payment.state, "sale"),
        "amount": major_from_minor(payment.amount, payment.currency),
        "currency": payment.currency,
        "merchant_transaction_id": payment.reference,
        "attempt_number": 1,
        "created_at": millis_z(payment.created_at),
        "updated_at": millis_z(payment.created_at),
        "order": {"order_id": payment.order_id},
        "status": status_object(RefundState.DECLINED if declined else RefundState.SUCCEEDED),
    }


def status_object(state: RefundState) -> Json:
    """status, reasonCode (DOMAIN.REASON), name and domain."""
    status, code, name, domain = STATUS[state]

    return {"status": status, "reasonCode": code, "name": name, "domain": domain}


# Faults, notifications, payments made for a test


def garble(world: World, call: Call, reply: Reply, fault: Fault) -> Reply:
    """The refund's answer has neither status nor amount: the next status call shows the fault."""
    if call.method == "GET":
        return _garbled(reply, fault)
    refund = world.refund(NAME, (reply.payload or {}).get("transaction_id"))
    if refund is not None:
        refund.answer_with = fault

    return reply


def _garbled_once(refund: Refund, reply: Reply) -> Reply:
    fault, refund.answer_with = refund.answer_with, None

    return _garbled(reply, fault) if fault else reply


def _garbled(reply: Reply, fault: Fault) -> Reply:
    payload = dict(reply.payload or {})
    if payload.get("type") != "refund":
        return reply
    if fault is Fault.UNKNOWN_STATUS:
        payload["status"] = {**payload["status"], "status": "SANDBOX_UNHEARD_OF"}
    else:
        payload["amount"] += 1

    return replace(reply, payload=payload)


def notification(world: World, refund: Refund) -> Message | None:
    """transaction.approved or .declined, signed `t=...,v1=...`."""
    if refund.chargeback:
        return None
    approved = refund.state is RefundState.SUCCEEDED
    status, code, _, domain = STATUS[refund.state]
    event = {
        "id": f"evt_{world.token(ALPHABET, 16).lower()}",
        "type": f"transaction.{'approved' if approved else 'declined'}",
        "created_at": millis_z(refund.updated_at),
        "environment": "sandbox",
        "data": {
            "transaction_id": refund.id,
            "order_id": refund.payment.order_id,
            "merchant_transaction_id": refund.asked.get("merchant_transaction_id"),
            "amount": major_from_minor(refund.amount, refund.currency),
            "currency": refund.currency,
            "status": {"status": status, "reasonCode": code, "domain": domain},
        },
    }
    body = dump(event)
    signed = signature(int(world.clock()), body)

    return Message({"Content-Type": "application/json", "X-SmartRetry-Signature": signed}, body)


def signature(timestamp: int, body: bytes) -> str:
    """HMAC-SHA256 over `t.body`, keyed with the secret's text, as hex."""
    message = f"{timestamp}.".encode() + body
    digest = hmac.new(SMARTRETRY_WEBHOOK_SECRET.encode(), message, sha256).hexdigest()

    return f"t={timestamp},v1={digest}"


def new_payment(world: World, payment: Payment) -> None:
    """Give a new payment its ids, exactly eight characters each."""
    payment.id = payment.id or _free_id(world, "TX")
    payment.order_id = payment.order_id or _free_id(world, "OR")
    for name, value in (("id", payment.id), ("order_id", payment.order_id)):
        if len(value) != ID_LENGTH:
            raise FieldError(name, f"must have exactly {ID_LENGTH} characters")


def new_refund(world: World, _: Payment) -> tuple[str, Json]:
    """Id and fields of a refund made on the dashboard."""
    return _free_id(world, "TX"), {}


def _free_id(world: World, prefix: str) -> str:
    while True:
        drawn = prefix + world.token(ALPHABET, ID_LENGTH - len(prefix))
        taken = (world.payments, world.refunds, world.orders)
        if not any((NAME, drawn) in known for known in taken):
            return drawn


def handle_of(call: Call) -> str | None:
    """The merchant's handle."""
    return call.headers.get("idempotency-key")


def _payment_in_body(world: World, call: Call) -> Payment | None:
    return world.payment(NAME, call.text("transaction_reference_id"))


def _payment_in_path(world: World, call: Call) -> Payment | None:
    refund = world.refund(NAME, call.params["id"])

    return refund.payment if refund else world.payment(NAME, call.params["id"])


def _no_payment(_: World, __: Call) -> Payment | None:
    return None


REFUND_PATH = "/v1/payments/refund/{terminal}"
STATUS_PATH = "/v1/payments/status/{terminal}/{id}"
PROVIDER = Provider(
    name=NAME,
    prefix="/smartretry",
    endpoints=(
        Endpoint("POST", REFUND_PATH, (Kind.REFUND,), create_refund, _payment_in_body, handle_of),
        Endpoint("GET", STATUS_PATH, (Kind.STATUS,), get_status, _payment_in_path),
        Endpoint("GET", "/health/", (), health, _no_payment),
        Endpoint("GET", "/health/ready", (), health, _no_payment),
        Endpoint("GET", "/health/live", (), health, _no_payment),
    ),
    failure=failure,
    garble=garble,
    notification=notification,
    new_payment=new_payment,
    new_refund=new_refund,
    states=STATES,
    default_currency="USD",
)
