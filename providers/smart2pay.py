"""Smart2Pay GlobalPay (Nuvei): refunds of alternative payment methods (apm) and of cards.

Documents: https://docs-apm.nuvei.com/category/refunds-api/ ("Create a refund", details, list, types and
notification), globalpay-return-codes, direct-card-return-codes. Two systems behind one URL shape, with hosts
and return codes of their own. Amounts are integers with two fixed decimals. A repeated MerchantTransactionID
is an error (20) that does not show the first refund, so a lost answer is looked up in the payment's list.
"""

import base64
import hmac
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from pydantic import BeforeValidator, Field, SecretStr

from domain.errors import InvalidMoney
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
    Stores,
    Subject,
)

HOSTS = {"apm": "https://globalpay.smart2pay.com", "card": "https://secure.smart2pay.com"}

CAPABILITIES = Capabilities(
    recovery=Recovery.LOOKUP,
    deduplicates=True,
    stores=Stores.EVERYTHING,
    handle_lifetime=86_400.0,  # idempotence page: cards keep a RequestId for 24 hours; apm is not documented
    handle_max_length=50,
    lookup=True,
    matches_handle=True,
    lookup_delay=5.0,
    exclusive=Exclusive.ALWAYS,
    payment_facts=True,
    acknowledges=204,  # payment-notification: with any other answer it comes again
    lists=frozenset({Lists.PAYMENT}),
    read_timeout=60.0,
    poll_schedule=(60.0, 300.0, 1800.0, 3600.0),
    poll_horizon=1_209_600.0,  # refunds API: the slowest methods take 10 business days
)

# Status codes page. 3 and 5 are documented for payments only: not a no to a refund.
STATUSES = dict.fromkeys(("1", "6", "7", "8", "18"), "pending") | {"2": "succeeded", "4": "failed"}
# The same page: a payment in one of these was paid, and not yet taken back as a whole.
CAPTURED = frozenset({"2", "11", "21", "25", "35"})


class Reason(StrEnum):
    """What a return code says about a refund; the most careful first, for answers with several."""

    DUPLICATE = "duplicate"
    AMBIGUOUS = "ambiguous"
    BUSY = "busy"
    CREDENTIALS = "credentials"
    FIXABLE = "fixable"
    FINAL = "final"


# globalpay-return-codes (up to 128; 134 from "Create a refund") and direct-card-return-codes. What is in
# neither is ambiguous; so are "try again later" (16, 125, 1010) and codes that belong to other calls.
APM = {
    Reason.FINAL: (1, 2, 5, 9, 11, 17, 18, 19, 100, 118, 120, 128),
    Reason.FIXABLE: (101, 102, 116, 117, 119, 123, 124, 126),
    Reason.DUPLICATE: (20,),
    Reason.BUSY: (134,),
    Reason.AMBIGUOUS: (0, 14, 15, 16, 121, 122, 125),
    Reason.CREDENTIALS: (3, 4, 6, 7, 127),
}
CARD = {
    Reason.FINAL: (1, 2, 17, 103, 104, 109, 110, 111, 120, *range(2200, 2207), 2208, 2209),
    Reason.FIXABLE: (100, 101, 105),
    Reason.DUPLICATE: (20, 23),
    Reason.BUSY: (2207,),
    Reason.AMBIGUOUS: (13, 18, 19, 21, 22, 1010, 1801, *range(4996, 5001), 5288),
}
REASONS = {
    flavour: {code: reason for reason, codes in table.items() for code in codes}
    for flavour, table in (("apm", APM), ("card", CARD))
}
# Status codes page: these say no to the request; with a known reason that is an answer.
REFUSALS = frozenset({400, 402, 404})
BUSY_RETRY = 30.0

# "Create a refund", the table of LATAM methods: without these the local provider asks the customer.
LATAM_METHODS = (
    *(32, 1080, 1081, 1083, 1084, 1086, 1087, 1089, 1090, 1092, 1093, 1094, 1096, 1098, 1099, 1103, 1104),
    *(1107, 1108),
)
LATAM = frozenset(map(str, LATAM_METHODS))
LATAM_BANK = ("account_number", "account_type", "bank_name", "branch")
KLARNA_INVOICE = frozenset({"klarna_invoice", "75"})
KLARNA_PAY_NOW = "klarna_pay_now"

