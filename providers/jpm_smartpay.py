"""SmartPay of J.P. Morgan Mobility Payments: a refund is one of the modifications of a transaction.

Documents: https://documentation.jpmmps.com/docs/smartpay-openapi/refund-transaction ("the document" below),
with modification-apis, get-payment-status-api and notifications beside it, release 5.5. Amounts are JSON
numbers in major units with two decimals. A repeated `modificationId` gets the first answer again, so a lost
answer is asked for once with the same bytes, and from then on with the status call.
"""

import base64
import hmac
import re
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from decimal import Decimal
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple, Self, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from domain.errors import InvalidMoney
from domain.money import exponent, to_major, to_minor
from domain.outcome import Absent, Declined, Facts, NotSent, NotSentReason, Outcome, Pending, Succeeded, Unknown
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
    Stores,
    Subject,
    web_address,
)

LIMITS = {"payment.id": 36, "description": 127}
CAPABILITIES = Capabilities(
    recovery=Recovery.REPLAY,
    max_replays=1,
    deduplicates=True,
    stores=Stores.EVERYTHING,
    handle_lifetime=None,
    handle_max_length=36,
    lookup=True,
    matches_handle=True,
    lookup_delay=30.0,
    exclusive=Exclusive.WHILE_UNKNOWN,
    omit_amount=True,
    payment_facts=True,
    lists=frozenset({Lists.PAYMENT}),
    connect_timeout=5.0,
    read_timeout=90.0,  # modification-apis: an answer may take up to 90 seconds
    poll_schedule=(5.0, 30.0, 120.0, 600.0, 3600.0),
    poll_horizon=864_000.0,
    limits=LIMITS,
)

# No document lists the status words of a modification. A word outside this map leaves the refund pending.
STATUSES = {
    **dict.fromkeys(("REFUNDED", "SUCCESS", "SUCCEEDED", "COMPLETED", "SETTLED"), "succeeded"),
    **dict.fromkeys(("CREATED", "*PENDING", "*_INITIALIZED"), "pending"),
    **dict.fromkeys(("FAILED", "REFUND_FAILED", "ERROR", "REJECTED", "CANCELLED"), "failed"),
}
# The document, `error`: the level at which it appeared. Only the payment provider's own refusal is a no.
LEVELS = frozenset({"gateway_processing", "payment_provider_processing"})
# Payment status model: in these the money was collected; as the status of a CAPTURE they say the same.
CAPTURED = frozenset({"CAPTURED", "SETTLED"})
# The document, types of modifications: in these money goes back.
BACK = frozenset({"REFUND", "CHARGEBACK"})
# RFC 6749, 5.2: what the token endpoint answers to a wrong client.
WRONG_CLIENT = frozenset({"invalid_client", "unauthorized_client"})

DECIMALS = 2
AMOUNT = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")
HEADERS = {"Content-Type": "application/json", "Accept-Language": "en-US", "User-Agent": "refundry/0.1.0"}
TOKEN_MARGIN = 60.0
# Elsewhere nothing is read before it is proven. An event without a proof has a few hundred bytes.
UNPROVEN_MAX = 16_384

S = TypeVar("S", Ask, Move)


