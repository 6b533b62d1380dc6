"""SmartRetry: refunds are accepted, then polled.

Documents: https://www.smartretry.com/docs (refund, status, idempotency, errors, webhooks), API version
2026-04-01. Amounts are JSON numbers in major units. An answer that was lost is recovered by repeating the
same bytes under the same `Idempotency-Key` within 24 hours; no call finds a refund by our own id.
"""

import hashlib
import hmac
from collections.abc import Generator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import Field

from domain.money import EXPONENTS, exponent, to_major
from domain.outcome import (
    Absent,
    DeclineClass,
    Declined,
    Facts,
    NotSent,
    NotSentReason,
    Outcome,
    Pending,
    Succeeded,
    Unknown,
)
from domain.policy import Recovery
from domain.reconcile import Listed, Verdict
from providers import wire
from providers.base import (
    AdapterSettings,
    Ask,
    Capabilities,
    Conversation,
    Exclusive,
    HeaderSecret,
    Health,
    JobFault,
    Lists,
    Move,
    Notification,
    NotificationRefused,
    NotificationUnreadable,
    Page,
    PaymentFacts,
    Question,
    RefundOrder,
    Secrets,
    Stores,
    Subject,
)

CAPABILITIES = Capabilities(
    recovery=Recovery.REPLAY,
    deduplicates=True,
    stores=Stores.REFUSALS,
    handle_lifetime=86_400.0,
    handle_max_length=255,
    lookup=False,
    matches_handle=False,
    lookup_delay=5.0,
    exclusive=Exclusive.WHILE_UNKNOWN,
    omit_amount=True,
    payment_facts=True,
    lists=frozenset({Lists.REFUND}),
    rate_limit=100.0,
    poll_schedule=(2.0, 5.0, 15.0, 60.0),
    poll_horizon=86_400.0,
)

# docs "Transaction status": UNKNOWN does not change by itself and must be treated as unresolved.
STATUSES = {
    "PROCESSING": "pending",
    "APPROVED": "succeeded",
    "DECLINED": "failed",
    "ERROR": "failed",
    "CANCELLED": "failed",
    "UNKNOWN": "contradiction",
}

# docs "Errors": what a configured terminal or key gets wrong, before any money is considered.
CREDENTIALS = frozenset({"INVALID_API_KEY", "TERMINAL_NOT_FOUND"})
# Refusals that name what was wrong with this refund. Any other 4xx is no proof.
FINAL = frozenset(
    {
        "INVALID_TRANSACTION_REFERENCE",
        "INVALID_AMOUNT",
        "INVALID_CURRENCY",
        "TRANSACTION_NOT_FOUND",
        "FULL_REFUND_ALREADY_PROCESSED",
        "REFUND_AMOUNT_EXCEEDED",
        "INVALID_TRANSACTION_TYPE_FOR_REFUND",
        "ORIGINAL_TRANSACTION_NOT_APPROVED",
        "REFUND_NOT_ALLOWED_CHARGEBACK",
        "CURRENCY_DID_NOT_MATCH_REFERENCED_TRANSACTION_CURRENCY",
        "ORDER_ID_DID_NOT_MATCH_REFERENCED_TRANSACTION_ORDER_ID",
        "ALREADY_REVERSED",
        "RELATED_TRANSACTION_NOT_FOUND",
    }
)
FIXABLE = frozenset({"MISSING_REQUIRED_FIELD", "INVALID_IDEMPOTENCY_KEY"})
# The refund exists and waits for somebody (enum of the status page).
WAITING = frozenset({"REFUND_PENDING_APPROVAL"})

REFUSAL_STATUS = frozenset({400, 403, 404, 422})
NOT_FOUND = frozenset({400, 404})  # the errors page says 404, the status page shows 400
KNOWN_REASONS = CREDENTIALS | FINAL | FIXABLE | WAITING | {"IDEMPOTENCY_CONFLICT"}

REFERENCE_LENGTH = 8
SMALLEST_AMOUNT = 1  # OpenAPI: less than one major unit may be refused
# Types of the status page that took money; only an approved one can be refunded ("Refund").
PAYMENTS = frozenset({"sale", "capture", "recurring_init", "recurring"})

SIGNATURE_TOLERANCE = 300.0


class SmartRetrySettings(AdapterSettings):
    """Keys of a `smartretry` account."""

    base_url: str = "https://api.smartretry.com"
    api_key: HeaderSecret = Field(min_length=1)
    terminal_id: str = Field(pattern=r"^[A-Za-z0-9]{6}$")
    webhook_secret: Secrets = ()


