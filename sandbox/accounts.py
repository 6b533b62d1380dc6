"""The merchant's accounts at the five providers, with fixed test credentials."""

from functools import cache
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

PROVIDERS = ("smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart_glocal")
CARD_SITE = "smart2pay_card"
JPM_OAUTH = "jpm_smartpay_oauth"
FAULT_SCOPES = (*PROVIDERS, CARD_SITE)

SMARTPAY_SECRET_KEY = "sk_test_sandboxSmartpay4Yj9TtGr2Qw7"  # noqa: S105 - a test credential
SMARTPAY_WEBHOOK_SECRET = "Gk7Qm2XvT9bLr4ZcWd1HyNs8PfJx5AuEo3RtVi6K"  # noqa: S105
SMARTRETRY_API_KEY = "sk_test_sandbox_smartretry"
SMARTRETRY_TERMINAL = "ABC123"
SMARTRETRY_WEBHOOK_SECRET = "whsec_sandbox_smartretry"  # noqa: S105
JPM_MERCHANT_KEY = "sandbox-merchant-key"
JPM_AUTHENTICATION_KEY = "sandbox-authentication-key"
JPM_CLIENT_ID = "sandbox-oauth-client"
JPM_CLIENT_SECRET = "sandbox-oauth-secret"  # noqa: S105
JPM_ORIGIN = "https://shop.example"
JPM_WEBHOOK_USER = "sandbox-hooks"
JPM_WEBHOOK_PASSWORD = "sandbox-hooks-password"  # noqa: S105
SMART2PAY_SITES = {
    "smart2pay": ("30201", "sandbox-api-key-of-site-30201"),
    CARD_SITE: ("1010", "sandbox-api-key-of-site-1010"),
}
SMART_GLOCAL_PROJECT = "sandbox_project"
SMART_GLOCAL_IDEMPOTENCY_HEADER = "X-PARTNER-IDEMPOTENCY-KEY"


class KeyPairs(NamedTuple):
    """Smart Glocal's two RSA pairs: the partner signs requests, the provider notifications."""

    partner: RSAPrivateKey
    provider: RSAPrivateKey


@cache
def key_pairs() -> KeyPairs:
    """Made once per process."""
    return KeyPairs(*(generate_private_key(65537, 2048) for _ in range(2)))


def private_pem(key: RSAPrivateKey) -> str:
    """A private key as PKCS#8 PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: RSAPrivateKey) -> str:
    """The public half as PEM."""
    spki = PublicFormat.SubjectPublicKeyInfo

    return key.public_key().public_bytes(Encoding.PEM, spki).decode()


def credentials(origin: str) -> dict[str, dict[str, Any]]:
    """Account settings per account name; `origin` is where this server was reached."""
    jpm = {
        "base_url": f"{origin}/jpm_smartpay",
        "merchant_key": JPM_MERCHANT_KEY,
        "origin": JPM_ORIGIN,
        "webhook_user": JPM_WEBHOOK_USER,
        "webhook_password": JPM_WEBHOOK_PASSWORD,
    }
    oauth = {
        "token_url": f"{origin}/jpm_smartpay/oauth2/token",
        "client_id": JPM_CLIENT_ID,
        "client_secret": JPM_CLIENT_SECRET,
    }
    return {
        "smartpay": {
            "base_url": f"{origin}/smartpay/v1",
            "secret_key": SMARTPAY_SECRET_KEY,
            "webhook_secret": SMARTPAY_WEBHOOK_SECRET,
        },
        "smartretry": {
            "base_url": f"{origin}/smartretry",
            "api_key": SMARTRETRY_API_KEY,
            "terminal_id": SMARTRETRY_TERMINAL,
            "webhook_secret": SMARTRETRY_WEBHOOK_SECRET,
        },
        "jpm_smartpay": {**jpm, "authentication_key": JPM_AUTHENTICATION_KEY},
        JPM_OAUTH: {**jpm, "oauth": oauth},
        "smart2pay": _smart2pay(origin, "smart2pay", "apm"),
        CARD_SITE: _smart2pay(origin, CARD_SITE, "card"),
        "smart_glocal": {
            "base_url": f"{origin}/smart_glocal",
            "project": SMART_GLOCAL_PROJECT,
            "private_key": private_pem(key_pairs().partner),
            "provider_public_key": public_pem(key_pairs().provider),
            "idempotency_header": SMART_GLOCAL_IDEMPOTENCY_HEADER,
        },
    }


def _smart2pay(origin: str, account: str, flavour: str) -> dict[str, Any]:
    site, key = SMART2PAY_SITES[account]

    return {
        "base_url": f"{origin}/smart2pay",
        "site_id": site,
        "api_key": key,
        "flavour": flavour,
    }
