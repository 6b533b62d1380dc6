"""Which providers there are: ours, and those that installed packages bring.

A package offers a provider by an entry point of the group `refundry.providers`, whose name is the provider's
and which loads a module or a class with `Settings` (an AdapterSettings) and `create(settings)`. Nothing is
imported before an account asks for it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from domain.errors import ConfigurationError
from providers.base import AdapterSettings, Provider

GROUP = "refundry.providers"
BUILT_IN = {
    "smartpay": "providers.smartpay:Smartpay",
    "smartretry": "providers.smartretry:SmartRetry",
    "jpm_smartpay": "providers.jpm_smartpay:JpmSmartPay",
    "smart2pay": "providers.smart2pay:Smart2Pay",
    "smart_glocal": "providers.smart_glocal:SmartGlocal",
}

# The words of a settings file for what was found in it.
KINDS: dict[type, str] = {
    str: "a string",
    SecretStr: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    dict: "a table",
    list: "a list",
    tuple: "a list",
    type(None): "nothing",
}
EXPECTED = {
    "string_type": "a string",
    "string_too_short": "a string that is not empty",
    "too_short": "a value that is not empty",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "list_type": "a list",
    "tuple_type": "a list",
}
OPENINGS = {
    "Value error, ": "",
    "Input should be ": "",
    "String should match ": "a string that matches ",
    "String should have ": "a string with ",
}
SHORT = 3  # a value of so few characters is part of any sentence


@dataclass(frozen=True, slots=True)
class AdapterFactory:
    """What is needed to open an account: the keys it may have, and the maker of its adapter."""

    Settings: type[AdapterSettings]
    create: Callable[[AdapterSettings], Provider]


class Adapters(Mapping[str, AdapterFactory]):
    """Providers by name, each imported when it is asked for. A built-in name cannot be taken over."""

    def __init__(self, offered: tuple[EntryPoint, ...]) -> None:
        self._offered = {point.name: point for point in offered if point.name not in BUILT_IN}
        names = [point.name for point in offered]
        self._twice = {name for name in self._offered if names.count(name) > 1}

    def __getitem__(self, name: str) -> AdapterFactory:
        if name in BUILT_IN:
            return _built_in(BUILT_IN[name])
        if name in self._twice:
            raise ConfigurationError(f"two installed packages offer the provider {name!r}")

        return _installed(self._offered[name])

    def __contains__(self, name: object) -> bool:
        return name in BUILT_IN or name in self._offered

    def __iter__(self) -> Iterator[str]:
        yield from BUILT_IN
        yield from self._offered

    def __len__(self) -> int:
        return len(BUILT_IN) + len(self._offered)


def adapters() -> Adapters:
    """Every provider that an account may name, at this moment."""
    return Adapters(tuple(entry_points(group=GROUP)))


def build(provider: str, options: Mapping[str, Any], where: str) -> Provider:
    """The adapter of the account whose settings stand at `where`, such as `accounts.jp-store`.

    Raises ConfigurationError with one line per fault, which names the setting and never shows a value.
    """
    known = adapters()
    if provider not in known:
        raise ConfigurationError(
            f"{where}.provider: unknown provider {provider!r}; known are {', '.join(sorted(known))}"
        )
    try:
        factory = known[provider]
    except ConfigurationError as error:
        raise ConfigurationError(*(f"{where}.provider: {line}" for line in error.lines)) from error

    return factory.create(_validated(factory.Settings, options, where))


def _validated(model: type[AdapterSettings], options: Mapping[str, Any], where: str) -> AdapterSettings:
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
    # Raised outside the handler: the cause would carry the values.
    raise ConfigurationError(*(_line(fault, where) for fault in faults))


def _built_in(place: str) -> AdapterFactory:
    module_name, _, class_name = place.partition(":")
    module = import_module(module_name)

    return AdapterFactory(Settings=getattr(module, class_name).Settings, create=module.create)


def _installed(point: EntryPoint) -> AdapterFactory:
    origin = f"the provider {point.name!r} of the package {point.dist.name if point.dist else '?'}"
    try:
        loaded = point.load()
    except Exception as error:
        raise ConfigurationError(f"{origin} cannot be loaded: {type(error).__name__}: {error}") from error
    settings, create = getattr(loaded, "Settings", None), getattr(loaded, "create", None)
    if not (isinstance(settings, type) and issubclass(settings, AdapterSettings) and callable(create)):
        raise ConfigurationError(f"{origin} must offer Settings (an AdapterSettings) and create(settings)")

    return AdapterFactory(Settings=settings, create=create)


def _line(fault: ErrorDetails, where: str) -> str:
    if not fault["loc"]:
        return f"{where}: {_expected(fault)}"
    name = ".".join([where, *map(str, fault["loc"])])
    if fault["type"] == "missing":
        return f"{name}: expected a value, found nothing"
    kind = KINDS.get(type(fault["input"]), "something else")
    if fault["type"] == "extra_forbidden":
        return f"{name}: unknown setting, found {kind}"

    return f"{name}: expected {_expected(fault)}, found {kind}"


def _expected(fault: ErrorDetails) -> str:
    """What pydantic or a validator asks for, in words that do not repeat what was given."""
    said = EXPECTED.get(fault["type"], fault["msg"])
    for opening, instead in OPENINGS.items():
        if said.startswith(opening):
            said = instead + said.removeprefix(opening)
    given = fault["input"].get_secret_value() if isinstance(fault["input"], SecretStr) else fault["input"]

    return said.replace(given, "...") if isinstance(given, str) and len(given) > SHORT else said
