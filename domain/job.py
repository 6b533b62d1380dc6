"""A refund job as a shop hands it in: its fields, their rules, and when two jobs are the same."""

import hashlib
import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from domain.errors import FieldError, InvalidJob, InvalidMoney, NewerForm
from domain.money import MAX_MINOR, exponent

MAX_BYTES = 1_048_576
#: How the ledger keeps a job. Whoever changes what members mean, or adds one that changes what is paid, counts it up.
FORM = 1

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BREAK = re.compile(r"[\t\n\r]")
MAX_METADATA = 50
_FIRST_YEAR, _LAST_YEAR = 2000, 2200

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", re.ASCII)

#: Refusals of a job that are named alike whether the job itself or the ledger shows them.
OVER_CAP = "amount-exceeds-refundable"
OTHER_CURRENCY = "currency-mismatch"

Reason = Literal["requested_by_customer", "duplicate", "fraudulent", "other"]


def _currency(value: str) -> str:
    try:
        exponent(value)
    except InvalidMoney as error:
        raise ValueError(str(error)) from None

    return value


def _printable(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("control characters are not allowed")

    return value


def _written(value: object) -> object:
    """A time is written out, never a number: seconds and milliseconds look alike."""
    if isinstance(value, datetime) or (isinstance(value, str) and _MOMENT.match(value)):
        return value

    raise ValueError("an RFC 3339 time with its offset is required, like 2026-01-31T12:00:00Z")


def _one_line(value: str) -> str:
    if _BREAK.search(value):
        raise ValueError("line breaks and tabs are not allowed")

    return _printable(value)


def _in_our_time(value: datetime) -> datetime:
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise ValueError(f"the year must be between {_FIRST_YEAR} and {_LAST_YEAR}")

    return value


Currency = Annotated[str, Field(min_length=3, max_length=3), AfterValidator(_currency)]
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written), AfterValidator(_in_our_time)]
Minor = Annotated[int, Field(gt=0, le=MAX_MINOR)]


# Texts up to so many characters, without control characters; `Some…` are not empty.
Text32 = Annotated[str, Field(max_length=32), AfterValidator(_printable)]
Text64 = Annotated[str, Field(max_length=64), AfterValidator(_printable)]
Text128 = Annotated[str, Field(max_length=128), AfterValidator(_printable)]
Text255 = Annotated[str, Field(max_length=255), AfterValidator(_printable)]
Text500 = Annotated[str, Field(max_length=500), AfterValidator(_printable)]
# Identifiers, on one line.
Id64 = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_one_line)]
Id128 = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_one_line)]
Some40 = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_printable)]
Some50 = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_printable)]
Some64 = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
Some128 = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
Some255 = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Payment(_Part):
    """What was paid, as the provider knows it. `amount`: what was captured, in minor units."""

    id: Id128 | None = None
    order_id: Id128 | None = None
    capture_id: Id64 | None = None
    amount: Minor | None = None
    currency: Currency | None = None
    method: Some64 | None = None

    @model_validator(mode="after")
    def _named(self) -> "Payment":
        if self.id is None and self.order_id is None:
            raise ValueError("id or order_id is required")
        if self.amount is not None and self.currency is None:
            raise ValueError("currency is required with amount")
        return self


class Item(_Part):
    """A line of the order that comes back."""

    id: Some128
    quantity: Annotated[int, Field(gt=0, le=999)] = 1


class Address(_Part):
    """A postal address."""

    street: Text255 | None = None
    street_number: Text32 | None = None
    house_number: Text32 | None = None
    house_extension: Text32 | None = None
    city: Text128 | None = None
    zip_code: Text32 | None = None
    state: Text64 | None = None
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None


class Customer(_Part):
    """Who gets the money back; encrypted at rest."""

    reference: Text128 | None = None
    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$"), AfterValidator(_printable)] | None = None
    first_name: Text128 | None = None
    last_name: Text128 | None = None
    phone: Text32 | None = None
    document: Text64 | None = None
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None
    address: Address | None = None


class BankAccount(_Part):
    """Where a bank transfer goes; encrypted at rest."""

    account_number: Text64 | None = None
    iban: Annotated[str, Field(pattern=r"^[A-Z]{2}[0-9]{2}[A-Za-z0-9]{10,30}$")] | None = None
    bic: Annotated[str, Field(pattern=r"^[A-Z0-9]{8}([A-Z0-9]{3})?$")] | None = None
    bank_name: Text128 | None = None
    bank_code: Text32 | None = None
    branch: Text64 | None = None
    agency_code: Text32 | None = None
    sort_code: Text32 | None = None
    account_type: Text32 | None = None
    holder_document: Text64 | None = None
    address: Address | None = None


