"""Amounts of money: integers of a currency's minor unit, never floats."""

import re
from dataclasses import dataclass
from decimal import Decimal

from domain.errors import InvalidMoney

# ISO 4217 active currencies whose minor unit is not two decimals; every other code below has two.
_ZERO = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"
_FOUR = "CLF UYW"
_TWO = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF "
    "CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD "
    "HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT "
    "MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR "
    "SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU "
    "UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)

EXPONENTS: dict[str, int] = {
    code: digits for codes, digits in ((_ZERO, 0), (_TWO, 2), (_THREE, 3), (_FOUR, 4)) for code in codes.split()
}

MAX_MINOR = 10**15
_DIGITS = 20
# Decimal() also takes underscores, digits of other scripts and exponents, which nobody means by an amount.
_NUMBER = re.compile(r"\s*-?\d+(?:\.\d+)?\s*", re.ASCII)
_MONEY = re.compile(r"^\s*(?P<amount>\d{1,15}(?:\.\d{1,4})?)\s+(?P<currency>[A-Z]{3})\s*$", re.ASCII)


def exponent(currency: str) -> int:
    """Decimals of the currency's minor unit (ISO 4217). Raises InvalidMoney for a code that is not one."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise InvalidMoney(f"{currency!r} is not an ISO 4217 currency code in upper case") from None


def to_major(minor: int, currency: str, *, decimals: int | None = None) -> Decimal:
    """`minor` units as an exact decimal in major units: 1250 EUR is Decimal('12.50')."""
    digits = exponent(currency) if decimals is None else decimals

    return Decimal(minor).scaleb(-digits)


def to_minor(major: Decimal | str, currency: str, *, decimals: int | None = None) -> int:
    """Major units, a decimal or text like `12.50`, as an integer of minor units.

    `decimals`: how many the minor unit has, None for those of ISO 4217. Raises InvalidMoney for text that is written in
    another way, for a number longer than any amount, and for a fraction of a minor unit.
    """
    digits = exponent(currency) if decimals is None else decimals
    readable = isinstance(major, Decimal) or _NUMBER.fullmatch(major)
    exact = Decimal(major) if readable else Decimal("NaN")
    # More than this is no amount, and would be rounded by the arithmetic below.
    if not exact.is_finite() or abs(exact.adjusted()) > _DIGITS or len(exact.as_tuple().digits) > _DIGITS:
        raise InvalidMoney(f"{str(major)[:40]!r} is not a decimal number")
    scaled = exact.scaleb(digits)
    whole = int(scaled)
    if scaled != whole:
        raise InvalidMoney(f"{major} has more decimals than the {digits} of {currency}")

    return whole


@dataclass(frozen=True, slots=True)
class Money:
    """A positive amount in minor units with its currency."""

    amount: int
    currency: str

    def __post_init__(self) -> None:
        exponent(self.currency)
        if type(self.amount) is not int:
            raise InvalidMoney(f"the amount must be an integer of minor units, not {type(self.amount).__name__}")
        if not 0 < self.amount <= MAX_MINOR:
            raise InvalidMoney(f"the amount must be between 1 and {MAX_MINOR}")

    def __str__(self) -> str:
        return f"{to_major(self.amount, self.currency)} {self.currency}"


def parse(text: str) -> Money:
    """Read `12.50 EUR`. Raises InvalidMoney, naming the rule that was broken."""
    match = _MONEY.match(text)
    if match is None:
        raise InvalidMoney(f"{text[:40]!r} is not an amount like '12.50 EUR'")
    currency = match["currency"]

    return Money(to_minor(match["amount"], currency), currency)
