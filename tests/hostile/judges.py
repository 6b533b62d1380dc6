"""Independent readers: they tell from the bytes alone what may be believed. Used by the property tests and the fuzzer.

Nothing here calls the code under test to form its opinion.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx

from domain.decision import Case, decide
from domain.errors import InvalidJob, InvalidMoney
from domain.job import RefundJob
from domain.job import parse as parse_job
from domain.money import EXPONENTS, MAX_MINOR, Money
from domain.money import parse as parse_money
from domain.outcome import NotSent, Outcome, Succeeded
from domain.policy import Policy
from domain.state import State
from providers import wire
from tests.unit.providers import support
from tests.unit.providers.test_conformance import NO, YES, adapter, order_for, shown

CALLS = ("refund", "status", "lookup")
JPM_YES = {"REFUNDED", "SUCCESS", "SUCCEEDED", "COMPLETED", "SETTLED"}
MOST_STEPS = 500


# -- JSON as anybody reads it -----------------------------------------------------------------------------------------


def read(body: bytes) -> Any:
    """The JSON value of a body; None when it is none."""
    try:
        return json.loads(body, parse_float=Decimal, parse_int=_int)
    except (ValueError, RecursionError, InvalidOperation):
        return None


def _int(digits: str) -> Any:
    return int(digits) if len(digits) < 4000 else Decimal(digits)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a JSON value."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            yield each
            left.extend(each.values())
        elif isinstance(each, list):
            left.extend(each)


def member(value: Any, *names: str) -> Any:
    """A member at this path; None where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None

    return value


def whole(value: Any) -> int | None:
    """A number that is plainly an integer, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return None
    if isinstance(value, Decimal) and (not value.is_finite() or abs(value.adjusted()) > 25 or value != int(value)):
        return None

    return int(value)


def scaled(value: Any, digits: int) -> int | None:
    """A number in major units as minor units, where it plainly is one."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or abs(Decimal(value).adjusted()) > 20:
        return None

    return whole(Decimal(value) * 10**digits)


# -- what carries a provider's yes ------------------------------------------------------------------------------------


def _smartpay(record: dict[str, Any], _handle: str) -> bool:
    return record.get("status") == "succeeded" and isinstance(record.get("id"), str)


def _smartretry(record: dict[str, Any], _handle: str) -> bool:
    return member(record, "status", "status") == "APPROVED" and record.get("type", "refund") == "refund"


def _jpm(record: dict[str, Any], handle: str) -> bool:
    word = record.get("status")
    ours = member(record, "modificationData", "modificationId") == handle

    return ours and isinstance(word, str) and word.upper() in JPM_YES


def _smart2pay(record: dict[str, Any], handle: str) -> bool:
    state = member(record, "Status", "ID") or member(record, "StateDetails", "ID")

    return record.get("MerchantTransactionID") == handle and (state == "2" or whole(state) == 2)


def _smart_glocal(record: dict[str, Any], _handle: str) -> bool:
    return (
        record.get("status") == "accepted" and isinstance(record.get("id"), str) and "acquiring_payments" not in record
    )


CARRIES_YES: dict[str, Callable[[dict[str, Any], str], bool]] = {
    "smartpay": _smartpay,
    "smartretry": _smartretry,
    "jpm_smartpay": _jpm,
    "smart2pay": _smart2pay,
    "smart_glocal": _smart_glocal,
}


def _amount(name: str, record: dict[str, Any]) -> int | None:
    match name:
        case "smartpay":
            return whole(record.get("amount"))
        case "smartretry":
            return scaled(record.get("amount"), 2)
        case "jpm_smartpay":
            said = member(record, "modificationAmount")
            return scaled(member(said, "amount"), 2) if member(said, "currencyCode") in (None, "EUR") else None
        case "smart2pay":
            return whole(record.get("Amount"))
        case _:
            said = member(record, "amount_details")
            currency = member(said, "currency")
            return whole(member(said, "amount")) if currency is None or str(currency).upper() == "USD" else None


# -- one answer, judged -----------------------------------------------------------------------------------------------


