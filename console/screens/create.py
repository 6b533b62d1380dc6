"""S4: the form for a new refund: find the payment, say how much, look again."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request, Response

from console.pages import go, money, page
from console.session import Signed, TheEngine
from domain.errors import FieldError, Forbidden, InvalidJob, InvalidMoney, NotFound, Refused
from domain.money import exponent, to_major, to_minor
from domain.refund import Refund
from domain.state import State
from engine.bootstrap import Engine
from engine.ids import new_id
from engine.operate import everywhere, switches
from engine.people import Actor, Verb, require
from engine.submit import submit_by
from engine.view import find
from ledger import payments, queries
from ledger.payments import Standing
from ledger.queries import Filter

router = APIRouter()

REASONS = [
    ("requested_by_customer", "requested by the customer"),
    ("duplicate", "paid twice"),
    ("fraudulent", "fraud"),
    ("other", "other"),
]
FIELDS = (
    "account",
    "payment",
    "order",
    "expect",
    "amount",
    "currency",
    "captured",
    "reason",
    "description",
    "reference",
)
#: Where a fault of a job is shown.
_PLACES = {
    "#/amount": "amount",
    "#/currency": "currency",
    "#/payment/amount": "captured",
    "#/payment/currency": "currency",
    "#/description": "description",
    "#/reference": "reference",
}
_DAY = 86_400.0
Text = Annotated[str, Query(max_length=300)]


def filled(
    account: Text = "",
    payment: Text = "",
    order: Text = "",
    expect: Text = "",
    amount: Text = "",
    currency: Text = "",
    captured: Text = "",
    reason: Text = "",
    description: Text = "",
    reference: Text = "",
) -> dict[str, str]:
    """The form's fields as they were typed, without blanks around; in the address, so that Back and reload are safe."""
    values = (account, payment, order, expect, amount, currency.upper(), captured, reason, description, reference)

    return {name: value.strip() for name, value in zip(FIELDS, values, strict=True)}


Filled = Annotated[dict[str, str], Depends(filled)]


