"""Text and numbers of any kind: an exact amount, or a refusal that names the rule. Nothing is rounded."""

import contextlib
import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.errors import InvalidMoney
from domain.money import EXPONENTS, MAX_MINOR, Money, parse, to_major, to_minor
from providers import wire
from tests.hostile.judges import assert_money_or_refused

CURRENCIES = st.sampled_from(sorted(EXPONENTS))
NUMBERS = st.from_regex(r"[-+]?[0-9_ ,]{0,22}(\.[0-9]{0,8})?([eE][-+]?[0-9]{1,6})?", fullmatch=True)
OTHER_DIGITS = st.text(st.characters(categories=["Nd", "Nl", "No"]), min_size=1, max_size=12)


@given(st.text(max_size=40) | st.builds(" ".join, st.tuples(NUMBERS | OTHER_DIGITS | st.text(max_size=8), CURRENCIES)))
@example("1e400 EUR")
@example("NaN EUR")
@example("Infinity EUR")
@example("१२ EUR")
@example("1_000 EUR")
@example("12.50\u00a0EUR")
@example("12.50 EUR\x00")
@example("\ud800 EUR")
def test_any_text_is_an_exact_amount_or_refused(text):
    assert_money_or_refused(text)


@given(st.integers(1, 10**15 - 1), st.integers(0, 9999), st.integers(0, 4), CURRENCIES)
def test_an_amount_that_is_accepted_is_the_one_that_was_written(whole, fraction, digits, currency):
    text = f"{whole}.{fraction:0{digits}}" if digits else str(whole)
    exact = Decimal(text) * 10 ** EXPONENTS[currency]
    fits = exact == exact.to_integral_value() and exact <= MAX_MINOR and len(text.partition(".")[2]) <= 4
    if fits:
        assert parse(f"{text} {currency}") == Money(int(exact), currency)
    else:
        with pytest.raises(InvalidMoney):
            parse(f"{text} {currency}")


@given(st.integers(-MAX_MINOR, MAX_MINOR), CURRENCIES, st.integers(0, 4))
def test_any_number_of_decimals_survives_the_way_there_and_back(minor, currency, decimals):
    assert to_minor(to_major(minor, currency, decimals=decimals), currency, decimals=decimals) == minor


@given(st.decimals(allow_nan=True, allow_infinity=True) | NUMBERS | st.text(max_size=30), CURRENCIES)
@example(Decimal("sNaN"), "EUR")
@example(Decimal("-0E-400"), "EUR")
@example("1e400", "EUR")
@example("1e-400", "EUR")
@example("9" * 4301, "EUR")
def test_major_units_become_exact_minor_units_or_a_refusal(major, currency):
    try:
        minor = to_minor(major, currency)
    except InvalidMoney:
        return
    assert type(minor) is int
    assert Decimal(major) == Decimal(minor).scaleb(-EXPONENTS[currency])


@given(
    st.floats() | st.booleans() | st.none() | st.text(max_size=5) | st.decimals() | st.complex_numbers(),
    CURRENCIES,
)
def test_what_is_no_integer_is_never_an_amount(amount, currency):
    with pytest.raises(InvalidMoney):
        Money(amount, currency)


@given(st.integers(), st.text(max_size=4))
def test_an_integer_of_any_size_is_an_amount_in_bounds_or_refused(amount, currency):
    try:
        money = Money(amount, currency)
    except InvalidMoney:
        assert not 0 < amount <= MAX_MINOR or currency not in EXPONENTS
        return
    assert (money.amount, money.currency) == (amount, currency)


@pytest.mark.parametrize("text", ["9" * 10**6 + " EUR", " " * 10**6 + "1", "1." + "0" * 10**6 + " EUR", "1 " * 10**6])
def test_a_megabyte_of_text_is_refused_at_once(text):
    started = time.monotonic()
    with pytest.raises(InvalidMoney):
        parse(text)
    with contextlib.suppress(InvalidMoney):
        assert to_minor(text, "EUR") == 100  # blanks around a number are no part of it
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("text", ["1_000", "١٢", "１２"])
def test_text_that_is_not_written_like_an_amount_is_refused_by_to_minor_too(text):
    with pytest.raises(InvalidMoney):
        to_minor(text, "EUR")


DIGITS = st.from_regex(r"-?[0-9]{1,24}(\.[0-9]{1,24})?", fullmatch=True)


@given(DIGITS, st.sampled_from([0, 2, 3, 4]))
def test_a_providers_amount_is_read_exactly_or_as_one_that_matches_nothing(text, exponent):
    for value in (text, Decimal(text)):
        minor = wire.minor(value, exponent)
        if minor not in (None, -1):
            assert Fraction(text) * 10**exponent == minor


def test_a_fraction_beyond_28_digits_is_not_rounded_away():
    assert wire.minor(Decimal("10." + "0" * 32 + "1"), 2) == -1


@given(st.floats() | st.text(max_size=12) | st.lists(st.none(), max_size=1) | st.decimals() | st.booleans())
@example("1e400")
@example(Decimal("1E+999999"))
@example(Decimal("1E-999999"))
@example("٣")
def test_whatever_a_provider_writes_for_an_amount_reading_it_never_raises(value):
    for exponent in (0, 2, 4):
        minor = wire.minor(value, exponent)

        assert minor is None or type(minor) is int
