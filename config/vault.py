"""Values out of HashiCorp Vault, or OpenBao: `vault:MOUNT/PATH#KEY` in the key-value engine, version 2.

Where and as whom, as Vault's own tools take it: VAULT_ADDR, VAULT_TOKEN or a file VAULT_TOKEN_FILE (Vault Agent's
sink), VAULT_NAMESPACE, VAULT_CACERT. What cannot be read is a fault of the setting that names it, told
without its value.
"""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx

from config.sources import Unresolved
from config.values import plain_http_allowed

_SECRET = re.compile(r"vault:([\w-]+)/((?!\.)[\w.-]+(?:/(?!\.)[\w.-]+)*)#([\w.-]+)", re.ASCII)
_PATIENCE = 5.0


def read(value: str, environ: Mapping[str, str]) -> str | Unresolved:
    """What `value` names; asked for anew with every call."""
    named = _SECRET.fullmatch(value)
    if named is None:
        return Unresolved("vault:MOUNT/PATH#KEY")
    mount, path, key = named.groups()
    address = environ.get("VAULT_ADDR", "").rstrip("/")
    if not address.startswith("https://") and not (address.startswith("http://") and plain_http_allowed(address)):
        return Unresolved("VAULT_ADDR to be set, and to begin with https://")
    token = _token(environ)
    if not token:
        return Unresolved("VAULT_TOKEN, or the file VAULT_TOKEN_FILE, to hold a token")
    headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
    if namespace := environ.get("VAULT_NAMESPACE"):
        headers["X-Vault-Namespace"] = namespace
    try:
        context = ssl.create_default_context(cafile=environ.get("VAULT_CACERT") or None)
        answer = httpx.get(f"{address}/v1/{mount}/data/{path}", headers=headers, timeout=_PATIENCE, verify=context)
    except (httpx.HTTPError, OSError, ValueError) as error:
        return Unresolved(f"Vault to answer ({type(error).__name__})")

    return _found(answer, f"{mount}/{path}", key)


def _token(environ: Mapping[str, str]) -> str:
    """A header's value: one line of printable ASCII; empty where there is none."""
    token = environ.get("VAULT_TOKEN", "")
    if not token and (file := environ.get("VAULT_TOKEN_FILE")):
        try:
            token = Path(file).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""

    return token if token.isascii() and token.isprintable() else ""


def _found(answer: httpx.Response, secret: str, key: str) -> str | Unresolved:
    if answer.status_code == httpx.codes.FORBIDDEN:
        return Unresolved(f"the token to be allowed to read {secret}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return Unresolved(f"the secret {secret} to be there")
    if answer.status_code != httpx.codes.OK:
        return Unresolved(f"Vault to answer (HTTP {answer.status_code})")
    try:
        found = answer.json()["data"]["data"][key]
    except (ValueError, KeyError, TypeError):
        return Unresolved(f"the secret {secret} to have {key}")

    return found if isinstance(found, str) else Unresolved(f"{key} of the secret {secret} to be a text")