def prelude(request: httpx.Request) -> httpx.Response | None:
    """A good answer to what is asked before the Move; None for everything else."""
    if "token" in request.url.path:
        return support.answer(200, {"access_token": "t0ken", "token_type": "bearer", "expires_in": 3600})
    if request.url.path.endswith("/session/status"):
        session = {"id": "ps_3230", "status": "accepted", "acquiring_payments": [{"status": "succeeded"}]}
        return support.answer(200, {"status": "ok", "session": session})

    return None


def outcome_of(account: str, call: str, response: httpx.Response, *, kind_prelude: bool) -> Outcome:
    """Drive one conversation: good answers to its prelude where that is wanted, `response` to everything else."""
    asked = 0

    def network(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        assert asked < MOST_STEPS, "the conversation does not end"
        kind = prelude(request) if kind_prelude and (call == "refund" or "token" in request.url.path) else None
        return kind or response

    conversation = getattr(adapter(account), call)(order_for(account))

    return wire.drive(conversation, network)


def assert_believable(account: str, call: str, response: httpx.Response, *, kind_prelude: bool = True) -> Outcome:
    """Whatever the answer: one of the six outcomes; a success only where a yes was said, about the amount asked for."""
    outcome = outcome_of(account, call, response, kind_prelude=kind_prelude)
    assert isinstance(outcome, Outcome), outcome
    if isinstance(outcome, NotSent):
        assert outcome.retry_after is None or 0 <= outcome.retry_after <= 3600
    if isinstance(outcome, Succeeded):
        _assert_a_yes_was_said(account, response, outcome)

    return outcome


def _assert_a_yes_was_said(account: str, response: httpx.Response, outcome: Succeeded) -> None:
    name, order = account.split(" ", maxsplit=1)[0], order_for(account)
    assert 200 <= response.status_code < 300, response.status_code
    yeses = [each for each in objects(read(response.content)) if CARRIES_YES[name](each, order.handle)]
    assert yeses, response.content[:500]
    amounts = {_amount(name, each) for each in yeses}
    if None not in amounts and order.amount not in amounts:
        assert settles(account, outcome) is not State.SUCCEEDED, (amounts, outcome.facts)


def settles(account: str, outcome: Outcome) -> State:
    """Where the refund stands after this outcome of its first sending."""
    order = order_for(account)
    case = Case(state=State.SENDING, amount=order.amount, currency=order.currency, attempts=1)

    return decide(case, outcome, 1_700_000_000.0, Policy(), 0.5).state


def documented(account: str, call: str, *, yes: bool = True, amount: int | None = None) -> Any:
    """A documented answer about our refund, by default with the amount that was asked for."""
    words: Mapping[str, Any] = YES if yes else NO
    order = order_for(account)

    return shown(
        account,
        call,
        words[account.split(" ", maxsplit=1)[0]],
        order.amount if amount is None else amount,
        order.handle,
    )


# -- jobs and money ---------------------------------------------------------------------------------------------------


def assert_job_or_faults(body: bytes) -> None:
    """A job is read as what its bytes say, or refused with at least one named fault."""
    try:
        job = parse_job(body)
    except InvalidJob as error:
        faults = error.errors
    else:
        _assert_is_what_was_said(job, read(body))
        return
    assert faults
    assert all(each.pointer.startswith("#") and each.detail for each in faults)


def _assert_is_what_was_said(job: RefundJob, said: Any) -> None:
    assert said["reference"] == job.reference
    assert said["account"] == job.account
    assert said.get("amount") == job.amount
    assert job.amount is None or (type(said["amount"]) is int and 0 < job.amount <= MAX_MINOR)
    assert job.currency is None or job.currency in EXPONENTS


def assert_money_or_refused(text: str) -> None:
    """An amount is exact, or it is refused."""
    try:
        money = parse_money(text)
    except InvalidMoney:
        return
    number, currency = text.split()
    assert money.currency == currency
    assert number.isascii()
    assert Decimal(number) * 10 ** EXPONENTS[currency] == money.amount
    assert 0 < money.amount <= MAX_MINOR
    assert parse_money(str(money)) == money == Money(money.amount, currency)
