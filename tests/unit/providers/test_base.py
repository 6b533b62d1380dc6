"""The addresses that requests are sent to: as they are written, or refused with the rule."""

import pytest

from domain.errors import ConfigurationError
from providers.base import web_address
from providers.registry import build
from tests.unit.providers import support

BLANKS = "an address without blanks, line ends and backslashes"
QUERY = "an address without a query or a fragment"
USER = "an address without a user name or a password"
SCHEME = "an address beginning with https://"


@pytest.mark.parametrize(
    "url",
    ["https://x.example", "HTTPS://x.example/", "http://127.0.0.1:8090/v1", "https://[::1]:1/@/x", "https://é.fr"],
)
def test_an_address_stays_as_it_is(url):
    assert web_address(url) == url


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://x.example\n", BLANKS),
        (" https://x.example", BLANKS),
        ("https://x.example/a b", BLANKS),
        ("https://x.example\u2028", BLANKS),
        ("https://x.example\\@y.example", BLANKS),
        ("https://x.example/?", QUERY),
        ("https://x.example/#a", QUERY),
        ("https://ann:pass@x.example", USER),
        ("https://ann@x.example", USER),
        ("", SCHEME),
        ("x.example", SCHEME),
        ("ftp://x.example", SCHEME),
        ("https://", SCHEME),
        ("https://[::1", SCHEME),
        ("https://x.example:port", SCHEME),
        ("https://\ud800.example", SCHEME),
    ],
)
def test_an_address_that_no_request_can_be_made_of_names_the_rule(url, rule):
    with pytest.raises(ValueError, match=f"^{rule}$"):
        web_address(url)


def test_a_query_may_be_allowed_a_fragment_never():
    assert web_address("https://x.example/?a=b", query=True) == "https://x.example/?a=b"
    with pytest.raises(ValueError, match=r"^an address without a fragment$"):
        web_address("https://x.example/?a=b#c", query=True)


@pytest.mark.parametrize("account", ["smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart_glocal"])
def test_every_adapter_names_the_field_and_the_rule(account):
    with pytest.raises(ConfigurationError) as refused:
        build(account, support.options(account, base_url="https://x.example\n"), "accounts.shop")

    assert refused.value.lines == (f"accounts.shop.base_url: expected {BLANKS}, found a string",)


def test_an_adapter_that_chooses_its_address_takes_none():
    assert support.provider("smart2pay", base_url="").fingerprint == support.provider("smart2pay").fingerprint


def test_the_address_of_the_tokens_is_checked_too():
    oauth = {"token_url": "https://x.example/token ", "client_id": "a", "client_secret": "b"}
    with pytest.raises(ConfigurationError, match=r"accounts\.shop\.oauth\.token_url: expected an address without"):
        build("jpm_smartpay", support.options("jpm_smartpay with OAuth", oauth=oauth), "accounts.shop")
