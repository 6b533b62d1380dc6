"""What every adapter keeps to, whatever its provider: one suite over all accounts of the registry."""

import base64
import json
import re
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.outcome import Absent, Declined, NotSent, NotSentReason, Outcome, Pending, Succeeded, Unknown
from domain.reconcile import Verdict
from providers.base import Ask, Health, Lists, Move, NotificationRefused, PaymentFacts, Subject
from providers.registry import BUILT_IN, adapters
from tests.unit.providers import support
from tests.unit.providers.support import ACCOUNTS, MANGLED, Talk, answer, body_of

TOKEN = UUID("0b9d3c1e-5f63-4d0a-9d7e-0a6f0f7b8c11")
OTHER_TOKEN = UUID("5d9a2f80-2c3a-4f5b-8f3e-61b1f5f0a7d2")
SECRET_KEYS = {
    "secret_key",
    "webhook_secret",
    "api_key",
    "authentication_key",
    "client_secret",
    "private_key",
    "webhook_password",
}
CALLS = ("refund", "status", "lookup")
# SmartRetry decides nothing in the refund's answer, and has no look-up.
DECIDED_BY = {"smartretry": ("status",)}
PROVES_NOTHING = (300, 301, 302, 303, 307, 308, 408, 409, 425, 500, 501, 502, 503, 504, 520, 599)
SAYS_THROTTLED = {"smartpay", "smartretry"}
SAMPLES = settings(max_examples=60, deadline=None)

pytestmark = pytest.mark.parametrize("account", ACCOUNTS)


BUILT = {account: support.provider(account) for account in ACCOUNTS}


def adapter(account):
    """The account's adapter; one that keeps a token is made afresh."""
    return support.provider(account) if signs_in(account) else BUILT[account]


def signs_in(account):
    return "OAuth" in account


def order_for(account, **changes):
    return support.order(account, **{"handle": adapter(account).handle(TOKEN), **changes})


def secrets_of(account):
    """Every secret of an account, as it is and in base64."""
    found = []

    def walk(tree):
        for key, value in tree.items():
            if isinstance(value, dict):
                walk(value)
            elif key in SECRET_KEYS and value:
                found.extend([value, base64.b64encode(value.encode()).decode().rstrip("=")])

    walk(support.options(account))
    assert found

    return found


def before(step):
    """A good answer to what is asked before the Move: a token, a session without refunds."""
    if "token" in step.request.url.path:
        return answer(200, {"access_token": "t0ken", "token_type": "bearer", "expires_in": 3600})
    session = {"id": "ps_3230", "status": "accepted", "acquiring_payments": [{"status": "succeeded"}]}

    return answer(200, {"status": "ok", "session": session})


def is_prelude(step):
    return isinstance(step, Ask) and "token" in step.request.url.path


def before_the_move(step):
    return isinstance(step, Ask)


def converse(conversation, reply, prelude=is_prelude):
    """Run a conversation: good answers to its prelude, then `reply` to whatever it asks."""
    heard = Talk()
    try:
        step = next(conversation)
        while True:
            heard.steps.append(step)
            assert len(heard.steps) < 500, "the conversation does not end"
            step = conversation.send(before(step) if not heard.moves and prelude(step) else reply)
    except StopIteration as end:
        heard.end = end.value

    return heard


def asked(account, call, reply, **changes):
    """How one call ends when the provider gives this answer to it."""
    conversation = getattr(adapter(account), call)(order_for(account, **changes))

    return converse(conversation, reply, before_the_move if call == "refund" else is_prelude)


