"""Smartpay (Japan): a refund is final in its answer.

Documents: https://en.docs.smartpay.co ("Refund an order", create-refund, get-refund, idempotency, webhooks);
the members and words that those pages leave out are those of the vendor's SDKs. Amounts are integers of the
smallest unit, and only yen exist. An answer that was lost is recovered by repeating the same bytes under the
same `Idempotency-Key` within 6 hours, later by a look-up: our handle stands in the refund's metadata.
"""

import hashlib
import hmac
import string
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import Field, SecretStr, field_validator

from domain.money import exponent, to_major, to_minor
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
from domain.reconcile import Listed
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

# Page idempotency: the stored answer is replayed for 6 hours. Whether refusals are stored is not said; they
# are taken to be.
CAPABILITIES = Capabilities(
    recovery=Recovery.REPLAY,
    deduplicates=True,
    stores=Stores.REFUSALS,
    handle_lifetime=6 * 3600.0,
    handle_max_length=36,
    lookup=True,
    matches_handle=True,
    lookup_delay=5.0,
    exclusive=Exclusive.WHILE_UNKNOWN,
    polled=False,
    payment_facts=True,
    order_lookup=True,
    lists=frozenset({Lists.REFUND, Lists.ACCOUNT}),
    currencies=frozenset({"JPY"}),
)

# SDK enum of refund states; both are terminal.
STATUSES = {"succeeded": "succeeded", "failed": "failed"}

# Refusals of the create-refund call, by HTTP status and `errorCode`. Any other 4xx is no proof.
REFUSALS = {
    (403, "amount.insufficient"): DeclineClass.FINAL,  # page create-refund
    (404, "payment.not-found"): DeclineClass.FINAL,  # page create-refund
    (400, "request.invalid"): DeclineClass.FIXABLE,  # SDKs' error codes
    (400, "token.invalid"): DeclineClass.FIXABLE,  # SDKs' error codes
}
# A key that was used with another body: not documented, so whatever names the key is a matter for a person.
KEY_FAULT = "idempot"
KEY_FAULT_STATUS = frozenset({400, 409, 422})

NO_PAYMENT_WILL_COME = frozenset({"canceled", "rejected", "failed"})  # SDK enum of order states
REASONS = frozenset({"requested_by_customer", "fraudulent"})  # "Refund an order"
METADATA_PAIRS = 20  # SDKs
METADATA_HANDLE = "refundry_handle"

PAGE_SIZE = 100
MAX_PAGES = 50
MAX_SINGLE_READS = 50

SIGNATURE_TOLERANCE = 300.0
DIGITS = {digit: value for value, digit in enumerate(string.ascii_letters.swapcase() + string.digits)}
SIGNING_KEY_BYTES = 30
# 30 bytes are 40 or 41 digits; one that begins with zero bytes is a little shorter.
SIGNING_KEY_MIN_DIGITS = 36

JSON = {"Accept": "application/json"}

Record = Mapping[str, Any]


