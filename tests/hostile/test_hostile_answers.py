"""Answers of any kind to each adapter: one of the six outcomes, and never a success that was not said."""

import json
import time
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from domain.outcome import Absent, Declined, NotSent, Outcome, Succeeded, Unknown
from domain.state import State
from providers.base import Health, PaymentFacts
from providers.wire import drive
from tests.hostile import judges
from tests.hostile.judges import CALLS, assert_believable, documented, order_for
from tests.unit.providers import support
from tests.unit.providers.support import ACCOUNTS, ORDERS
from tests.unit.providers.test_conformance import adapter

pytestmark = pytest.mark.parametrize("account", ACCOUNTS)
EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

STATUSES = st.sampled_from(
    [
        101,
        199,
        200,
        200,
        200,
        201,
        202,
        204,
        206,
        226,
        300,
        302,
        304,
        400,
        401,
        402,
        403,
        404,
        409,
        418,
        422,
        429,
        451,
        500,
        503,
        600,
        999,
    ]
)
HEADER_NAMES = st.sampled_from(
    [b"content-type", b"retry-after", b"idempotency-replayed", b"x-idempotency-replayed", b"location", b"set-cookie"]
)
HEADER_VALUES = st.binary(max_size=20) | st.sampled_from(
    [
        b"text/html",
        b"true",
        b"-1",
        b"1e9",
        b"9" * 400,
        b"\xd9\xa3",
        b"Wed, 21 Oct 2026 07:28:00 GMT",
        b"application/json",
    ]
)
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=4)

# Pieces a mutated body is made of: what JSON readers trip over, and words that mean something to a provider.
TOKENS = st.sampled_from(
    [
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"NaN",
        b"Infinity",
        b"-0",
        b"1e400",
        b"1E-400",
        b"9" * 40,
        b"0.1",
        b'"\\ud800"',
        b'"\\u0000"',
        b"\xff",
        b"\x00",
        b"\xef\xbb\xbf",
        b'"succeeded"',
        b'"failed"',
        b'"APPROVED"',
        b'"accepted"',
        b"2",
        b"4",
        b'"REFUNDED"',
        b",",
        b":",
        b"}",
        b"{",
        b"]",
        b'"status":',
        b'"error":{"code":"invalid_request"},',
        b'"id":',
    ]
)