# Our names, and the members of Details, Customer and the two addresses (refund types, SDK).
DETAILS = {
    "account_number": "CustomerAccountNumber",
    "holder_document": "CPFAccountHolder",
    "bank_name": "BankName",
    "account_type": "BankAccountType",
    "branch": "BankBranch",
    "bank_code": "BankCode",
    "agency_code": "BankAgencyCode",
    "swift": "BankSWIFTID",
    "sort_code": "BankSortCode",
    "iban": "CustomerIBAN",
}
CUSTOMER = {
    "reference": "MerchantCustomerID",
    "email": "Email",
    "first_name": "FirstName",
    "last_name": "LastName",
    "document": "SocialSecurityNumber",
    "phone": "Phone",
}
PLACE = ("city", "zip_code", "state", "street", "street_number", "house_number", "house_extension", "country")
ADDRESS = {name: name.title().replace("_", "") for name in PLACE}
KINDS = frozenset({"Refund", "Payment", "Preapproval", "Payout", "Dispute"})

CONTENT_TYPE = {"Content-Type": "application/json; charset=utf-8"}
DECIMALS = 2
NUMBER = re.compile(r"[0-9]{1,12}")
TOKEN = re.compile(r"[0-9a-zA-Z_-]{1,50}")
NAME = re.compile(r".{1,50}")
LINE = re.compile(r".{1,255}")


class Smart2PaySettings(AdapterSettings):
    """Keys of a `smart2pay` account; the flavour gives the host where `base_url` does not."""

    base_url: str = ""
    site_id: Annotated[str, BeforeValidator(str), Field(pattern=r"^[0-9]+$")]
    api_key: HeaderSecret = Field(min_length=1)
    flavour: Literal["apm", "card"] = "apm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A refund as Smart2Pay shows it; absent are `number` 0, `status` "", `reason` None. -1: not readable."""

    handle: str | None
    number: int
    status: str
    verdict: str | None
    reason: Reason | None
    code: str
    message: str
    facts: Facts

    @property
    def refuses(self) -> bool:
        """Failed, or rejected before there was a status."""
        return not self.status or self.verdict == "failed"


