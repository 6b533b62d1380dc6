"""What is private in words that others wrote: e-mail addresses, bank accounts, cards."""

import re

MASK = "***"
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]+(?:@|%40)[\w.-]*", re.IGNORECASE)
# Looked at from each word on: what begins like one may be followed by one.
_IBAN = re.compile(r"\b(?=([A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?)\b)")
_LENGTHS = range(15, 35)
_CARD = re.compile(r"(?<![\w.-])[0-9](?:[ -]?[0-9]){12,18}(?![\w-])")


def masked(text: str) -> str:
    """Without any of them. A number that stands alone is somebody's id, and stays."""
    if "@" in text or "%40" in text:
        text = without_emails(text, MASK)
    if len(text) >= _LENGTHS.start:
        text = without_ibans(text, MASK)

    return without_cards(text, MASK) if " " in text else text


def without_emails(text: str, mask: str) -> str:
    """E-mail addresses, also as they stand in addresses of pages."""
    return _EMAIL.sub(mask, text)


def without_ibans(text: str, mask: str) -> str:
    """International bank account numbers, in one or in groups."""
    parts: list[str] = []
    at = 0
    for match in _IBAN.finditer(text):
        length = _length_of_iban(match[1]) if match.start() >= at else 0
        if length:
            parts += (text[at : match.start()], mask)
            at = match.start() + length

    return "".join([*parts, text[at:]])


def without_cards(text: str, mask: str) -> str:
    """Numbers of payment cards, in one or in groups."""
    return _CARD.sub(lambda match: mask if _is_card(match[0]) else match[0], text)


def _length_of_iban(text: str) -> int:
    """How much of it is one; 0 for nothing. Behind it may stand words in capitals."""
    groups = text.split(" ")
    beginnings = (" ".join(groups[:count]) for count in range(len(groups), 0, -1))

    return next((len(each) for each in beginnings if _is_iban(each.replace(" ", ""))), 0)


def _is_iban(text: str) -> bool:
    """ISO 13616: the rearranged digits leave 1 when divided by 97."""
    digits = "".join(str(int(sign, 36)) for sign in text[4:] + text[:4])

    return len(text) in _LENGTHS and int(digits) % 97 == 1


def _is_card(text: str) -> bool:
    """ISO/IEC 7812: Luhn's check digit fits."""
    digits = [int(sign) for sign in reversed(text) if sign.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]

    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
