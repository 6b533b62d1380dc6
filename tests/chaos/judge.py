"""Who paid what to whom: the sandbox's own money ledger against Refundry's books, after everything has come to rest.

The rules are pure functions of `Books`; they read plain rows and know no code of the product.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Row = Mapping[str, Any]
Rows = Sequence[Row]

PAYMENTS = {"succeeded": {1}, "failed": {0}, "cancelled": {0}, "review": {0, 1}}
QUERIES = {
    "refunds": "SELECT id, account, reference, state, amount, currency, handle, payment_ref, payment_id, cause, note, "
    "ambiguous, leased_by FROM refund",
    "payments": "SELECT account, ref, captured, reserved, refunded, over_refunded FROM payment",
    "attempts": "SELECT refund_id, no, handle, body_hash, outcome FROM attempt",
    "rejected": "SELECT account, reference, errors, source FROM rejected",
}


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that is not as it must be, and the refund that shows it."""

    rule: str
    words: str
    refund: str | None = None

    def __str__(self) -> str:
        return f"{self.rule}: {self.words}" + (f" [{self.refund}]" if self.refund else "")


@dataclass(frozen=True)
class Books:
    """Everything that the judge reads. Amounts in minor units.

    `moved`: the sandbox's ledger, one entry each time money moved. `jobs`: by reference, as submitted. `captured`: by
    payment id, as made at the sandbox. `receipts`: by reference, the refund that the library acknowledged. `refusals`:
    by reference, the code with which the library refused it.
    """

    refunds: Rows
    payments: Rows
    attempts: Rows
    rejected: Rows
    moved: Rows
    jobs: Mapping[str, Row]
    captured: Mapping[str, int]
    receipts: Mapping[str, str]
    refusals: Mapping[str, str]

    @cached_property
    def by_reference(self) -> dict[str, Row]:
        """Refunds."""
        return {row["reference"]: row for row in self.refunds}

    @cached_property
    def entries(self) -> dict[str, list[Row]]:
        """Movements of money by refund id; under "" those of no refund of ours."""
        owners = {row["handle"]: row["id"] for row in self.refunds}
        owners |= {row["handle"]: row["refund_id"] for row in self.attempts}
        found: dict[str, list[Row]] = defaultdict(list)
        for entry in self.moved:
            found[owners.get(entry["handle"], "")].append(entry)

        return found


def judge(books: Books) -> list[Flaw]:
    """Every broken rule."""
    return [flaw for rule in RULES for flaw in rule(books)]


def paid_once(books: Books) -> Iterator[Flaw]:
    """One payment for a succeeded refund, none for a failed or cancelled one, at most one in review."""
    for row in books.refunds:
        entries = books.entries.get(row["id"], [])
        allowed = PAYMENTS.get(row["state"])
        if allowed is None:
            yield Flaw("at rest", f"{row['account']} {row['reference']} still stands {row['state']}", row["id"])
        elif len(entries) not in allowed:
            words = f"{row['account']} {row['reference']} stands {row['state']} and was paid {len(entries)} times"
            yield Flaw("paid once", words, row["id"])
        for entry in entries:
            asked, got = (row["amount"], row["currency"]), (entry["amount"], entry["currency"])
            if asked != got:
                yield Flaw("amount", f"{row['reference']}: {got} moved instead of {asked}", row["id"])
            if entry["payment"] != row["payment_id"]:
                yield Flaw("payment", f"{row['reference']}: {entry['payment']} was refunded instead", row["id"])


def no_stray_money(books: Books) -> Iterator[Flaw]:
    """No handle was paid twice, and no money moved that is no refund of ours."""
    times = Counter(entry["handle"] for entry in books.moved)
    for handle, count in times.items():
        if count > 1:
            yield Flaw("handle", f"{handle} was paid {count} times")
    for entry in books.entries.get("", ()):
        yield Flaw("stray", f"{entry['provider']} moved money under {entry['handle']}, which nobody knows")


def inside_the_cap(books: Books) -> Iterator[Flaw]:
    """Of no payment more was paid back than was captured."""
    sums: Counter[str] = Counter()
    for entry in books.moved:
        sums[entry["payment"]] += entry["amount"]
    for payment, total in sums.items():
        captured = books.captured.get(payment)
        if captured is None:
            yield Flaw("cap", f"{payment} is no payment of this run")
        elif total > captured:
            yield Flaw("cap", f"{payment}: {total} of {captured} paid back")