@st.composite
def mutated(draw: st.DrawFn, body: bytes) -> bytes:
    """The body after a few accidents: bytes lost, doubled, flipped, or something else put in."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 40)))
        match draw(st.sampled_from(["cut", "double", "insert", "replace", "end"])):
            case "cut":
                body = body[:start] + body[end:]
            case "double":
                body = body[:end] + body[start:end] + body[end:]
            case "insert":
                body = body[:start] + draw(TOKENS | st.binary(max_size=4)) + body[start:]
            case "replace":
                body = body[:start] + draw(TOKENS) + body[end:]
            case _:
                body = body[:start]

    return body


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.integers(10**15, 10**40)
    | st.sampled_from(
        ["succeeded", "failed", "APPROVED", "accepted", "REFUNDED", "ok", "error", 2, 4, "2", "refund", 1000]
    )
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2)
)


@st.composite
def bent(draw: st.DrawFn, tree: Any) -> Any:
    """The documented answer with up to three members replaced, removed, or wrapped into lists."""
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(list(_members(tree))))
        match draw(st.sampled_from(["replace", "replace", "remove", "wrap", "double"])):
            case "replace":
                holder[key] = draw(VALUES)
            case "remove" if isinstance(holder, dict):
                del holder[key]
            case "wrap":
                holder[key] = [holder[key]]
            case "double" if isinstance(holder, list):
                holder.append(holder[key])
        if not list(_members(tree)):
            break

    return tree


def _members(tree: Any) -> list[tuple[Any, Any]]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()

    return [(tree, key) for key, _ in inner] + [found for _, each in inner for found in _members(each)]


def response(status: int, content: bytes, headers: Any = ()) -> httpx.Response:
    return httpx.Response(status, content=content, headers=list(headers))


@pytest.mark.parametrize("call", CALLS)
@EXAMPLES
@given(status=STATUSES, headers=HEADERS, body=st.binary(max_size=80), kind_prelude=st.booleans())
def test_any_bytes_are_one_of_six_outcomes_and_no_success(account, call, status, headers, body, kind_prelude):
    outcome = assert_believable(account, call, response(status, body, headers), kind_prelude=kind_prelude)

    assert not isinstance(outcome, Succeeded | Declined)


@pytest.mark.parametrize("call", CALLS)
@EXAMPLES
@given(data=st.data(), status=STATUSES, headers=HEADERS, yes=st.booleans())
def test_a_documented_answer_with_broken_bytes_is_believed_only_as_far_as_it_goes(
    account, call, data, status, headers, yes
):
    body = json.dumps(documented(account, call, yes=yes)).encode()
    broken = response(status, data.draw(mutated(body)), headers)

    assert_believable(account, call, broken, kind_prelude=data.draw(st.booleans()))


@pytest.mark.parametrize("call", CALLS)
@EXAMPLES
@given(data=st.data(), status=st.sampled_from([200, 200, 201, 400, 404]), yes=st.booleans())
def test_a_documented_answer_with_bent_members_is_believed_only_as_far_as_it_goes(account, call, data, status, yes):
    tree = data.draw(bent(documented(account, call, yes=yes)))

    assert_believable(account, call, response(status, json.dumps(tree).encode()))


@pytest.mark.parametrize("call", CALLS)
@EXAMPLES
@given(amount=st.integers(-(10**14), 10**14))
def test_a_success_about_another_amount_goes_to_a_person(account, call, amount):
    assume(amount != order_for(account).amount)
    answered = response(200, json.dumps(documented(account, call, amount=amount)).encode())
    outcome = judges.outcome_of(account, call, answered, kind_prelude=True)

    assert judges.settles(account, outcome) is not State.SUCCEEDED


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_of_a_megabyte_is_judged_in_no_time(account, call):
    deep = b'{"status":' * 100_000
    wide = json.dumps({str(number): number for number in range(60_000)}).encode()
    many = json.dumps(
        {key: [{"id": "x", "status": "succeeded"}] * 20_000 for key in ("refunds", "Refunds", "data")}
    ).encode()
    long = b'{"status":"' + b"x" * 1_000_000 + b'","amount":' + b"9" * 40_000 + b"}"
    started = time.monotonic()
    for body in (deep, wide, many, long, b" " * 1_000_000, b"[" * 1_000_000, b'"' + b"\\" * 1_000_000):
        assert not isinstance(assert_believable(account, call, response(200, body)), Succeeded | Declined)

    assert time.monotonic() - started < 5


@EXAMPLES
@given(status=STATUSES, headers=HEADERS, value=VALUES, body=st.binary(max_size=60), as_json=st.booleans())
def test_payment_and_ping_answer_whatever_they_hear(account, status, headers, value, body, as_json):
    heard = response(status, json.dumps(value).encode() if as_json else body, headers)
    facts = drive(adapter(account).payment(order_for(account)), lambda _: heard)
    health = drive(adapter(account).ping(), lambda _: heard)

    assert isinstance(facts, PaymentFacts)
    assert facts.captured is None or facts.captured >= 0
    assert health in Health


@EXAMPLES
@given(data=st.data())
def test_every_step_may_be_answered_by_something_else(account, data):
    """The network answers each request of a conversation differently: a documented piece, or anything."""
    bodies = [json.dumps(documented(account, call)).encode() for call in CALLS]
    anything = st.sampled_from(bodies) | st.binary(max_size=30) | st.sampled_from([b'{"status":"ok"}', b"{}"])
    asked = 0

    def network(_request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        assert asked < judges.MOST_STEPS
        return response(data.draw(STATUSES), data.draw(anything))

    call = data.draw(st.sampled_from(CALLS))
    outcome = drive(getattr(adapter(account), call)(order_for(account)), network)

    assert isinstance(outcome, Outcome)
    assert call != "refund" or not isinstance(outcome, Absent)


def test_a_list_without_end_is_given_up(account):
    """Pages that always name a next one, and refunds that are only named: the look-up ends, and knows nothing."""
    endless = {
        "id": ORDERS[account.split(" ")[0]]["payment_id"],
        "data": [{"id": "refund_other", "object": "refund"}],
        "nextPageToken": "again",
        "Refunds": [{"ID": 1}],
    }
    asked = 0

    def network(_request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        assert asked < judges.MOST_STEPS
        return support.answer(200, {**endless, "nextPageToken": f"again {asked}"})

    outcome = drive(adapter(account).lookup(order_for(account)), network)

    assert isinstance(outcome, Unknown | NotSent | Absent)
