"""The provider port: what an adapter promises, and the values that cross it.

An adapter is sans-I/O. Each verb is a conversation: a generator that yields requests, receives responses and returns
what they prove. The pump, a test without a network and the simulator drive the same code. Requests are yielded
without credentials; `authorize` adds them just before the socket, so that nothing secret is ever stored.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Protocol
from uuid import UUID

import httpx
from pydantic import AfterValidator, BaseModel, BeforeValidator, SecretStr, field_validator

from domain.errors import RefundError
from domain.outcome import Outcome
from domain.policy import Recovery
from domain.reconcile import Listed


class Exclusive(StrEnum):
    """When a refund must be the only one under way for its payment."""

    ALWAYS = "always"
    WHILE_UNKNOWN = "while_unknown"


class Stores(StrEnum):
    """Which answers the provider keeps under a handle and repeats."""

    NOTHING = "nothing"
    REFUSALS = "refusals"
    EVERYTHING = "everything"


class Lists(StrEnum):
    """Of what the provider shows refunds, whoever made them: one by its id, those of a payment, or of the account."""

    REFUND = "refund"
    PAYMENT = "payment"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider documents, as data. Durations in seconds, rates per second; None: not documented.

    `deduplicates`: the same handle with the same bytes can never pay twice inside `handle_lifetime`.
    `lookup`: a refund whose id is unknown can be found. `matches_handle`: and recognised by our own handle.
    `payment_facts`: the captured amount can be asked. `omit_amount`: a full refund of an untouched payment may leave
    the amount out. `polled`: accepted first, final later.
    `acknowledges`: the HTTP status that tells the provider that its notification has arrived.
    """

    recovery: Recovery
    deduplicates: bool
    stores: Stores
    handle_lifetime: float | None
    handle_max_length: int
    lookup: bool
    matches_handle: bool
    lookup_delay: float
    exclusive: Exclusive
    partial: bool = True
    omit_amount: bool = False
    polled: bool = True
    acknowledges: int = 200
    payment_facts: bool = False
    order_lookup: bool = False
    lists: frozenset[Lists] = frozenset()
    max_replays: int | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    poll_schedule: tuple[float, ...] = (2.0, 5.0, 15.0, 60.0)
    poll_horizon: float = 86_400.0
    rate_limit: float | None = None
    currencies: frozenset[str] | None = None
    exponents: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOrder:
    """All that an adapter may read of a refund. Amounts in minor units (ISO 4217).

    `whole`: the refund takes everything of an untouched payment. `seen`: the ids of the payment's refunds just before
    our first sending (None: not sent yet), for providers whose look-up cannot match by our handle. `missed`: since our
    last sending a look-up has found nothing when it should have; what appears there later needs more to be ours.
    """

    refund_id: str
    reference: str
    handle: str
    payment_id: str | None
    order_id: str | None = None
    capture_id: str | None = None
    method: str | None = None
    captured: int | None = None
    amount: int | None = None
    currency: str | None = None
    whole: bool = False
    reason: str = "requested_by_customer"
    description: str | None = None
    items: tuple[Mapping[str, Any], ...] = ()
    customer: Mapping[str, Any] = field(default_factory=dict)
    bank_account: Mapping[str, Any] = field(default_factory=dict)
    statement_descriptor: str | None = None
    originator_reference: str | None = None
    custom_references: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    provider_refund_id: str | None = None
    seen: frozenset[str] | None = None
    missed: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that only reads."""

    request: httpx.Request


@dataclass(frozen=True, slots=True)
class Move:
    """The request that moves money: frozen in the attempt row before it is sent, repeated byte for byte."""

    request: httpx.Request
    seen: frozenset[str] | None = None


Step = Ask | Move
Conversation = Generator[Step, httpx.Response, Outcome]
Question = Generator[Ask, httpx.Response, Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFacts:
    """What the provider says about a payment; absent is None. Amounts in minor units.

    `payment_ids`: the payments behind an order. `problem`: why nothing could be learned, `final` if asking again is
    of no use (`problem_code` is then the refund's failure code).
    """

    payment_ids: tuple[str, ...] = ()
    captured: int | None = None
    refunded: int | None = None
    currency: str | None = None
    problem: str | None = None
    problem_code: str | None = None
    final: bool = False
    credentials_refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose refunds are asked for: one by the provider's id, those of a payment, or, with neither, the account's.

    `currency`: in which an amount without one counts.
    """

    provider_refund_id: str | None = None
    payment_id: str | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Refunds and chargebacks that the provider shows, ours or not.

    `following`: the cursor of the next page. `problem`: why this is not all that there is.
    """

    refunds: tuple[Listed, ...] = ()
    following: str | None = None
    problem: str | None = None


class Health(StrEnum):
    """What a harmless call says about an account."""

    OK = "ok"
    CREDENTIALS_REFUSED = "credentials_refused"
    UNREACHABLE = "unreachable"
    NO_CHECK = "no_check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A hint that something changed: whom to ask about, and what it claims. Never a verdict.

    `event_id`: the same for every delivery of one event. `proven` False: nothing shows who sent it.
    """

    event_id: str | None = None
    kind: str = ""
    provider_refund_ids: tuple[str, ...] = ()
    handle: str | None = None
    refund_id: str | None = None
    payment_id: str | None = None
    chargebacks: tuple[str, ...] = ()
    claims: tuple[Listed, ...] = ()
    proven: bool = True


class NotificationRefused(RefundError):
    """The notification is not the provider's, or too old; the message says which."""


class NotificationUnreadable(NotificationRefused):
    """It is the provider's, and says nothing that we can read."""


class JobFault(Protocol):
    """Receives a fault of a job's field: JSON pointer and rule."""

    def __call__(self, pointer: str, detail: str) -> None:
        """Report one fault."""


# Blanks and line ends come with copies and files: some parsers drop them, others escape them, and with a backslash they
# do not agree on the host.
_NOT_IN_ADDRESSES = re.compile(r"[\s\x00-\x20\x7f\\]")


def web_address(value: str, *, query: bool = False) -> str:
    """The same address, if requests can be made of it as it stands; ValueError with the broken rule otherwise.

    `query`: whether it may have one. A path is put behind a `base_url`, so that a query or a fragment would swallow it;
    user info would be sent as credentials that `authorize` knows nothing of.
    """
    if _NOT_IN_ADDRESSES.search(value):
        raise ValueError("an address without blanks, line ends and backslashes")
    if "#" in value or ("?" in value and not query):
        raise ValueError(f"an address without a {'fragment' if query else 'query or a fragment'}")
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL()
    if url.userinfo:
        raise ValueError("an address without a user name or a password")
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("an address beginning with https://")

    return value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str | SecretStr) else value


