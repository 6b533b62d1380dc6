"""Accept refund jobs: valid, once per reference, inside the payment's cap. Every way in ends here."""

import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection

from domain.errors import Conflict, FieldError, InvalidJob, Refused
from domain.job import RefundJob, canonical, differing, epoch, parse
from domain.refund import Refund
from domain.state import State
from engine import tracing
from engine.account import Account
from engine.bootstrap import Engine
from engine.ids import new_id
from engine.order import draft
from engine.people import Actor, Verb, require
from ledger import intake
from ledger.approvals import ask_to_send
from ledger.intake import Admission, Candidate, Result

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The answer to one job: the refund, or the problem. `replayed`: it had been accepted before."""

    refund: Refund | None = None
    problem: InvalidJob | Refused | None = None
    replayed: bool = False
    warnings: tuple[str, ...] = ()


Body = bytes | str | dict[str, Any]
#: Admits candidates in one transaction of the ledger, in order; a refusal is an answer, an exception undoes all of it.
Admit = Callable[[Connection, Sequence[Candidate]], Sequence[Admission | Refused]]


def submit(engine: Engine, body: Body, *, actor: str, via: str, traceparent: str | None = None) -> Receipt:
    """Accept one job; see `submit_many`."""
    return submit_many(engine, [body], actor=actor, via=via, traceparents=[traceparent])[0]


def submit_many(
    engine: Engine,
    bodies: Sequence[Body],
    *,
    actor: str,
    via: str,
    traceparents: Sequence[str | None] | None = None,
    keys: Sequence[str | None] | None = None,
    dry_run: bool = False,
    admit: Admit = intake.accept,
) -> list[Receipt]:
    """Accept jobs in one transaction; one receipt each, in order. A bad job never stops a good one.

    The same reference with the same content is answered with the first refund. When this returns, what it accepted is
    committed and a worker has been called. `admit`: what lets them in, for ways in with rules of their own, such as
    what an Idempotency-Key of `keys` means.
    """
    now = engine.clock()
    nothing = [None] * len(bodies)
    with tracing.accepting(traceparents or nothing) as traces:
        checked = [
            _check(engine, body, now, actor, via, trace, key)
            for body, trace, key in zip(bodies, traces, keys or nothing, strict=True)
        ]
        candidates = [each.candidate for each in checked if each.candidate is not None]
        admissions = iter(_admit(engine, candidates, admit, dry_run=dry_run) if candidates else ())
    receipts = [
        Receipt(problem=each.problem)
        if each.candidate is None
        else _receipt(engine, each.candidate, next(admissions), each.warnings)
        for each in checked
    ]
    if not dry_run:
        for each in receipts:
            if each.refund is not None and not each.replayed:
                engine.meter.count("accepted", each.refund.account, each.refund.provider)
        for account in {each.refund.account for each in receipts if each.refund is not None and not each.replayed}:
            engine.ring("send", account)

    return receipts


def submit_by(
    engine: Engine, person: Actor, bodies: Sequence[Body], *, via: str, dry_run: bool = False
) -> list[Receipt]:
    """Accept a person's jobs; see `submit_many`. Raises Forbidden where they lack the role."""
    require(person, Verb.CREATE)

    return submit_many(engine, bodies, actor=person.name, via=via, dry_run=dry_run)


@dataclass(frozen=True, slots=True)
class _Checked:
    candidate: Candidate | None
    problem: InvalidJob | None
    warnings: tuple[str, ...] = ()


def _check(
    engine: Engine, body: Body, now: float, actor: str, via: str, trace: str | None, key: str | None
) -> _Checked:
    try:
        job = parse(body)
        account = engine.account(job.account)
        refund = _new_refund(engine, job, account, now, via, trace)
        warnings = _provider_rules(job, account, refund)
    except InvalidJob as error:
        return _Checked(None, error)
    candidate = Candidate(
        refund=refund,
        content_hash=job.content_hash(),
        captured=job.payment.amount,
        payment_currency=job.payment.currency,
        expect_refundable=job.expect_refundable,
        hashes=_hashes(engine, job),
        actor=actor,
        via=via,
        key=key,
    )

    return _Checked(candidate, None, warnings)


