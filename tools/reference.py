"""The pages of `docs/reference/`, written from the code: `python -m tools.reference`."""

import types
from collections.abc import Collection, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from config.settings import AccountSettings, RateLimit, Settings
from config.sources import PREFIX, SHORT_NAMES
from config.values import parse_duration
from providers.base import Capabilities
from providers.registry import BUILT_IN, adapters
from tools import licences

FOLDER = Path(__file__).parents[1] / "docs" / "reference"

#: What each setting is. A setting without a sentence stops `make reference`.
WORDS = {
    "database.url": "The ledger. SQLite serves one machine; more than one needs PostgreSQL.",
    "redis.url": "Redis, alone for Refundry; `rediss://` over TLS. Left out: the server of a running `refundry up`.",
    "security.encryption_keys": "Fernet keys for customer and bank data: the first encrypts, all decrypt.",
    "security.index_key": "Keys the search hashes; apart from the encryption keys, so that these can be rotated.",
    "approvals.threshold": "From which amount a second person is asked, by currency, in minor units.",
    "approvals.applies_to": "For which ways in; machine ways in are exempt unless listed.",
    "approvals.expires": "How long a request waits for its second person.",
    "celery.remote_control": "For `celery inspect` and Flower: whoever reaches the broker could use it.",
    "celery.events": "For Flower: task events on the broker.",
    "events.max_age": "How long an entry stays in the stream `refundry:events`.",
    "intake.batch": "How many jobs of the stream are accepted in one commit of the ledger.",
    "logging.level": "The least important line that is written.",
    "api.rate_limit": "Requests of one key.",
    "api.jobs_per_hour": "Jobs of all keys of one name; none: no quota.",
    "api.money_per_hour": "Money of all keys of one name, by currency, in minor units; none: no quota.",
    "api.metrics_on_loopback": "Whether `/metrics` needs no key on this machine: not behind a proxy.",
    "api.threads": "Requests worked on at once in one process, beside single jobs, which share a thread.",
    "api.connections": "Connections open at once, in one process.",
    "api.body_timeout": "How long a body may take to arrive.",
    "api.batch_timeout": "How long a batch's body may take to arrive.",
    "console.url": "The address that people type, where it is not a loopback one.",
    "console.environment": "Shown on every page, so that nobody takes one for the other.",
    "console.idle": "A session ends after so long without a click.",
    "console.lifetime": "A session ends after so long in any case.",
    "console.trusted_proxies": "Proxies that are believed about a visitor's address.",
    "console.local_sign_in": "Whether users with passwords sign in; by default where there is no `[console.oidc]`.",
    "console.oidc": "Single sign-on: `issuer`, `client_id`, `client_secret`, `label`, claims, `roles`.",
    "notifications.keep": "How long received notifications are kept.",
    "notifications.wait": "How long one waits for the refund that it speaks of.",
    "webhooks.allow_http": "Take plain `http` endpoints; for tests.",
    "webhooks.allow_networks": "Private networks that endpoints may be in; none by default.",
    "webhooks.retry_schedule": "The waits between deliveries of one message.",
    "webhooks.timeout": "How long an endpoint may take to answer.",
    "webhooks.disable_after": "An endpoint that has failed for so long is switched off.",
    "webhooks.retention": "How long sent messages are kept.",
    "reconcile.every": "How often open refunds are compared with the provider.",
    "reconcile.lists_every": "How often the provider's lists are compared.",
    "reconcile.watch": "How long a final refund is looked at again.",
    "reconcile.late_after": "A refund missing from the provider's side for so long is a difference.",
    "reconcile.books": "How often the books are added up.",
    "retention.personal": "How long personal data is kept once a refund is final; without it, until somebody asks.",
    "settlement.columns": "Settlement files: our field's name to the file's column.",
    "settlement.only": "Settlement files: take only rows with these values.",
    "settlement.amounts": "Settlement files: whole currency units or minor ones.",
    "settlement.decimal": "Settlement files: the decimal sign.",
    "settlement.thousands": "Settlement files: the sign between thousands.",
    "settlement.currency": "Settlement files: the currency, where no column tells it.",
    "settlement.dates": "Settlement files: the form of dates.",
    "settlement.verdicts": "Settlement files: what the file's status words mean.",
    "settlement.delimiter": "Settlement files: what separates columns; found out where left out.",
    "settlement.encoding": "Settlement files: the encoding.",
    "settlement.sheet": "Settlement files: the sheet of a workbook.",
    "settlement.days": "Settlement files: how many days a date may be off.",
    "provider": "One of the providers below, or one that an installed package brings.",
    "allow_http": "Take plain `http` to another machine; for tests.",
    "base_url": "Where the provider is asked.",
    "connect_timeout": "How long a connection may take to be made.",
    "read_timeout": "How long an answer may take.",
    "total_timeout": "How long a request may take as a whole.",
    "lease": "How long a worker's claim lasts.",
    "rate_limit": "Requests in a period, over all workers.",
    "concurrency": "Requests at once, over all workers.",
    "poll_schedule": "When a pending refund is asked after; the last repeats.",
    "poll_horizon": "When asking ends and a person is asked.",
    "handle_lifetime": "How long the provider remembers a handle.",
    "lookup_delay": "How long until an empty look-up counts.",
    "max_attempts": "Sendings before a person is asked.",
    "retry_backoff.base": "The first wait after a failure.",
    "retry_backoff.cap": "The longest wait; it doubles up to here.",
    "breaker.failures": "So many failures within the window open the breaker.",
    "breaker.window": "The window.",
    "breaker.cooldown": "How long it stays open before one request is tried.",
    "currency_exponents": "Decimals of a currency where the provider counts otherwise than ISO 4217.",
    "status_map": "The provider's status words: `succeeded`, `failed` or `pending` each.",
    "smartpay.secret_key": "Signs in.",
    "smartpay.webhook_secret": "Verifies notifications.",
    "smartretry.api_key": "Signs in.",
    "smartretry.terminal_id": "The terminal that took the payments.",
    "smartretry.webhook_secret": "Verifies notifications.",
    "jpm_smartpay.merchant_key": "Names the merchant.",
    "jpm_smartpay.origin": "Sent as `Origin`.",
    "jpm_smartpay.authentication_key": "Signs in; this or `oauth`.",
    "jpm_smartpay.oauth": "Signs in with `token_url`, `client_id` and `client_secret`.",
    "jpm_smartpay.webhook_user": "The user of its notifications.",
    "jpm_smartpay.webhook_password": "The password of its notifications.",
    "smart2pay.site_id": "Names the site.",
    "smart2pay.api_key": "Signs in.",
    "smart2pay.flavour": "Alternative methods or cards: two systems, each with a host of its own.",
    "smart_glocal.project": "Names the project.",
    "smart_glocal.private_key": "Signs what we send (PEM).",
    "smart_glocal.provider_public_key": "Verifies what it sends (PEM).",
    "smart_glocal.idempotency_header": "The header that carries the handle; empty sends none.",
    "smart_glocal.submerchant": "A sub-merchant, where there is one.",
}
COMMON = {"base_url", "currency_exponents", "status_map"}
CHECKED = "<!-- Written by `make reference` from the code; do not edit. -->"


