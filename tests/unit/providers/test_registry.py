"""The registry: five providers of ours, those of installed packages, and settings that cannot work."""

import sys
import textwrap
from uuid import UUID

import pytest

from domain.errors import ConfigurationError
from providers import registry
from providers.base import AdapterSettings, Move
from providers.registry import adapters, build
from tests.unit.providers import support
from tests.unit.providers.support import answer, talk

FIVE = {"smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart_glocal"}

SIXTH = '''
"""A provider that a third party ships."""

from typing import ClassVar

from pydantic import SecretStr

from domain.outcome import Succeeded, Unknown
from providers import wire
from providers.base import AdapterSettings, Move


class Settings(AdapterSettings):
    token: SecretStr
    base_url: str = "https://sixth.example"


class Sixth:
    name: ClassVar[str] = "sixth"
    Settings: ClassVar[type[AdapterSettings]] = Settings

    def __init__(self, settings):
        self._settings = settings

    def handle(self, token):
        return token.hex

    def refund(self, order):
        response = yield Move(wire.post(f"{self._settings.base_url}/refund", {"key": order.handle}))

        return Succeeded() if response.status_code == 200 else Unknown(reason="?")


def create(settings):
    return Sixth(settings)


class Offered:
    Settings = Settings
    create = staticmethod(create)
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution that offers providers on sys.path, as `pip install` would."""

    def installed(distribution, module, source, **points):
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {place}" for name, place in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[refundry.providers]", *lines, ""]))
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        monkeypatch.delitem(sys.modules, module, raising=False)

    monkeypatch.syspath_prepend(str(tmp_path))

    return installed


def lines_of(provider, options, where="accounts.shop"):
    with pytest.raises(ConfigurationError) as refused:
        build(provider, options, where)

    return refused.value.lines


def test_the_five_are_known_and_offer_settings_and_create():
    known = adapters()

    assert set(known) >= FIVE
    assert len(known) == len(list(known))
    for name in FIVE:
        assert issubclass(known[name].Settings, AdapterSettings)
        assert callable(known[name].create)


@pytest.mark.parametrize("account", support.ACCOUNTS)
def test_each_account_is_built_by_its_provider(account):
    built = support.provider(account)

    assert built.name == account.split(" ")[0]
    assert type(built).Settings is adapters()[built.name].Settings


@pytest.mark.parametrize("place", ["acme_refunds", "acme_refunds:Offered"])
def test_a_sixth_provider_comes_as_a_package_and_is_used(install, place):
    install("acme-refunds", "acme_refunds", SIXTH, sixth=place)
    sixth = build("sixth", {"token": "t"}, "accounts.acme")
    order = support.order("smartpay", handle=sixth.handle(UUID(int=7)))
    heard = talk(sixth.refund(order), answer(200, {}))

    assert "sixth" in adapters()
    assert str(heard.requests[0].url) == "https://sixth.example/refund"
    assert isinstance(heard.steps[0], Move)
    assert type(heard.end).__name__ == "Succeeded"


def test_its_settings_are_checked_like_ours(install):
    install("acme-refunds", "acme_refunds", SIXTH, sixth="acme_refunds")

    assert lines_of("sixth", {"token": 7}) == ("accounts.shop.token: expected a string, found an integer",)


def test_nothing_is_imported_before_it_is_asked_for(install):
    install("acme-refunds", "acme_refunds", "raise RuntimeError('imported')", sixth="acme_refunds")

    assert "sixth" in adapters()
    assert "acme_refunds" not in sys.modules


def test_a_package_that_cannot_be_loaded_is_named(install):
    install("acme-refunds", "acme_refunds", "raise RuntimeError('no such luck')", sixth="acme_refunds")
    (line,) = lines_of("sixth", {})

    assert line == (
        "accounts.shop.provider: the provider 'sixth' of the package acme-refunds cannot be loaded: "
        "RuntimeError: no such luck"
    )


@pytest.mark.parametrize("source", ["", "def create(settings): ...", "class Settings: ...\ndef create(settings): ..."])
def test_a_package_that_offers_no_adapter_is_told_what_to_offer(install, source):
    install("acme-refunds", "acme_refunds", source, sixth="acme_refunds")
    (line,) = lines_of("sixth", {})

    assert "must offer Settings (an AdapterSettings) and create(settings)" in line


def test_a_built_in_name_cannot_be_taken_over(install):
    install("acme-refunds", "acme_refunds", SIXTH, smartpay="acme_refunds")

    assert support.provider("smartpay").__class__.__module__ == "providers.smartpay"
    assert list(adapters()).count("smartpay") == 1


def test_a_name_that_two_packages_offer_is_refused(install):
    install("acme-refunds", "acme_refunds", SIXTH, sixth="acme_refunds")
    install("other-refunds", "other_refunds", SIXTH, sixth="other_refunds")

    assert lines_of("sixth", {}) == ("accounts.shop.provider: two installed packages offer the provider 'sixth'",)


def test_an_unknown_provider_names_the_known_ones():
    (line,) = lines_of("smartpya", {})

    assert line.startswith("accounts.shop.provider: unknown provider 'smartpya'; known are ")
    assert all(name in line for name in FIVE)


SECRET = "sk_test_DoNotShowThis"
SIX_CHARACTERS = "a string that matches pattern '^[A-Za-z0-9]{6}$'"


@pytest.mark.parametrize(
    ("provider", "options", "line"),
    [
        ("smartpay", {}, "accounts.shop.secret_key: expected a value, found nothing"),
        ("smartpay", {"secret_key": 7}, "accounts.shop.secret_key: expected a string, found an integer"),
        (
            "smartpay",
            {"secret_key": ""},
            "accounts.shop.secret_key: expected a value that is not empty, found a string",
        ),
        (
            "smartpay",
            {"secret_key": SECRET, "secret_kee": SECRET},
            "accounts.shop.secret_kee: unknown setting, found a string",
        ),
        (
            "smartpay",
            {"secret_key": SECRET, "webhook_secret": [[SECRET]]},
            "accounts.shop.webhook_secret.0: expected a string, found a list",
        ),
        (
            "smartpay",
            {"secret_key": SECRET, "currency_exponents": {"JPY": "many"}},
            "accounts.shop.currency_exponents.JPY: expected a whole number, found a string",
        ),
        (
            "smartpay",
            {"secret_key": SECRET, "status_map": SECRET},
            "accounts.shop.status_map: expected a table, found a string",
        ),
        (
            "smartretry",
            {"api_key": SECRET, "terminal_id": SECRET},
            f"accounts.shop.terminal_id: expected {SIX_CHARACTERS}, found a string",
        ),
        (
            "smart2pay",
            {"site_id": "1", "api_key": SECRET, "flavour": "both"},
            "accounts.shop.flavour: expected 'apm' or 'card', found a string",
        ),
        ("smartpay", {"secret_key": None}, "accounts.shop.secret_key: expected a string, found nothing"),
        (
            "smartpay",
            {"secret_key": object()},
            "accounts.shop.secret_key: expected a string, found something else",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_found_and_expected(provider, options, line):
    lines = lines_of(provider, options)

    assert lines == (line,)
    assert SECRET not in str(lines)


def test_all_faults_are_reported_together():
    lines = lines_of("smartretry", {"api_key": 7, "x": 1})

    assert [line.partition(":")[0] for line in lines] == [
        "accounts.shop.api_key",
        "accounts.shop.terminal_id",
        "accounts.shop.x",
    ]


def test_a_rule_about_several_settings_names_the_account():
    options = support.options("jpm_smartpay") | {"authentication_key": ""}

    assert lines_of("jpm_smartpay", options) == ("accounts.shop: either authentication_key or oauth is required",)


@pytest.mark.parametrize("account", support.ACCOUNTS)
def test_no_fault_shows_a_value(account):
    given = support.options(account) | {"surprise": SECRET}
    wrong = {key: [value] for key, value in given.items()}
    (*lines,) = lines_of(account.split(" ")[0], wrong)
    shown = "\n".join(lines)

    assert len(lines) > 1
    for value in given.values():
        if isinstance(value, str) and len(value) > 5:
            assert value not in shown


def test_a_validator_that_repeats_its_input_is_not_quoted(install):
    source = SIXTH.replace(
        "    token: SecretStr\n",
        "    token: SecretStr\n\n    @field_validator('token', mode='before')\n    @classmethod\n"
        "    def _no(cls, value):\n        raise ValueError(f'not {value}')\n",
    ).replace("import SecretStr", "import SecretStr, field_validator")
    install("acme-refunds", "acme_refunds", source, sixth="acme_refunds")

    assert lines_of("sixth", {"token": SECRET}) == ("accounts.shop.token: expected not ..., found a string",)


def test_an_error_has_no_cause_that_would_carry_the_values():
    with pytest.raises(ConfigurationError) as refused:
        build("smartpay", {"secret_key": [SECRET]}, "accounts.shop")

    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


def test_the_group_has_its_documented_name():
    assert registry.GROUP == "refundry.providers"


@pytest.mark.parametrize("key", ["sk_test_1\n", "sk test", "sk_\xe9"])
@pytest.mark.parametrize(
    ("account", "name"),
    [
        ("smartpay", "secret_key"),
        ("smartretry", "api_key"),
        ("jpm_smartpay", "authentication_key"),
        ("smart2pay", "api_key"),
    ],
)
def test_a_key_that_fits_no_header_stops_the_start(account, name, key):
    with pytest.raises(ConfigurationError, match=rf"accounts\.{account}\.{name}: expected printable ASCII") as refused:
        support.provider(account, **{name: key})

    assert key not in str(refused.value)


@pytest.mark.parametrize("name", ["private_key", "provider_public_key"])
def test_a_pem_with_other_characters_stops_the_start(name):
    pem = support.options("smart_glocal")[name]

    with pytest.raises(ConfigurationError, match=rf"accounts\.smart_glocal\.{name}: expected an RSA"):
        support.provider("smart_glocal", **{name: pem + "\xe9"})
