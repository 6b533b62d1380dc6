from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import money
from domain.errors import InvalidMoney
from domain.money import EXPONENTS, MAX_MINOR, Money, exponent, parse, to_major, to_minor

CURRENCIES = st.sampled_from(sorted(EXPONENTS))


@pytest.mark.parametrize(
    ("currency", "digits"),
    [("JPY", 0), ("KRW", 0), ("CLP", 0), ("EUR", 2), ("USD", 2), ("KWD", 3), ("TND", 3), ("CLF", 4), ("HUF", 2)],
)
def test_a_currency_has_the_decimals_of_iso_4217(currency, digits):
    assert exponent(currency) == digits


@pytest.mark.parametrize("code", ["eur", "EURO", "", "XXX", "BTC", "Eur", "€", "E R"])
def test_what_is_no_currency_code_is_refused(code):
    with pytest.raises(InvalidMoney, match="is not an ISO 4217 currency code in upper case"):
        exponent(code)


def test_no_code_stands_in_two_lists():
    listed = f"{money._ZERO} {money._TWO} {money._THREE} {money._FOUR}".split()

    assert sorted(listed) == sorted(EXPONENTS)
    assert all(len(code) == 3 and code.isupper() and code.isascii() for code in EXPONENTS)


@given(minor=st.integers(0, MAX_MINOR), currency=CURRENCIES)
def test_minor_units_survive_the_way_to_major_units_and_back(minor, currency):
    major = to_major(minor, currency)

    assert to_minor(major, currency) == minor
    assert to_minor(str(major), currency) == minor


@pytest.mark.parametrize(
    ("minor", "currency", "major"),
    [(1250, "EUR", "12.50"), (1250, "JPY", "1250"), (1250, "KWD", "1.250"), (1, "EUR", "0.01"), (1, "CLF", "0.0001")],
)
def test_major_units_are_exact_decimals(minor, currency, major):
    assert str(to_major(minor, currency)) == major


def test_a_number_longer_than_any_amount_is_refused_not_rounded():
    with pytest.raises(InvalidMoney, match="is not a decimal number"):
        to_minor("12.50" + "0" * 30 + "1", "EUR")


def test_an_account_may_set_its_own_number_of_decimals():
    assert to_major(1250, "JPY", decimals=2) == Decimal("12.50")
    assert to_minor("12.50", "JPY", decimals=2) == 1250


@pytest.mark.parametrize(
    ("major", "currency"), [("12.345", "EUR"), ("1.5", "JPY"), ("0.0001", "KWD"), (Decimal("0.001"), "USD")]
)
def test_a_fraction_of_a_minor_unit_is_refused_never_rounded(major, currency):
    with pytest.raises(InvalidMoney, match="has more decimals than"):
        to_minor(major, currency)


@pytest.mark.parametrize(
    "major", ["", "abc", "1,5", "NaN", "-Infinity", "1e9999999", "1e-9999999", "0x10", "1.2.3", "1e2", "+1", ".5"]
)
def test_what_is_no_decimal_number_is_refused(major):
    with pytest.raises(InvalidMoney, match="is not a decimal number"):
        to_minor(major, "EUR")


@pytest.mark.parametrize("amount", [0, -1, MAX_MINOR + 1])
def test_money_is_positive_and_bounded(amount):
    with pytest.raises(InvalidMoney, match="the amount must be between 1 and"):
        Money(amount, "EUR")


@pytest.mark.parametrize("amount", [1.0, 12.5, "12", True, Decimal(12), None])
def test_money_is_an_integer_and_nothing_else(amount):
    with pytest.raises(InvalidMoney, match="must be an integer of minor units, not"):
        Money(amount, "EUR")


def test_money_has_a_real_currency():
    with pytest.raises(InvalidMoney, match="'eur' is not an ISO 4217"):
        Money(1, "eur")


@given(minor=st.integers(1, 10**14), currency=CURRENCIES)
def test_money_reads_back_what_it_says(minor, currency):
    amount = Money(minor, currency)

    assert parse(str(amount)) == amount


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.50 EUR", Money(1250, "EUR")),
        ("  12.5   EUR ", Money(1250, "EUR")),
        ("1250 JPY", Money(1250, "JPY")),
        ("0.001 KWD", Money(1, "KWD")),
        ("007 EUR", Money(700, "EUR")),
    ],
)
def test_an_amount_is_read_as_people_write_it(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "12.50", "EUR", "EUR 12.50", "12.50 eur", "12,50 EUR", "-1 EUR", "+1 EUR", "1e3 EUR", "12.50EUR"),
        *("1. EUR", ".5 EUR", "1 000 EUR", "12.50 EUR EUR", "12.50 EURO", "NaN EUR", "1111111111111111 EUR"),
    ],
)
def test_what_is_not_written_like_an_amount_is_refused(text):
    with pytest.raises(InvalidMoney, match="is not an amount like"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("12.505 EUR", "more decimals than the 2 of EUR"),
        ("12.5 JPY", "more decimals than the 0 of JPY"),
        ("0 EUR", "between 1 and"),
        ("0.00 EUR", "between 1 and"),
        ("12.50 XYZ", "'XYZ' is not an ISO 4217"),
        ("999999999999999 EUR", "between 1 and"),
    ],
)
def test_an_amount_that_cannot_be_names_the_rule(text, rule):
    with pytest.raises(InvalidMoney, match=rule):
        parse(text)


@pytest.mark.parametrize("text", ["١٢ EUR", "１２ EUR", "1२ JPY"])
def test_digits_of_other_scripts_are_not_taken_for_an_amount(text):
    with pytest.raises(InvalidMoney):
        parse(text)