class RefundJob(_Part):
    """One refund to be made. Amounts in minor units; `amount` None: everything not yet refunded."""

    reference: Id64
    account: Annotated[str, Field(min_length=1, max_length=63)]
    payment: Payment
    amount: Minor | None = None
    currency: Currency | None = None
    reason: Reason = "requested_by_customer"
    description: Text255 | None = None
    items: Annotated[tuple[Item, ...], Field(max_length=200, strict=False)] = ()
    customer: Customer = Customer()
    bank_account: BankAccount = BankAccount()
    statement_descriptor: Some255 | None = None
    originator_reference: Some50 | None = None
    custom_references: Annotated[tuple[Some255, ...], Field(max_length=3, strict=False)] = ()
    not_before: Moment | None = None
    expect_refundable: Annotated[int, Field(ge=0, le=MAX_MINOR)] | None = None
    metadata: dict[Some40, Text500] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "RefundJob":
        if self.amount is not None and self.currency is None:
            raise ValueError("currency: required with amount")
        if self.currency and self.payment.currency and self.currency != self.payment.currency:
            raise _named(OTHER_CURRENCY, f"currency: {self.currency} is not the payment's {self.payment.currency}")
        if self.amount is not None and self.payment.amount is not None and self.amount > self.payment.amount:
            raise _named(OVER_CAP, f"amount: {self.amount} is more than the payment's {self.payment.amount}")
        if len(self.metadata) > MAX_METADATA:
            raise ValueError("metadata: at most 50 keys")
        return self

    @property
    def payment_ref(self) -> str:
        """Under which the ledger keeps the payment's money."""
        return self.payment.id or f"order:{self.payment.order_id}"

    def public(self) -> dict[str, Any]:
        """The content without customer and bank data, as JSON values."""
        return self.model_dump(mode="json", exclude={"customer", "bank_account"}, exclude_defaults=True)

    def personal(self) -> dict[str, Any]:
        """The customer and bank data, as JSON values; empty when there is none."""
        return self.model_dump(mode="json", include={"customer", "bank_account"}, exclude_defaults=True)

    def content_hash(self) -> str:
        """Equal for jobs of equal content, whatever the order of members or the defaults spelled out."""
        return hashlib.sha256(canonical({**self.public(), **self.personal()})).hexdigest()


def canonical(value: object) -> bytes:
    """JSON with sorted members: the same bytes for the same content."""
    return msgspec.json.encode(value, order="sorted")


def stored(job: str) -> dict[str, Any]:
    """The public content of an accepted job, as the ledger has it. Raises NewerForm.

    A member that is left unread could change what is paid. So any form but the first is named by the member `form`.
    """
    content: dict[str, Any] = msgspec.json.decode(job)
    if content.get("form", FORM) != FORM:
        raise NewerForm(f"a job of form {content['form']}, this program knows {FORM}")

    return content


def parse(body: bytes | str | dict[str, Any]) -> RefundJob:
    """Validate a job. Raises InvalidJob, naming every field and rule that is broken; floats are never amounts."""
    if isinstance(body, dict):
        return _validate(body)
    try:
        raw = body.encode() if isinstance(body, str) else body
    except UnicodeEncodeError as error:  # half a character, which no UTF-8 can carry
        raise _not_json(error) from None
    if len(raw) > MAX_BYTES:
        raise InvalidJob(
            FieldError("#", f"the job has {len(raw)} bytes, at most {MAX_BYTES} are taken", "too-large"),
            code="body-too-large",
        )
    try:
        data = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(error) from None
    if not isinstance(data, dict):
        raise InvalidJob(FieldError("#", "a job is a JSON object"))

    return _validate(data)


def _not_json(error: Exception) -> InvalidJob:
    fault = FieldError("#", f"not JSON: {str(error)[:200]}", "malformed-json")

    return InvalidJob(fault, code="malformed-json")


def _validate(data: dict[str, Any]) -> RefundJob:
    try:
        return RefundJob.model_validate(data)
    except ValidationError as error:
        faults = [_fault(detail) for detail in error.errors(include_url=False)]
    named = faults[0].code if faults[0].code in (OVER_CAP, OTHER_CURRENCY) else "validation-failed"

    raise InvalidJob(*faults, code=named)


def _named(code: str, words: str) -> PydanticCustomError:
    """A fault whose code is the refusal's. What breaks a rule between fields has no fault in one of them."""
    return PydanticCustomError(code, "{words}", {"words": words})


def _fault(detail: Any) -> FieldError:
    """Pydantic's location and message as pointer and rule; its own words where they are clear."""
    path = [_member(part) for part in detail["loc"] if part != "[key]"]
    message = str(detail["msg"]).removeprefix("Value error, ")
    if ": " in message and not path:
        name, _, message = message.partition(": ")
        path = [name]
    if detail["type"] == "extra_forbidden":
        message = "there is no such field"
    if detail["type"] == "int_type" and isinstance(detail.get("input"), float):
        message = "an integer of minor units is required, never a float"

    return FieldError("#/" + "/".join(path) if path else "#", message[:300], detail["type"].replace("_", "-"))


def _member(name: object) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return str(name).replace("~", "~0").replace("/", "~1")


def differing(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "#") -> tuple[str, ...]:
    """Pointers of the members in which two contents differ."""
    pointers: list[str] = []
    for key in sorted(ours.keys() | theirs.keys()):
        left, right = ours.get(key), theirs.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            pointers.extend(differing(left, right, f"{prefix}/{_member(key)}"))
        elif left != right:
            pointers.append(f"{prefix}/{_member(key)}")

    return tuple(pointers)


def epoch(moment: datetime | None) -> float | None:
    """Epoch seconds of an aware time."""
    return None if moment is None else moment.timestamp()
