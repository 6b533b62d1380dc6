"""The demo's proof: our ledger against the sandbox's own, which wrote down each time that money moved."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.demo.orders import Plan
from domain.refund import Refund
from domain.state import FINAL, State
from domain.verdict import Verdict
from engine.bootstrap import Engine
from engine.review import verdict_of
from ledger import journal, queries, rejected
from ledger.journal import Flaw
from ledger.queries import Filter

Movement = Mapping[str, Any]
_ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the proof: whether it holds, and the figures that say so."""

    holds: bool
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that the proof reads, taken once the work is over."""

    refunds: Sequence[Refund]
    handles: Mapping[str, frozenset[str]]
    verdicts: Mapping[str, Verdict | None]
    movements: Sequence[Movement]
    events: int
    flaws: Sequence[Flaw]
    unbalanced: int
    over_refunded: int
    refused: Sequence[Mapping[str, Any]]

    def moved(self) -> dict[str, list[Movement]]:
        """The movements of each refund, by its id; those of nobody under an empty one."""
        owner = {
            (refund.provider, name): refund.id
            for refund in self.refunds
            for name in (*self.handles[refund.id], refund.provider_refund_id)
            if name is not None
        }
        found: defaultdict[str, list[Movement]] = defaultdict(list)
        for each in self.movements:
            key = owner.get((each["provider"], each["handle"])) or owner.get((each["provider"], each["refund_id"]))
            found[key or ""].append(each)

        return found


def gather(engine: Engine, movements: Sequence[Movement]) -> Evidence:
    """Read the ledger as it stands."""
    with engine.ledger.read() as connection:
        refunds = queries.page(connection, Filter(), limit=_ALL)
        handles = {
            each.id: frozenset(
                {each.handle} | {attempt["handle"] for attempt in queries.attempts_of(connection, each.id)}
            )
            for each in refunds
        }
        events, flaws = journal.verify(connection)
        unbalanced = len(queries.balances(connection))
        over = len(queries.over_refunded(connection))
        refused = rejected.listed(connection)
    verdicts = {each.id: verdict_of(engine, each) for each in refunds if each.state is State.REVIEW}

    return Evidence(
        refunds=refunds,
        handles=handles,
        verdicts=verdicts,
        movements=movements,
        events=events,
        flaws=flaws,
        unbalanced=unbalanced,
        over_refunded=over,
        refused=refused,
    )


def prove(evidence: Evidence, plan: Plan) -> list[Check]:
    """Every claim of the demo, checked."""
    return [
        _accounted(evidence, plan),
        _ended(evidence),
        _paid_once(evidence),
        _unpaid(evidence),
        _in_review(evidence),
        _nobody_else(evidence),
        _capped(evidence, plan),
        _refused(evidence, plan),
        Check(not evidence.flaws, f"the audit journal verifies: {evidence.events} events, {len(evidence.flaws)} flaws"),
        Check(
            not evidence.unbalanced and not evidence.over_refunded,
            "the books balance: each payment's reservation is the sum of its open refunds",
        ),
    ]


def _accounted(evidence: Evidence, plan: Plan) -> Check:
    found = Counter((each.account, each.reference) for each in evidence.refunds)
    once = all(count == 1 for count in found.values())
    missing = plan.jobs.keys() - found.keys()
    handed = len(plan.handings)

    return Check(
        once and not missing and found.keys() == plan.jobs.keys(),
        f"every job became one refund: {handed} handed in, {handed - len(plan.jobs)} of them twice, "
        f"{len(evidence.refunds)} refunds, {len(missing)} missing",
    )


def behind_review(refunds: Sequence[Refund]) -> list[Refund]:
    """Refunds that were not sent because their payment's only place is taken by one in review: a person frees it."""
    taken = {(each.account, each.payment_ref) for each in refunds if each.state is State.REVIEW}

    return [each for each in refunds if each.state is State.QUEUED and (each.account, each.payment_ref) in taken]


def _ended(evidence: Evidence) -> Check:
    final = sum(each.state in FINAL for each in evidence.refunds)
    review = sum(each.state is State.REVIEW for each in evidence.refunds)
    behind = len(behind_review(evidence.refunds))
    says = f"refunds accepted = final + in review: {len(evidence.refunds)} = {final} + {review}"

    return Check(
        final + review + behind == len(evidence.refunds), says + (f" + {behind} unsent behind these" if behind else "")
    )


def _paid_once(evidence: Evidence) -> Check:
    moved = evidence.moved()
    succeeded = [each for each in evidence.refunds if each.state is State.SUCCEEDED]
    wrong = [each.id for each in succeeded if not _is_exactly(moved.get(each.id, []), each)]

    return Check(
        not wrong,
        f"each succeeded refund was paid exactly once, to the amount: {len(succeeded)} refunds, {_named(wrong)}",
    )


def _is_exactly(movements: Sequence[Movement], refund: Refund) -> bool:
    return [(each["amount"], each["currency"]) for each in movements] == [(refund.amount, refund.currency)]


def _unpaid(evidence: Evidence) -> Check:
    moved = evidence.moved()
    failed = [each for each in evidence.refunds if each.state in (State.FAILED, State.CANCELLED)]
    wrong = [each.id for each in (*failed, *behind_review(evidence.refunds)) if moved.get(each.id)]

    return Check(not wrong, f"no failed refund was paid: {len(failed)} refunds, {_named(wrong)}")


def _in_review(evidence: Evidence) -> Check:
    moved = evidence.moved()
    waiting = [each for each in evidence.refunds if each.state is State.REVIEW]
    wrong = [each.id for each in waiting if len(moved.get(each.id, [])) > 1 or not _is_explained(each, evidence)]

    return Check(
        not wrong,
        f"each refund in review was paid once at most, and says why it is there: {len(waiting)} refunds, "
        f"{_named(wrong)}",
    )


def _is_explained(refund: Refund, evidence: Evidence) -> bool:
    verdict = evidence.verdicts.get(refund.id)

    return refund.cause is not None and verdict is not None and bool(verdict.reasons)


def _nobody_else(evidence: Evidence) -> Check:
    strange = evidence.moved().get("", [])

    return Check(
        not strange,
        f"no money moved that nobody asked for: {len(evidence.movements)} movements at the providers, "
        f"{len(strange)} without a refund",
    )


def _capped(evidence: Evidence, plan: Plan) -> Check:
    sums: Counter[tuple[str, str]] = Counter()
    for each in evidence.movements:
        sums[each["provider"], each["payment"]] += each["amount"]
    over = [payment for payment, amount in sums.items() if amount > plan.captured.get(payment, 0)]

    return Check(
        not over, f"no payment gave back more than was captured: {len(plan.captured)} payments, {len(over)} over"
    )


def _refused(evidence: Evidence, plan: Plan) -> Check:
    return Check(
        len(evidence.refused) >= len(plan.bad),
        f"jobs that cannot be accepted are kept with the reason: {len(evidence.refused)} refused",
    )


def _named(wrong: Sequence[str]) -> str:
    return "none wrong" if not wrong else f"WRONG: {', '.join(wrong[:5])}"
