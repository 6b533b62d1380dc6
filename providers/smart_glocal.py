"""Smart Glocal: refunds of a payment session are accepted, then polled.

Documents: https://developer.smart-glocal.com/docs ("Payment refunds", reference pages format, session-refund,
session-status, objects, webhooks). What they leave out is taken from Bank 131, which speaks the same
protocol: hash and padding of the signature, the refund states, the error codes, the idempotency header.
Amounts are integers of the minor unit, currencies lower case. A repeated key is an error and no replay, so a
lost answer is looked up first: every answer lists all refunds of the session, and ours is told by its
metadata or by elimination.
"""

import base64
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeGuard
from uuid import UUID

import httpx
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from pydantic import Field, SecretStr, field_validator

from domain.money import exponent, to_major, to_minor
from domain.outcome import (
    Absent,
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
)

# No page names how long a key lives, how soon a session shows its refund, or a rate limit.
CAPABILITIES = Capabilities(
    recovery=Recovery.LOOKUP,
    deduplicates=True,
    stores=Stores.NOTHING,
    handle_lifetime=86_400.0,
    handle_max_length=36,
    lookup=True,
    matches_handle=False,
    lookup_delay=5.0,
    exclusive=Exclusive.ALWAYS,
    omit_amount=True,
    payment_facts=True,
    lists=frozenset({Lists.PAYMENT}),
    poll_schedule=(5.0, 15.0, 60.0, 300.0),
    poll_horizon=259_200.0,
)

# Refund states (pages session-refund and objects; `declined` and `error` Bank 131). The page payment-finished
# calls a session's `error` not final, so a refund's is not taken for a no either.
STATUSES = {"in_progress": "pending", "accepted": "succeeded", "declined": "failed", "error": "unfinished"}

# Error codes (Bank 131, page errors): no refund was made, for good or until the account is mended; the others
# leave it open, like any code that is not listed. A key that exists says that the first request arrived.
ERRORS = {
    "identification_error": "credentials",
    "authentication_error": "credentials",
    "authorization_error": "credentials",
    "invalid_request": "final",
    "amount_less_allowed_provider": "final",
    "provider_exceeds_amount_limit": "final",
    "confirm_timeout": "final",
    "capture_timeout": "final",
    "internal_error": "open",
    "provider_internal_error": "open",
    "provider_issuer_unavailable": "open",
    "provider_timeout": "open",
    "idempotency_key_already_exists": "open",
}

SESSION_OVER = frozenset({"accepted", "cancelled"})  # page objects: `error` is expressly not final
NOT_REFUNDED = frozenset({"declined", "error"})
NO_SESSION = "ps_0"


class SmartGlocalSettings(AdapterSettings):
    """Keys of a `smart_glocal` account, as PEM texts; of the provider's there may be several."""

    base_url: str = "https://proxy.smart-glocal.com"
    project: str = Field(pattern=r"^[!-~]+$")
    private_key: SecretStr
    provider_public_key: str = ""
    idempotency_header: str = Field(default="X-PARTNER-IDEMPOTENCY-KEY", pattern=r"^[A-Za-z0-9-]*$")
    submerchant: str = Field(default="", pattern=r"^[!-~]*$")

    @field_validator("private_key")
    @classmethod
    def _is_private_key(cls, value: SecretStr) -> SecretStr:
        _private_key(value.get_secret_value())

        return value

    @field_validator("provider_public_key")
    @classmethod
    def _is_public_key(cls, value: str) -> str:
        _public_keys(value)

        return value


@dataclass(frozen=True, slots=True)
class _Refund:
    """One refund or chargeback of a session, as it was answered; the amount in ISO minor units."""

    id: str
    status: object
    amount: int | None
    currency: str | None
    metadata: object
    chargeback: bool