class SmartRetry:
    """One SmartRetry terminal."""

    name: ClassVar[str] = "smartretry"
    Settings: ClassVar[type[AdapterSettings]] = SmartRetrySettings

    def __init__(self, settings: SmartRetrySettings) -> None:
        self._settings = settings
        self._base = settings.base_url.rstrip("/")
        self._capabilities = replace(CAPABILITIES, exponents=settings.currency_exponents)
        self._statuses = STATUSES | settings.status_map

    @property
    def capabilities(self) -> Capabilities:
        """As the pages idempotency and rate-limiting say."""
        return self._capabilities

    @property
    def fingerprint(self) -> str:
        """Host and terminal: the key may be renewed."""
        return f"smartretry {self._base} {self._settings.terminal_id}"

    def handle(self, token: UUID) -> str:
        """A UUID: letters, digits and hyphens, as the page idempotency asks."""
        return str(token)

    def check(self, order: RefundOrder, fault: JobFault) -> tuple[str, ...]:
        """Both references have exactly 8 characters ("Refund")."""
        for pointer, value in (("#/payment/id", order.payment_id), ("#/payment/order_id", order.order_id)):
            if value is None or len(value) != REFERENCE_LENGTH:
                fault(pointer, "SmartRetry references have exactly 8 characters")
        known = order.amount is not None and order.currency in EXPONENTS
        if known and to_major(order.amount or 0, order.currency or "") < SMALLEST_AMOUNT:
            return ("SmartRetry may refuse an amount below 1.00",)

        return ()

    def authorize(self, request: httpx.Request) -> httpx.Request:
        """The key in `x-api-key` (page authentication)."""
        request.headers["x-api-key"] = self._settings.api_key.get_secret_value()

        return request

    def refund(self, order: RefundOrder) -> Conversation:
        """POST /v1/payments/refund/{terminal} ("Refund")."""
        response = yield Move(
            wire.post(
                f"{self._base}/v1/payments/refund/{self._settings.terminal_id}",
                {
                    "transaction_reference_id": order.payment_id,
                    "order_reference_id": order.order_id,
                    "merchant_transaction_id": order.refund_id,
                    **self._amount(order),
                },
                {"Idempotency-Key": order.handle},
            )
        )

        return _judge_refund(response, order)

    def status(self, order: RefundOrder) -> Question:
        """GET /v1/payments/status/{terminal}/{transaction_id} (page status)."""
        response = yield Ask(self._ask(order.provider_refund_id))

        return self._judge_status(response, order)

    def lookup(self, order: RefundOrder) -> Question:  # noqa: ARG002
        """The API's path list has no call that finds a refund by our own id."""
        yield from ()

        return Unknown(reason="SmartRetry cannot find a refund by our handle")

    def payment(self, order: RefundOrder) -> Generator[Ask, httpx.Response, PaymentFacts]:
        """The status of the sale tells its amount, but not what was refunded of it."""
        response = yield Ask(self._ask(order.payment_id))
        body = wire.json_object(response.content)
        if response.status_code != httpx.codes.OK or body is None:
            return _no_payment(response, body)
        word, _ = _state(body)
        if body.get("type") not in PAYMENTS or word != "APPROVED":
            return PaymentFacts(problem=f"a {wire.text(body.get('type'))} that is {wire.text(word)}")
        currency = wire.text(body.get("currency"), 8)
        captured = wire.major_amount(body.get("amount"), currency)

        return PaymentFacts(captured=captured if captured and captured > 0 else None, currency=currency)

    def list_refunds(self, subject: Subject, cursor: str | None = None) -> Generator[Ask, httpx.Response, Page]:  # noqa: ARG002
        """GET status of the transaction: most that are notified are sales, and the API's path list has no list."""
        response = yield Ask(self._ask(subject.provider_refund_id))
        body = wire.json_object(response.content)
        if response.status_code in NOT_FOUND and _reason(body) == "TRANSACTION_NOT_FOUND":
            return Page()
        transaction = wire.text((body or {}).get("transaction_id"), 64)
        if response.status_code != httpx.codes.OK or body is None or transaction is None:
            return Page(problem=f"HTTP {response.status_code} without the transaction")
        if body.get("type") != "refund" or transaction != subject.provider_refund_id:
            return Page()

        return Page(refunds=(self._shown(body, transaction),))

    def ping(self) -> Generator[Ask, httpx.Response, Health]:
        """`/health/` needs no key, so it tells reachability only."""
        response = yield Ask(wire.get(f"{self._base}/health/"))

        return Health.OK if response.status_code == httpx.codes.OK else Health.UNREACHABLE

    def notification(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:
        """`X-SmartRetry-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of t.body>` (docs, "Webhooks")."""
        parts = [part.strip().partition("=")[::2] for part in headers.get("x-smartretry-signature", "").split(",")]
        stamp = dict(parts).get("t", "")
        message = wire.octets(stamp) + b"." + body
        secrets = [each.get_secret_value().encode() for each in self._settings.webhook_secret]
        expected = [hmac.new(secret, message, hashlib.sha256).hexdigest() for secret in secrets]
        if not any(wire.matches(wire.octets(value), expected) for name, value in parts if name == "v1"):
            raise NotificationRefused("the signature does not match")
        sent = wire.stamp(stamp)
        if sent is None or abs(now - sent) > SIGNATURE_TOLERANCE:
            raise NotificationRefused("the time stamp is not within 300 seconds")
        event = wire.json_object(body)
        if event is None or not isinstance(event.get("data"), dict):
            raise NotificationUnreadable("the body is not an event")
        transaction = wire.text(event["data"].get("transaction_id"), 64)

        return Notification(
            event_id=wire.text(event.get("id")),
            kind=wire.text(event.get("type")) or "",
            provider_refund_ids=(transaction,) if transaction else (),
            refund_id=wire.text(event["data"].get("merchant_transaction_id"), 64),
            claims=(self._shown(event["data"], transaction),) if transaction else (),
        )

    def _shown(self, data: Mapping[str, Any], transaction: str) -> Listed:
        """A transaction of a notification or of the status page, which put the order id at different places."""
        word, reason = _state(data)
        known = self._statuses.get(word) if isinstance(word, str) else None
        currency = wire.currency(data.get("currency"))
        order = data.get("order")

        return Listed(
            provider_refund_id=transaction,
            amount=wire.major_amount(data.get("amount"), currency),
            currency=currency,
            order_id=wire.text(order.get("order_id") if isinstance(order, dict) else data.get("order_id"), 64),
            refund_id=wire.text(data.get("merchant_transaction_id"), 64),
            verdict=Verdict.PENDING if reason in WAITING else wire.verdict(known),
            status=wire.text(word),
            reconciliation_id=wire.text(data.get("arn")),
        )

    def _ask(self, transaction_id: str | None) -> httpx.Request:
        path = f"/v1/payments/status/{self._settings.terminal_id}/{quote(transaction_id or '', safe='')}"

        return wire.get(f"{self._base}{path}")

    def _amount(self, order: RefundOrder) -> dict[str, Any]:
        """Major units with the currency's decimals; an account may have fewer or more, the value stays."""
        if order.whole or order.amount is None or order.currency is None:
            return {}
        major = to_major(order.amount, order.currency)
        decimals = self._settings.currency_exponents.get(order.currency, exponent(order.currency))
        shown = major.quantize(Decimal(1).scaleb(-decimals))

        return {"amount": shown if shown == major else major, "currency": order.currency}

    def _judge_status(self, response: httpx.Response, order: RefundOrder) -> Outcome:
        body = wire.json_object(response.content)
        if response.status_code in NOT_FOUND and _reason(body) == "TRANSACTION_NOT_FOUND":
            return Absent()
        if response.status_code != httpx.codes.OK or body is None:
            return _no_answer(response, body)
        kind, transaction = body.get("type", "refund"), body.get("transaction_id")
        if kind != "refund":
            return Unknown(reason=f"the transaction is a {wire.text(kind)}", contradiction=True)
        if transaction != order.provider_refund_id:
            odd = transaction is not None
            return Unknown(reason="the answer is not about the refund asked for", contradiction=odd)
        word, reason = _state(body)
        currency = wire.currency(body.get("currency"))
        facts = Facts(
            provider_refund_id=order.provider_refund_id,
            status=wire.text(word),
            amount=wire.major_amount(body.get("amount"), currency or order.currency),
            currency=currency,
            reconciliation_id=wire.text(body.get("arn")),
        )

        return self._judge_word(word, facts, reason)

    def _judge_word(self, word: object, facts: Facts, reason: str) -> Outcome:
        match self._statuses.get(word) if isinstance(word, str) else None:
            case "succeeded":
                return Succeeded(facts=facts)
            case "failed" if reason not in WAITING:
                code = reason or facts.status or "failed"
                return Declined(code=code, message=facts.status or "", own_record=True, facts=facts)
            case "contradiction":
                reason = "SmartRetry itself does not know the outcome"
                return Unknown(reason=reason, contradiction=True, facts=facts)
            case "pending" | "failed":
                return Pending(facts=facts)
            case _:
                alert = f"SmartRetry answered a status we do not know: {facts.status}"
                return Pending(facts=replace(facts, alert=alert))


def _judge_refund(response: httpx.Response, order: RefundOrder) -> Outcome:
    body = wire.json_object(response.content)
    if body is not None and response.status_code == httpx.codes.OK:
        return _accepted(body, order)
    reason = _reason(body)
    if response.status_code == httpx.codes.CONFLICT and reason == "IDEMPOTENCY_CONFLICT":
        return Unknown(reason="SmartRetry knows this key with another body", contradiction=True)
    if body is None or response.status_code not in REFUSAL_STATUS or reason not in FINAL | FIXABLE:
        return _no_answer(response, body, stored=response.status_code != httpx.codes.UNAUTHORIZED)
    message = wire.text(body.get("detail") or body.get("title"), 400) or ""
    kind = DeclineClass.FINAL if reason in FINAL else DeclineClass.FIXABLE

    return Declined(code=reason, message=message, kind=kind)


def _accepted(body: Mapping[str, Any], order: RefundOrder) -> Outcome:
    """`accepted: true` is taken for processing, not done ("Refund"); our own id is echoed."""
    if body.get("merchant_transaction_id") not in (None, order.refund_id):
        return Unknown(reason="SmartRetry answers with another refund", contradiction=True)
    match body.get("accepted"), body.get("transaction_id"):
        case True, str(transaction) if transaction:
            return Pending(facts=Facts(provider_refund_id=transaction))
        case False, str(transaction) if transaction:
            # The reason stands only in the status; it is a final state there.
            return Pending(facts=Facts(provider_refund_id=transaction, status="not accepted"))
        case False, None:
            return Declined(code="NOT_ACCEPTED", message="accepted: false")
        case _:
            return Unknown(reason="HTTP 200 without `accepted` or `transaction_id`")


def _no_answer(response: httpx.Response, body: Mapping[str, Any] | None, *, stored: bool = False) -> Outcome:
    """What an answer means that neither shows the refund nor is a known refusal of it.

    `stored`: page idempotency, refusals of the refund call are kept for 24 hours; 401 is not listed there.
    """
    reason, status = _reason(body), response.status_code
    replayed = _replayed(response)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        # Page rate-limiting: a limited call was not processed. A replayed 429 is a stored one.
        wait = wire.retry_after(response)
        return NotSent(reason=NotSentReason.THROTTLED, retry_after=wait, stored=replayed)
    if _refuses_credentials(status, reason):
        return NotSent(reason=NotSentReason.CREDENTIALS, detail=reason or "HTTP 401", stored=stored or replayed)
    if body is None:
        return wire.unreadable(response)

    return Unknown(reason=f"HTTP {status} {reason or 'without a reason'}{', replayed' if replayed else ''}")


def _refuses_credentials(status: int, reason: str) -> bool:
    return status == httpx.codes.UNAUTHORIZED or (status in REFUSAL_STATUS and reason in CREDENTIALS)


def _no_payment(response: httpx.Response, body: Mapping[str, Any] | None) -> PaymentFacts:
    reason = _reason(body)
    missing = response.status_code in NOT_FOUND and reason == "TRANSACTION_NOT_FOUND"

    return PaymentFacts(
        problem=f"HTTP {response.status_code} {reason}".strip(),
        problem_code=reason if missing else None,
        final=missing,
        credentials_refused=_refuses_credentials(response.status_code, reason),
    )


def _replayed(response: httpx.Response) -> bool:
    """The page idempotency and the changelog name the header differently."""
    names = ("idempotency-replayed", "x-idempotency-replayed")

    return any(response.headers.get(name, "").lower() == "true" for name in names)


def _state(transaction: Mapping[str, Any]) -> tuple[object, str]:
    """Word and reason of a transaction's `status` object."""
    status = transaction.get("status")
    shown = status if isinstance(status, dict) else {}

    return shown.get("status"), _last_segment(shown.get("reasonCode"))


def _reason(body: Mapping[str, Any] | None) -> str:
    return _last_segment(body.get("reason_code")) if body else ""


def _last_segment(code: object) -> str:
    """The last reason that we know: they come bare, as DOMAIN.REASON or as DOMAIN/REASON/DETAIL."""
    segments = (wire.text(code) or "").replace("/", ".").split(".")

    return next((segment for segment in reversed(segments) if segment in KNOWN_REASONS), segments[-1])


def create(settings: AdapterSettings) -> SmartRetry:
    """Entry point."""
    if not isinstance(settings, SmartRetrySettings):
        raise TypeError("a smartretry account needs its own settings")

    return SmartRetry(settings)


Settings = SmartRetrySettings