def books_balance(books: Books) -> Iterator[Flaw]:
    """What a payment says is reserved and refunded is the sum of its refunds."""
    reserved: Counter[tuple[str, str]] = Counter()
    refunded: Counter[tuple[str, str]] = Counter()
    for row in books.refunds:
        key = row["account"], row["payment_ref"]
        if row["state"] == "succeeded":
            refunded[key] += row["amount"] or 0
        elif row["state"] not in ("failed", "cancelled"):
            reserved[key] += row["amount"] or 0
    known = {(row["account"], row["ref"]) for row in books.payments}
    for row in books.payments:
        key = row["account"], row["ref"]
        if (row["reserved"], row["refunded"]) != (reserved[key], refunded[key]):
            said, summed = (row["reserved"], row["refunded"]), (reserved[key], refunded[key])
            yield Flaw("books", f"{key}: reserved and refunded {said}, the refunds' sums are {summed}")
        if row["over_refunded"]:
            yield Flaw("books", f"{key} says that it is over-refunded")
    for key in (reserved.keys() | refunded.keys()) - known:
        yield Flaw("books", f"{key} has refunds and no books")


def every_job_is_there(books: Books) -> Iterator[Flaw]:
    """What was submitted is a refund or was refused; what was acknowledged as a refund is that one."""
    refused = {row["reference"] for row in books.rejected} | set(books.refusals)
    for reference in books.jobs:
        if reference not in books.by_reference and reference not in refused:
            yield Flaw("jobs", f"{reference} is neither a refund nor refused")
    for reference, refund in books.receipts.items():
        found = books.by_reference.get(reference)
        if found is None or found["id"] != refund:
            yield Flaw("jobs", f"{reference} was acknowledged as {refund} and is {found and found['id']}", refund)
    for reference, row in books.by_reference.items():
        if reference not in books.jobs:
            yield Flaw("jobs", f"nobody submitted {reference}", row["id"])
        elif row["account"] != books.jobs[reference]["account"]:
            yield Flaw("jobs", f"{reference} became a refund of {row['account']}", row["id"])
    if len(books.by_reference) != len(books.refunds):
        yield Flaw("jobs", "a reference has several refunds")


def refused_for_a_reason(books: Books) -> Iterator[Flaw]:
    """Only a race over the cap is refused, and never all of its rivals."""
    rivals: dict[str, list[str]] = defaultdict(list)
    for reference, job in books.jobs.items():
        rivals[job["payment"]["id"]].append(reference)
    reasons = [(row["reference"], row["errors"]) for row in books.rejected]
    for reference, reason in [*reasons, *books.refusals.items()]:
        if "amount-exceeds-refundable" not in reason:
            yield Flaw("refused", f"{reference}: {reason}")
    for payment, references in rivals.items():
        wanted = sum(books.jobs[reference].get("amount") or 0 for reference in references)
        accepted = [reference for reference in references if reference in books.by_reference]
        if not accepted:
            yield Flaw("refused", f"{payment}: none of {references} was accepted")
        if wanted <= books.captured.get(payment, 0) and len(accepted) < len(references):
            yield Flaw("refused", f"{payment}: {set(references) - set(accepted)} would have fitted")


def reviews_have_a_cause(books: Books) -> Iterator[Flaw]:
    """A dead letter says why it is one."""
    for row in books.refunds:
        if row["state"] == "review" and not row["cause"]:
            yield Flaw("review", f"{row['reference']} stands in review without a cause", row["id"])


def one_body_per_handle(books: Books) -> Iterator[Flaw]:
    """Under one handle the same bytes were sent each time."""
    bodies: dict[str, set[str]] = defaultdict(set)
    for row in books.attempts:
        bodies[row["handle"]].add(row["body_hash"])
    for handle, hashes in bodies.items():
        if len(hashes) > 1:
            yield Flaw("bytes", f"{len(hashes)} bodies were sent under {handle}")


RULES: tuple[Callable[[Books], Iterator[Flaw]], ...] = (
    paid_once,
    no_stray_money,
    inside_the_cap,
    books_balance,
    every_job_is_there,
    refused_for_a_reason,
    reviews_have_a_cause,
    one_body_per_handle,
)