# One secret, or several while it is being renewed: what any of them signed is believed. Empty ones are none.
Secrets = Annotated[
    tuple[SecretStr, ...],
    BeforeValidator(_listed),
    AfterValidator(lambda given: tuple(each for each in given if each.get_secret_value())),
]


def _fits_a_header(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]*", value.get_secret_value()):
        raise ValueError("printable ASCII characters without spaces or line ends")

    return value


# One that goes into a header, where a stray line end of a file would only be refused at the first sending.
HeaderSecret = Annotated[SecretStr, AfterValidator(_fits_a_header)]


class AdapterSettings(BaseModel):
    """Base of an adapter's own account keys; unknown ones are refused, and a `base_url` that is no `web_address`."""

    model_config = {"extra": "forbid", "frozen": True, "hide_input_in_errors": True}

    base_url: str
    currency_exponents: dict[str, int] = {}
    status_map: dict[str, str] = {}

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        """An adapter's own default may be empty, where it chooses the address by another key."""
        return value if value == cls.model_fields["base_url"].default else web_address(value)


class Provider(Protocol):
    """One provider account. Built from its own settings; knows no database and no clock of ours."""

    name: ClassVar[str]
    Settings: ClassVar[type[AdapterSettings]]

    @property
    def capabilities(self) -> Capabilities:
        """What the engine may rely on, for this account."""

    @property
    def fingerprint(self) -> str:
        """Who we are to the provider (host, terminal, site, key id); a replay as another would be a new refund."""

    def handle(self, token: UUID) -> str:
        """The idempotency handle of a refund, in this provider's format."""

    def check(self, order: RefundOrder, fault: JobFault) -> tuple[str, ...]:
        """Report what this provider would refuse about a job, at the door; answers warnings."""

    def authorize(self, request: httpx.Request) -> httpx.Request:
        """The same request with this account's credentials."""

    def refund(self, order: RefundOrder) -> Conversation:
        """Ask for the refund; at most one Move."""

    def status(self, order: RefundOrder) -> Question:
        """Ask about a refund whose provider id is known."""

    def lookup(self, order: RefundOrder) -> Question:
        """Find the refund by our handle."""

    def payment(self, order: RefundOrder) -> Generator[Ask, httpx.Response, PaymentFacts]:
        """Ask what was captured, and which payment an order has."""

    def list_refunds(self, subject: Subject, cursor: str | None = None) -> Generator[Ask, httpx.Response, Page]:
        """Ask which refunds and chargebacks there are, ours or not; only subjects that `capabilities.lists` names.

        What the provider does not know is an empty page.
        """

    def ping(self) -> Generator[Ask, httpx.Response, Health]:
        """Try the credentials with a harmless call."""

    def notification(self, headers: Mapping[str, str], body: bytes, now: float) -> Notification:
        """Verify in constant time and parse; raises NotificationRefused."""