def pages() -> dict[str, str]:
    """Every page by its file name."""
    return {"configuration.md": _configuration(), "providers.md": _providers(), "licences.md": licences.page()}


def main() -> None:
    """Write the pages."""
    for name, content in pages().items():
        (FOLDER / name).write_text(content)


# -- configuration ---------------------------------------------------------------------------------------------------


def _configuration() -> str:
    parts = [
        "# Configuration",
        CHECKED,
        (
            "Settings stand in `refundry.toml` of the working directory, or where `REFUNDRY_CONFIG` points; the "
            'environment wins over the file. A value may name an environment variable, `"${NAME}"`, a file whose '
            'content it is, `"file:PATH"`, or a secret in '
            '[Vault](../handbook/securing-the-stores.md#secrets-in-vault), `"vault:MOUNT/PATH#KEY"`. '
            'Durations are seconds, or text such as `"30s"`, `"15m"`, `"24h"`, `"10d"`. '
            "Lists and tables are written as JSON in the environment. A wrong or unknown setting stops the start with "
            "its full name; a secret is never printed."
        ),
    ]
    for name, field in Settings.model_fields.items():
        if name != "accounts":
            parts += [f"## `[{name}]`", _table(_rows(_model(field), name), environment=True)]
    parts += [
        "## `[accounts.NAME]`",
        (
            "What every account may set; where nothing stands, the provider's own default holds. In the environment "
            "`read_timeout` of the account `jp-store` is `REFUNDRY_ACCOUNTS__JP_STORE__READ_TIMEOUT`."
        ),
        _table(_rows(AccountSettings, "", skip={"options"}), environment=False),
    ]
    for name in BUILT_IN:
        settings = adapters()[name].Settings
        parts += [f"### `{name}`", _table(_rows(settings, name, skip=COMMON), environment=False)]

    return "\n\n".join(parts) + "\n"


def _rows(model: type[BaseModel], prefix: str, skip: Collection[str] = ()) -> Iterator[tuple[str, FieldInfo, str]]:
    """(full name, field, what it is) of each setting; sections inside are walked into."""
    for name, field in model.model_fields.items():
        full = f"{prefix}.{name}" if prefix else name
        inner = _model(field)
        if name in skip:
            continue
        if inner is not None and full not in WORDS:
            yield from _rows(inner, full)
            continue
        if full not in WORDS:
            raise LookupError(f"{full}: say what it is, in WORDS of tools/reference.py")
        yield full, field, WORDS[full]


def _model(field: FieldInfo) -> Any:
    """The section that a field holds, if it holds one."""
    kind = field.annotation

    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table(rows: Iterator[tuple[str, FieldInfo, str]], *, environment: bool) -> str:
    lines = ["| setting | type | default | what it is |", "|---|---|---|---|"]
    for full, field, words in rows:
        shown = full if "." not in full or full.split(".")[0] not in BUILT_IN else full.partition(".")[2]
        cell = f"`{shown}`" + (f"<br>`{_variable(full)}`" if environment else "")
        lines.append(f"| {cell} | {_kind(field)} | {_default(field)} | {words} |")

    return "\n".join(lines)