class SmartGlocal:
    """One Smart Glocal project."""

    name: ClassVar[str] = "smart_glocal"
    Settings: ClassVar[type[AdapterSettings]] = SmartGlocalSettings

    def __init__(self, settings: SmartGlocalSettings) -> None:
        self._settings = settings
        self._base = settings.base_url.rstrip("/")
        self._statuses = STATUSES | settings.status_map
        self._capabilities = replace(
            CAPABILITIES,
            deduplicates=bool(settings.idempotency_header),
            exponents=settings.currency_exponents,
        )
        self._private_key = _private_key(settings.private_key.get_secret_value())
        self._provider_keys = _public_keys(settings.provider_public_key)

    @property
    def capabilities(self) -> Capabilities:
        """Without an idempotency header a repeat would be a second refund."""
        return self._capabilities

    @property
    def fingerprint(self) -> str:
        """Host, project and the legal entity behind it (page format)."""
        return f"smart_glocal {self._base} {self._settings.project} {self._settings.submerchant}".rstrip()

    def handle(self, token: UUID) -> str:
        """A UUID: no format is documented."""
        return str(token)

    def check(self, order: RefundOrder, fault: JobFault) -> tuple[str, ...]:
        """The session is all that is needed."""
        if not order.payment_id:
            fault("#/payment/id", "Smart Glocal needs the id of the payment session")

        return ()

    def authorize(self, request: httpx.Request) -> httpx.Request:
        """RSA PKCS#1 v1.5 with SHA-256 over the body exactly as sent, base64 (page format; Bank 131)."""
        signed = self._private_key.sign(request.read(), PKCS1v15(), SHA256())
        request.headers["X-PARTNER-SIGN"] = base64.b64encode(signed).decode()

        return request

    def refund(self, order: RefundOrder) -> Conversation:
        """POST session/refund, after the session has told which refunds it has already."""
        if not order.whole and (order.amount is None or order.currency is None):
            return NotSent(reason=NotSentReason.ASK_FAILED, detail="the amount is not known yet")
        seen = order.seen
        if seen is None:
            response = yield Ask(self._ask(order.payment_id))
            before = self._refunds(response, order)
            if not isinstance(before, tuple):
                return _not_begun(before, response)
            if any(each.metadata == order.handle for each in before):
                return self._find(before, order, nothing=Absent())
            seen = frozenset(each.id for each in before)
        response = yield Move(self._move(order), seen)
        refused = _refused(response)
        if refused is not None:
            return refused
        after = self._refunds(response, order)
        if not isinstance(after, tuple):
            return after
        missing = Unknown(reason="the session does not list our refund yet")

        return self._find(after, replace(order, seen=seen, missed=False), nothing=missing)

    def status(self, order: RefundOrder) -> Question:
        """POST session/status, by the refund's id."""
        response = yield Ask(self._ask(order.payment_id))
        refunds = self._refunds(response, order)
        if not isinstance(refunds, tuple):
            return refunds
        for refund in refunds:
            if refund.id == order.provider_refund_id:
                return self._judge(refund)

        return Unknown(reason="the session no longer lists the refund")

    def lookup(self, order: RefundOrder) -> Question:
        """POST session/status, by our handle in the metadata or by elimination."""
        response = yield Ask(self._ask(order.payment_id))
        refunds = self._refunds(response, order)

        return self._find(refunds, order, nothing=Absent()) if isinstance(refunds, tuple) else refunds

    def payment(self, order: RefundOrder) -> Generator[Ask, httpx.Response, PaymentFacts]:
        """POST session/status: what succeeded, less the refunds and chargebacks that did not fail."""
        response = yield Ask(self._ask(order.payment_id))
        session = _session(response, order)
        if isinstance(session, Outcome):
            refused = isinstance(session, NotSent)
            return PaymentFacts(problem=_not_begun(session, response).detail, credentials_refused=refused)

        return self._payment_facts(session)

    def list_refunds(self, subject: Subject, cursor: str | None = None) -> Generator[Ask, httpx.Response, Page]:  # noqa: ARG002
        """POST session/status: the refunds and chargebacks of every payment of the session."""
        response = yield Ask(self._ask(subject.payment_id))
        refunds = self._refunds(response, subject)
        if not isinstance(refunds, tuple):
            return Page(problem=_not_begun(refunds, response).detail)

        return Page(refunds=tuple(self._shown(each, subject.payment_id) for each in refunds))

    def ping(self) -> Generator[Ask, httpx.Response, Health]:
        """The status of a session that does not exist: the signature is checked before it is looked for."""
        response = yield Ask(self._ask(NO_SESSION))
        body = wire.json_object(response.content)
        if response.status_code == httpx.codes.UNAUTHORIZED or ERRORS.get(_error(body)[0]) == "credentials":
            return Health.CREDENTIALS_REFUSED
        if response.status_code in wire.AMBIGUOUS_STATUS or body is None or "status" not in body:
            return Health.UNREACHABLE

        return Health.OK

    def notification(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:  # noqa: ARG002
        """`X-PARTNER-SIGN` over the raw body (page webhooks); there is no timestamp."""
        signed = headers.get("x-partner-sign", "")
        if not any(_verifies(key, signed, body) for key in self._provider_keys):
            raise NotificationRefused("the signature does not match")
        event = wire.json_object(body)
        session = event.get("session") if event else None
        if event is None or not isinstance(session, dict):
            raise NotificationUnreadable("the body is not an event")
        refunds = self._listed(session) or ()
        own = [each for each in refunds if not each.chargeback]

        return Notification(
            kind=wire.text(event.get("type")) or "",
            provider_refund_ids=tuple(each.id for each in own),
            handle=wire.text(own[0].metadata) if len(own) == 1 else None,
            payment_id=wire.text(session.get("id")),
            chargebacks=tuple(each.id for each in refunds if each.chargeback),
            claims=tuple(self._shown(each, wire.text(session.get("id"))) for each in refunds),
        )

    def _ask(self, session_id: str | None) -> httpx.Request:
        return wire.post(f"{self._base}/api/v1/session/status", {"session_id": session_id}, self._headers())

    def _move(self, order: RefundOrder) -> httpx.Request:
        header = self._settings.idempotency_header

        return wire.post(
            f"{self._base}/api/v1/session/refund",
            {
                "session_id": order.payment_id,
                "amount_details": self._amount_details(order),
                "metadata": order.handle,
            },
            self._headers() | ({header: order.handle} if header else {}),
        )

    def _headers(self) -> dict[str, str]:
        submerchant = self._settings.submerchant

        return {"X-PARTNER-PROJECT": self._settings.project} | (
            {"X-PARTNER-SUBMERCHANT": submerchant} if submerchant else {}
        )

    def _amount_details(self, order: RefundOrder) -> dict[str, Any] | None:
        if order.whole or order.amount is None or order.currency is None:
            return None
        major = to_major(order.amount, order.currency)

        return {
            "amount": to_minor(major, order.currency, decimals=self._decimals(order.currency)),
            "currency": order.currency.lower(),
        }

    def _refunds(self, response: httpx.Response, order: RefundOrder | Subject) -> tuple[_Refund, ...] | Outcome:
        """All refunds of the session, or what the answer proves instead."""
        session = _session(response, order)
        if isinstance(session, Outcome):
            return session
        listed = self._listed(session, order.currency)

        return Unknown(reason="the session's refunds cannot be read") if listed is None else listed

    def _listed(self, session: Mapping[str, Any], ours: str | None = None) -> tuple[_Refund, ...] | None:
        """The refunds of every payment of a session, each once; None if anything cannot be read.

        `ours`: the currency in which an amount without one counts.
        """
        payments = session.get("acquiring_payments")
        if not _are_objects(payments):
            return None
        found: dict[str, _Refund] = {}
        for payment in payments:
            refunds = [] if payment.get("refunds") is None else payment["refunds"]
            if not _are_objects(refunds):
                return None
            for each in refunds:
                if not isinstance(each.get("id"), str) or not each["id"]:
                    return None
                found[each["id"]] = self._read(each, ours)

        return tuple(found.values())

    def _read(self, refund: Mapping[str, Any], ours: str | None) -> _Refund:
        amount, currency = self._amount(refund, ours)

        return _Refund(
            id=refund["id"],
            status=refund.get("status"),
            amount=amount,
            currency=currency,
            metadata=refund.get("metadata"),
            chargeback=bool(refund.get("is_chargeback")),
        )

    def _amount(self, holder: Mapping[str, Any], ours: str | None = None) -> tuple[int | None, str | None]:
        """`amount_details` in ISO minor units, in the currency `ours` where they name none, and their currency.

        None where one is absent; -1 for an amount that cannot be read.
        """
        details = holder.get("amount_details")
        if not isinstance(details, dict):
            return None if details is None else wire.NO_AMOUNT, None
        said = wire.currency(details.get("currency"))
        code = said.upper() if said else ours
        decimals = self._settings.currency_exponents.get(code or "")

        return wire.minor_amount(details.get("amount"), code, decimals), said and code

    def _decimals(self, currency: str) -> int:
        """Whether yen count as 1 or as 100 is not clear (page objects), so an account may say."""
        return self._settings.currency_exponents.get(currency, exponent(currency))

    def _shown(self, refund: _Refund, payment_id: str | None) -> Listed:
        known = self._statuses.get(refund.status) if isinstance(refund.status, str) else None
        alert = "Smart Glocal reports an error that is not final" if known == "unfinished" else None

        return Listed(
            provider_refund_id=refund.id,
            handle=wire.text(refund.metadata) or None,
            payment_id=payment_id,
            amount=refund.amount,
            currency=refund.currency,
            verdict=wire.verdict(known),
            status=wire.text(refund.status),
            chargeback=refund.chargeback,
            alert=alert,
        )

    def _find(self, refunds: Iterable[_Refund], order: RefundOrder, *, nothing: Outcome) -> Outcome:
        """Ours by our handle; else the only new one, if it is no chargeback and of equal amount."""
        ours = [each for each in refunds if each.metadata == order.handle]
        if len(ours) == 1:
            return self._judge(ours[0])
        if ours:
            return Unknown(reason=f"{len(ours)} refunds carry our handle", contradiction=True)
        new = [each for each in refunds if each.id not in (order.seen or ()) and not each.chargeback]
        if not new:
            return nothing
        if order.seen is None:
            return Unknown(reason="which refunds stood there before ours is not known")
        fitting = [each for each in new if each.metadata in (None, "") and _equal(each, order)]
        if len(fitting) != 1:
            return Unknown(reason=f"{len(new)} new refunds, {len(fitting)} could be ours", contradiction=True)
        if order.missed:
            words = f"refund {fitting[0].id} of equal amount appeared after ours had not been found: it may be ours"
            return Unknown(reason=words, contradiction=True)

        return self._judge(fitting[0])

    def _judge(self, refund: _Refund) -> Outcome:
        """What our own refund's record proves."""
        if refund.chargeback:
            return Unknown(reason="our refund stands as a chargeback", contradiction=True)
        word = refund.status
        facts = Facts(
            provider_refund_id=refund.id,
            status=wire.text(word),
            amount=refund.amount,
            currency=refund.currency,
        )
        match self._statuses.get(word) if isinstance(word, str) else None:
            case "succeeded":
                return Succeeded(facts=facts)
            case "failed":
                return Declined(code=facts.status or "declined", own_record=True, facts=facts)
            case "pending":
                return Pending(facts=facts)
            case "unfinished":
                return Pending(facts=replace(facts, alert="Smart Glocal reports an error that is not final"))
            case _:
                alert = f"Smart Glocal answered a status we do not know: {facts.status}"
                return Pending(facts=replace(facts, alert=alert))

    def _payment_facts(self, session: Mapping[str, Any]) -> PaymentFacts:
        payments, refunds = session.get("acquiring_payments"), self._listed(session)
        if not _are_objects(payments) or refunds is None:
            return PaymentFacts(problem="the session's payments cannot be read")
        paid = [self._amount(each) for each in payments if each.get("status") == "succeeded"]
        if not paid:
            return _nothing_paid(session)
        returned = [each for each in refunds if each.status not in NOT_REFUNDED]
        back = [(each.amount, each.currency) for each in returned]
        captured, refunded = _total(paid), _total(back)
        if captured is None or refunded is None or len({currency for _, currency in paid + back}) != 1:
            return PaymentFacts(problem="the session's amounts cannot be added up")

        return PaymentFacts(captured=captured, refunded=refunded, currency=paid[0][1])


def _session(response: httpx.Response, order: RefundOrder | Subject) -> dict[str, Any] | Outcome:
    """The session of an `ok` answer; else what the answer proves, which is never a refusal of the refund."""
    body = wire.json_object(response.content)
    code, _ = _error(body)
    if response.status_code == httpx.codes.UNAUTHORIZED:
        return NotSent(reason=NotSentReason.CREDENTIALS, detail=code or "HTTP 401")
    if body is None or response.status_code in wire.AMBIGUOUS_STATUS:
        return wire.unreadable(response) if body is None else wire.ambiguous(response)
    if ERRORS.get(code) == "credentials":
        return NotSent(reason=NotSentReason.CREDENTIALS, detail=code)
    session = body.get("session")
    if response.status_code != httpx.codes.OK or body.get("status") != "ok" or not isinstance(session, dict):
        return Unknown(reason=f"HTTP {response.status_code} {code or 'without a known code'}")
    if session.get("id") != order.payment_id:
        return Unknown(reason="Smart Glocal answers with another session", contradiction=True)

    return session


def _refused(response: httpx.Response) -> Declined | None:
    """A refusal of the refund call that the error table names."""
    code, message = _error(wire.json_object(response.content))
    proves_nothing = wire.AMBIGUOUS_STATUS | {httpx.codes.UNAUTHORIZED}
    if ERRORS.get(code) != "final" or response.status_code in proves_nothing:
        return None

    return Declined(code=code, message=message)


def _error(body: Mapping[str, Any] | None) -> tuple[str, str]:
    """Code and description; the HTTP status of an error is not documented, so `status` must say it."""
    error = body.get("error") if body and body.get("status") == "error" else None
    if not isinstance(error, dict):
        return "", ""

    return wire.text(error.get("code"), 100) or "", wire.text(error.get("description"), 400) or ""


def _not_begun(answer: Outcome, response: httpx.Response) -> NotSent:
    """Nothing has been sent yet, whatever went wrong."""
    if isinstance(answer, NotSent):
        return answer
    detail = answer.reason if isinstance(answer, Unknown) else ""

    return NotSent(reason=NotSentReason.ASK_FAILED, detail=detail, retry_after=wire.retry_after(response))


def _nothing_paid(session: Mapping[str, Any]) -> PaymentFacts:
    status = session.get("status")
    final = isinstance(status, str) and status in SESSION_OVER

    return PaymentFacts(
        problem=f"no payment of the session has succeeded (status {wire.text(status)})",
        problem_code="payment_not_succeeded" if final else None,
        final=final,
    )


def _total(amounts: Iterable[tuple[int | None, str | None]]) -> int | None:
    """The sum, or None if one of them is not known."""
    total = 0
    for amount, _ in amounts:
        if amount is None or amount < 0:
            return None
        total += amount

    return total


def _equal(refund: _Refund, order: RefundOrder) -> bool:
    return refund.amount is not None and (refund.amount, refund.currency) == (order.amount, order.currency)


def _are_objects(value: object) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _verifies(key: RSAPublicKey, signature: str, body: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), body, PKCS1v15(), SHA256())
    except (ValueError, InvalidSignature):
        return False

    return True


def _private_key(pem: str) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(pem.encode("ascii"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("an RSA private key in PEM, without a password") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("an RSA private key in PEM, without a password")

    return key


def _public_keys(bundle: str) -> tuple[RSAPublicKey, ...]:
    """One key, or several one after the other while it is being renewed."""
    begin = "-----BEGIN"
    head, *rest = bundle.split(begin)
    if head.strip():
        raise ValueError("an RSA public key in PEM")

    return tuple(_public_key(begin + each) for each in rest)


def _public_key(pem: str) -> RSAPublicKey:
    try:
        key = load_pem_public_key(pem.encode("ascii"))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("an RSA public key in PEM") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("an RSA public key in PEM")

    return key


def create(settings: AdapterSettings) -> SmartGlocal:
    """Entry point."""
    if not isinstance(settings, SmartGlocalSettings):
        raise TypeError("a smart_glocal account needs its own settings")

    return SmartGlocal(settings)


Settings = SmartGlocalSettings
