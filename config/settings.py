"""The settings: typed, read once, all faults reported together."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.sources import GivenSource, Tree, Unresolved, read_environment, read_file, settings_file
from config.values import (
    AccountName,
    Count,
    DatabaseUrl,
    Exponents,
    FernetKeys,
    Networks,
    Options,
    Rate,
    RateLimit,
    RedisUrl,
    Seconds,
    Thresholds,
    WebAddress,
    insecure_urls,
)

__all__ = [
    "AccountSettings",
    "RateLimit",
    "Settings",
    "SettingsError",
    "describe",
    "load_settings",
]

WayIn = Literal["console", "cli", "api", "stream", "celery"]
RoleName = Literal["viewer", "operator", "approver", "admin"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_H = 3600.0
RETRIES = (0.0, 5.0, 300.0, 1800.0, 2 * _H, 5 * _H, 10 * _H, 14 * _H, 20 * _H, 24 * _H)


class SettingsError(ValueError):
    """The settings cannot be used; one line per fault, each with the setting's full name and no value."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Section(BaseModel):
    """One table of the settings: fixed once read, unknown keys refused, values kept out of messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class DatabaseSettings(Section):
    """`[database]`: the ledger."""

    url: DatabaseUrl = Field("sqlite:///refundry.db", repr=False)


class RedisSettings(Section):
    """`[redis]`: no URL means the embedded server."""

    url: RedisUrl | None = Field(None, repr=False)


class SecuritySettings(Section):
    """`[security]`: the first encryption key encrypts, all decrypt; the index key keys the search hashes."""

    encryption_keys: FernetKeys = Field(min_length=1)
    index_key: SecretStr = Field(min_length=16)


class BackoffSettings(Section):
    """`retry_backoff` of an account: the first wait in seconds, doubled up to the cap."""

    base: Seconds | None = None
    cap: Seconds | None = None


class BreakerSettings(Section):
    """`breaker` of an account: so many failures within the window open it for the cooldown."""

    failures: Count | None = None
    window: Seconds | None = None
    cooldown: Seconds | None = None


SettlementField = Literal[
    "reconciliation_id", "provider_refund_id", "handle", "payment_id", "amount", "currency", "status", "at"
]


class SettlementSettings(Section):
    """`[accounts.NAME.settlement]`: how the provider's settlement files are written.

    `columns`: the file's heading by field. `only`: lines count where these columns have one of these words. `verdicts`:
    what the words of the status column mean; without them every line is a refund that was paid. `days`: how long after
    our success a line may come, and how far dates may be apart.
    """

    columns: dict[SettlementField, str] = Field(default_factory=dict)
    only: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    amounts: Literal["major", "minor"] = "major"
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", "'"] = ""
    currency: str | None = Field(None, pattern=r"^[A-Z]{3}$")
    dates: str | None = None
    verdicts: dict[str, Literal["succeeded", "pending", "failed"]] = Field(default_factory=dict)
    delimiter: Literal[",", ";", "\t", "|"] | None = None
    encoding: Literal["utf-8", "utf-16", "iso-8859-1", "iso-8859-15", "cp1252", "shift_jis"] = "utf-8"
    sheet: str | None = None
    days: float = Field(2.0, ge=0, le=31)

    @model_validator(mode="after")
    def _tells_them_apart(self) -> Self:
        if self.decimal == self.thousands:
            raise ValueError("a decimal sign that is not the one between thousands")
        return self


class AccountSettings(Section):
    """`[accounts.NAME]`: the keys every account may have, and the provider's own keys in `options`.

    None means that the provider's capabilities give the default. `options` are checked by the adapter's own
    model, so that an unknown key is refused there. Durations are seconds.
    """

    provider: str = Field(min_length=1)
    allow_http: bool = False
    base_url: WebAddress | None = None
    connect_timeout: Seconds | None = None
    read_timeout: Seconds | None = None
    total_timeout: Seconds | None = None
    lease: Seconds | None = None
    rate_limit: Rate | None = None
    concurrency: Count | None = None
    poll_schedule: tuple[Seconds, ...] | None = Field(None, min_length=1)
    poll_horizon: Seconds | None = None
    handle_lifetime: Seconds | None = None
    lookup_delay: Seconds | None = None
    max_attempts: Count | None = None
    retry_backoff: BackoffSettings = BackoffSettings()
    breaker: BreakerSettings = BreakerSettings()
    currency_exponents: Exponents = Field(default_factory=dict)
    status_map: dict[str, str] | None = None
    settlement: SettlementSettings = SettlementSettings()
    options: Options = Field(default_factory=dict, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        own = {key: value for key, value in given.items() if key not in cls.model_fields}
        common = {key: value for key, value in given.items() if key in cls.model_fields}
        options = common.get("options", {})
        return {**common, "options": {**options, **own} if isinstance(options, Mapping) else options}

    @field_validator("base_url", "options")
    @classmethod
    def _refuse_plain_http(cls, value: Any, info: ValidationInfo) -> Any:
        plain = insecure_urls({info.field_name: value} if isinstance(value, str) else value)
        if plain and not info.data.get("allow_http"):
            raise ValueError(f"https in {', '.join(plain)} (or allow_http = true)")
        return value


class ApprovalSettings(Section):
    """`[approvals]`: from which amount (minor units) a second person is asked, by way in."""

    threshold: Thresholds = Field(default_factory=dict)
    applies_to: tuple[WayIn, ...] = ("console", "cli")
    expires: Seconds = 72 * 3600.0


class OidcSettings(Section):
    """`[console.oidc]`: who signs people in.

    `roles`: a group of the roles claim to a role; without any, admins give roles here.
    """

    issuer: WebAddress
    client_id: str = Field(min_length=1)
    client_secret: SecretStr
    label: str = "Single sign-on"
    name_claim: str = "preferred_username"
    roles_claim: str = "groups"
    roles: dict[str, RoleName] = Field(default_factory=dict)


class ConsoleSettings(Section):
    """`[console]`: the pages for people. `url`: the address they type, where it is not a loopback one.

    `trusted_proxies`: who is believed about a visitor's address. `local_sign_in`: whether users with passwords sign in
    here; by default where no identity provider is set.
    """

    url: WebAddress | None = None
    trusted_proxies: Networks | None = None
    local_sign_in: bool | None = None
    environment: Literal["live", "test", "demo"] = "live"
    idle: Seconds = 1800.0
    lifetime: Seconds = 12 * 3600.0
    oidc: OidcSettings | None = None

    @property
    def signs_in_locally(self) -> bool:
        """Whether there is a form for name and password."""
        return self.oidc is None if self.local_sign_in is None else self.local_sign_in


class CelerySettings(Section):
    """`[celery]`: what Flower and `inspect` need; off, for whoever reaches the broker could use it."""

    remote_control: bool = False
    events: bool = False


class EventSettings(Section):
    """`[events]`: how long an entry stays in the stream `refundry:events`."""

    max_age: Seconds = 24 * 3600.0


class IntakeSettings(Section):
    """`[intake]`: how many jobs of the stream are accepted in one ledger commit."""

    batch: Count = Field(500, le=10_000)


class ApiSettings(Section):
    """`[api]`: what one key may ask for, and what one hour of one client may bring (no quota by default).

    `rate_limit`: requests of one key. `jobs_per_hour`, `money_per_hour` (minor units): of all keys of one name.
    `threads`: requests worked on at once, beside single jobs, which share a thread; `connections`: open at once.
    `metrics_on_loopback`: figures without a key for who connects from this machine, which behind a proxy may be
    everybody.
    """

    rate_limit: Rate = RateLimit(6000, 60.0)
    jobs_per_hour: Count | None = None
    money_per_hour: Thresholds = Field(default_factory=dict)
    threads: Count = Field(16, le=200)
    connections: Count = 1000
    body_timeout: Seconds = 20.0
    batch_timeout: Seconds = 120.0
    metrics_on_loopback: bool = False


class WebhookSettings(Section):
    """`[webhooks]`: outgoing ones. `retry_schedule`: the wait before each attempt, in seconds.

    `allow_networks`: private addresses that endpoints may have all the same. `disable_after`: an endpoint that has
    failed for so long is switched off. `retention`: how long deliveries are kept for a look and for a resend.
    """

    allow_http: bool = False
    allow_networks: Networks = ()
    retry_schedule: tuple[Seconds, ...] = Field(RETRIES, min_length=1)
    timeout: Seconds = Field(20.0, gt=0, le=60)
    disable_after: Seconds = 5 * 86_400.0
    retention: Seconds = 30 * 86_400.0


class NotificationSettings(Section):
    """`[notifications]` of providers: how long they are kept, and wait for the refund that they are about."""

    keep: Seconds = 30 * 86_400.0
    wait: Seconds = 24 * 3600.0


class ReconcileSettings(Section):
    """`[reconcile]`: how often each account is compared, how long what is final is watched, and when open is late.

    `books`: how often postings are derived from the journal; reports derive them first in any case.
    """

    every: Seconds = 6 * 3600.0
    lists_every: Seconds = 24 * 3600.0
    watch: Seconds = 10 * 86_400.0
    late_after: Seconds = 5 * 86_400.0
    books: Seconds = 3600.0


class RetentionSettings(Section):
    """`[retention]`: how long personal data is kept once a refund is final; without it, until somebody asks."""

    personal: Seconds | None = None


class LoggingSettings(Section):
    """`[logging]`."""

    level: Level = "INFO"


def _nothing() -> Any:
    """So that a missing section is reported by the names of its required keys."""
    return {}


class Settings(BaseSettings):
    """Everything that can be set. `load_settings` reads it; constructed directly it reads nothing else."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    security: SecuritySettings = Field(default_factory=_nothing, validate_default=True)
    accounts: dict[AccountName, AccountSettings] = Field(default_factory=dict)
    approvals: ApprovalSettings = ApprovalSettings()
    celery: CelerySettings = CelerySettings()
    console: ConsoleSettings = ConsoleSettings()
    events: EventSettings = EventSettings()
    intake: IntakeSettings = IntakeSettings()
    notifications: NotificationSettings = NotificationSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    retention: RetentionSettings = RetentionSettings()
    logging: LoggingSettings = LoggingSettings()
    api: ApiSettings = ApiSettings()
    webhooks: WebhookSettings = WebhookSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing is read behind the caller's back."""
        return (init_settings,)