def shown(account, call, word, amount, handle):
    """A documented answer to `call` that shows our refund with this status and amount (minor units)."""
    match account.split(" ")[0]:
        case "smartpay":
            refund = {
                "id": "refund_test_abc",
                "object": "refund",
                "amount": amount,
                "currency": "JPY",
                "metadata": {"refundry_handle": handle},
                "status": word,
            }
            return {"id": support.ORDERS["smartpay"]["payment_id"], "refunds": [refund]} if call == "lookup" else refund
        case "smartretry":
            return {
                "transaction_id": "TX2E6G8H",
                "type": "refund",
                "amount": amount / 100,
                "currency": "USD",
                "status": {"status": word, "reasonCode": "A.B", "name": "x"},
            }
        case "jpm_smartpay":
            entry = {
                "modificationData": {"type": "REFUND", "modificationId": handle, "refundId": "rf-1"},
                "modificationAmount": {"amount": amount / 100, "currencyCode": "EUR"},
                "status": word,
            }
            return {"modifications": [entry]}
        case "smart2pay":
            refund = {
                "ID": 4000000,
                "MerchantTransactionID": handle,
                "Amount": amount,
                "Currency": "EUR",
                "Status": {"ID": word, "Info": "x"},
            }
            return {"Refunds": [refund]} if call == "lookup" else {"Refund": refund}
        case _:
            refund = {
                "id": "rf_203",
                "status": word,
                "amount_details": {"amount": amount, "currency": "usd"},
                "metadata": handle,
            }
            session = {"id": "ps_3230", "acquiring_payments": [{"refunds": [refund]}]}
            return {"status": "ok", "session": session}


YES = {
    "smartpay": "succeeded",
    "smartretry": "APPROVED",
    "jpm_smartpay": "REFUNDED",
    "smart2pay": 2,
    "smart_glocal": "accepted",
}
NO = {
    "smartpay": "failed",
    "smartretry": "DECLINED",
    "jpm_smartpay": "FAILED",
    "smart2pay": 4,
    "smart_glocal": "declined",
}


def reply_with(account, call, word, amount=1000):
    return answer(200, shown(account, call, word, amount, order_for(account).handle))


def questions(account):
    return ("status", "lookup") if adapter(account).capabilities.lookup else ("status",)


# What is sent


def test_the_suite_runs_over_every_built_in_provider(account):
    assert {known.split(" ")[0] for known in ACCOUNTS} == set(BUILT_IN) <= set(adapters())


@pytest.mark.parametrize("status", [200, 201, 202, 400, 401, 402, 403, 404, 409, 422, 429, 500, 503])
def test_a_refund_moves_money_at_most_once(account, status):
    for body in (*MANGLED.values(), shown(account, "refund", YES[account.split(" ")[0]], 1000, "x")):
        heard = asked(account, "refund", answer(status, body))

        assert len(heard.moves) == 1
        assert all(isinstance(step, Ask | Move) for step in heard.steps)


def test_questions_move_nothing(account):
    for call in ("status", "lookup", "payment"):
        assert asked(account, call, answer(200, {})).moves == []


def test_the_same_order_gives_the_same_bytes(account):
    one, two = (asked(account, "refund", answer(500)).moves[0].request for _ in range(2))
    again = support.provider(account).refund(order_for(account))
    again = converse(again, answer(500), before_the_move).moves[0].request

    for other in (two, again):
        assert (one.method, one.url, one.content) == (other.method, other.url, other.content)
        assert one.headers.raw == other.headers.raw


def test_another_handle_gives_another_request(account):
    changed = {"handle": adapter(account).handle(OTHER_TOKEN)}
    one = asked(account, "refund", answer(500)).moves[0].request
    two = asked(account, "refund", answer(500), **changed).moves[0].request

    assert (one.content, one.headers.raw) != (two.content, two.headers.raw)


def test_a_replay_sends_the_bytes_of_the_first_sending(account):
    first = asked(account, "refund", answer(500)).moves[0]
    again = asked(account, "refund", answer(500), seen=first.seen).moves[0]

    assert first.request.content == again.request.content
    assert first.request.headers.raw == again.request.headers.raw
    assert first.seen == again.seen


def test_the_handle_travels_with_the_refund(account):
    request = asked(account, "refund", answer(500)).moves[0].request

    assert order_for(account).handle in request.content.decode() + str(request.headers.raw)


def test_a_handle_has_the_providers_format_and_length(account):
    provider = adapter(account)
    handle = provider.handle(TOKEN)

    assert len(handle) <= provider.capabilities.handle_max_length
    assert re.fullmatch(r"[A-Za-z0-9_-]+", handle)
    assert handle == provider.handle(TOKEN) != provider.handle(OTHER_TOKEN)


