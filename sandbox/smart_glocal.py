"""Smart Glocal, from "Payment refunds" and the pages of its API reference.

Asynchronous: the session goes back to in_progress while a refund runs. Amounts are minor units,
currencies lower case. A repeated idempotency key is an error, never a replay.
"""

import json
import re
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from sandbox.accounts import SMART_GLOCAL_IDEMPOTENCY_HEADER, SMART_GLOCAL_PROJECT, key_pairs
from sandbox.check import is_integer, is_match, is_text
from sandbox.core import Json, Payment, Refund, RefundState, World
from sandbox.edge import Call, Endpoint, Handler, Message, Provider, Reply, dump
from sandbox.faults import Fault, Kind
from sandbox.when import micros_z

NAME = "smart_glocal"
KEY_HEADER = SMART_GLOCAL_IDEMPOTENCY_HEADER.lower()
CURRENCY = re.compile(r"[a-z]{3}")
STATES = ("accepted", "created", "in_progress", "cancelled", "error")
PAYMENT_STATUS = {
    "accepted": "succeeded",
    "created": "in_progress",
    "in_progress": "in_progress",
    "cancelled": "failed",
    "error": "failed",
}
STATUS = {
    RefundState.PENDING: "in_progress",
    RefundState.SUCCEEDED: "accepted",
    RefundState.DECLINED: "declined",
}


def error(status: int, code: str, description: str) -> Reply:
    """Status error, with code and description."""
    return Reply(status, {"status": "error", "error": {"code": code, "description": description}})


def failure(status: int) -> Reply:
    """An answer that says nothing about the refund."""
    return error(status, "internal_error", "Try again later")


def signed(handle: Handler) -> Handler:
    """X-PARTNER-SIGN: RSA PKCS#1 v1.5 with SHA-256 over the body exactly as sent, base64."""

    def checked(world: World, call: Call) -> Reply:
        if call.headers.get("x-partner-project") != SMART_GLOCAL_PROJECT:
            return error(401, "identification_error", "Unknown X-PARTNER-PROJECT")
        if not _is_signed(call):
            return error(401, "authentication_error", "Bad X-PARTNER-SIGN")
        if not isinstance(call.json(), dict):
            return error(400, "invalid_request", "The body must be a JSON object")

        return handle(world, call)

    return checked


def _is_signed(call: Call) -> bool:
    key = key_pairs().partner.public_key()
    try:
        signature = b64decode(call.headers.get("x-partner-sign", ""), validate=True)
        key.verify(signature, call.body, PKCS1v15(), SHA256())
    except (ValueError, InvalidSignature):
        return False

    return True


# Refund


@signed
def create_refund(world: World, call: Call) -> Reply:
    """POST /api/v1/session/refund."""
    body = call.json()
    problem = _problem(body)
    if problem:
        return error(400, "invalid_request", problem)
    key = call.headers.get(KEY_HEADER)
    if key is not None and (NAME, key) in world.handles:
        return error(400, "idempotency_key_already_exists", "The key was used before")
    payment = world.payment(NAME, body["session_id"])
    if payment is None:
        return error(400, "invalid_request", "Unknown session_id")
    details = body.get("amount_details") or {}
    amount = details.get("amount", payment.amount)
    refusal = _refusal(payment, amount, details.get("currency"))
    if refusal:
        return error(400, "invalid_request", refusal)
    refund_id, _ = new_refund(world, payment)
    refund = world.draft(payment, refund_id, amount, handle=handle_of(call), asked=body)
    call.refund = world.open_refund(refund, call.rule, at_once=False)
    if key is not None:
        world.handles[NAME, key] = refund

    return answer(payment)


def _problem(body: Json) -> str | None:
    unknown = [name for name in body if name not in ("session_id", "amount_details", "metadata")]
    if unknown:
        return f"Unknown field {unknown[0]}"
    if not is_text(body.get("session_id"), 1):
        return "session_id is required"
    details = body.get("amount_details")
    if details is not None and not _is_amount(details):
        return "amount_details: amount (integer above 0) and currency (lower case) are required"

    return None


def _is_amount(details: Any) -> bool:
    return (
        isinstance(details, dict)
        and set(details) == {"amount", "currency"}
        and is_integer(details["amount"], 1)
        and is_match(details["currency"], CURRENCY)
    )


def _refusal(payment: Payment, amount: int, currency: str | None) -> str | None:
    if payment.state != "accepted":
        return "The session has no successful payment"
    if currency not in (None, payment.currency.lower()):
        return "Another currency than the payment's"
    if amount > payment.remaining():
        return "The amount exceeds what is left of the payment"
    if not payment.partial_refunds and amount != payment.amount:
        return "Partial refunds are not enabled"

    return None


# Status


@signed
def get_status(world: World, call: Call) -> Reply:
    """POST /api/v1/session/status."""
    payment = world.payment(NAME, call.member("session_id"))
    if payment is None:
        return error(400, "invalid_request", "Unknown session_id")
    for refund in payment.refunds:
        world.bend(refund, call.rule)

    return answer(payment)