class OAuth(BaseModel):
    """Client credentials, the newer of the two ways to sign in (integration journey)."""

    model_config = {"extra": "forbid", "frozen": True, "hide_input_in_errors": True}

    token_url: str
    client_id: str
    client_secret: SecretStr

    @field_validator("token_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return web_address(value, query=True)


class JpmSettings(AdapterSettings):
    """Keys of a `jpm_smartpay` account."""

    merchant_key: str = Field(min_length=1, max_length=36)
    origin: str = Field(min_length=1)
    authentication_key: HeaderSecret = SecretStr("")
    oauth: OAuth | None = None
    webhook_user: str = ""
    webhook_password: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _signs_in_one_way(self) -> Self:
        if bool(self.authentication_key.get_secret_value()) is (self.oauth is not None):
            raise ValueError("either authentication_key or oauth is required")
        if bool(self.webhook_user) is not bool(self.webhook_password.get_secret_value()):
            raise ValueError("webhook_user and webhook_password belong together")
        return self


class Token(NamedTuple):
    """A bearer token, and until when of our clock it is used."""

    value: str
    until: float


class JpmSmartPay:
    """One merchant key at SmartPay."""

    name: ClassVar[str] = "jpm_smartpay"
    Settings: ClassVar[type[AdapterSettings]] = JpmSettings

    def __init__(self, settings: JpmSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._base = settings.base_url.rstrip("/")
        self._headers = HEADERS | {"Origin": settings.origin}
        self._statuses = STATUSES | {word.upper(): verdict for word, verdict in settings.status_map.items()}
        self._clock = clock
        self._token: Token | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Documented, but for the look-up's delay, the schedule and the horizon, which no page gives."""
        return replace(CAPABILITIES, exponents=self._settings.currency_exponents)

    @property
    def fingerprint(self) -> str:
        """Host and merchant key: the key stands in the body of every refund."""
        return f"jpm_smartpay {self._base} {self._settings.merchant_key}"

    def handle(self, token: UUID) -> str:
        """The `modificationId`: 36 characters fit every page that names a limit."""
        return str(token)

    def check(self, order: RefundOrder, fault: JobFault) -> tuple[str, ...]:
        """The limits of the document, and the currencies that two decimals cannot carry."""
        if not order.payment_id or len(order.payment_id) > LIMITS["payment.id"]:
            fault("#/payment/id", "a SmartPay transactionId of at most 36 characters is required")
        if len(order.description or "") > LIMITS["description"]:
            fault("#/description", "SmartPay takes at most 127 characters")
        try:
            self._major(order.amount or 100, order.currency or "EUR")
        except InvalidMoney as error:
            fault("#/currency", str(error))

        return ()

    def authorize(self, request: httpx.Request) -> httpx.Request:
        """Basic merchantKey:authenticationKey, or a bearer token (integration journey)."""
        oauth = self._settings.oauth
        if oauth is None:
            key = self._settings.merchant_key, self._settings.authentication_key
            request.headers["Authorization"] = _basic(*key)
        elif request.url == httpx.URL(oauth.token_url):
            secret = oauth.client_secret.get_secret_value()
            return _sign_in(oauth, client_id=oauth.client_id, client_secret=secret)
        elif self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token.value}"

        return request

    def refund(self, order: RefundOrder) -> Conversation:
        """POST /payment/refund; without `modifiedAmount` it takes the whole transaction."""
        if not order.whole and (order.amount is None or order.currency is None):
            return NotSent(reason=NotSentReason.ASK_FAILED, detail="the amount is not known yet")
        custom = {f"custom{number}": text for number, text in enumerate(order.custom_references, 1)}
        body = {
            "transactionId": order.payment_id,
            "modificationId": order.handle,
            "merchantKey": self._settings.merchant_key,
            "modifiedAmount": self._modified_amount(order),
            "customReferences": custom or None,
        }
        move = Move(wire.post(f"{self._base}/payment/refund", body, self._headers))
        answer = yield from self._call(move)

        return self._judge(answer, order, Unknown(reason="a 200 without our refund"))

    def status(self, order: RefundOrder) -> Question:
        """GET /payment/status/{transactionId}: there is no call for one refund."""
        answer = yield from self._call(self._transaction(order))

        return self._judge(answer, order, Unknown(reason="the transaction no longer shows our refund"))

    def lookup(self, order: RefundOrder) -> Question:
        """The same call: the entry of our `modificationId`, or none."""
        answer = yield from self._call(self._transaction(order))

        return self._judge(answer, order, Absent())

    def payment(self, order: RefundOrder) -> Generator[Ask, httpx.Response, PaymentFacts]:
        """The transaction's captures; with automatic capture, its amount once it is captured or settled."""
        answer = yield from self._call(self._transaction(order))
        if isinstance(answer, NotSent):
            refused = answer.reason is NotSentReason.CREDENTIALS
            return PaymentFacts(problem=answer.detail, credentials_refused=refused)
        body = wire.json_object(answer.content) or {}
        if answer.status_code == HTTPStatus.OK and body:
            return self._payment_facts(body)
        problem = f"HTTP {answer.status_code}"
        if answer.status_code == HTTPStatus.NOT_FOUND and wire.text(body.get("error")) in LEVELS:
            return PaymentFacts(problem=problem, problem_code="TRANSACTION_NOT_FOUND", final=True)

        return PaymentFacts(problem=problem)

    def list_refunds(self, subject: Subject, cursor: str | None = None) -> Generator[Ask, httpx.Response, Page]:  # noqa: ARG002
        """GET /payment/status/{transactionId}: the modifications that took money back, by whomever."""
        answer = yield from self._call(self._transaction(subject))
        if isinstance(answer, NotSent):
            return Page(problem=answer.detail)
        body = wire.json_object(answer.content)
        entries = _entries(body) if body is not None and answer.status_code == HTTPStatus.OK else None
        if body is None or entries is None:
            return Page(problem=f"HTTP {answer.status_code} without the transaction's modifications")
        back = [entry for entry in entries if _data(entry).get("type") in BACK]

        return Page(refunds=tuple(self._shown(entry, body, subject) for entry in back))

    def ping(self) -> Generator[Ask, httpx.Response, Health]:
        """Fetching a token tries the client; no harmless call tries an authentication key."""
        if self._settings.oauth is None:
            return Health.NO_CHECK
        refusal = self._keep_token((yield Ask(_sign_in(self._settings.oauth))))
        if refusal is None:
            return Health.OK
        wrong = refusal.reason is NotSentReason.CREDENTIALS

        return Health.CREDENTIALS_REFUSED if wrong else Health.UNREACHABLE

    def notification(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:  # noqa: ARG002
        """Basic where it was agreed, else nothing proves the sender (notifications): a hint either way."""
        expected = _basic(self._settings.webhook_user, self._settings.webhook_password).encode()
        given = wire.octets(headers.get("authorization", ""))
        proven = bool(self._settings.webhook_user)
        if proven and not hmac.compare_digest(given, expected):
            raise NotificationRefused("the user or the password does not match")
        if not proven and len(body) > UNPROVEN_MAX:
            raise NotificationUnreadable(f"without a user to prove it, an event has at most {UNPROVEN_MAX} bytes")
        event = wire.json_object(body) or {}
        kind = wire.text(event.get("objectType"))
        if kind is None:
            raise NotificationUnreadable("the body is not an event")
        subject = wire.text(event.get("objectId"), 64)

        return Notification(
            kind=kind,
            provider_refund_ids=(subject,) if subject and kind == "refund" else (),
            payment_id=wire.text(event.get("id"), 64) or subject,
            proven=proven,
        )

    def _modified_amount(self, order: RefundOrder) -> dict[str, Any] | None:
        if order.whole or order.amount is None or order.currency is None:
            return None
        amount = {"amount": self._major(order.amount, order.currency), "currencyCode": order.currency}

        return {**amount, "description": order.description} if order.description else amount

    def _major(self, amount: int, currency: str) -> Decimal:
        """Minor units as the decimal on the wire. Raises InvalidMoney for what its decimals cannot carry."""
        decimals = self._settings.currency_exponents.get(currency)
        if decimals is None and exponent(currency) != DECIMALS:
            raise InvalidMoney(f"SmartPay has two decimals, {currency} has not: see currency_exponents")
        units = to_minor(to_major(amount, currency), currency, decimals=decimals)

        return to_major(units, currency, decimals=decimals)

    def _transaction(self, order: RefundOrder | Subject) -> Ask:
        transaction = quote(order.payment_id or "", safe="")

        return Ask(wire.get(f"{self._base}/payment/status/{transaction}", self._headers))

    def _call(self, step: S) -> Generator[Ask | S, httpx.Response, httpx.Response | NotSent]:
        """The answer to `step`, after signing in where that is due. NotSent: SmartPay did nothing with it."""
        oauth, cached = self._settings.oauth, self._token
        if cached is not None and self._clock() >= cached.until:
            cached = None
        if oauth is not None and cached is None:
            refusal = self._keep_token((yield Ask(_sign_in(oauth))))
            if refusal is not None:
                return refusal
        answer = yield step
        if answer.status_code != HTTPStatus.UNAUTHORIZED:
            return answer
        if cached is None:
            return NotSent(reason=NotSentReason.CREDENTIALS, detail="HTTP 401")
        if self._token is cached:
            self._token = None

        return NotSent(reason=NotSentReason.CONNECTION, detail="token expired")

    def _keep_token(self, response: httpx.Response) -> NotSent | None:
        """Keep the token (integration journey: access_token, expires_in), or say why there is none."""
        body = wire.json_object(response.content) or {}
        value = wire.text(body.get("access_token"), 8192)
        if response.status_code == HTTPStatus.OK and value:
            lifetime = float(wire.decimal(body.get("expires_in")) or 0)
            self._token = Token(value, self._clock() + lifetime - TOKEN_MARGIN)
            return None
        wrong = response.status_code == HTTPStatus.UNAUTHORIZED or wire.text(body.get("error")) in WRONG_CLIENT
        reason = NotSentReason.CREDENTIALS if wrong else NotSentReason.ASK_FAILED

        return NotSent(reason=reason, detail=f"no token: HTTP {response.status_code}")

    def _judge(self, answer: httpx.Response | NotSent, order: RefundOrder, absent: Outcome) -> Outcome:
        """By the entry of our `modificationId` and nothing else; `absent` where a readable 200 has none."""
        if isinstance(answer, NotSent):
            return answer
        body = wire.json_object(answer.content)
        if answer.status_code in wire.AMBIGUOUS_STATUS or body is None:
            return wire.ambiguous(answer) if body is not None else wire.unreadable(answer)
        entries, ok = _entries(body), answer.status_code == HTTPStatus.OK
        ours = [entry for entry in entries or () if _data(entry).get("modificationId") == order.handle]
        if ok and entries is not None and not ours:
            return absent
        if len(ours) != 1 or _data(ours[0]).get("type") != "REFUND":
            return Unknown(reason=f"HTTP {answer.status_code} without one entry that is our refund")
        outcome = self._judge_entry(ours[0], body, order)

        return outcome if ok or isinstance(outcome, Declined) else wire.ambiguous(answer)

    def _judge_entry(self, entry: Mapping[str, Any], body: Mapping[str, Any], order: RefundOrder) -> Outcome:
        """A 200 alone is no success: the entry may carry an error, or a booking that failed."""
        word = wire.text(entry.get("status")) or ""
        facts = _facts(entry, order.currency)
        level, message = _error(entry)
        match self._verdict(word), level:
            case "failed", "" | "payment_provider_processing":
                return Declined(code=word, message=message, own_record=True, facts=facts)
            case _, level if level:
                return Unknown(reason=f"{level} beside the status {word or 'none'}", facts=facts)
            case "succeeded", _:
                return Succeeded(facts=replace(facts, alert=_booking_alert(entry, body)))
            case "pending", _:
                return Pending(facts=facts)
            case _:
                alert = f"SmartPay answered a status we do not know: {word or 'none'}"
                return Pending(facts=replace(facts, alert=alert))

    def _shown(self, entry: Mapping[str, Any], body: Mapping[str, Any], subject: Subject) -> Listed:
        """One modification; an entry with an error and no refusal says nothing of its outcome."""
        facts, data = _facts(entry, subject.currency), _data(entry)
        known = self._verdict(facts.status or "")
        level, _ = _error(entry)
        chargeback = data.get("type") == "CHARGEBACK"
        # That it was charged back is all that such an entry says; its status words are not documented.
        verdict = Verdict.SUCCEEDED if chargeback else wire.verdict(known)

        return Listed(
            provider_refund_id=facts.provider_refund_id,
            reconciliation_id=facts.reconciliation_id,
            handle=wire.text(data.get("modificationId"), 64),
            payment_id=subject.payment_id,
            amount=facts.amount,
            currency=facts.currency,
            verdict=None if level and verdict is not Verdict.FAILED else verdict,
            status=facts.status,
            chargeback=chargeback,
            alert=_booking_alert(entry, body),
        )

    def _verdict(self, word: str) -> str | None:
        known = self._statuses.get(word.upper())
        like = (verdict for pattern, verdict in self._statuses.items() if fnmatchcase(word.upper(), pattern))

        return known or next(like, None)

    def _payment_facts(self, body: Mapping[str, Any]) -> PaymentFacts:
        overview = _object(body, "transactionOverview")
        amounts = [
            _minor(*_said(entry.get("modificationAmount"))) or 0
            for entry in _entries(body) or ()
            if _data(entry).get("type") == "CAPTURE" and self._is_captured(entry.get("status"))
        ]
        if not amounts and wire.text(body.get("paymentStatus")) in CAPTURED:
            amounts = [_minor(*_said(overview)) or 0]

        return PaymentFacts(
            captured=sum(amounts) if amounts and min(amounts) > 0 else None,
            currency=wire.text(overview.get("currencyCode")),
        )

    def _is_captured(self, status: object) -> bool:
        word = wire.text(status) or ""

        return word in CAPTURED or self._verdict(word) == "succeeded"


def _sign_in(oauth: OAuth, **client: str) -> httpx.Request:
    """The form of the integration journey; the client's own fields are added by `authorize` only."""
    return httpx.Request("POST", oauth.token_url, data={**client, "grant_type": "client_credentials"})


def _basic(user: str, password: SecretStr) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password.get_secret_value()}".encode()).decode()


def _entries(body: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """`modification` of the refund call, `modifications` of the status call, each an object or an array."""
    found = body.get("modifications", body.get("modification"))
    listed = found if isinstance(found, list) else [found]

    return listed if all(isinstance(entry, dict) for entry in listed) else None


def _object(body: object, name: str) -> Mapping[str, Any]:
    value = body.get(name) if isinstance(body, Mapping) else None

    return value if isinstance(value, dict) else {}


def _data(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return _object(entry, "modificationData")


def _error(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Level and text of the document's `error`; no error has no level."""
    if not entry.get("error"):
        return "", ""
    details = _object(entry["error"], "errorDetails")
    message = details.get("paymentProviderDescription") or details.get("gatewayDescription")

    return wire.text(_object(entry, "error").get("error")) or "an odd error", wire.text(message, 400) or ""


def _facts(entry: Mapping[str, Any], ours: str | None) -> Facts:
    """An amount without its currency counts in ours: it may still say that another refund is meant."""
    data = _data(entry)
    amount, currency = _said(entry.get("modificationAmount"))

    return Facts(
        provider_refund_id=wire.text(data.get("refundId"), 64),
        status=wire.text(entry.get("status")),
        amount=_minor(amount, currency or ours),
        currency=currency,
        reconciliation_id=wire.text(data.get("reconciliationReferenceId")),
    )


def _said(holder: object) -> tuple[object, str | None]:
    """`amount` as it came, and `currencyCode`; None where they are absent, -1 for what is no object with an amount."""
    if isinstance(holder, Mapping):
        return holder.get("amount"), wire.currency(holder.get("currencyCode"))

    return None if holder is None else wire.NO_AMOUNT, None


def _minor(amount: object, currency: str | None) -> int | None:
    """An amount as ISO minor units: None where it is absent, -1 where it cannot be read."""
    if amount is None:
        return None
    written = wire.text(amount) or ""

    return wire.major_amount(written, currency) if AMOUNT.fullmatch(written) else wire.NO_AMOUNT


def _booking_alert(entry: Mapping[str, Any], body: Mapping[str, Any]) -> str | None:
    """The customer has the money, but a booking behind it failed, or a field of ours was ignored."""
    data = _data(entry)
    splits = data.get("paymentSplitResults")
    odd = [
        f"split {wire.text(split.get('destinationReference'))}: {wire.text(split.get('error'))}"
        for split in (splits if isinstance(splits, list) else ())
        if isinstance(split, dict) and split.get("status") != "SUCCESS"
    ]
    if (wire.text(data.get("programRefundStatus")) or "success").lower() != "success":
        odd.append(f"program refund: {wire.text(data.get('programRefundErrorMessage'))}")
    if body.get("ignoredProperties"):
        odd.append(f"ignored properties: {str(body['ignoredProperties'])[:200]}")

    return f"refunded, but {'; '.join(odd)}" if odd else None


def create(settings: AdapterSettings) -> JpmSmartPay:
    """Entry point."""
    if not isinstance(settings, JpmSettings):
        raise TypeError("a jpm_smartpay account needs its own settings")

    return JpmSmartPay(settings)


Settings = JpmSettings
