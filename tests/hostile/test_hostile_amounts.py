"""A success that speaks of another amount is never taken as ours, in whatever form the amount is written."""

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from domain.state import State
from tests.hostile import judges


def settled(account: str, value: Any) -> State:
    """Where the refund stands after a documented yes with this as its amount; a Decimal is written as it is."""
    tree = judges.documented(account, "status")
    for record in list(judges.objects(tree)):
        for name in ("amount", "Amount"):
            if name in record and not isinstance(record[name], dict):
                record[name] = "THE AMOUNT"
    written = str(value) if isinstance(value, Decimal) else json.dumps(value)
    content = json.dumps(tree).replace('"THE AMOUNT"', written).encode()
    assert written.encode() in content

    return judges.settles(
        account, judges.outcome_of(account, "status", httpx.Response(200, content=content), kind_prelude=True)
    )


@pytest.mark.parametrize(
    ("account", "value"),
    [
        ("smartpay", 500),
        ("smartpay", -1000),
        ("smartretry", 5.0),
        ("smartretry", "500"),
        ("smartretry", Decimal("10.005")),
        ("smartretry", 10**16),
        ("jpm_smartpay", 500.5),
        ("jpm_smartpay", "10,00"),
        ("jpm_smartpay", True),
        ("smart2pay", 500.5),
        ("smart2pay", "1000.00"),
        ("smart2pay", "many"),
        ("smart2pay", []),
        ("smart2pay", 10**40),
        ("smart_glocal", 10**16),
        ("smart_glocal", 0),
        ("smartpay", 500.5),
        ("smartpay", "500"),
        ("smartpay", 10**16),
        ("smartpay", [500]),
        ("smartretry", "500 USD"),
        ("smartretry", 10**40),
        ("jpm_smartpay", 10**40),
        ("jpm_smartpay", {"value": 5}),
        ("smart_glocal", 500.5),
        ("smart_glocal", "500"),
    ],
)
def test_a_success_about_something_else_than_what_was_asked_for_is_not_final(account, value):
    assert settled(account, value) is not State.SUCCEEDED


@pytest.mark.parametrize("account", ["smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart_glocal"])
def test_a_success_about_what_was_asked_for_is_final(account):
    amounts = {"smartretry": Decimal("25.00"), "jpm_smartpay": Decimal("10.00")}

    assert settled(account, amounts.get(account, 1000)) is State.SUCCEEDED


def without_currency(account: str) -> httpx.Response:
    """A documented yes about five, with the currency left out."""
    tree = judges.documented(account, "status", amount=500)
    for record in list(judges.objects(tree)):
        for name in ("currency", "Currency", "currencyCode"):
            record.pop(name, None)

    return httpx.Response(200, content=json.dumps(tree).encode())


@pytest.mark.parametrize("account", ["smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart_glocal"])
def test_an_amount_without_its_currency_still_counts(account):
    outcome = judges.outcome_of(account, "status", without_currency(account), kind_prelude=True)

    assert judges.settles(account, outcome) is not State.SUCCEEDED


@pytest.mark.parametrize("currency", [[], {}, "", 0, True, "EURO"])
@pytest.mark.parametrize("account", ["smartpay", "smartretry", "jpm_smartpay", "smart2pay", "smart_glocal"])
def test_a_success_in_a_currency_that_cannot_be_read_is_not_final(account, currency):
    tree = judges.documented(account, "status")
    for record in list(judges.objects(tree)):
        record.update({name: currency for name in ("currency", "Currency", "currencyCode") if name in record})
    response = httpx.Response(200, content=json.dumps(tree).encode())
    assert json.dumps(currency) in response.text

    outcome = judges.outcome_of(account, "status", response, kind_prelude=True)
    assert judges.settles(account, outcome) is not State.SUCCEEDED