class Smart2Pay:
    """One Smart2Pay site."""

    name: ClassVar[str] = "smart2pay"
    Settings: ClassVar[type[AdapterSettings]] = Smart2PaySettings

    def __init__(self, settings: Smart2PaySettings) -> None:
        self._settings = settings
        self._base = (settings.base_url or HOSTS[settings.flavour]).rstrip("/")
        self._statuses = STATUSES | settings.status_map
        self._reasons = REASONS[settings.flavour]
        self._credentials = _basic(settings.site_id, settings.api_key)

    @property
    def capabilities(self) -> Capabilities:
        """One refund at a time per payment: a second one is refused (134, 2207)."""
        return replace(CAPABILITIES, exponents=self._settings.currency_exponents)

    @property
    def fingerprint(self) -> str:
        """A MerchantTransactionID is unique per site (websites API)."""
        return f"smart2pay {self._base} {self._settings.site_id}"

    def handle(self, token: UUID) -> str:
        """The MerchantTransactionID: `^[0-9a-zA-Z_-]{1,50}$`."""
        return f"rf_{token.hex}"

    def check(self, order: RefundOrder, fault: JobFault) -> tuple[str, ...]:
        """The field rules of "Create a refund" and of the SDKs."""
        for pointer, value, rule in (
            ("#/payment/id", order.payment_id or "", NUMBER),
            ("#/payment/capture_id", order.capture_id, NUMBER),
            ("#/amount", str(order.amount or 1), NUMBER),
            ("#/description", order.description or None, LINE),
            ("#/originator_reference", order.originator_reference, TOKEN),
            ("#/customer/first_name", order.customer.get("first_name") or None, NAME),
            ("#/customer/last_name", order.customer.get("last_name") or None, NAME),
        ):
            if value is not None and not rule.fullmatch(value):
                fault(pointer, f"Smart2Pay takes {rule.pattern}")
        if order.method in KLARNA_INVOICE and not order.items:
            fault("#/items", "Klarna Invoice needs the articles that come back")
        try:
            self._wire_amount(order.amount or 100, order.currency or "EUR")
        except InvalidMoney as error:
            fault("#/currency", str(error))

        return self._warnings(order)

    def authorize(self, request: httpx.Request) -> httpx.Request:
        """Basic SiteID:ApiKey (authentication)."""
        request.headers["Authorization"] = self._credentials

        return request

    def refund(self, order: RefundOrder) -> Conversation:
        """POST /v1/payments/{id}/refunds; after "another refund is in process" the payment's list, too."""
        if order.amount is None or order.currency is None:
            return NotSent(reason=NotSentReason.ASK_FAILED, detail="the amount is not known yet")
        body = self._body(order, self._wire_amount(order.amount, order.currency))
        headers = CONTENT_TYPE | {"RequestId": str(uuid5(NAMESPACE_URL, order.handle))}
        response = yield Move(wire.post(self._url(order), {"Refund": body}, headers))
        record = self._answered(response, order)
        if not isinstance(record, Record):
            return record
        if record.refuses and record.reason is Reason.BUSY:
            return self._judge_busy(record, (yield Ask(wire.get(self._url(order)))), order)

        return self._judge_created(response, record, order)

    def status(self, order: RefundOrder) -> Question:
        """GET /v1/payments/{id}/refunds/{refund id}."""
        response = yield Ask(wire.get(f"{self._url(order)}/{order.provider_refund_id}"))
        record = self._answered(response, order)
        if not isinstance(record, Record):
            return record
        if response.status_code == HTTPStatus.OK and record.handle == order.handle:
            return self._judge(record)

        return Unknown(reason=f"HTTP {response.status_code} without our MerchantTransactionID")

    def lookup(self, order: RefundOrder) -> Question:
        """GET /v1/payments/{id}/refunds: the one with our MerchantTransactionID."""
        response = yield Ask(wire.get(self._url(order)))
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            return NotSent(reason=NotSentReason.CREDENTIALS, detail="HTTP 401")
        found = self._listed(response, order)

        return self._judge(found) if isinstance(found, Record) else found

    def payment(self, order: RefundOrder) -> Generator[Ask, httpx.Response, PaymentFacts]:
        """GET /v1/payments/{id}: cards show CapturedAmount, the sum of their captures."""
        response = yield Ask(wire.get(f"{self._base}/v1/payments/{order.payment_id}"))
        payment = _object(wire.json_object(response.content), "Payment")
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            return PaymentFacts(problem="HTTP 401", credentials_refused=True)
        if response.status_code != HTTPStatus.OK or not payment:
            reason, code, _ = self._reason(_object(payment, "Status"))
            final = reason is Reason.FINAL and response.status_code in REFUSALS
            return PaymentFacts(problem=f"HTTP {response.status_code}", problem_code=code or None, final=final)
        currency = wire.text(payment.get("Currency"))
        captured = self._minor(_captured(payment), currency)

        return PaymentFacts(captured=captured if captured and captured > 0 else None, currency=currency)

    def list_refunds(self, subject: Subject, cursor: str | None = None) -> Generator[Ask, httpx.Response, Page]:  # noqa: ARG002
        """GET /v1/payments/{id}/refunds, made by whomever. Chargebacks are no refunds there, and not in the list."""
        response = yield Ask(wire.get(self._url(subject)))
        body = wire.json_object(response.content)
        refunds = body.get("Refunds") if body is not None else None
        if response.status_code != HTTPStatus.OK or not isinstance(refunds, list):
            return Page(problem=f"HTTP {response.status_code} without the payment's refunds")
        shown = [self._shown(each, subject.payment_id, subject.currency) for each in refunds]
        readable = tuple(each for each in shown if each is not None)

        return Page(refunds=readable, problem=None if len(readable) == len(shown) else "a refund cannot be read")

    def ping(self) -> Generator[Ask, httpx.Response, Health]:
        """A payment that cannot be: wrong credentials get a 401 before it is looked for (status codes)."""
        response = yield Ask(wire.get(f"{self._base}/v1/payments/0"))
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            return Health.CREDENTIALS_REFUSED
        known = response.status_code == HTTPStatus.OK or response.status_code in REFUSALS

        return Health.OK if known and wire.json_object(response.content) else Health.UNREACHABLE

    def notification(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:  # noqa: ARG002
        """The site's own SiteID:ApiKey; the root key tells the kind (payment-notification-security)."""
        given = headers.get("authorization", "")
        if not hmac.compare_digest(wire.octets(given), self._credentials.encode()):
            raise NotificationRefused("the credentials are not this site's")
        event = wire.json_object(body) or {}
        kind = next((name for name in event if name in KINDS), "")
        subject = _object(event, kind)
        if not subject:
            raise NotificationUnreadable("the body is not an event")
        if kind != "Refund":
            payment = _id(subject.get("ID")) if kind == "Payment" else None
            return Notification(kind=kind.lower(), payment_id=payment)
        refund = _id(subject.get("ID"))
        claim = self._shown(subject, _id(subject.get("InitialPaymentID")), None)

        return Notification(
            kind="refund",
            provider_refund_ids=(refund,) if refund else (),
            handle=wire.text(subject.get("MerchantTransactionID")),
            payment_id=_id(subject.get("InitialPaymentID")),
            claims=(claim,) if claim is not None else (),
        )

    def _shown(self, refund: object, payment_id: str | None, currency: str | None) -> Listed | None:
        """One refund of an answer or a notification; None where it has no number yet."""
        record = self._read(refund, currency)
        if record is None or record.facts.provider_refund_id is None:
            return None

        return Listed(
            provider_refund_id=record.facts.provider_refund_id,
            reconciliation_id=record.facts.reconciliation_id,
            handle=record.handle,
            payment_id=payment_id,
            amount=record.facts.amount,
            currency=record.facts.currency,
            verdict=wire.verdict(record.verdict),
            status=record.facts.status,
        )

    def _url(self, order: RefundOrder | Subject) -> str:
        return f"{self._base}/v1/payments/{order.payment_id}/refunds"

    def _warnings(self, order: RefundOrder) -> tuple[str, ...]:
        warnings = []
        missing = [name for name in LATAM_BANK if not order.bank_account.get(name)]
        missing += [name for name in ("first_name", "last_name") if not order.customer.get(name)]
        if order.method in LATAM and missing:
            warnings.append(f"without {', '.join(missing)} the local provider asks the customer first")
        if self._settings.flavour == "apm" and (order.capture_id or order.statement_descriptor):
            warnings.append("capture_id and statement_descriptor are for cards only and are not sent")

        return tuple(warnings)

    def _body(self, order: RefundOrder, amount: int) -> dict[str, Any]:
        """The members that are set; null is documented for none of them."""
        card = self._settings.flavour == "card"
        members = {
            "MerchantTransactionID": order.handle,
            "OriginatorTransactionID": order.originator_reference,
            "Amount": amount,
            "Currency": order.currency if order.method == KLARNA_PAY_NOW else None,
            "Description": order.description,
            "StatementDescriptor": order.statement_descriptor if card else None,
            "CaptureID": int(order.capture_id) if card and order.capture_id else None,
            "Articles": [{"MerchantArticleID": i["id"], "Quantity": i.get("quantity", 1)} for i in order.items],
            "Details": _renamed(_bank(order.bank_account), DETAILS),
            "Customer": _renamed(order.customer, CUSTOMER),
            "BillingAddress": _renamed(order.customer.get("address"), ADDRESS),
            "BankAddress": _renamed(order.bank_account.get("address"), ADDRESS),
        }

        return {name: value for name, value in members.items() if value}

    def _decimals(self, currency: str) -> int:
        """Raises InvalidMoney where the documents leave the decimals open."""
        configured = self._settings.currency_exponents.get(currency)
        if configured is None and exponent(currency) != DECIMALS:
            raise InvalidMoney(f"Smart2Pay has two decimals, {currency} has not: see currency_exponents")

        return DECIMALS if configured is None else configured

    def _wire_amount(self, amount: int, currency: str) -> int:
        return to_minor(to_major(amount, currency), currency, decimals=self._decimals(currency))

    def _minor(self, value: object, currency: str | None) -> int | None:
        """An amount on the wire as ISO minor units: None where it is absent, -1 where it cannot be read."""
        if value is None:
            return None
        try:
            decimals = self._decimals(currency or "")
        except InvalidMoney:
            return wire.NO_AMOUNT

        return wire.minor_amount(_integer(value), currency, decimals)

    def _answered(self, response: httpx.Response, order: RefundOrder) -> Record | Outcome:
        """The refund of an answer, or the outcome of an answer without one."""
        if response.status_code in wire.AMBIGUOUS_STATUS:
            return wire.ambiguous(response)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            return NotSent(reason=NotSentReason.CREDENTIALS, detail="HTTP 401")
        body = wire.json_object(response.content)
        if body is None:
            return wire.unreadable(response)
        record = self._read(body.get("Refund"), order.currency)
        if record is None:
            return wire.ambiguous(response)
        if record.handle not in (None, order.handle):
            known = order.provider_refund_id is not None
            return Unknown(reason="the answer has another MerchantTransactionID", contradiction=known)

        return record

    def _read(self, refund: object, ours: str | None) -> Record | None:
        """One object of an answer: amounts and codes are numbers or texts, cards may say StateDetails."""
        if not isinstance(refund, dict):
            return None
        state = _object(refund, "Status") or _object(refund, "StateDetails")
        number, status = _integer(refund.get("ID")), state.get("ID")
        reason, code, message = self._reason(state)
        currency = wire.currency(refund.get("Currency"))

        return Record(
            handle=wire.text(refund.get("MerchantTransactionID")) or None,
            number=number,
            status="" if status is None else str(_integer(status)),
            verdict=self._statuses.get(str(_integer(status))),
            reason=reason,
            code=code,
            message=message,
            facts=Facts(
                provider_refund_id=_id(number),
                status=wire.text(state.get("Info")) or wire.text(status),
                amount=self._minor(refund.get("Amount"), currency or ours),
                currency=currency,
                reconciliation_id=wire.text(refund.get("MethodTransactionID")),
            ),
        )

    def _reason(self, state: Mapping[str, Any]) -> tuple[Reason | None, str, str]:
        """The most careful reading of the reasons, the first code, and their texts."""
        listed = state.get("Reasons")
        if not listed:
            return None, "", ""
        reasons = [each if isinstance(each, dict) else {} for each in listed] if isinstance(listed, list) else [{}]
        codes = [_integer(each.get("Code")) for each in reasons]
        classes = {self._reasons.get(code, Reason.AMBIGUOUS) for code in codes}
        texts = "; ".join(wire.text(each.get("Info")) or "" for each in reasons)

        return next(reason for reason in Reason if reason in classes), str(codes[0]), texts[:400]

    def _judge(self, record: Record) -> Outcome:
        """The provider's record of our handle."""
        match record.verdict:
            case "succeeded":
                return Succeeded(facts=record.facts)
            case "pending":
                return Pending(facts=record.facts)
            case "failed" if record.reason is Reason.DUPLICATE:
                return Unknown(reason=f"{record.code}: {record.message}")
            case "failed":
                mend = record.reason in (Reason.FIXABLE, Reason.CREDENTIALS, Reason.BUSY)
                return Declined(
                    code=record.code or "FAILED",
                    message=record.message,
                    kind=DeclineClass.FIXABLE if mend else DeclineClass.FINAL,
                    own_record=record.number > 0,
                    facts=record.facts,
                )
            case _:
                alert = f"Smart2Pay answered the status {record.status or 'none'} ({record.facts.status})"
                return Pending(facts=replace(record.facts, alert=alert))

    def _judge_created(self, response: httpx.Response, record: Record, order: RefundOrder) -> Outcome:
        """The answer to our POST: a record of ours, or a refusal before there was one."""
        ours = record.handle == order.handle
        if ours and record.verdict == "failed" and record.number > 0:
            return self._judge(record)
        if ours and response.is_success and (record.verdict or record.number > 0):
            return self._judge(record)
        refused = not response.is_success and not record.number and record.refuses
        match record.reason:
            case Reason.FINAL | Reason.FIXABLE if refused:
                return Declined(code=record.code, message=record.message, kind=DeclineClass(record.reason))
            case Reason.CREDENTIALS if refused:
                return NotSent(reason=NotSentReason.CREDENTIALS, detail=f"{record.code}: {record.message}")
            case _:
                return Unknown(reason=f"HTTP {response.status_code} {record.code} {record.message}".rstrip())

    def _judge_busy(self, refused: Record, response: httpx.Response, order: RefundOrder) -> Outcome:
        """A new handle only where the list proves that this one moved nothing: failed, or never created."""
        busy = NotSent(reason=NotSentReason.BUSY, detail=refused.message, retry_after=BUSY_RETRY, renew_handle=True)
        match self._listed(response, order):
            case Absent() if not refused.number:
                return busy
            case Record(verdict="failed", reason=None | Reason.BUSY):
                return busy
            case Record() as record:
                return self._judge(record)
            case _:
                return Unknown(reason=f"{refused.code}, and the list does not settle it")

    def _listed(self, response: httpx.Response, order: RefundOrder) -> Record | Absent | Unknown:
        """Our record in the payment's list; Absent only where every record shows whose it is."""
        body = wire.json_object(response.content)
        refunds = body.get("Refunds") if body is not None else None
        if response.status_code != HTTPStatus.OK or not isinstance(refunds, list):
            return wire.ambiguous(response)
        records = [self._read(refund, order.currency) for refund in refunds]
        if any(record is None or record.handle is None for record in records):
            return Unknown(reason="a refund in the list cannot be read")
        ours = [record for record in records if record is not None and record.handle == order.handle]
        alive = [record for record in ours if record.verdict != "failed"] or ours[:1]
        if len(alive) > 1:
            return Unknown(reason="the list has our refund more than once", contradiction=True)

        return alive[0] if alive else Absent()


def _basic(user: str, password: SecretStr) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password.get_secret_value()}".encode()).decode()