def answer(payment: Payment) -> Reply:
    """Status ok, with the session."""
    return Reply(200, {"status": "ok", "session": session(payment)})


def session(payment: Payment) -> Json:
    """The session as in the document's webhook example."""
    updated = max([payment.created_at, *(refund.updated_at for refund in payment.refunds)])

    return {
        "id": payment.id,
        "status": "in_progress" if payment.has_open_refund() else payment.state,
        "created_at": micros_z(payment.created_at),
        "updated_at": micros_z(updated),
        "acquiring_payments": [acquiring_payment(payment)],
    }


def acquiring_payment(payment: Payment) -> Json:
    """The card payment with its refunds, the oldest first."""
    return {
        "id": f"pm_{payment.id.removeprefix('ps_')}",
        "status": PAYMENT_STATUS[payment.state],
        "created_at": micros_z(payment.created_at),
        "finished_at": micros_z(payment.created_at),
        "customer": {"reference": "lucky"},
        "payment_details": {"type": "card", "card": {"brand": "visa", "last4": "4242"}},
        "amount_details": amount_details(payment.amount, payment.currency),
        "metadata": payment.reference,
        "refunds": [refund_object(refund) for refund in payment.refunds],
    }


def refund_object(refund: Refund) -> Json:
    """A refund or chargeback; the metadata comes back unless the payment switches it off."""
    shown: Json = {
        "id": refund.id,
        "status": STATUS[refund.state],
        "created_at": micros_z(refund.created_at),
        "amount_details": amount_details(refund.amount, refund.currency),
    }
    if refund.final:
        shown["finished_at"] = micros_z(refund.updated_at)
    if refund.payment.echo_metadata and refund.asked.get("metadata") is not None:
        shown["metadata"] = refund.asked["metadata"]
    if refund.chargeback:
        shown["is_chargeback"] = True

    return shown


def amount_details(amount: int, currency: str) -> Json:
    """Minor units and the currency in lower case."""
    return {"amount": amount, "currency": currency.lower()}


# Faults, notifications, payments made for a test


def garble(_: World, __: Call, reply: Reply, fault: Fault) -> Reply:
    """The answer with a status nobody knows, or another amount, in each refund of it."""
    payload = reply.payload or {}
    if "session" not in payload:
        return reply
    payments = [
        {**each, "refunds": [_garbled(refund, fault) for refund in each["refunds"]]}
        for each in payload["session"]["acquiring_payments"]
    ]
    shown = {**payload["session"], "acquiring_payments": payments}

    return replace(reply, payload={**payload, "session": shown})


def _garbled(refund: Json, fault: Fault) -> Json:
    if refund.get("is_chargeback"):
        return refund
    if fault is Fault.UNKNOWN_STATUS:
        return {**refund, "status": "sandbox_unheard_of"}
    details = refund["amount_details"]

    return {**refund, "amount_details": {**details, "amount": details["amount"] + 1}}


def notification(_: World, refund: Refund) -> Message:
    """payment_refunded, signed like a request but with the provider's key."""
    event = {"type": "payment_refunded", "session": session(refund.payment)}
    body = dump(event)
    signature = key_pairs().provider.sign(body, PKCS1v15(), SHA256())
    headers = {
        "Content-Type": "application/json",
        "X-PARTNER-SIGN": b64encode(signature).decode(),
    }

    return Message(headers, body)


def new_payment(world: World, payment: Payment) -> None:
    """Give a new payment its session id."""
    payment.id = payment.id or f"ps_{world.next_number()}"


def new_refund(world: World, _: Payment) -> tuple[str, Json]:
    """Id and fields of a refund made elsewhere."""
    return f"rf_{world.next_number()}", {}


def handle_of(call: Call) -> str | None:
    """The merchant's handle: the key, else the metadata."""
    key = call.headers.get(KEY_HEADER)
    if key is not None:
        return key
    metadata = call.member("metadata")
    if metadata is None or isinstance(metadata, str):
        return metadata

    return json.dumps(metadata, sort_keys=True, default=str)


def _payment_in_body(world: World, call: Call) -> Payment | None:
    return world.payment(NAME, call.text("session_id"))


REFUND, EITHER = (Kind.REFUND,), (Kind.STATUS, Kind.LOOKUP)
SESSION = "/api/v1/session"
PROVIDER = Provider(
    name=NAME,
    prefix="/smart_glocal",
    endpoints=(
        Endpoint("POST", f"{SESSION}/refund", REFUND, create_refund, _payment_in_body, handle_of),
        Endpoint("POST", f"{SESSION}/status", EITHER, get_status, _payment_in_body),
    ),
    failure=failure,
    garble=garble,
    notification=notification,
    new_payment=new_payment,
    new_refund=new_refund,
    states=STATES,
    default_currency="USD",
)
