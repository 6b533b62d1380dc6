"""A line of a settlement file: the texts of its columns, read in the file's own notation."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from domain.errors import InvalidMoney
from domain.money import EXPONENTS, MAX_MINOR, to_minor
from domain.reconcile import Listed, Verdict

#: What a column may be mapped to.
FIELDS = (
    "reconciliation_id",
    "provider_refund_id",
    "handle",
    "payment_id",
    "amount",
    "currency",
    "status",
    "at",
)
_LONGEST = {"reconciliation_id": 255, "provider_refund_id": 255, "handle": 64, "payment_id": 200, "status": 255}
_IDS = ("reconciliation_id", "provider_refund_id", "handle", "payment_id")
_NUMBER = re.compile(r"\d{1,18}(\.\d{1,6})?", re.ASCII)
_BLANKS = str.maketrans("", "", " \u00a0\u202f")


class BadLine(ValueError):
    """A line that cannot be read; the message names the column and the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notation:
    """How an account's settlement files are written.

    `columns`: heading of the file by field. `only`: lines count only where these columns have one of these words, such
    as the type "refund". `minor`: amounts are whole numbers of minor units. `dates`: a strptime format, None for ISO
    8601. `verdicts`: by word of the status column; without one every line is a refund that was paid. `days`: how long
    after our success a line may come, and how far dates may be apart.
    """

    columns: Mapping[str, str] = field(default_factory=lambda: {name: name for name in FIELDS})
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    minor: bool = False
    decimal: str = "."
    thousands: str = ""
    currency: str | None = None
    dates: str | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str = "utf-8"
    sheet: str | None = None
    days: float = 2.0

    def reader(self, headings: list[str]) -> Callable[[list[str]], Listed | None]:
        """What reads the lines below these headings. Raises BadLine where a column that is needed is missing.

        The reader answers None for a line that is not about a refund, and raises BadLine.
        """
        places = {heading.strip(): place for place, heading in enumerate(headings)}
        found = {name: places[heading] for name, heading in self.columns.items() if heading in places}
        if "amount" not in found:
            raise BadLine(f"there is no column {self.columns.get('amount', 'amount')!r} (amount)")
        if not any(name in found for name in _IDS):
            wanted = ", ".join(repr(self.columns[name]) for name in _IDS if name in self.columns)
            raise BadLine(f"none of the columns that name a refund or a payment is there: {wanted}")
        missing = [heading for heading in self.only if heading not in places]
        if missing:
            raise BadLine(f"there is no column {missing[0]!r}, which says what a line is about")
        chosen = [(places[heading], words) for heading, words in self.only.items()]

        def read(cells: list[str]) -> Listed | None:
            if any(_cell(cells, place) not in words for place, words in chosen):
                return None
            return self._read({name: _cell(cells, place) for name, place in found.items()})

        return read

    def _read(self, given: dict[str, str]) -> Listed:
        for name, most in _LONGEST.items():
            if len(given.get(name, "")) > most:
                raise BadLine(f"{name}: longer than {most} characters")
        if not any(given.get(name) for name in _IDS):
            raise BadLine("it names no refund and no payment")
        currency = (given.get("currency") or self.currency or "").upper()
        if currency not in EXPONENTS:
            raise BadLine(f"currency: {currency[:8]!r} is not an ISO 4217 code")
        status = given.get("status") or None

        return Listed(
            provider_refund_id=given.get("provider_refund_id") or None,
            reconciliation_id=given.get("reconciliation_id") or None,
            handle=given.get("handle") or None,
            payment_id=given.get("payment_id") or None,
            amount=self._amount(given["amount"], currency),
            currency=currency,
            verdict=self._verdict(status),
            status=status,
            at=self._moment(given.get("at", "")),
        )

    def _amount(self, written: str, currency: str) -> int:
        """Minor units. Refunds stand in the files of some as what is taken, with a minus: the sign says nothing."""
        plain = written.translate(_BLANKS).strip("-+") if written.count("-") + written.count("+") <= 1 else written
        if self.thousands:
            plain = plain.replace(self.thousands, "")
        if self.decimal != ".":
            plain = "?" if "." in plain else plain.replace(self.decimal, ".")
        if not _NUMBER.fullmatch(plain) or (self.minor and "." in plain):
            raise BadLine(f"amount: {written[:40]!r} is not written as this account's amounts are")
        try:
            minor = int(plain) if self.minor else to_minor(Decimal(plain), currency)
        except InvalidMoney as error:
            raise BadLine(f"amount: {error}") from None
        if not 0 < minor <= MAX_MINOR:
            raise BadLine(f"amount: expected between 1 and {MAX_MINOR} minor units")

        return minor

    def _verdict(self, status: str | None) -> Verdict | None:
        if not self.verdicts:
            return Verdict.SUCCEEDED
        if status is None or status not in self.verdicts:
            raise BadLine(f"status: {(status or '')[:40]!r} is none of the words of settlement.verdicts")

        return self.verdicts[status]

    def _moment(self, written: str) -> float | None:
        if not written:
            return None
        try:
            moment = datetime.strptime(written, self.dates) if self.dates else datetime.fromisoformat(written)  # noqa: DTZ007
            stamped = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return stamped.timestamp()
        except (ValueError, OverflowError):
            expected = self.dates or "ISO 8601"
            raise BadLine(f"at: {written[:40]!r} is not a date as {expected}") from None


def _cell(cells: list[str], place: int) -> str:
    return cells[place].strip() if place < len(cells) else ""
