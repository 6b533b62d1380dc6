"""Accounts, orders and canned answers for the tests of the adapters."""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from providers.base import Ask, Move, Provider, RefundOrder
from providers.registry import build

HANDLE = "0b9d3c1e-5f63-4d0a-9d7e-0a6f0f7b8c11"

# Bodies that no provider means: none of them may read as a yes, a no, or "never sent".
MANGLED = {
    "html": b"<!DOCTYPE html><html><body>Please wait.</body></html>",
    "truncated": b'{"status":"succeeded","id":"refund_',
    "empty": b"",
    "blank": b"  \r\n",
    "list": b'[{"status":"succeeded","accepted":true}]',
    "number": b"1",
    "text": b'"succeeded"',
    "null": b"null",
    "true": b"true",
    "empty object": b"{}",
    "deep": b'{"status":' * 5_000 + b"1" + b"}" * 5_000,
    "deep and open": b"[" * 100_000,
    "not UTF-8": b'{"status":"\xff\xfe"}',
    "two objects": b'{"accepted":true}{"accepted":true}',
    "comments": b'{"accepted":true} // yes',
    "byte order mark": b'\xef\xbb\xbf{"accepted":true}',
}


@cache
def key_pair(_: str) -> RSAPrivateKey:
    """One pair per name and process."""
    return generate_private_key(65537, 2048)


def private_pem(name: str) -> str:
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()

    return key_pair(name).private_bytes(*form).decode()


def public_pem(name: str) -> str:
    form = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo

    return key_pair(name).public_key().public_bytes(*form).decode()


@cache
def _accounts() -> dict[str, tuple[str, dict[str, Any]]]:
    jpm = {
        "base_url": "https://jpm.example/api",
        "merchant_key": "MK-100",
        "origin": "https://shop.example",
        "webhook_user": "hooks",
        "webhook_password": "secret-hook-password",
    }
    oauth = {
        "token_url": "https://jpm.example/oauth2/token",
        "client_id": "client",
        "client_secret": "secret-of-the-client",
    }
    smart2pay = {"site_id": "1010", "api_key": "secret-api-key-of-site"}
    glocal = {
        "base_url": "https://demo.smart-glocal.com",
        "project": "your_project_name",
        "private_key": private_pem("partner"),
        "provider_public_key": public_pem("provider"),
    }

    return {
        "smartpay": (
            "smartpay",
            {
                "secret_key": "sk_test_SecretOfSmartpay",
                "webhook_secret": "Gk7Qm2XvT9bLr4ZcWd1HyNs8PfJx5AuEo3RtVi6K",
            },
        ),
        "smartretry": (
            "smartretry",
            {
                "api_key": "sk_test_SecretOfSmartRetry",
                "terminal_id": "ABC123",
                "webhook_secret": "whsec_SecretOfSmartRetry",
            },
        ),
        "jpm_smartpay": (
            "jpm_smartpay",
            {**jpm, "authentication_key": "secret-authentication-key"},
        ),
        "jpm_smartpay with OAuth": ("jpm_smartpay", {**jpm, "oauth": oauth}),
        "smart2pay": ("smart2pay", {**smart2pay, "flavour": "apm"}),
        "smart2pay for cards": ("smart2pay", {**smart2pay, "flavour": "card"}),
        "smart_glocal": ("smart_glocal", glocal),
        "smart_glocal without a key": ("smart_glocal", {**glocal, "idempotency_header": ""}),
    }


ACCOUNTS = tuple(_accounts())


def options(account: str, **changes: Any) -> dict[str, Any]:
    """The settings of one of ACCOUNTS."""
    return {**_accounts()[account][1], **changes}


def provider(account: str, **changes: Any) -> Provider:
    """The adapter of one of ACCOUNTS, built as an operator's settings are."""
    return build(_accounts()[account][0], options(account, **changes), f"accounts.{account}")


ORDERS: dict[str, dict[str, Any]] = {
    "smartpay": {
        "payment_id": "payment_test_GDEATBKK8XAp9XGf6J4U4",
        "amount": 1000,
        "currency": "JPY",
        "provider_refund_id": "refund_test_abc",
    },
    "smartretry": {
        "payment_id": "TX8A3F2C",
        "order_id": "OR7B9E1D",
        "amount": 2500,
        "currency": "USD",
        "provider_refund_id": "TX2E6G8H",
    },
    "jpm_smartpay": {
        "payment_id": "68c3b9d7-8b7a-4f68-a8f3-45a8e9b2a1c0",
        "amount": 1000,
        "currency": "EUR",
        "provider_refund_id": "rf-1",
    },
    "smart2pay": {
        "payment_id": "3000000",
        "amount": 1000,
        "currency": "EUR",
        "provider_refund_id": "4000000",
        "customer": {
            "email": "a@example.com",
            "first_name": "John",
            "last_name": "Smith",
            "phone": "+4912345678",
            "document": "12345678901",
        },
        "bank_account": {"account_number": "1234567890", "bank_name": "Bank", "bank_code": "001"},
    },
    "smart_glocal": {
        "payment_id": "ps_3230",
        "amount": 1000,
        "currency": "USD",
        "provider_refund_id": "rf_203",
    },
}


def order(account: str, **changes: Any) -> RefundOrder:
    """A part refund that the account's provider would take."""
    known = {
        "refund_id": "rf_01J9Z8Q4T7M2",
        "reference": "RMA-1001",
        "handle": HANDLE,
        **ORDERS[account.split(" ", maxsplit=1)[0]],
    }

    return RefundOrder(**{**known, **changes})


@dataclass
class Talk:
    """What a conversation asked and how it ended."""

    steps: list[Any] = field(default_factory=list)
    end: Any = None

    @property
    def requests(self) -> list[httpx.Request]:
        return [step.request for step in self.steps]

    @property
    def moves(self) -> list[Move]:
        return [step for step in self.steps if isinstance(step, Move)]

    @property
    def asks(self) -> list[Ask]:
        return [step for step in self.steps if isinstance(step, Ask)]


def talk(conversation: Generator[Any, httpx.Response, Any], *answers: httpx.Response) -> Talk:
    """Run a conversation on these answers, the last of which repeats."""
    heard = Talk()
    waiting = list(answers)
    try:
        step = next(conversation)
        while True:
            heard.steps.append(step)
            assert len(heard.steps) < 1_000, "the conversation does not end"
            step = conversation.send(waiting.pop(0) if len(waiting) > 1 else waiting[0])
    except StopIteration as end:
        heard.end = end.value

    return heard


def answer(status: int, body: object = None, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """A JSON answer; bytes are sent as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    return httpx.Response(status, content=content, headers={"Content-Type": "application/json", **(headers or {})})


def body_of(request: httpx.Request) -> Any:
    """The JSON of a request."""
    return json.loads(request.content)
