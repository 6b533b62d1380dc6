"""Signing in at an identity provider: authorization code with PKCE, by Authlib."""

import hmac
import time
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
from authlib.common.errors import AuthlibBaseError
from authlib.common.security import generate_token
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from config.settings import OidcSettings, Settings
from domain.errors import Forbidden, NotFound
from engine.people import Role

COOKIE = "refundry_oidc"
#: So many seconds somebody may take at the provider.
LIFETIME = 600.0
_TIMEOUT = 5.0
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


class _State(msgspec.Struct):
    """What the browser keeps between leaving and coming back."""

    state: str
    verifier: str
    nonce: str
    onward: str
    until: float


@dataclass(frozen=True, slots=True)
class Recognised:
    """Whom the provider means. `roles` None: it says nothing about them."""

    subject: str
    name: str
    roles: frozenset[Role] | None
    onward: str


def start(settings: Settings, base: str, onward: str) -> tuple[str, str]:
    """The provider's address to go to, and what the browser keeps meanwhile."""
    oidc = _configured(settings)
    kept = _State(generate_token(32), generate_token(64), generate_token(32), onward, time.time() + LIFETIME)
    with _client(settings, oidc, base) as client:
        address, _ = client.create_authorization_url(
            _metadata(oidc.issuer)["authorization_endpoint"],
            state=kept.state,
            nonce=kept.nonce,
            code_verifier=kept.verifier,
        )

    return address, _seal(oidc, kept)


def finish(settings: Settings, base: str, cookie: str, address: str) -> Recognised:
    """Whom the provider sent back. Raises Forbidden for whatever is not as it should be."""
    oidc = _configured(settings)
    kept = _open(oidc, cookie)
    if kept is None or parse_qs(urlsplit(address).query).get("state") != [kept.state]:
        raise Forbidden("sign-in-refused", "this sign-in took too long, or began in another browser: try again")
    try:
        claims = _claims(settings, oidc, base, kept, address)
    except (AuthlibBaseError, JoseError, httpx.HTTPError, KeyError, ValueError) as error:
        raise Forbidden(
            "sign-in-refused", f"the identity provider did not say who you are: {type(error).__name__}"
        ) from None
    name = claims.get(oidc.name_claim)

    return Recognised(
        subject=f"{oidc.issuer} {claims['sub']}",
        name=str(name or "").strip().lower(),
        roles=_roles(oidc, claims) if oidc.roles else None,
        onward=kept.onward,
    )


def _seal(oidc: OidcSettings, kept: _State) -> str:
    """What the browser keeps. Sealed: nobody makes us ask the provider about what we did not begin."""
    content = msgspec.json.encode(kept)

    return f"{content.hex()}.{_mac(oidc, content)}"


def _open(oidc: OidcSettings, cookie: str) -> _State | None:
    """What we gave to the browser, not too long ago; else None."""
    content, _, mac = cookie.partition(".")
    try:
        found = bytes.fromhex(content)
    except ValueError:
        return None
    if not hmac.compare_digest(mac.encode(), _mac(oidc, found).encode()):
        return None
    kept = msgspec.json.decode(found, type=_State)

    return kept if time.time() < kept.until else None


def _mac(oidc: OidcSettings, content: bytes) -> str:
    return hmac.new(oidc.client_secret.get_secret_value().encode(), b"state:" + content, "sha256").hexdigest()


def _claims(settings: Settings, oidc: OidcSettings, base: str, kept: _State, address: str) -> dict[str, Any]:
    metadata = _metadata(oidc.issuer)
    with _client(settings, oidc, base) as client:
        token = client.fetch_token(
            metadata["token_endpoint"], authorization_response=address, code_verifier=kept.verifier, state=kept.state
        )
    keys = KeySet.import_key_set(httpx.get(metadata["jwks_uri"], timeout=_TIMEOUT).raise_for_status().json())
    found = jwt.decode(token["id_token"], keys, algorithms=_ALGORITHMS)
    expected: dict[str, Any] = {
        "iss": {"essential": True, "value": metadata["issuer"]},
        "aud": {"essential": True, "value": oidc.client_id},
        "exp": {"essential": True},
        "sub": {"essential": True},
        "nonce": {"essential": True, "value": kept.nonce},
    }
    jwt.JWTClaimsRegistry(**expected, leeway=30).validate(found.claims)

    return dict(found.claims)


def _roles(oidc: OidcSettings, claims: dict[str, Any]) -> frozenset[Role]:
    groups = claims.get(oidc.roles_claim) or []

    return frozenset(Role(oidc.roles[each]) for each in groups if each in oidc.roles)


def _configured(settings: Settings) -> OidcSettings:
    if settings.console.oidc is None:
        raise NotFound("not-found", "no identity provider is configured")

    return settings.console.oidc


@cache
def _metadata(issuer: str) -> dict[str, Any]:
    answer = httpx.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration", timeout=_TIMEOUT).raise_for_status()
    found: dict[str, Any] = answer.json()
    if found["issuer"].rstrip("/") != issuer.rstrip("/"):
        raise Forbidden("sign-in-refused", "the identity provider gives itself another name than the settings do")

    return found


def _client(settings: Settings, oidc: OidcSettings, base: str) -> OAuth2Client:
    address = (settings.console.url or base).rstrip("/")

    return OAuth2Client(
        client_id=oidc.client_id,
        client_secret=oidc.client_secret.get_secret_value(),
        scope="openid profile email",
        redirect_uri=f"{address}/sign-in/oidc/back",
        code_challenge_method="S256",
        timeout=_TIMEOUT,
    )