@router.get("/refunds/new")
def start(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    q: Annotated[str, Query(max_length=300)] = "",
    account: str = "",
    payment: Annotated[str, Query(max_length=128)] = "",
    order: Annotated[str, Query(max_length=128)] = "",
    reference: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    require(signed.actor, Verb.CREATE)
    if account and (payment or order):
        return _form(request, engine, _prefilled(engine, account, payment.strip(), order.strip(), reference))
    names = [(name, name) for name in engine.accounts]

    return page(
        request, "create.html", step=1, errors={}, form={}, q=q, found=_payments(engine, q.strip()), accounts=names
    )


def _payments(engine: Engine, word: str) -> list[dict[str, Any]]:
    """The payments of the refunds that a word finds."""
    found = {(each.account, each.payment_ref): each for each in (find(engine, word) if word else [])}
    with engine.ledger.read() as connection:
        purses = {key: payments.standing(connection, *key) for key in found}

    return [
        {
            "account": each.account,
            "payment": each.payment_id or "",
            "order": each.order_id or "",
            "captured": purse.captured if (purse := purses[key]) else None,
            "remaining": purse.refundable if purse else None,
            "currency": (purse.currency if purse else None) or each.currency,
        }
        for key, each in found.items()
    ]


def _prefilled(engine: Engine, account: str, payment: str, order: str, reference: str) -> dict[str, str]:
    """The form as it is first drawn, with a reference of its own: whatever is pressed twice is one refund."""
    standing = _standing(engine, account, payment, order)
    left = standing.refundable if standing else None
    known = standing.currency if standing else None
    amount = "" if left is None or known is None else str(to_major(left, known))

    return {
        **dict.fromkeys(FIELDS, ""),
        "account": account,
        "payment": payment,
        "order": order,
        "amount": amount,
        "currency": known or "",
        "reason": REASONS[0][0],
        "reference": reference or new_id("web", engine.clock()),
    }


@router.get("/refunds/review")
def look_again(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    form: Filled,
) -> Response:
    """Everything as it would be sent: a rehearsal, nothing is recorded."""
    require(signed.actor, Verb.CREATE)
    try:
        return _review(request, engine, signed.actor, form)
    except (InvalidJob, Refused) as error:
        return _form(request, engine, form, error)


@router.post("/refunds")
def submit(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    form: Filled,
    confirm: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    require(signed.actor, Verb.CREATE)
    try:
        job = _job(form)
        if " ".join(confirm.split()).upper() != _typed(job).upper():
            return _review(request, engine, signed.actor, form, error=f"type {_typed(job)} exactly")
        receipt = submit_by(engine, signed.actor, [job], via="console")[0]
        if receipt.problem is not None:
            raise receipt.problem
    except (InvalidJob, Refused) as error:
        return _form(request, engine, form, error)
    assert receipt.refund is not None
    told = (
        "It had been accepted before: this is that refund." if receipt.replayed else "Accepted. No need to press again."
    )

    return go(f"/refunds/{receipt.refund.id}", told)


def _job(form: dict[str, str]) -> dict[str, Any]:
    """The job that the form describes. Raises InvalidJob naming what cannot be read."""
    currency = form["currency"] or None
    captured = _minor(form["captured"], currency, "#/payment/amount")
    if form["reason"] == "other" and not form["description"]:
        raise InvalidJob(FieldError("#/description", "say why, for the reason is another one"))

    return {
        "reference": form["reference"],
        "account": form["account"],
        "payment": {
            "id": form["payment"] or None,
            "order_id": form["order"] or None,
            "amount": captured,
            "currency": currency if captured is not None else None,
        },
        "amount": _minor(form["amount"], currency, "#/amount"),
        "currency": currency,
        "reason": form["reason"],
        "description": form["description"] or None,
        "expect_refundable": int(form["expect"]) if form["expect"].isdecimal() else None,
    }


def _minor(text: str, currency: str | None, pointer: str) -> int | None:
    if not text:
        return None
    if currency is None:
        raise InvalidJob(FieldError("#/currency", "is needed with an amount"))
    try:
        exponent(currency)
    except InvalidMoney as error:
        raise InvalidJob(FieldError("#/currency", str(error))) from None
    try:
        return to_minor(text.replace(",", "."), currency)
    except InvalidMoney as error:
        raise InvalidJob(FieldError(pointer, str(error))) from None


def _typed(job: dict[str, Any]) -> str:
    return "ALL" if job["amount"] is None else money(job["amount"], job["currency"])


def _review(request: Request, engine: Engine, actor: Actor, form: dict[str, str], error: str = "") -> Response:
    job = _job(form)
    receipt = submit_by(engine, actor, [job], via="console", dry_run=True)[0]
    if receipt.problem is not None:
        raise receipt.problem
    assert receipt.refund is not None
    refund = receipt.refund
    typed = _typed(job)
    summary = [
        ("Refund", typed if job["amount"] is not None else "all that is left"),
        ("Account", f"{refund.account} ({refund.provider})"),
        ("Payment", form["payment"]),
        ("Order", form["order"]),
        ("Reason", dict(REASONS).get(form["reason"], form["reason"])),
        ("Description", form["description"]),
        ("Reference", form["reference"]),
    ]

    return page(
        request,
        "create.html",
        status=422 if error else 200,
        step=3,
        errors={"confirm": error} if error else {},
        form=form,
        summary=summary,
        typed=typed,
        provider=refund.provider,
        waits=refund.state is State.AWAITING_APPROVAL and not receipt.replayed,
        warnings=receipt.warnings,
        paused=_paused(engine, refund.account),
        similar=_similar(engine, refund),
    )


def _similar(engine: Engine, refund: Refund) -> Refund | None:
    """Another refund of this payment with the same amount, within a day."""
    if refund.payment_id is None:
        return None
    wanted = Filter(accounts=(refund.account,), payment_id=refund.payment_id, created_after=engine.clock() - _DAY)
    with engine.ledger.read() as connection:
        found = queries.page(connection, wanted, limit=20)

    return next((each for each in found if each.amount == refund.amount and each.reference != refund.reference), None)


def _standing(engine: Engine, account: str, payment: str, order: str) -> Standing | None:
    with engine.ledger.read() as connection:
        known = find(engine, payment or order)
        ref = next((each.payment_ref for each in known if each.account == account), payment)
        return payments.standing(connection, account, ref)


def _form(
    request: Request, engine: Engine, form: dict[str, str], error: InvalidJob | Refused | None = None
) -> Response:
    """Step 2, with what was typed and, after a refusal, with the figures as they are now."""
    account = engine.accounts.get(form["account"])
    if account is None:
        raise NotFound("not-found", f"there is no account {form['account'][:63]!r}")
    if isinstance(error, Forbidden):
        raise error
    standing = _standing(engine, form["account"], form["payment"], form["order"])

    return page(
        request,
        "create.html",
        status=200 if error is None else 409 if isinstance(error, Refused) else 422,
        step=2,
        form=form,
        errors=_named(error),
        reasons=REASONS,
        standing=standing,
        remaining=standing.refundable if standing else None,
        partial=account.capabilities.partial,
        paused=_paused(engine, form["account"]),
    )


def _named(error: InvalidJob | Refused | None) -> dict[str, str]:
    if error is None:
        return {}
    if error.code == "reference-conflict":
        return {"reference": f"{error}; take another reference if this is another refund"}

    return {_PLACES.get(each.pointer, each.pointer): f"{each.pointer[2:]}: {each.detail}" for each in error.errors} or {
        "form": str(error)
    }


def _paused(engine: Engine, account: str) -> bool:
    return any(held is not None and held.paused for held in (switches(engine).get(account), everywhere(engine)))