def _variable(full: str) -> str:
    section, _, name = full.partition(".")
    short = {place: variable for variable, place in SHORT_NAMES.items()}

    return short.get((section, name), f"{PREFIX}{section}__{name.replace('.', '__')}".upper())


_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false", SecretStr: "secret"}


def _kind(field: FieldInfo) -> str:
    return "duration" if _is_duration(field.metadata) else _named(field.annotation)


def _is_duration(marks: Iterable[Any]) -> bool:
    return any(isinstance(mark, BeforeValidator) and mark.func is parse_duration for mark in marks)


def _named(kind: Any) -> str:
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in inside)
    if origin in (Union, types.UnionType):
        return _named(next(each for each in inside if each is not type(None)))
    if origin is tuple:
        return f"list of {_named(inside[0])}"
    if origin is dict:
        return "table"
    if hasattr(kind, "__metadata__"):
        return "duration" if _is_duration(kind.__metadata__) else _named(get_args(kind)[0])
    if kind is RateLimit:
        return "rate"

    return _KINDS.get(kind, "table")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ("", {}, ()) or value is PydanticUndefined or isinstance(value, SecretStr):
        return ""

    return ", ".join(f"`{_shown(each, field)}`" for each in (value if isinstance(value, tuple) else (value,)))


def _shown(value: Any, field: FieldInfo) -> str:
    """A default as a settings file writes it."""
    if isinstance(value, float) and "duration" in _kind(field):
        return _duration(value)
    if isinstance(value, RateLimit):
        return f"{value.count}/{_duration(value.period).removeprefix('1')}"

    return str(value).lower() if isinstance(value, bool) else str(value)


# -- providers -------------------------------------------------------------------------------------------------------

#: A line of the table: what it says, and how it is read off.
_LINES: dict[str, Any] = {
    "A lost answer is recovered by": lambda each: {"replay": "the same request again", "lookup": "a look-up"}[
        each.recovery
    ],
    "The same handle can never pay twice": lambda each: _yes(each.deduplicates),
    "Remembers a handle for": lambda each: (
        "not documented" if each.handle_lifetime is None else _duration(each.handle_lifetime)
    ),
    "Keeps and repeats under a handle": lambda each: str(each.stores),
    "A look-up exists": lambda each: _yes(each.lookup),
    "A look-up matches by our handle": lambda each: _yes(each.lookup and each.matches_handle),
    "An empty look-up counts after": lambda each: _duration(each.lookup_delay) if each.lookup else "",
    "One refund of a payment at a time": lambda each: (
        "always" if each.exclusive == "always" else "while one is unknown"
    ),
    "Partial refunds": lambda each: _yes(each.partial),
    "Tells what was captured": lambda each: _yes(each.payment_facts),
    "Accepted first, final later": lambda each: _yes(each.polled),
    "Asked after": lambda each: ", ".join(map(_duration, each.poll_schedule)) + ", …" if each.polled else "",
    "Asked no longer than": lambda each: _duration(each.poll_horizon),
    "Time-outs, connecting and reading": lambda each: (
        f"{_duration(each.connect_timeout)}, {_duration(each.read_timeout)}"
    ),
    "Rate limit": lambda each: "not documented" if each.rate_limit is None else f"{each.rate_limit:g}/s",
    "Currencies": lambda each: "any" if each.currencies is None else ", ".join(sorted(each.currencies)),
}
_TITLES = {
    "smartpay": "Smartpay",
    "smartretry": "SmartRetry",
    "jpm_smartpay": "J.P. Morgan SmartPay",
    "smart2pay": "Smart2Pay",
    "smart_glocal": "Smart Glocal",
}


def _providers() -> str:
    known = {name: _capabilities(place) for name, place in BUILT_IN.items()}
    lines = [
        "| | " + " | ".join(f"{_TITLES[name]}<br>`{name}`" for name in known) + " |",
        "|---" * (len(known) + 1) + "|",
    ]
    lines += [
        f"| {title} | " + " | ".join(read(each) for each in known.values()) + " |" for title, read in _LINES.items()
    ]
    parts = [
        "# Providers",
        CHECKED,
        (
            "What each provider documents, as the engine reads it (`CAPABILITIES` of its adapter). An account may set "
            "the figures otherwise: see [configuration](configuration.md). A further provider is a package of its own: "
            "[adding a provider](../adding-a-provider.md)."
        ),
        "\n".join(lines),
    ]

    return "\n\n".join(parts) + "\n"


def _capabilities(place: str) -> Capabilities:
    found: Capabilities = import_module(place.partition(":")[0]).CAPABILITIES

    return found


def _yes(answer: bool) -> str:  # noqa: FBT001 - it is the value shown
    return "yes" if answer else "no"


def _duration(seconds: float) -> str:
    """As a settings file writes it."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"

    return f"{seconds:g}s"


if __name__ == "__main__":
    main()