def test_amounts_are_written_without_a_binary_fraction(account):
    for amount in (1, 7, 10, 29, 1005, 123_456_789):
        content = asked(account, "refund", answer(500), amount=amount).moves[0].request.content

        assert not re.search(rb"\d\.\d{4,}|[eE][+-]?\d+[,}]", content)


def test_the_amount_is_left_out_only_where_the_provider_allows_it(account):
    part, whole = (
        body_of(asked(account, "refund", answer(500), whole=each).moves[0].request) for each in (False, True)
    )

    assert (part != whole) is adapter(account).capabilities.omit_amount


# Secrets


def test_what_is_yielded_holds_no_secret(account):
    requests = [request for call in (*CALLS, "payment") for request in asked(account, call, answer(200, {})).requests]
    requests += converse(adapter(account).ping(), answer(200, {})).requests
    sent = " ".join(f"{each.url} {each.headers.raw} {each.content!r}" for each in requests)

    for secret in secrets_of(account):
        assert secret not in sent
    assert not any("authorization" in request.headers for request in requests)


def test_no_secret_can_be_read_off_an_adapter_or_its_settings(account):
    provider = adapter(account)
    text = f"{provider!r} {provider} {provider.fingerprint} {provider.capabilities!r}"
    model = type(provider).Settings.model_validate(support.options(account))
    text += f"{model!r} {model}"

    for secret in secrets_of(account):
        assert secret not in text


def test_credentials_are_added_last_and_change_nothing_else(account):
    provider = adapter(account)
    request = converse(provider.refund(order_for(account)), answer(500), before_the_move).moves[0].request
    method, url, content, names = request.method, request.url, request.content, set(request.headers)
    signed = provider.authorize(request)

    assert (signed.method, signed.url, signed.content) == (method, url, content)
    assert len(set(signed.headers) - names) == 1


def test_the_fingerprint_tells_accounts_apart(account):
    elsewhere = support.provider(account, base_url="https://elsewhere.example")

    assert adapter(account).fingerprint == support.provider(account).fingerprint != elsewhere.fingerprint


# What is heard


def test_a_documented_yes_is_a_success_and_a_documented_no_is_the_providers_own_record(account):
    name = account.split(" ")[0]
    for call in DECIDED_BY.get(name, CALLS):
        yes = asked(account, call, reply_with(account, call, YES[name])).end
        no = asked(account, call, reply_with(account, call, NO[name])).end

        assert isinstance(yes, Succeeded)
        assert yes.facts.provider_refund_id
        assert isinstance(no, Declined)
        assert no.own_record


def listed(account, reply):
    """The page that an answer makes, asked for what the account can be asked for."""
    name, provider = account.split(" ")[0], adapter(account)
    number = {"smartpay": "refund_test_abc", "smartretry": "TX2E6G8H"}.get(name)
    assert (Lists.REFUND if number else Lists.PAYMENT) in provider.capabilities.lists
    of = {"provider_refund_id": number} if number else {"payment_id": support.ORDERS[name]["payment_id"]}

    return converse(provider.list_refunds(Subject(**of, currency=support.ORDERS[name]["currency"])), reply).end


def listing(account, word, amount=1000):
    call = "status" if account.split(" ")[0] in ("smartpay", "smartretry") else "lookup"

    return reply_with(account, call, word, amount)


def test_a_list_shows_what_an_answer_proves(account):
    name = account.split(" ")[0]
    for word, verdict in ((YES[name], Verdict.SUCCEEDED), (NO[name], Verdict.FAILED), ("unheard-of", None)):
        page = listed(account, listing(account, word, 1234))
        [theirs] = page.refunds

        assert (theirs.verdict, theirs.amount, page.problem) == (verdict, 1234, None)
        assert theirs.provider_refund_id
        assert theirs.handle in (None, order_for(account).handle)


