"""The control interface under /_sandbox: payments, faults, ledger, requests, notifications."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sandbox.accounts import CARD_SITE, JPM_OAUTH, PROVIDERS, credentials
from sandbox.check import is_integer, is_text
from sandbox.core import Entry, Json, Payment, Received, Refund, World
from sandbox.edge import Provider
from sandbox.faults import FieldError, parse_plan
from sandbox.notify import How, Notifier, Target
from sandbox.settlement import KINDS, settlement
from sandbox.when import millis_z

MOST_PAYMENTS = 1_000_000
ACCOUNTS = (*PROVIDERS, CARD_SITE, JPM_OAUTH)
FLAVOURS = ("apm", "card")

Check = tuple[Callable[[Any], bool], str]


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return is_text(value, 1)


def _are_amounts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(is_integer(each, 1) for each in value)


ACCOUNT: Check = (lambda value: value in ACCOUNTS, "one of " + ", ".join(ACCOUNTS))
AMOUNT: Check = (lambda value: is_integer(value, 1), "an integer of minor units above 0")
NAME: Check = (_is_name, "a string")
FLAG: Check = (_is_flag, "true or false")
SECONDS: Check = (_is_seconds, "a number of at least 0")

PAYMENT_FIELDS: dict[str, Check] = {
    "provider": ACCOUNT,
    "count": (lambda value: is_integer(value, 1) and value <= MOST_PAYMENTS, "1 to 1000000"),
    "amount": AMOUNT,
    "currency": (
        lambda value: is_text(value, 3, 3) and value.isalpha() and value.isupper(),
        "three upper-case letters",
    ),
    "flavour": (lambda value: value in FLAVOURS, " or ".join(FLAVOURS)),
    "id": NAME,
    "order_id": NAME,
    "method": NAME,
    "state": NAME,
    "captures": (_are_amounts, "a list of integers above 0"),
    "payments_per_order": (lambda value: is_integer(value, 1), "an integer of at least 1"),
    "partial_refunds": FLAG,
    "pending_seconds": SECONDS,
    "echo_metadata": FLAG,
    "split_error": FLAG,
}
TARGET_FIELDS: dict[str, Check] = {
    "url": NAME,
    "times": (lambda value: is_integer(value, 0), "an integer of at least 0"),
    "delay": SECONDS,
    "before_answer": FLAG,
    "auth": FLAG,
}
EXTERNAL_FIELDS: dict[str, Check] = {
    "provider": ACCOUNT,
    "payment": NAME,
    "amount": AMOUNT,
    "capture_id": NAME,
    "chargeback": FLAG,
}
NOTIFICATION_FIELDS: dict[str, Check] = {"provider": ACCOUNT, "refund_id": NAME}
SENDING_FIELDS: dict[str, Check] = {
    **NOTIFICATION_FIELDS,
    "how": (lambda value: value in set(How), "one of " + ", ".join(How)),
}


def checked(given: object, fields: dict[str, Check], *required: str, where: str = "") -> Json:
    """An object whose members are all known and right; null counts as left out."""
    if not isinstance(given, Mapping):
        raise FieldError(where.rstrip(".") or "body", "must be an object")
    for name in given:
        if name not in fields:
            raise FieldError(f"{where}{name}", "unknown key")
    present = {name: value for name, value in given.items() if value is not None}
    for name in required:
        if name not in present:
            raise FieldError(f"{where}{name}", "is required")
    for name, value in present.items():
        accepted, expected = fields[name]
        if not accepted(value):
            raise FieldError(f"{where}{name}", f"must be {expected}")

    return present


class Missing(Exception):
    """Something named in a control request does not exist."""


Answer = Callable[[Request], Awaitable[Any]]


def answered(handle: Answer) -> Callable[[Request], Awaitable[JSONResponse]]:
    """Turn what a handler returns, or refuses, into JSON."""

    async def endpoint(request: Request) -> JSONResponse:
        try:
            return JSONResponse(await handle(request))
        except FieldError as error:
            return JSONResponse({"error": str(error), "field": error.field}, 422)
        except Missing as missing:
            return JSONResponse({"error": str(missing)}, 404)

    return endpoint


async def body_of(request: Request) -> Any:
    """The body as JSON."""
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise FieldError("body", f"is not JSON ({error})") from error


class Control:
    """The handlers, bound to one world."""

    def __init__(self, world: World, providers: Mapping[str, Provider], notifier: Notifier) -> None:
        """Keep what the handlers act on."""
        self.world = world
        self.providers = providers
        self.notifier = notifier

    def routes(self) -> list[Route]:
        """The paths under /_sandbox."""
        table: list[tuple[str, str, Answer]] = [
            ("GET", "/credentials", self.get_credentials),
            ("POST", "/payments", self.make_payments),
            ("POST", "/external", self.make_external),
            ("PUT", "/faults", self.put_faults),
            ("GET", "/faults", self.get_faults),
            ("PUT", "/webhooks", self.put_webhooks),
            ("GET", "/webhooks", self.get_webhooks),
            ("GET", "/notifications", self.get_notifications),
            ("POST", "/notification", self.make_notification),
            ("POST", "/notify", self.send_notification),
            ("GET", "/ledger", self.get_ledger),
            ("GET", "/settlement", self.get_settlement),
            ("GET", "/requests", self.get_requests),
            ("POST", "/reset", self.reset),
        ]

        return [Route(path, answered(handle), methods=[method]) for method, path, handle in table]

    async def get_credentials(self, request: Request) -> Json:
        """Account settings for each account, reached as this request reached us."""
        return credentials(f"{request.url.scheme}://{request.url.netloc}")

    async def make_payments(self, request: Request) -> Json:
        """Captured payments, ready to be refunded."""
        asked = checked(await body_of(request), PAYMENT_FIELDS, "provider", "amount")
        if asked.get("count", 1) > 1 and "id" in asked:
            raise FieldError("id", "needs count = 1")
        made = self._make(asked)
        for payment in made:
            self.world.add_payment(payment)

        return {
            "ids": [payment.id for payment in made],
            "payments": [block(payment) for payment in made],
            "captures": {
                payment.id: [{"id": capture, "amount": amount} for capture, amount in payment.captures.items()]
                for payment in made
                if payment.captures
            },
        }

    def _make(self, asked: Json) -> list[Payment]:
        per_order = asked.get("payments_per_order", 1)
        made: list[Payment] = []
        for index in range(asked.get("count", 1)):
            payment = self._new_payment(asked)
            if index % per_order:
                payment.order_id = made[-1].order_id
            self.providers[payment.provider].new_payment(self.world, payment)
            if self.world.payment(payment.provider, payment.id):
                raise FieldError("id", "exists already")
            made.append(payment)

        return made

    def _new_payment(self, asked: Json) -> Payment:
        name, account = account_of(asked)
        provider = self.providers[name]
        state = asked.get("state", provider.states[0])
        method = asked.get("method")
        if state not in provider.states:
            raise FieldError("state", "must be one of " + ", ".join(provider.states))
        if provider.methods and method not in (None, *provider.methods):
            raise FieldError("method", "must be one of " + ", ".join(provider.methods))

        return Payment(
            provider=name,
            account=account,
            id=asked.get("id", ""),
            number=0,
            amount=asked["amount"],
            currency=asked.get("currency", provider.default_currency),
            created_at=self.world.clock(),
            state=state,
            order_id=asked.get("order_id"),
            method=method,
            captures=self._captures(asked),
            partial_refunds=asked.get("partial_refunds", True),
            pending_seconds=asked.get("pending_seconds"),
            echo_metadata=asked.get("echo_metadata", True),
            split_error=asked.get("split_error", False),
        )

    def _captures(self, asked: Json) -> dict[str, int]:
        amounts = asked.get("captures", [])
        if amounts and sum(amounts) != asked["amount"]:
            raise FieldError("captures", "must add up to the amount")

        return {str(self.world.next_number()): amount for amount in amounts}

    async def make_external(self, request: Request) -> Json:
        """A refund made on the provider's dashboard, or a chargeback."""
        asked = checked(await body_of(request), EXTERNAL_FIELDS, "provider", "payment")
        self.world.settle()
        payment = self._payment(asked)
        chargeback = asked.get("chargeback", False)
        amount = asked.get("amount", payment.remaining() or payment.amount)
        if amount > payment.remaining() and not chargeback:
            raise FieldError("amount", "exceeds what is left of the payment")
        capture = asked.get("capture_id", next(iter(payment.captures), None))
        if capture is not None and capture not in payment.captures:
            raise FieldError("capture_id", "is not of this payment")
        refund = self._external(payment, amount, capture, chargeback=chargeback)
        await self.notifier.after_call(None)

        return {"refund_id": refund.id, "amount": amount, "chargeback": chargeback}

    def _external(self, payment: Payment, amount: int, capture: str | None, *, chargeback: bool) -> Refund:
        refund_id, fields = self.providers[payment.provider].new_refund(self.world, payment)
        refund = self.world.draft(payment, refund_id, amount, asked=fields, capture_id=capture)
        refund.chargeback = chargeback

        return self.world.add_external(refund)

    def _payment(self, asked: Json) -> Payment:
        name, _ = account_of(asked)
        payment = self.world.payment(name, asked["payment"])
        if payment is None:
            message = f"{name} has no payment {asked['payment']}"
            raise Missing(message)

        return payment

    async def put_faults(self, request: Request) -> Json:
        """Replace the fault plan."""
        self.world.plan = parse_plan(await body_of(request), self.world.plan.seed)

        return self.world.plan.described()

    async def get_faults(self, _: Request) -> Json:
        """The fault plan with its counters."""
        return self.world.plan.described()

    async def put_webhooks(self, request: Request) -> Json:
        """Replace the notification targets."""
        given = await body_of(request)
        if not isinstance(given, dict):
            raise FieldError("body", "must be an object")
        targets = {}
        for name, value in given.items():
            if name not in ACCOUNTS:
                raise FieldError(name, "unknown account")
            if value is not None:
                targets[name] = target_of(name, value)
        self.notifier.aim(targets)

        return await self.get_webhooks(request)

    async def get_webhooks(self, _: Request) -> Json:
        """The notification targets."""
        return {name: asdict(target) for name, target in self.notifier.targets.items()}

    async def get_notifications(self, _: Request) -> list[Json]:
        """What was sent, and the replies."""
        return self.notifier.described()

    async def make_notification(self, request: Request) -> Json:
        """The signed notification of a refund, not sent."""
        asked = checked(await body_of(request), NOTIFICATION_FIELDS, "provider", "refund_id")
        self.world.settle()
        name, _ = account_of(asked)
        refund = self.world.refund(name, asked["refund_id"])
        message = self.notifier.message(refund) if refund else None
        if message is None:
            text = f"{name} has no notification for {asked['refund_id']}"
            raise Missing(text)

        return {"headers": message.headers, "body": message.body.decode()}

    async def send_notification(self, request: Request) -> Json:
        """Send the notification of a refund now: as it should be, forged, or an earlier one once more."""
        asked = checked(await body_of(request), SENDING_FIELDS, "provider", "refund_id")
        self.world.settle()
        name, _ = account_of(asked)
        refund = self.world.refund(name, asked["refund_id"])
        sent = await self.notifier.send(refund, How(asked.get("how", How.GENUINE))) if refund else None
        if sent is None:
            text = f"{name} has nothing to send for {asked['refund_id']}, or nobody to send it to"
            raise Missing(text)

        return asdict(sent)

    async def get_ledger(self, request: Request) -> list[Json]:
        """Every movement of money; `provider` and `payment` narrow it down."""
        wanted = request.query_params
        entries = self.world.movements()

        return [
            entry_shown(entry)
            for entry in entries
            if wanted.get("provider") in (None, entry.provider) and wanted.get("payment") in (None, entry.payment)
        ]

    async def get_settlement(self, request: Request) -> Json:
        """A settlement file of an account, with so many differences of each kind planted in it."""
        wanted = dict(request.query_params)
        account = wanted.pop("account", None)
        if account not in ACCOUNTS:
            raise FieldError("account", "must be " + ACCOUNT[1])
        counts = {name: _count(name, value) for name, value in wanted.items()}
        seed = counts.pop("seed", 0)
        for name in counts:
            if name not in KINDS:
                raise FieldError(name, "unknown key")

        return settlement(self.world, account_of({"provider": account})[1], seed, counts)

    async def get_requests(self, request: Request) -> list[Json]:
        """The last requests received, the oldest first."""
        provider = request.query_params.get("provider")

        return [request_shown(received) for received in self.world.requests if provider in (None, received.provider)]

    async def reset(self, _: Request) -> Json:
        """Forget everything but notification targets and the seed."""
        self.world.clear()
        self.notifier.sent.clear()

        return {}


