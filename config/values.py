"""The small values that settings are written in: durations, rates, currencies, addresses."""

import base64
import binascii
import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints

from config.sources import unresolved

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")
_RATE = re.compile(r"([0-9]{1,9})/([smhd])")
_CURRENCY = re.compile(r"[A-Z]{3}")
_FERNET_BYTES = 32
# What no request can be made of, or one to another place than it seems: parsers drop blanks and line ends or escape
# them, and do not agree on a backslash; a path is put behind an address, so that a query or a fragment swallows it.
_ADDRESS_RULES = (
    (re.compile(r"[\s\x00-\x20\x7f\\]"), "an address without blanks, line ends and backslashes"),
    (re.compile(r"[?#]"), "an address without a query or a fragment"),
    (re.compile(r"^[^/]*//[^/]*@"), "an address without a user name or a password"),
)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` calls in each `period` of seconds."""

    count: int
    period: float

    @property
    def per_second(self) -> float:
        """The same as calls per second."""
        return self.count / self.period


def parse_duration(value: object) -> float:
    """Seconds from a number or from text like "15m"; ValueError otherwise."""
    expected = 'a duration: seconds, or text like "30s", "15m", "24h", "10d"'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(expected)
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(expected)
        value = float(match[1]) * _UNITS[match[2] or "s"]
    try:
        seconds = float(value)
    except OverflowError:  # an integer beyond every float
        seconds = math.inf
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(expected)
    return seconds


def parse_rate(value: object) -> RateLimit:
    """A rate from text like "100/s", of at most nine digits; ValueError otherwise."""
    if isinstance(value, RateLimit):
        return value
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError('a rate: text like "100/s", "600/m", "1000/h", of at most 9 digits')
    return RateLimit(int(match[1]), float(_UNITS[match[2]]))


def by_currency(value: object) -> object:
    """The same table with upper-case codes; ValueError where a key is no ISO 4217 code."""
    if not isinstance(value, Mapping):
        return value
    upper = {str(code).upper(): figure for code, figure in value.items()}
    if not all(_CURRENCY.fullmatch(code) for code in upper):
        raise ValueError("a table whose keys are ISO 4217 codes, such as EUR")
    return upper


def whole(value: object) -> object:
    """Money and counts are whole: a float or a boolean is refused even where it looks like an integer."""
    if isinstance(value, bool | float):
        raise ValueError("a whole number")
    return value


def refuse_unresolved(value: object) -> object:
    """The value itself; ValueError with the first reason where a reference inside it names nothing."""
    missing = unresolved(value)
    if missing:
        raise ValueError(missing[0].reason)
    return value


def plain_http_allowed(url: str) -> bool:
    """Whether the URL stays on this machine, where plain http gives nothing away."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def insecure_urls(value: object, name: str = "") -> list[str]:
    """The names of all settings ending in `url` that would send over plain http to another machine."""
    if isinstance(value, Mapping):
        return [found for key, item in value.items() for found in insecure_urls(item, _join(name, str(key)))]
    is_plain = isinstance(value, str) and name.endswith("url") and value.lower().startswith("http://")
    return [name] if is_plain and not plain_http_allowed(str(value)) else []


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _web_address(value: str) -> str:
    for broken, rule in _ADDRESS_RULES:
        if broken.search(value):
            raise ValueError(rule)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("an address beginning with https://")
    return value.rstrip("/")


def _database_url(value: str) -> str:
    for short in ("postgres://", "postgresql://"):
        if value.startswith(short):
            return "postgresql+psycopg://" + value.removeprefix(short)
    if not value.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError("sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE")
    return value


def _redis_url(value: str) -> str:
    if not value.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("redis://HOST:PORT/0, rediss://HOST:PORT/0 or unix://PATH")
    return value


def _network(value: object) -> object:
    try:
        return ipaddress.ip_network(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError('a network, such as "10.0.0.0/8" or "fd00::/8"') from None


def _split(value: object) -> object:
    return [part for part in re.split(r"[,\s]+", value) if part] if isinstance(value, str) else value


def _fernet_key(value: SecretStr) -> SecretStr:
    try:
        fits = len(base64.b64decode(value.get_secret_value(), altchars=b"-_", validate=True)) == _FERNET_BYTES
    except (binascii.Error, ValueError):
        fits = False
    if not fits:
        raise ValueError("a Fernet key: 32 bytes in URL-safe base64")
    return value


Seconds = Annotated[float, BeforeValidator(parse_duration)]
Rate = Annotated[RateLimit, BeforeValidator(parse_rate)]
Count = Annotated[int, BeforeValidator(whole), Field(ge=1)]
MinorUnits = Annotated[int, BeforeValidator(whole), Field(ge=0)]
Exponent = Annotated[int, BeforeValidator(whole), Field(ge=0, le=4)]
Thresholds = Annotated[dict[str, MinorUnits], BeforeValidator(by_currency)]
Exponents = Annotated[dict[str, Exponent], BeforeValidator(by_currency)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
FernetKey = Annotated[SecretStr, AfterValidator(_fernet_key)]
FernetKeys = Annotated[tuple[FernetKey, ...], BeforeValidator(_split)]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_split)]
AccountName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Options = dict[str, Annotated[Any, AfterValidator(refuse_unresolved)]]