def load_settings(
    environ: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    *,
    defaults: Tree | None = None,
) -> Settings:
    """The settings of the environment, else of the file, else of `defaults`; SettingsError names every fault.

    The encryption and index keys have no default: they must come from one of the three.
    """
    folder = cwd or Path.cwd()
    try:
        file = read_file(settings_file(environ, folder), environ)
        accounts = file.get("accounts")
        environment = read_environment(environ, folder, accounts if isinstance(accounts, dict) else ())
    except ValueError as error:
        raise SettingsError([str(error)]) from None
    sources = tuple(GivenSource(Settings, tree) for tree in (environment, file, defaults or {}))
    try:
        return Settings(_build_sources=(sources, {}))
    except ValidationError as error:
        raise SettingsError(describe(error)) from None  # the cause would carry the values
    except RecursionError:  # they could be read, and are still too deep to be looked through
        raise SettingsError(["the settings are nested too deeply"]) from None


def describe(error: ValidationError, prefix: str = "") -> list[str]:
    """One line per fault: full name of the setting, what was expected, the type of what was found."""
    return [_line(fault, prefix) for fault in error.errors(include_url=False, include_context=False)]


_TOML_TYPES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    dict: "a table",
    list: "a list",
    tuple: "a list",
    SecretStr: "a string",
}
_EXPECTED = {
    "missing": "a value",
    "string_pattern_mismatch": "a name of a-z, 0-9, _ and -, at most 63 characters long",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "string_type": "a string",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "bool_parsing": "true or false",
    "dict_type": "a table",
    "tuple_type": "a list",
    "url_parsing": "an address",
}


def _line(fault: ErrorDetails, prefix: str) -> str:
    name = _name(fault["loc"], prefix)
    if fault["type"] == "extra_forbidden":
        return f"{name}: unknown setting, found {_kind(fault['input'])}"
    found = "nothing" if fault["type"] == "missing" else _kind(fault["input"])
    return f"{name}: expected {_expected(fault)}, found {found}"


def _expected(fault: ErrorDetails) -> str:
    if isinstance(fault["input"], Unresolved):
        return fault["input"].reason
    message = _EXPECTED.get(fault["type"], fault["msg"])
    message = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return message[:1].lower() + message[1:]


def _name(location: tuple[str | int, ...], prefix: str) -> str:
    """The path as a user writes it: `options` and pydantic's own marks are not part of it."""
    account = location[:1] == ("accounts",)
    parts = [
        str(part)
        for place, part in enumerate(location)
        if part != "[key]" and not (account and place == 2 and part == "options")  # noqa: PLR2004  the third part
    ]
    return ".".join([prefix, *parts] if prefix else parts)


def _kind(value: object) -> str:
    return _TOML_TYPES.get(type(value), "a reference") if value is not None else "nothing"