def test_a_list_that_cannot_be_read_says_so_and_shows_nothing(account):
    good = listing(account, YES[account.split(" ")[0]]).content
    bad = [*((200, body) for body in MANGLED.values()), *((status, good) for status in PROVES_NOTHING)]
    for status, body in bad:
        page = listed(account, answer(status, body))

        assert page.problem
        assert page.refunds == ()


def test_an_amount_other_than_asked_is_passed_on(account):
    name = account.split(" ")[0]
    for call in questions(account):
        for amount in (1, 999, 1001, 123_400):
            end = asked(account, call, reply_with(account, call, YES[name], amount)).end

            assert end.facts.amount == amount
            assert end.facts.currency == support.ORDERS[name]["currency"]


@pytest.mark.parametrize("word", ["unheard-of", "", None, 99, -1, True, [], {}, "Succeeded?"])
def test_a_status_nobody_knows_is_pending_with_an_alert(account, word):
    for call in questions(account):
        end = asked(account, call, reply_with(account, call, word)).end

        assert isinstance(end, Pending)
        assert end.facts.alert


@pytest.mark.parametrize("status", PROVES_NOTHING)
@pytest.mark.parametrize("call", CALLS)
def test_these_statuses_prove_nothing_whatever_the_body_says(account, call, status):
    name = account.split(" ")[0]
    for body in (*MANGLED.values(), shown(account, call, YES[name], 1000, order_for(account).handle)):
        assert isinstance(asked(account, call, answer(status, body)).end, Unknown)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"statusCode":401}'])
def test_refused_credentials_judge_no_refund(account, body):
    end = asked(account, "refund", answer(401, body)).end

    assert isinstance(end, NotSent)
    assert end.reason is NotSentReason.CREDENTIALS
    assert not end.stored


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}"])
def test_throttled_means_not_sent_only_where_it_is_documented(account, body):
    end = asked(account, "refund", answer(429, body, {"Retry-After": "7"})).end

    if account in SAYS_THROTTLED:
        assert end == NotSent(reason=NotSentReason.THROTTLED, retry_after=7.0)
    else:
        assert isinstance(end, Unknown)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 400, 402, 403, 404, 405, 410, 422, 451])
@pytest.mark.parametrize("call", CALLS)
def test_a_mangled_body_proves_nothing(account, call, status):
    for name, body in MANGLED.items():
        end = asked(account, call, answer(status, body)).end

        assert isinstance(end, Unknown | Absent), name
        assert not isinstance(end, Absent) or (name == "empty object" and call != "refund"), name


@pytest.mark.parametrize("status", [200, 201, 302, 400, 403, 404, 408, 409, 422, 429, 500, 503])
def test_a_fault_before_the_refund_is_sent_means_that_it_was_not(account, status):
    for body in MANGLED.values():
        heard = converse(adapter(account).refund(order_for(account)), answer(status, body), lambda _: False)

        if not heard.moves:
            assert isinstance(heard.end, NotSent)
            assert heard.end.reason is not NotSentReason.THROTTLED
        assert isinstance(heard.end, Outcome)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
def test_payment_and_ping_survive_everything(account, status):
    for body in MANGLED.values():
        facts = asked(account, "payment", answer(status, body)).end
        health = converse(adapter(account).ping(), answer(status, body), lambda _: False).end

        assert isinstance(facts, PaymentFacts)
        assert facts.captured is None
        assert not facts.final
        assert health in Health
        if status == 500:
            assert health is not Health.OK


# Random answers

FIELDS = sorted(
    {
        *("id", "object", "status", "statusCode", "errorCode", "message", "refunds", "metadata", "payment"),
        *("transaction_id", "merchant_transaction_id", "accepted", "type", "reason_code", "detail"),
        *("modification", "modifications", "modificationData", "modificationId", "refundId", "error"),
        *("Refund", "Refunds", "Status", "ID", "Info", "Reasons", "Code", "Amount", "Currency"),
        *("session", "acquiring_payments", "amount_details", "amount", "currency", "code", "data"),
    }
)
# Numbers and digits stay clear of documented codes: a body that holds one may mean it.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**19), -1)
    | st.integers(10_000, 10**19)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: number != int(number))
    | st.text(st.characters(exclude_categories=["Nd", "Cs"]), max_size=12)
    | st.sampled_from(["ok", "error", "refund", "USD", "EUR", "JPY", "usd", "ps_3230", "REFUND"])
)
BODIES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=20,
)
STATUSES = st.sampled_from([200, 201, 202, 204, 302, 400, 402, 403, 404, 408, 409, 418, 422, 500, 502, 503])