def _provider_rules(job: RefundJob, account: Account, refund: Refund) -> tuple[str, ...]:
    """What this provider would refuse, reported before the job is accepted."""
    faults: list[FieldError] = []
    capabilities = account.capabilities

    def fault(pointer: str, detail: str) -> None:
        faults.append(FieldError(pointer, detail, "provider-rule"))

    for pointer, currency in (("#/currency", job.currency), ("#/payment/currency", job.payment.currency)):
        if currency and capabilities.currencies is not None and currency not in capabilities.currencies:
            fault(pointer, f"{refund.provider} takes {', '.join(sorted(capabilities.currencies))}, not {currency}")
    if job.payment.id is None and not capabilities.order_lookup:
        fault("#/payment/id", f"is required: {refund.provider} cannot find a payment by its order")
    if job.amount is None and job.payment.amount is None and not capabilities.payment_facts:
        fault("#/amount", f"is required: {refund.provider} cannot be asked what was captured")
    if job.expect_refundable is not None and job.payment.amount is None and not capabilities.payment_facts:
        fault("#/expect_refundable", f"cannot be checked: {refund.provider} cannot be asked, give payment.amount")
    if not capabilities.partial and None not in (job.amount, job.payment.amount) and job.amount != job.payment.amount:
        fault("#/amount", f"{refund.provider} takes full refunds only")
    warnings = account.provider.check(draft(job, refund), fault)
    if faults:
        raise InvalidJob(*faults)

    return warnings