def _object(body: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    value = body.get(name) if body is not None else None

    return value if isinstance(value, dict) else {}


def _integer(value: object) -> int:
    """A whole number that came as one or as text; absent it is 0, and what is no number is -1."""
    digits = wire.text(value) or ""

    return 0 if value is None else int(digits) if NUMBER.fullmatch(digits) else -1


def _id(value: object) -> str | None:
    """A number of the provider's; 0 stands for none yet."""
    number = _integer(value)

    return str(number) if number > 0 else None


def _renamed(source: object, names: Mapping[str, str]) -> dict[str, Any]:
    given = source if isinstance(source, Mapping) else {}

    return {theirs: given[ours] for ours, theirs in names.items() if given.get(ours)}


def _bank(account: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the BIC goes: beside an IBAN it is the BankCode (type 2, SEPA), else the BankSWIFTID (type 3)."""
    place = "bank_code" if account.get("iban") and not account.get("bank_code") else "swift"

    return {**account, place: account.get("bic")}


def _captured(payment: Mapping[str, Any]) -> object:
    """What was captured of the payment, over all its captures; its amount where the status says paid."""
    paid = str(_integer(_object(payment, "Status").get("ID"))) in CAPTURED

    return _integer(payment.get("CapturedAmount")) or (payment.get("Amount") if paid else None)


def create(settings: AdapterSettings) -> Smart2Pay:
    """Entry point."""
    if not isinstance(settings, Smart2PaySettings):
        raise TypeError("a smart2pay account needs its own settings")

    return Smart2Pay(settings)


Settings = Smart2PaySettings
