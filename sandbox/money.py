"""Amounts: integer ISO 4217 minor units inside, each provider's own unit on the wire."""

from decimal import Decimal

DEFAULT_EXPONENT = 2
WITHOUT_DECIMALS = (
    *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"),
    *("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
)
EXPONENTS = {
    **dict.fromkeys(WITHOUT_DECIMALS, 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


def exponent(currency: str) -> int:
    """How many decimals ISO 4217 gives the currency."""
    return EXPONENTS.get(currency, DEFAULT_EXPONENT)


def minor_from_major(amount: Decimal, currency: str) -> int | None:
    """Major units as integer minor units; None where the currency has no such fraction."""
    minor = amount.scaleb(exponent(currency))
    return int(minor) if minor == minor.to_integral_value() else None


def major_from_minor(amount: int, currency: str) -> int | float:
    """Minor units as the number that stands in JSON for the amount in major units."""
    places = exponent(currency)

    return amount if places == 0 else float(Decimal(amount).scaleb(-places))


def two_decimals_from_minor(amount: int, currency: str) -> int | None:
    """Minor units as an integer whose last two digits are always decimals."""
    scaled = Decimal(amount).scaleb(2 - exponent(currency))
    return int(scaled) if scaled == scaled.to_integral_value() else None


def minor_from_two_decimals(amount: int, currency: str) -> int | None:
    """The reverse of two_decimals_from_minor; None where the currency has no such fraction."""
    return minor_from_major(Decimal(amount).scaleb(-2), currency)