def _new_refund(engine: Engine, job: RefundJob, account: Account, now: float, via: str, trace: str | None) -> Refund:
    personal = job.personal()
    captured_known = job.payment.amount is not None or not account.capabilities.payment_facts
    waits = _needs_approval(engine, job, via)

    return Refund(
        id=new_id("rf", now),
        account=account.name,
        provider=account.provider.name,
        reference=job.reference,
        payment_ref=job.payment_ref,
        payment_id=job.payment.id,
        order_id=job.payment.order_id,
        state=State.AWAITING_APPROVAL if waits else State.QUEUED,
        amount=job.amount,
        currency=job.currency or job.payment.currency,
        resolved=captured_known and job.payment.id is not None and job.amount is not None,
        whole=False,
        holds=False,
        handle=account.provider.handle(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
        handle_no=1,
        job=canonical(job.public()).decode(),
        personal=engine.vault.seal(canonical(personal)) if personal else None,
        due_at=None if waits else max(now, epoch(job.not_before) or now),
        leased_by=None,
        fence=0,
        lost_leases=0,
        version=1,
        chain="",
        attempts=0,
        uncounted=0,
        replays=0,
        checks=0,
        polls=0,
        ambiguous=False,
        absent=False,
        last_send_end=0.0,
        replay_until=None,
        since=now,
        provider_refund_id=None,
        provider_status=None,
        reconciliation_id=None,
        failure_code=None,
        failure_class=None,
        failure_message=None,
        cause=None,
        note=None,
        settlement=None,
        assignee=None,
        traceparent=trace,
        created_at=now,
        updated_at=now,
        final_at=None,
    )


def _needs_approval(engine: Engine, job: RefundJob, via: str) -> bool:
    """Whether the settings want a second person before the first sending; an unknown amount counts as large."""
    rules = engine.settings.approvals
    if via not in rules.applies_to or not rules.threshold:
        return False
    currency = job.currency or job.payment.currency
    amount = job.amount if job.amount is not None else job.payment.amount
    if currency is None or amount is None:
        return True

    return currency in rules.threshold and amount >= rules.threshold[currency]


def _hashes(engine: Engine, job: RefundJob) -> dict[str, str | None]:
    customer = job.customer
    full = f"{customer.first_name or ''} {customer.last_name or ''}"
    index = engine.vault.index

    return {
        "email_hash": index("email", customer.email),
        "name_hash": index("name", full),
        "last_name_hash": index("name", customer.last_name),
        "customer_hash": index("customer", customer.reference),
    }


class _DryRun(Exception):
    def __init__(self, admissions: Sequence[Admission | Refused]) -> None:
        self.admissions = admissions


def accepted(admission: Admission | Refused) -> Refund | None:
    """The refund that this answer has made; None where there was one already, or is none."""
    if isinstance(admission, Refused) or admission.result is not Result.ACCEPTED:
        return None

    return admission.refund


def _admit(
    engine: Engine, candidates: Sequence[Candidate], admit: Admit, *, dry_run: bool
) -> Sequence[Admission | Refused]:
    def work(connection: Connection) -> Sequence[Admission | Refused]:
        admissions = admit(connection, candidates)
        made = [refund for each in admissions if (refund := accepted(each)) is not None]
        waiting = [refund for refund in made if refund.state is State.AWAITING_APPROVAL]
        by_id = {candidate.refund.id: candidate for candidate in candidates}
        for refund in waiting:
            ask_to_send(
                connection,
                refund,
                approval_id=new_id("ap", engine.clock()),
                actor=by_id[refund.id].actor,
                now=engine.clock(),
                expires=engine.settings.approvals.expires,
            )
        if dry_run:
            raise _DryRun(admissions)
        return admissions

    try:
        return engine.ledger.run(work)
    except _DryRun as rehearsal:
        return rehearsal.admissions


def _receipt(
    engine: Engine, candidate: Candidate, admission: Admission | Refused, warnings: tuple[str, ...]
) -> Receipt:
    if isinstance(admission, Refused):
        return Receipt(problem=admission)
    refund, detail = admission.refund, admission.detail
    match admission.result:
        case Result.ACCEPTED:
            return Receipt(refund=refund, warnings=warnings)
        case Result.REPLAYED:
            return Receipt(refund=refund, warnings=warnings, replayed=True)
        case Result.CONFLICT:
            return Receipt(problem=_conflict(engine, candidate, refund))
        case Result.OVER_CAP:
            return Receipt(
                problem=_refusal(
                    "amount-exceeds-refundable",
                    "#/amount",
                    f"{candidate.refund.amount or 'the rest'} is more than the {admission.available} still refundable",
                )
            )
        case Result.CURRENCY:
            return Receipt(problem=_refusal("currency-mismatch", "#/currency", f"the payment is in {detail}"))
        case Result.CAPTURED_DIFFERS:
            return Receipt(
                problem=_refusal(
                    "payment-amount-differs", "#/payment/amount", f"the payment is known with a captured {detail}"
                )
            )
        case Result.EXPECTATION:
            return Receipt(
                problem=_refusal(
                    "expect-refundable-differs",
                    "#/expect_refundable",
                    f"{admission.available} is refundable, {candidate.expect_refundable} was expected",
                )
            )


def _refusal(code: str, pointer: str, detail: str) -> Refused:
    return Refused(code, f"{pointer}: {detail}", errors=(FieldError(pointer, detail, code),))


def _conflict(engine: Engine, candidate: Candidate, earlier: Refund | None) -> Conflict:
    """Another content under a known reference: the differing fields are named, their values are not."""
    pointers = _differing(engine, earlier, candidate.refund) if earlier is not None else ()
    named = ", ".join(pointers) or "its content"

    return Conflict(
        "reference-conflict",
        f"reference {candidate.refund.reference!r} is already used by {earlier.id if earlier else 'another refund'} "
        f"with another content: {named}",
        errors=tuple(
            FieldError(pointer, "differs from the accepted job", "reference-conflict") for pointer in pointers
        ),
    )


def _differing(engine: Engine, earlier: Refund, refund: Refund) -> tuple[str, ...]:
    """The fields; none where what was accepted then cannot be read now, which is no reason to fail after the commit."""
    try:
        return differing(_content(engine, earlier), _content(engine, refund))
    except Exception:
        log.exception("conflict.unreadable", refund_id=earlier.id)
        return ()


def _content(engine: Engine, refund: Refund) -> dict[str, Any]:
    personal = msgspec.json.decode(engine.vault.open(refund.personal)) if refund.personal else {}

    return {**msgspec.json.decode(refund.job), **personal}