class SmartpaySettings(AdapterSettings):
    """Keys of a `smartpay` account."""

    base_url: str = "https://api.smartpay.co/v1"
    secret_key: HeaderSecret = Field(min_length=1)
    webhook_secret: Secrets = ()

    @field_validator("webhook_secret")
    @classmethod
    def _is_base62(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(DIGITS.keys() >= set(each.get_secret_value()) for each in value):
            raise ValueError("letters and digits only")

        return value


@dataclass(frozen=True, slots=True)
class _Found:
    """Refunds that a look-up has read; `gap`: what keeps it from being all of them."""

    records: tuple[Record, ...]
    gap: Outcome | None = None


class Smartpay:
    """One Smartpay merchant, test or live as its key says."""

    name: ClassVar[str] = "smartpay"
    Settings: ClassVar[type[AdapterSettings]] = SmartpaySettings

    def __init__(self, settings: SmartpaySettings) -> None:
        self._settings = settings
        self._base = settings.base_url.rstrip("/")
        self._capabilities = replace(CAPABILITIES, exponents=settings.currency_exponents)
        self._statuses = STATUSES | settings.status_map

    @property
    def capabilities(self) -> Capabilities:
        """As the page idempotency and the SDKs say."""
        return self._capabilities

    @property
    def fingerprint(self) -> str:
        """Host and the key's environment: test objects are visible to test keys only."""
        return f"smartpay {self._base} {self._environment()}"

    def handle(self, token: UUID) -> str:
        """A UUID, as the vendor's Go SDK sends; no length is documented."""
        return str(token)

    def check(self, order: RefundOrder, fault: JobFault) -> tuple[str, ...]:
        """A payment or an order; metadata that leaves room for our handle."""
        if not order.payment_id and not order.order_id:
            fault("#/payment/id", "Smartpay needs a payment id or an order id")
        if len(order.metadata) >= METADATA_PAIRS:
            fault("#/metadata", f"Smartpay takes {METADATA_PAIRS} pairs, and one is our handle")
        if METADATA_HANDLE in order.metadata:
            fault(f"#/metadata/{METADATA_HANDLE}", "this name is ours")

        return self._warnings(order)

    def authorize(self, request: httpx.Request) -> httpx.Request:
        """`Basic` and the raw secret key: neither base64 nor a colon ("Refund an order")."""
        request.headers["Authorization"] = f"Basic {self._settings.secret_key.get_secret_value()}"

        return request

    def refund(self, order: RefundOrder) -> Conversation:
        """POST /refunds; where its answer leaves the status out, the refund is read once more."""
        if order.payment_id is None or order.amount is None or order.currency is None:
            return NotSent(reason=NotSentReason.ASK_FAILED, detail="payment and amount are not known yet")
        response = yield Move(self._create(order, order.amount, order.currency))
        outcome = self._judge_refund(response, order)
        if not isinstance(outcome, Pending) or outcome.facts.status is not None:
            return outcome
        known = replace(order, provider_refund_id=outcome.facts.provider_refund_id)
        again = yield from self.status(known)
        proves = isinstance(again, Succeeded | Declined) or (isinstance(again, Unknown) and again.contradiction)

        return again if proves else outcome

    def status(self, order: RefundOrder) -> Question:
        """GET /refunds/{id}; 404 refund.not-found (page get-refund)."""
        response = yield Ask(self._get(f"/refunds/{_segment(order.provider_refund_id)}"))
        body = wire.json_object(response.content)
        if response.status_code == httpx.codes.NOT_FOUND and _code(body) == "refund.not-found":
            return Absent()
        if response.status_code != httpx.codes.OK or body is None:
            return _no_answer(response, body)
        if body.get("id") not in (None, order.provider_refund_id):
            return Unknown(reason="Smartpay answers with another refund", contradiction=True)

        return self._judge(body, order)

    def lookup(self, order: RefundOrder) -> Question:
        """The refunds of the payment, else the pages of all refunds (SDKs: no filter is known)."""
        response = yield Ask(self._get(f"/payments/{_segment(order.payment_id)}", expand="all"))
        body = wire.json_object(response.content)
        if response.status_code != httpx.codes.OK or body is None:
            return _no_answer(response, body)
        listed = body.get("refunds")
        if isinstance(listed, list) and sum(isinstance(each, str) for each in listed) <= MAX_SINGLE_READS:
            found = yield from self._expanded(listed)
        else:
            found = yield from self._listing()

        return self._pick(found, order)

    def payment(self, order: RefundOrder) -> Generator[Ask, httpx.Response, PaymentFacts]:
        """GET /payments/{id}; with only an order, GET /orders/{id} first (payments as ids or as objects)."""
        if order.payment_id is not None:
            return (yield from self._ask_payment(order.payment_id))
        response = yield Ask(self._get(f"/orders/{_segment(order.order_id)}", expand="all"))
        body = wire.json_object(response.content)
        if response.status_code != httpx.codes.OK or body is None:
            return _no_payment(response, body)
        payments = body.get("payments")
        records = payments if isinstance(payments, list) else []
        ids = tuple(filter(None, map(_id, records)))
        if not ids or len(ids) != len(records):
            return _order_without_payment(body)
        if len(ids) > 1:
            return PaymentFacts(payment_ids=ids)
        shown = self._payment_facts(records[0]) if isinstance(records[0], dict) else None
        if shown is not None and shown.problem is None:
            return replace(shown, payment_ids=ids)

        return replace((yield from self._ask_payment(ids[0])), payment_ids=ids)

    def list_refunds(self, subject: Subject, cursor: str | None = None) -> Generator[Ask, httpx.Response, Page]:
        """GET /refunds/{id}, else GET /refunds: all of the account, page by page (SDKs: no filter is known)."""
        if subject.provider_refund_id is not None:
            return (yield from self._list_one(subject.provider_refund_id))
        params = {"maxResults": str(PAGE_SIZE)} | ({"pageToken": cursor} if cursor else {})
        response = yield Ask(self._get("/refunds", **params))
        body = wire.json_object(response.content)
        data = body.get("data") if body else None
        if response.status_code != httpx.codes.OK or body is None or not isinstance(data, list):
            return Page(problem=f"HTTP {response.status_code} without a list")
        readable = _readable(data)
        if len(readable) != len(data):
            return Page(problem="the list holds something that is no refund")

        return Page(refunds=tuple(map(self._shown, readable)), following=wire.text(body.get("nextPageToken")))

    def _list_one(self, refund_id: str) -> Generator[Ask, httpx.Response, Page]:
        response = yield Ask(self._get(f"/refunds/{_segment(refund_id)}"))
        body = wire.json_object(response.content)
        if response.status_code == httpx.codes.NOT_FOUND and _code(body) == "refund.not-found":
            return Page()
        if response.status_code != httpx.codes.OK or body is None or _id(body) != refund_id:
            return Page(problem=f"HTTP {response.status_code} without the refund")

        return Page(refunds=(self._shown(body),))

    def ping(self) -> Generator[Ask, httpx.Response, Health]:
        """A page of one refund needs the secret key and changes nothing."""
        response = yield Ask(self._get("/refunds", maxResults="1"))
        match response.status_code:
            case 200:
                return Health.OK
            case 401:
                return Health.CREDENTIALS_REFUSED
            case _:
                return Health.UNREACHABLE

    def notification(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:
        """`Smartpay-Signature` over `timestamp.body`, the timestamp in milliseconds (SDKs)."""
        stamp = headers.get("smartpay-signature-timestamp", "")
        secrets = [each.get_secret_value() for each in self._settings.webhook_secret]
        given = wire.octets(headers.get("smartpay-signature", ""))
        message = wire.octets(stamp) + b"." + body
        if not wire.matches(given, (signature(secret, message) for secret in secrets)):
            raise NotificationRefused("the signature does not match")
        sent = wire.stamp(stamp)
        if sent is None or abs(now - sent / 1000) > SIGNATURE_TOLERANCE:
            raise NotificationRefused("the time stamp is not within 300 seconds")
        event = wire.json_object(body)
        about = event.get("eventData") if event else None
        if event is None or not isinstance(about, dict):
            raise NotificationUnreadable("the body is not an event")

        return self._notification(event, about, headers)

    def _notification(self, event: Record, about: Record, headers: Mapping[str, str]) -> Notification:
        data = about.get("data")
        refund = data if isinstance(data, dict) and data.get("object") == "refund" else {}
        refund_id = _id(refund)

        return Notification(
            event_id=wire.text(event.get("id")) or headers.get("smartpay-event-id"),
            kind=wire.text(about.get("type")) or "",
            provider_refund_ids=(refund_id,) if refund_id else (),
            handle=_handle_of(refund),
            payment_id=_payment_of(refund),
            claims=(self._shown(refund),) if refund_id else (),
        )

    def _create(self, order: RefundOrder, amount: int, currency: str) -> httpx.Request:
        shops = islice(((key, value) for key, value in order.metadata.items() if key != METADATA_HANDLE), 19)

        return wire.post(
            f"{self._base}/refunds",
            {
                "payment": order.payment_id,
                "amount": to_minor(to_major(amount, currency), currency, decimals=self._decimals(currency)),
                "currency": currency,
                "reason": order.reason if order.reason in REASONS else "requested_by_customer",
                "reference": order.reference,
                "description": order.description,
                "lineItems": [str(item["id"]) for item in order.items if item.get("id") is not None],
                "metadata": {METADATA_HANDLE: order.handle, **dict(shops)},
            },
            {**JSON, "Idempotency-Key": order.handle},
        )

    def _get(self, path: str, **params: str) -> httpx.Request:
        return wire.get(f"{self._base}{path}", JSON, params)

    def _judge_refund(self, response: httpx.Response, order: RefundOrder) -> Outcome:
        body = wire.json_object(response.content)
        if response.status_code == httpx.codes.OK and body is not None:
            return self._judge(body, order)
        code = _code(body)
        if response.status_code in KEY_FAULT_STATUS and KEY_FAULT in code:
            return Unknown(reason=f"Smartpay refuses the key: {code}", contradiction=True)
        kind = REFUSALS.get((response.status_code, code))
        if kind is None:
            return _no_answer(response, body)

        return Declined(code=code, message=wire.text((body or {}).get("message"), 400) or "", kind=kind)

    def _judge(self, refund: Record, order: RefundOrder) -> Outcome:
        """What a refund object proves, once it is known to be ours."""
        refund_id = _id(refund)
        if refund_id is None or refund.get("object", "refund") != "refund":
            return Unknown(reason="HTTP 200 without a refund")
        if _payment_of(refund) not in (None, order.payment_id):
            return Unknown(reason="Smartpay answers with a refund of another payment", contradiction=True)
        if _handle_of(refund) not in (None, order.handle):
            return Unknown(reason="Smartpay answers with a refund of another handle", contradiction=True)

        return self._judge_word(refund.get("status"), self._facts(refund, refund_id, order))

    def _judge_word(self, word: object, facts: Facts) -> Outcome:
        match self._statuses.get(word) if isinstance(word, str) else None:
            case "succeeded":
                return Succeeded(facts=facts)
            case "failed":
                return Declined(code=facts.status or "failed", own_record=True, facts=facts)
            case "pending":
                return Pending(facts=facts)
            case _ if word is None:
                return Pending(facts=replace(facts, alert="Smartpay answered a refund without a status"))
            case _:
                alert = f"Smartpay answered a status we do not know: {facts.status}"
                return Pending(facts=replace(facts, alert=alert))

    def _facts(self, refund: Record, refund_id: str, order: RefundOrder) -> Facts:
        currency = wire.currency(refund.get("currency"))
        word = refund.get("status")

        return Facts(
            provider_refund_id=refund_id,
            status=None if word is None else wire.text(word) or "(not a word)",
            amount=self._minor(refund.get("amount"), currency or order.currency),
            currency=currency,
        )

    def _shown(self, refund: Record) -> Listed:
        word, created = refund.get("status"), wire.integer(refund.get("createdAt"))
        known = self._statuses.get(word) if isinstance(word, str) else None
        currency = wire.currency(refund.get("currency"))

        return Listed(
            provider_refund_id=_id(refund),
            handle=_handle_of(refund),
            payment_id=_payment_of(refund),
            amount=self._minor(refund.get("amount"), currency),
            currency=currency,
            verdict=wire.verdict(known),
            status=wire.text(word),
            at=None if created is None else created / 1000,
        )

    def _expanded(self, listed: list[Any]) -> Generator[Ask, httpx.Response, _Found]:
        """The refunds of a payment, those that came as ids read one by one."""
        records: list[Record] = []
        for each in listed:
            if not isinstance(each, str):
                records.append(each)
                continue
            response = yield Ask(self._get(f"/refunds/{_segment(each)}"))
            body = wire.json_object(response.content)
            if response.status_code != httpx.codes.OK or body is None:
                return _Found(_readable(records), _no_answer(response, body))
            records.append(body)

        return _complete(records)

    def _listing(self) -> Generator[Ask, httpx.Response, _Found]:
        """GET /refunds, page by page: complete once a page names no next one."""
        records: list[Record] = []
        params = {"maxResults": str(PAGE_SIZE)}
        for _ in range(MAX_PAGES):
            response = yield Ask(self._get("/refunds", **params))
            body = wire.json_object(response.content)
            page = body.get("data") if body else None
            if response.status_code != httpx.codes.OK or body is None or not isinstance(page, list):
                return _Found(_readable(records), _no_answer(response, body))
            records += page
            token = body.get("nextPageToken")
            if not token:
                return _complete(records)
            params["pageToken"] = str(token)

        return _Found(_readable(records), Unknown(reason=f"not among the first {len(records)} refunds"))

    def _pick(self, found: _Found, order: RefundOrder) -> Outcome:
        """Ours by our handle; else, in a complete list, the only one without a handle that fits."""
        records = {_id(record): record for record in found.records}.values()
        ours = [record for record in records if _handle_of(record) == order.handle]
        if not ours and found.gap is None:
            ours = [record for record in records if self._fits(record, order)]
        match ours:
            case []:
                return found.gap or Absent()
            case [one]:
                return self._judge(one, order)
            case _:
                return Unknown(reason=f"{len(ours)} refunds could be ours", contradiction=True)

    def _fits(self, record: Record, order: RefundOrder) -> bool:
        return (
            _handle_of(record) is None
            and _payment_of(record) == order.payment_id
            and record.get("reference") == order.reference
            and self._minor(record.get("amount"), order.currency) == order.amount
        )

    def _ask_payment(self, payment_id: str) -> Generator[Ask, httpx.Response, PaymentFacts]:
        response = yield Ask(self._get(f"/payments/{_segment(payment_id)}", expand="all"))
        body = wire.json_object(response.content)
        if response.status_code != httpx.codes.OK or body is None:
            return _no_payment(response, body)

        return self._payment_facts(body)

    def _payment_facts(self, payment: Record) -> PaymentFacts:
        currency = wire.text(payment.get("currency"), 8)
        captured = self._minor(payment.get("amount"), currency)
        if captured is None or captured < 0:
            return PaymentFacts(problem="the payment came without amount and currency")

        return PaymentFacts(captured=captured, refunded=self._refunded(payment, currency), currency=currency)

    def _refunded(self, payment: Record, currency: str | None) -> int | None:
        """The sum of the refunds that did not fail; None unless all of them came as objects."""
        listed = payment.get("refunds")
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            return None
        counted = [each for each in listed if each.get("status") != "failed"]
        amounts = [self._minor(each.get("amount"), currency) for each in counted]
        known = [amount for amount in amounts if amount is not None and amount >= 0]

        return sum(known) if len(known) == len(counted) else None

    def _minor(self, value: object, currency: str | None) -> int | None:
        """An answered amount in ISO minor units, as `wire.minor_amount` reads it."""
        return wire.minor_amount(value, currency, self._settings.currency_exponents.get(currency or ""))

    def _decimals(self, currency: str) -> int:
        return self._settings.currency_exponents.get(currency, exponent(currency))

    def _environment(self) -> str:
        """SDKs: keys are sk_test_... or sk_live_..."""
        kind, _, rest = self._settings.secret_key.get_secret_value().partition("_")
        environment = rest.partition("_")[0]

        return environment if kind == "sk" and environment in ("test", "live") else "unknown"

    def _warnings(self, order: RefundOrder) -> tuple[str, ...]:
        other = {"test": "_live_", "live": "_test_"}.get(self._environment())
        if other and other in (order.payment_id or order.order_id or ""):
            return (f"a {other.strip('_')} payment is not visible to a {self._environment()} key",)

        return ()


def signing_key(secret: str) -> bytes:
    """The base62 secret (A-Z a-z 0-9, A is 0) as a big-endian number of 30 bytes.

    SDKs and the vendor's Java example. A secret too short or too long for 30 bytes is decoded as base-x does:
    one zero byte for each leading A, then the number.
    """
    number = 0
    for digit in secret:
        number = number * len(DIGITS) + DIGITS[digit]
    size = (number.bit_length() + 7) // 8
    if len(secret) >= SIGNING_KEY_MIN_DIGITS and size <= SIGNING_KEY_BYTES:
        return number.to_bytes(SIGNING_KEY_BYTES, "big")

    return bytes(len(secret) - len(secret.lstrip("A"))) + number.to_bytes(size, "big")


def signature(secret: str, message: bytes) -> str:
    """Lower-case hex HMAC-SHA256."""
    return hmac.new(signing_key(secret), message, hashlib.sha256).hexdigest()


def _no_answer(response: httpx.Response, body: Record | None) -> Outcome:
    """What any call's answer means that neither shows the refund nor is a known refusal of it."""
    match response.status_code:
        case 401:
            return NotSent(reason=NotSentReason.CREDENTIALS, detail="HTTP 401")
        case 429:
            return NotSent(reason=NotSentReason.THROTTLED, retry_after=wire.retry_after(response))
        case _ if body is None:
            return wire.unreadable(response)
        case status:
            return Unknown(reason=f"HTTP {status} {_code(body) or 'without a known code'}")


def _no_payment(response: httpx.Response, body: Record | None) -> PaymentFacts:
    code = _code(body)
    missing = response.status_code == httpx.codes.NOT_FOUND and code in (
        "payment.not-found",
        "order.not-found",
    )

    return PaymentFacts(
        problem=f"HTTP {response.status_code} {code}".strip(),
        problem_code=code if missing else None,
        final=missing,
        credentials_refused=response.status_code == httpx.codes.UNAUTHORIZED,
    )


def _order_without_payment(order: Record) -> PaymentFacts:
    status = order.get("status")
    final = isinstance(status, str) and status in NO_PAYMENT_WILL_COME and order.get("payments") == []

    return PaymentFacts(
        problem=f"the order shows no payment (status {wire.text(status)})",
        problem_code="order.no-payment" if final else None,
        final=final,
    )


def _complete(records: list[Record]) -> _Found:
    readable = _readable(records)
    gap = None if len(readable) == len(records) else Unknown(reason="the list holds something that is no refund")

    return _Found(readable, gap)


def _readable(records: Iterable[object]) -> tuple[Record, ...]:
    return tuple(record for record in records if isinstance(record, dict) and _id(record))


def _segment(value: str | None) -> str:
    return quote(value or "", safe="")


def _code(body: Record | None) -> str:
    return (wire.text(body.get("errorCode"), 100) if body else None) or ""


def _id(value: object) -> str | None:
    """The id of an object, or of what came as an id only."""
    found = value.get("id") if isinstance(value, dict) else value

    return found if isinstance(found, str) and found else None


def _payment_of(refund: Record) -> str | None:
    return _id(refund.get("payment"))


def _handle_of(refund: Record) -> str | None:
    metadata = refund.get("metadata")

    return wire.text(metadata.get(METADATA_HANDLE)) if isinstance(metadata, dict) else None


def create(settings: AdapterSettings) -> Smartpay:
    """Entry point."""
    if not isinstance(settings, SmartpaySettings):
        raise TypeError("a smartpay account needs its own settings")

    return Smartpay(settings)


Settings = SmartpaySettings