def _count(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise FieldError(name, "must be an integer of at least 0")

    return int(value[:9])


def account_of(asked: Json) -> tuple[str, str]:
    """Provider and account that a control request names."""
    name = asked["provider"]
    card = name == CARD_SITE or (name == "smart2pay" and asked.get("flavour") == "card")
    if asked.get("flavour") is not None and name not in ("smart2pay", CARD_SITE):
        raise FieldError("flavour", "exists for smart2pay only")
    if name == JPM_OAUTH:
        name = "jpm_smartpay"

    return ("smart2pay", CARD_SITE) if card else (name, name)


def target_of(name: str, value: object) -> Target:
    """A notification target from a URL or an object."""
    if isinstance(value, str):
        return Target(value)

    return Target(**checked(value, TARGET_FIELDS, "url", where=f"{name}."))


def block(payment: Payment) -> Json:
    """The `payment` block of a refund job."""
    return {
        "id": payment.id,
        "order_id": payment.order_id,
        "capture_id": next(iter(payment.captures), None),
        "amount": payment.amount,
        "currency": payment.currency,
        "method": payment.method,
    }


def entry_shown(entry: Entry) -> Json:
    """A ledger entry as JSON."""
    return {
        "provider": entry.provider,
        "payment": entry.payment,
        "handle": entry.handle,
        "refund_id": entry.refund_id,
        "amount": entry.amount,
        "currency": entry.currency,
        "at": millis_z(entry.at),
        "external": entry.external,
        "reversed_at": None if entry.reversed_at is None else millis_z(entry.reversed_at),
    }


def request_shown(received: Received) -> Json:
    """A received request as JSON."""
    return {**asdict(received), "at": millis_z(received.at)}