@pytest.mark.parametrize("call", CALLS)
@SAMPLES
@given(status=STATUSES, body=BODIES | st.binary(max_size=60))
def test_nothing_random_is_a_yes_a_no_or_never_sent(account, call, status, body):
    # SmartRetry documents `accepted: false` as a no, and that alone.
    assume(not isinstance(body, dict) or body.get("accepted") is not False)
    end = asked(account, call, answer(status, body)).end

    assert isinstance(end, Unknown | Pending | Absent)
    assert call != "refund" or not isinstance(end, Absent)


ODD = [None, True, False, 1.5, -7, 10**18, "", "unheard-of", "9" * 30, [], [None], [[]], {}, {"id": None}]


@st.composite
def bent(draw, account, call):
    """The documented yes with one member changed, at any depth."""
    tree = shown(account, call, YES[account.split(" ")[0]], 1000, order_for(account).handle)
    place, path = tree, []
    while isinstance(place, dict | list) and place:
        key = draw(st.sampled_from(sorted(place))) if isinstance(place, dict) else 0
        path.append((place, key))
        place = place[key]
        if draw(st.booleans()):
            break
    holder, key = path[-1]
    holder[key] = draw(st.sampled_from(ODD))

    return tree


@pytest.mark.parametrize("call", CALLS)
@SAMPLES
@given(data=st.data(), status=st.sampled_from([200, 201, 400, 404, 500]))
def test_an_answer_with_one_member_bent_never_raises_and_is_never_a_no(account, call, data, status):
    end = asked(account, call, answer(status, data.draw(bent(account, call)))).end

    assert isinstance(end, Outcome)
    assert not isinstance(end, Declined | NotSent)
    assert isinstance(end, Unknown | Pending | Absent) or status in (200, 201)


# Notifications and jobs


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Basic " + base64.b64encode(b"a:b").decode()},
        {"authorization": "Basic \xe9"},
        {"smartpay-signature": "0" * 64, "smartpay-signature-timestamp": "1653028523020"},
        {"x-smartretry-signature": "t=1653028523,v1=" + "0" * 64},
        {"x-partner-sign": base64.b64encode(b"0" * 256).decode()},
    ],
)
def test_a_notification_that_is_not_the_providers_is_refused(account, headers):
    for body in (b"{}", b"", b"<html>", json.dumps({"id": "evt", "type": "x", "data": {}}).encode()):
        with pytest.raises(NotificationRefused):
            adapter(account).notification(headers, body, 1_653_028_523.0)


def faults_of(account, order):
    found = {}
    warnings = adapter(account).check(order, lambda pointer, detail: found.update({pointer: detail}))

    return found, warnings


def test_a_good_job_passes_and_an_empty_one_is_told_which_field(account):
    empty = replace(order_for(account), payment_id=None, order_id=None)
    found, _ = faults_of(account, empty)

    assert faults_of(account, order_for(account))[0] == {}
    assert "#/payment/id" in found
    assert all(pointer.startswith("#/") and detail for pointer, detail in found.items())


def test_the_capabilities_make_sense_together(account):
    can = adapter(account).capabilities

    assert can.handle_max_length >= 32
    assert can.handle_lifetime is None or can.handle_lifetime > can.connect_timeout + can.read_timeout
    assert can.poll_schedule
    assert all(step > 0 for step in can.poll_schedule)
    assert can.poll_horizon > max(can.poll_schedule)
    assert can.lookup or not can.matches_handle
    assert can == adapter(account).capabilities


def test_an_accounts_own_decimals_are_among_the_capabilities(account):
    assert support.provider(account, currency_exponents={"USD": 2}).capabilities.exponents == {"USD": 2}
