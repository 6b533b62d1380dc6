"""The invariants, checked against the provider's own money ledger after every commit and every call that arrives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.core import Entry, RefundState
from sandbox.core import World as Sandbox
from tests.simulation.database import Database

HOUR = 3600.0
#: How long each provider keeps a handle, as its documents say; the others for ever.
LIFETIMES = {"smartpay": 6 * HOUR, "smartretry": 24 * HOUR, "smart2pay_card": 24 * HOUR}
REFUNDS = (
    "SELECT id, account, state, amount, currency, handle, handle_no, payment_ref, settlement, version, ambiguous, "
    "reference, due_at, fence, leased_by FROM refund"
)
OTHERS = "SELECT account, payment_ref, provider_refund_id, amount FROM external WHERE booked"
PAYMENTS = "SELECT account, ref, captured, reserved, refunded FROM payment"
FINAL = frozenset({"succeeded", "failed", "cancelled", "reversed", "settled"})
RETURNED = frozenset({"returned", "returned_elsewhere"})


class Violation(Exception):
    """An invariant is broken."""

    def __init__(self, rule: str, words: str, refund: str | None = None) -> None:
        super().__init__(f"{rule}: {words}")
        self.rule = rule
        self.refund = refund


@dataclass
class Known:
    """What the judge remembers of one refund."""

    id: str
    account: str
    handles: list[str] = field(default_factory=list)
    state: str = ""


class Judge:
    """Reads the database with its own SQL and the sandbox's ledger; knows no code of the product."""

    def __init__(
        self, database: Database, sandbox: Sandbox, captured: Mapping[tuple[str, str], int], *, truthful: bool
    ) -> None:
        """`truthful`: providers show the amounts that they have moved."""
        self._database = database
        self._sandbox = sandbox
        self._captured = captured
        self._truthful = truthful
        self._entries: dict[str, list[Entry]] = {}
        self._read = 0
        self.refunds: dict[str, Known] = {}
        self._owner: dict[str, str] = {}
        self._bodies: dict[str, tuple[str, str]] = {}
        self._first: dict[str, float] = {}
        self.accepted: dict[str, str] = {}
        self.steps = 0
        self._seen: Any = None

    def step(self) -> bool:
        """Everything that must hold at any moment; answers whether anything has changed since the last step."""
        self.steps += 1
        self._book()
        rows = self._database.rows(REFUNDS)
        reversed_ = sum(entry.reversed_at is not None for entry in self._sandbox.ledger)
        seen = (len(self._sandbox.ledger), reversed_, rows, self._database.rows(PAYMENTS))
        if seen == self._seen:
            return False
        self._seen = seen
        sums: dict[tuple[str, str], list[int]] = {}
        ours: dict[tuple[str, str], int] = {}
        for row in rows:
            ref, account, state, amount, currency, handle, _no, payment, settlement, *_ = row
            known = self._known(ref, account, handle)
            known.state = state
            self._money_once(known, amount, currency, settlement)
            booked = sums.setdefault((account, payment), [0, 0])
            if state not in FINAL:
                booked[0] += amount or 0
            elif state == "succeeded" or (state == "settled" and settlement in RETURNED):
                booked[1] += amount or 0
            paid = sum(each.amount for each in self._paid(known))
            ours[account, payment] = ours.get((account, payment), 0) + paid
        self._balances(sums)
        for key, paid in ours.items():
            captured = self._captured.get(key)
            if captured is not None and paid > captured:
                raise Violation("2 cap", f"{key}: {paid} paid by us, {captured} captured")
        missing = [ref for ref in self.accepted.values() if ref not in self.refunds]
        if missing:
            raise Violation("3 lost", f"accepted and not in the ledger: {missing}")

        return True

    def arrived(self, account: str, handle: str | None, digest: str, path: str) -> None:
        """A request that moves money has reached the provider."""
        if handle is None:
            raise Violation("4 handle", f"{account}: a request without a handle")
        now = self._sandbox.clock()
        if handle not in self._owner:
            self.step()
        owner = self._owner.get(handle)
        if owner is None:
            raise Violation("4 handle", f"{account}: nobody has the handle {handle}")
        if self._bodies.setdefault(handle, (path, digest)) != (path, digest):
            raise Violation("4 one body", f"{account}: another request under {handle}", owner)
        first = self._first.setdefault(handle, now)
        lifetime = LIFETIMES.get(account)
        if lifetime is not None and now - first >= lifetime:
            raise Violation("8 lifetime", f"{account}: {handle} again after {now - first:.0f} s", owner)
        self._only_handle(self.refunds[owner], handle)

    def sends(self, said: bytes, worker: str, now: float) -> None:
        """A worker is about to send: what it holds must still be its own, by its own clock."""
        held = self._database.rows("SELECT id, handle, due_at FROM refund WHERE leased_by = ?", worker)
        for refund, handle, due_at in held:
            if handle.encode() in said and due_at is not None and due_at <= now:
                raise Violation("1 lease", f"{worker} sends {handle}, {now - due_at:.0f} s after its lease", refund)

    def _only_handle(self, known: Known, handle: str) -> None:
        self._book()
        for other in known.handles:
            if other == handle:
                continue
            if any(each.reversed_at is None for each in self._entries.get(other, ())) or self.at_provider(other):
                raise Violation("7 new handle", f"{handle} is sent while {other} is open or paid", known.id)

    def at_provider(self, handle: str) -> bool:
        """Whether the provider has a refund under this handle that may yet be paid."""
        return any(
            refund.handle == handle and refund.state is RefundState.PENDING for refund in self._sandbox.refunds.values()
        )

    def paid(self, refund_id: str) -> bool:
        """What the provider's books say of a refund."""
        self._book()

        return bool(self._paid(self.refunds[refund_id]))

    def open_at_provider(self, refund_id: str) -> bool:
        """Whether it may yet be paid."""
        return any(self.at_provider(handle) for handle in self.refunds[refund_id].handles)

    def _book(self) -> None:
        self._sandbox.settle()
        ledger = self._sandbox.ledger
        for entry in ledger[self._read :]:
            if entry.handle is not None and not entry.external:
                self._entries.setdefault(entry.handle, []).append(entry)
        self._read = len(ledger)

    def _known(self, ref: str, account: str, handle: str) -> Known:
        known = self.refunds.get(ref)
        if known is None:
            known = self.refunds[ref] = Known(ref, account)
        if handle not in known.handles:
            if self._owner.setdefault(handle, ref) != ref:
                raise Violation("4 handle", f"{handle} belongs to two refunds", ref)
            known.handles.append(handle)

        return known

    def _all(self, known: Known) -> list[Entry]:
        return [entry for handle in known.handles for entry in self._entries.get(handle, ())]

    def _paid(self, known: Known) -> list[Entry]:
        return [entry for entry in self._all(known) if entry.reversed_at is None]

    def _money_once(self, known: Known, amount: int | None, currency: str | None, settlement: str | None) -> None:
        entries = self._all(known)
        state = known.state
        if not entries:
            if state in ("succeeded", "reversed"):
                raise Violation("5 false success", f"{known.account}: {state}, and nothing was paid", known.id)
            return
        paid = [entry for entry in entries if entry.reversed_at is None]
        if len(paid) > 1:
            raise Violation("1 once", f"{known.account}: paid {len(paid)} times", known.id)
        for entry in paid:
            if entry.amount != amount or entry.currency != currency:
                words = f"{known.account}: {entry.amount} {entry.currency} paid instead of {amount} {currency}"
                raise Violation("1 amount", words, known.id)
        if paid and state in ("failed", "cancelled", "reversed", "awaiting_approval"):
            raise Violation("5 false failure", f"{known.account}: {state}, and the provider paid", known.id)
        if paid and state == "settled" and settlement == "not_returned":
            raise Violation("5 settled", f"{known.account}: settled as not returned, then paid", known.id)

    def _balances(self, sums: Mapping[tuple[str, str], list[int]]) -> None:
        others = self._booked()
        for account, ref, captured, reserved, refunded in self._database.rows(PAYMENTS):
            wanted = list(sums.get((account, ref), [0, 0]))
            wanted[1] += others.get((account, ref), 0)
            if [reserved, refunded] != wanted:
                words = f"{account} {ref}: books {[reserved, refunded]}, refunds {wanted} of {captured}"
                raise Violation("6 reservation", words)

    def _booked(self) -> dict[tuple[str, str], int]:
        """What the ledger has as done by others, by payment; it must be theirs, and as much as they moved."""
        sums: dict[tuple[str, str], int] = {}
        theirs = {each.id: each for each in self._sandbox.refunds.values()}
        for account, ref, number, amount in self._database.rows(OTHERS):
            made = theirs.get(number)
            if made is None or not made.external or (self._truthful and made.amount != amount):
                raise Violation("12 others", f"{account} {ref}: {number} of {amount} is booked as made elsewhere")
            sums[account, ref] = sums.get((account, ref), 0) + amount

        return sums

    def people(self) -> None:
        """No decision by whoever asked for it."""
        same = self._database.rows(
            "SELECT id, refund_id FROM approval WHERE status = 'approved' AND (decided_by = requested_by "
            "OR decided_by IS NULL)"
        )
        if same:
            raise Violation("9 two people", f"{same[0][0]}: approved by whoever asked", same[0][1])


def story(database: Database, refund_id: str | None) -> list[Any]:
    """The audit events of a refund."""
    return database.rows("SELECT at, type, actor, data FROM event WHERE subject = ? ORDER BY seq", refund_id or "")
