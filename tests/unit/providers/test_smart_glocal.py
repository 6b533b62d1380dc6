"""The examples of "Payment refunds" and the tables of the fact sheet, one by one."""

import base64
import copy
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from domain.errors import ConfigurationError
from domain.outcome import (
    Absent,
    DeclineClass,
    Declined,
    NotSent,
    NotSentReason,
    Pending,
    Succeeded,
    Unknown,
)
from domain.policy import Recovery
from domain.reconcile import Listed, Verdict
from providers.base import Exclusive, Health, Notification, NotificationRefused
from providers.smart_glocal import ERRORS
from tests.unit.providers import support
from tests.unit.providers.support import HANDLE, MANGLED, answer, body_of, talk

BASE = "https://demo.smart-glocal.com/api/v1/session"
AT = "2024-05-27T02:03:00.000000Z"
# The webhook example of "Payment refunds".
EXAMPLE = {
    "type": "payment_refunded",
    "session": {
        "id": "ps_3230",
        "status": "accepted",
        "created_at": AT,
        "updated_at": AT,
        "acquiring_payments": [
            {
                "id": "pm_2705",
                "status": "succeeded",
                "created_at": AT,
                "finished_at": AT,
                "customer": {"reference": "lucky"},
                "payment_details": {"type": "card", "card": {"brand": "visa", "last4": "4242"}},
                "amount_details": {"amount": 1000, "currency": "usd"},
                "metadata": "good",
                "refunds": [
                    {
                        "id": "rf_203",
                        "status": "accepted",
                        "created_at": AT,
                        "finished_at": AT,
                        "amount_details": {"amount": 1000, "currency": "usd"},
                    }
                ],
            }
        ],
    },
}
NONE_SEEN = frozenset()


def refund(**changes):
    shown = {
        "id": "rf_203",
        "status": "in_progress",
        "created_at": AT,
        "amount_details": {"amount": 1000, "currency": "usd"},
        "metadata": HANDLE,
    }

    return {name: value for name, value in (shown | changes).items() if value is not ...}


def session(*refunds, **changes):
    shown = copy.deepcopy(EXAMPLE["session"])
    shown["acquiring_payments"][0]["refunds"] = list(refunds)

    return answer(200, {"status": "ok", "session": shown | changes})


def error(code, status=400):
    return answer(status, {"status": "error", "error": {"code": code, "description": "No."}})


@pytest.fixture(scope="module")
def glocal():
    return support.provider("smart_glocal")


@pytest.fixture(scope="module")
def order():
    return support.order("smart_glocal", provider_refund_id=None)


@pytest.fixture(scope="module")
def sent(order):
    return replace(order, seen=NONE_SEEN)


@pytest.fixture(scope="module")
def known(sent):
    return replace(sent, provider_refund_id="rf_203")


def test_the_full_refund_of_the_document_is_asked_for_as_documented(glocal, order):
    heard = talk(glocal.refund(replace(order, whole=True)), session(), session(refund()))
    request = glocal.authorize(heard.requests[1])
    body = body_of(request)

    assert (request.method, str(request.url)) == ("POST", f"{BASE}/refund")
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-PARTNER-PROJECT"] == "your_project_name"
    assert request.headers["X-PARTNER-IDEMPOTENCY-KEY"] == HANDLE
    assert body.pop("metadata") == HANDLE
    assert body == {"session_id": "ps_3230"}
    assert isinstance(heard.end, Pending)


def test_a_part_refund_names_its_amount_in_minor_units_and_lower_case(glocal, sent):
    heard = talk(glocal.refund(sent), session(refund()))

    assert body_of(heard.requests[0]) == {
        "session_id": "ps_3230",
        "amount_details": {"amount": 1000, "currency": "usd"},
        "metadata": HANDLE,
    }


def test_an_account_may_count_yen_in_hundredths(sent):
    glocal = support.provider("smart_glocal", currency_exponents={"JPY": 2})
    yen = replace(sent, amount=500, currency="JPY")
    shown = refund(amount_details={"amount": 50_000, "currency": "jpy"})
    heard = talk(glocal.refund(yen), session(shown))

    assert body_of(heard.requests[0])["amount_details"] == {"amount": 50_000, "currency": "jpy"}
    assert (heard.end.facts.amount, heard.end.facts.currency) == (500, "JPY")


def test_the_signature_is_rsa_over_the_body_as_sent(glocal, sent):
    request = glocal.authorize(talk(glocal.refund(sent), session(refund())).requests[0])
    signed = base64.b64decode(request.headers["X-PARTNER-SIGN"], validate=True)
    support.key_pair("partner").public_key().verify(signed, request.content, PKCS1v15(), SHA256())

    assert len(request.headers["X-PARTNER-SIGN"]) == 344


def test_the_same_body_is_signed_alike_twice(glocal, sent):
    one, two = (glocal.authorize(next(glocal.refund(sent)).request) for _ in range(2))

    assert one.headers["X-PARTNER-SIGN"] == two.headers["X-PARTNER-SIGN"]


def test_submerchant_and_key_header_follow_the_settings(sent):
    glocal = support.provider("smart_glocal", submerchant="entity-7", idempotency_header="X-Once")
    headers = next(glocal.refund(sent)).request.headers

    assert headers["X-PARTNER-SUBMERCHANT"] == "entity-7"
    assert headers["X-Once"] == HANDLE
    assert "X-PARTNER-IDEMPOTENCY-KEY" not in headers


def test_without_a_key_header_nothing_is_deduplicated(sent):
    glocal = support.provider("smart_glocal without a key")

    assert not glocal.capabilities.deduplicates
    assert HANDLE not in next(glocal.refund(sent)).request.headers.values()
    assert "X-PARTNER-SUBMERCHANT" not in next(glocal.refund(sent)).request.headers
    assert support.provider("smart_glocal").capabilities.deduplicates


def test_the_refunds_that_stand_there_are_remembered_with_the_first_sending(glocal, order):
    external = refund(id="rf_1", metadata=...)
    heard = talk(glocal.refund(order), session(external), session(external, refund()))

    assert [str(request.url) for request in heard.requests] == [f"{BASE}/status", f"{BASE}/refund"]
    assert body_of(heard.requests[0]) == {"session_id": "ps_3230"}
    assert heard.moves[0].seen == {"rf_1"}


def test_a_replay_sends_the_same_at_once(glocal, sent):
    seen = frozenset({"rf_1"})
    heard = talk(glocal.refund(replace(sent, seen=seen)), session(refund()))

    assert len(heard.steps) == 1
    assert heard.moves[0].seen == seen


def test_a_refund_that_carries_our_handle_already_is_not_sent_again(glocal, order):
    heard = talk(glocal.refund(order), session(refund(status="accepted")))

    assert heard.moves == []
    assert isinstance(heard.end, Succeeded)


@pytest.mark.parametrize(
    "before",
    [
        answer(500, {}),
        answer(503, {}, {"Retry-After": "3"}),
        answer(429, {}),
        answer(404, {}),
        error("invalid_request"),
        error("something.new", 200),
        session(refund(id=None)),
        session(id="ps_other"),
        session(acquiring_payments=None),
        session(acquiring_payments=[{"refunds": "none"}]),
        session(acquiring_payments=[7]),
        *(answer(200, body) for body in MANGLED.values()),
    ],
)
def test_nothing_is_sent_while_the_session_cannot_be_read(glocal, order, before):
    heard = talk(glocal.refund(order), before)

    assert heard.moves == []
    assert isinstance(heard.end, NotSent)
    assert heard.end.reason is NotSentReason.ASK_FAILED


def test_nothing_is_sent_with_credentials_that_are_refused(glocal, order):
    heard = talk(glocal.refund(order), error("authentication_error", 401))

    assert heard.moves == []
    assert heard.end.reason is NotSentReason.CREDENTIALS


@pytest.mark.parametrize("missing", ["amount", "currency"])
def test_nothing_is_sent_before_the_amount_is_known(glocal, order, missing):
    heard = talk(glocal.refund(replace(order, **{missing: None})))

    assert heard.steps == []
    assert heard.end.reason is NotSentReason.ASK_FAILED


@pytest.mark.parametrize(
    ("word", "kind"),
    [("in_progress", Pending), ("accepted", Succeeded), ("declined", Declined), ("error", Pending)],
)
@pytest.mark.parametrize("call", ["refund", "status", "lookup"])
def test_every_listed_status_is_read_alike(glocal, known, call, word, kind):
    end = talk(getattr(glocal, call)(known), session(refund(status=word))).end

    assert type(end) is kind
    assert (end.facts.provider_refund_id, end.facts.status) == ("rf_203", word)
    assert (end.facts.amount, end.facts.currency) == (1000, "USD")
    assert bool(end.facts.alert) is (word == "error")
    if kind is Declined:
        assert end.own_record
        assert end.kind is DeclineClass.FINAL


@pytest.mark.parametrize("word", ["cancelled", "ACCEPTED", "", None, True, 1, ["accepted"], {"a": "accepted"}])
def test_a_status_nobody_knows_is_pending_with_an_alert(glocal, known, word):
    end = talk(glocal.status(known), session(refund(status=word))).end

    assert isinstance(end, Pending)
    assert end.facts.alert


def test_an_account_may_teach_a_status(known):
    glocal = support.provider("smart_glocal", status_map={"error": "failed"})

    assert isinstance(talk(glocal.status(known), session(refund(status="error"))).end, Declined)


def test_the_accepted_refund_of_the_documents_example_succeeds(glocal, known):
    end = talk(glocal.status(known), answer(200, {"status": "ok", "session": EXAMPLE["session"]})).end

    assert isinstance(end, Succeeded)
    assert (end.facts.amount, end.facts.currency) == (1000, "USD")


def test_a_session_goes_back_to_in_progress_while_a_refund_runs(glocal, known):
    """Page session-refund: the answer to a full refund of 10000."""
    shown = refund(id="rf_23", metadata=..., amount_details={"amount": 10_000, "currency": "usd"})
    whole = replace(known, amount=10_000, whole=True, provider_refund_id=None)

    end = talk(glocal.refund(whole), session(shown, status="in_progress")).end

    assert isinstance(end, Pending)
    assert end.facts.provider_refund_id == "rf_23"


@pytest.mark.parametrize("session_status", ["created", "in_progress", "accepted", "cancelled", "error"])
def test_the_status_of_the_session_is_not_that_of_the_refund(glocal, known, session_status):
    end = talk(glocal.status(known), session(refund(status="accepted"), status=session_status)).end

    assert isinstance(end, Succeeded)


OUTCOMES = {"credentials": NotSent, "final": Declined, "open": Unknown}


@pytest.mark.parametrize("status", [200, 400, 403, 404, 422])
@pytest.mark.parametrize(("code", "kind"), ERRORS.items(), ids=ERRORS)
def test_a_documented_error_code_is_judged_at_any_http_status(glocal, sent, code, kind, status):
    end = talk(glocal.refund(sent), error(code, status)).end

    assert type(end) is OUTCOMES[kind]
    if kind == "credentials":
        assert end.reason is NotSentReason.CREDENTIALS
    if kind == "final":
        assert end == Declined(code=code, message="No.")


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("status", [302, 408, 409, 425, 429, 500, 502, 503, 504])
def test_no_code_is_believed_beside_a_status_that_proves_nothing(glocal, sent, code, status):
    assert isinstance(talk(glocal.refund(sent), error(code, status)).end, Unknown)


@pytest.mark.parametrize("code", [code for code, kind in ERRORS.items() if kind != "credentials"])
@pytest.mark.parametrize("call", ["status", "lookup"])
def test_a_question_that_is_refused_judges_no_refund(glocal, known, call, code):
    assert isinstance(talk(getattr(glocal, call)(known), error(code)).end, Unknown)


@pytest.mark.parametrize("call", ["refund", "status", "lookup"])
def test_refused_credentials_pause_the_account(glocal, known, call):
    for refused in (answer(401, b""), error("identification_error", 200), error("authorization_error", 403)):
        assert talk(getattr(glocal, call)(known), refused).end.reason is NotSentReason.CREDENTIALS


@pytest.mark.parametrize(
    "odd",
    [
        error("something.new"),
        error("", 404),
        answer(400, {"status": "error"}),
        answer(400, {"status": "error", "error": "invalid_request"}),
        answer(400, {"error": {"code": "invalid_request"}}),
        answer(400, {"status": "ok", "error": {"code": "invalid_request"}}),
        answer(201, {"status": "ok", "session": EXAMPLE["session"]}),
        answer(200, {"status": "ok"}),
        answer(200, {"session": EXAMPLE["session"]}),
        answer(429, {}, {"Retry-After": "5"}),
    ],
)
def test_any_other_answer_proves_nothing(glocal, sent, odd):
    assert isinstance(talk(glocal.refund(sent), odd).end, Unknown)


@pytest.mark.parametrize("status", [200, 201, 400, 403, 404, 422, 500])
@pytest.mark.parametrize("body", MANGLED.values(), ids=MANGLED)
@pytest.mark.parametrize("call", ["refund", "status", "lookup"])
def test_a_mangled_answer_proves_nothing(glocal, known, call, body, status):
    assert isinstance(talk(getattr(glocal, call)(known), answer(status, body)).end, Unknown)


def test_another_session_is_a_contradiction(glocal, known):
    for call in (glocal.refund, glocal.status, glocal.lookup):
        assert talk(call(known), session(refund(), id="ps_9")).end.contradiction


# Which refund is ours


@pytest.fixture(scope="module")
def after(order):
    return replace(order, seen=frozenset({"rf_1"}))


OLD = refund(id="rf_1", metadata=..., status="accepted")
BARE = refund(metadata=..., status="accepted")


def test_metadata_tells_our_refund_among_others(glocal, after):
    end = talk(
        glocal.lookup(after),
        session(OLD, refund(id="rf_9", status="accepted"), refund(id="rf_2", metadata="x")),
    ).end

    assert isinstance(end, Succeeded)
    assert end.facts.provider_refund_id == "rf_9"


def test_our_refund_with_another_amount_is_passed_on_as_answered(glocal, after):
    end = talk(glocal.lookup(after), session(refund(amount_details={"amount": 999, "currency": "usd"}))).end

    assert (end.facts.amount, end.facts.currency) == (999, "USD")


@pytest.mark.parametrize(
    ("details", "amount", "currency"),
    [
        (..., None, None),
        (None, None, None),
        ({}, None, None),
        ("x", -1, None),
        ([], -1, None),
        ({"amount": "1000", "currency": "usd"}, -1, "USD"),
        ({"amount": True, "currency": "usd"}, -1, "USD"),
        ({"amount": 1000, "currency": "dollars"}, -1, "DOLLARS"),
        ({"amount": 1000, "currency": []}, -1, "?"),
        ({"currency": {}}, None, "?"),
        ({"amount": 999}, 999, None),
        ({"amount": 10**40, "currency": "usd"}, -1, "USD"),
    ],
)
def test_an_odd_amount_of_ours_matches_nothing(glocal, known, details, amount, currency):
    end = talk(glocal.status(known), session(refund(amount_details=details))).end

    assert (end.facts.amount, end.facts.currency) == (amount, currency)


def test_the_only_new_refund_of_equal_amount_is_adopted(glocal, after):
    for call in (glocal.lookup, glocal.refund):
        end = talk(call(after), session(OLD, BARE)).end

        assert isinstance(end, Succeeded)
        assert end.facts.provider_refund_id == "rf_203"


def test_what_appears_after_ours_had_not_been_found_is_for_a_person(glocal, after):
    missed = replace(after, missed=True)
    end = talk(glocal.lookup(missed), session(OLD, BARE)).end
    assert isinstance(end, Unknown)
    assert end.contradiction

    assert isinstance(talk(glocal.lookup(missed), session(OLD, refund(status="accepted"))).end, Succeeded)
    assert isinstance(talk(glocal.refund(missed), session(OLD, BARE)).end, Succeeded)  # it has just been sent anew
    assert talk(glocal.lookup(missed), session(OLD)).end == Absent()


def test_a_chargeback_is_never_adopted(glocal, after):
    chargeback = BARE | {"is_chargeback": True}

    assert talk(glocal.lookup(after), session(OLD, chargeback)).end == Absent()
    assert isinstance(talk(glocal.lookup(after), session(OLD, chargeback, BARE | {"id": "rf_4"})).end, Succeeded)
    assert talk(glocal.lookup(after), session(refund(is_chargeback=True))).end.contradiction


@pytest.mark.parametrize(
    "refunds",
    [
        [BARE, BARE | {"id": "rf_4"}],
        [BARE | {"amount_details": {"amount": 999, "currency": "usd"}}],
        [BARE | {"amount_details": {"amount": 1000, "currency": "eur"}}],
        [BARE | {"metadata": "somebody else's"}],
        [refund(), refund(id="rf_4")],
    ],
)
@pytest.mark.parametrize("call", ["refund", "lookup"])
def test_what_could_be_ours_but_need_not_be_is_for_a_person(glocal, after, call, refunds):
    end = talk(getattr(glocal, call)(after), session(OLD, *refunds)).end

    assert isinstance(end, Unknown)
    assert end.contradiction


def test_a_lookup_that_finds_nothing_new_says_absent(glocal, after):
    assert talk(glocal.lookup(after), session(OLD)).end == Absent()
    assert talk(glocal.lookup(replace(after, seen=None)), session()).end == Absent()


def test_without_what_was_seen_only_metadata_counts(glocal, order):
    assert isinstance(talk(glocal.lookup(order), session(BARE)).end, Unknown)
    assert isinstance(talk(glocal.lookup(order), session(BARE, refund(id="rf_9"))).end, Pending)


def test_an_ok_without_our_refund_is_not_absence(glocal, after):
    assert isinstance(talk(glocal.refund(after), session(OLD)).end, Unknown)


def test_a_key_that_exists_already_leads_to_the_lookup(glocal, after):
    end = talk(glocal.refund(after), error("idempotency_key_already_exists")).end

    assert isinstance(end, Unknown)
    assert not end.contradiction
    assert isinstance(talk(glocal.lookup(after), session(OLD, BARE)).end, Succeeded)


def test_the_status_follows_the_known_id(glocal, known):
    heard = talk(glocal.status(known), session(OLD, refund(status="accepted")))

    assert (heard.requests[0].method, str(heard.requests[0].url)) == ("POST", f"{BASE}/status")
    assert body_of(heard.requests[0]) == {"session_id": "ps_3230"}
    assert heard.end.facts.provider_refund_id == "rf_203"
    assert isinstance(talk(glocal.status(known), session(OLD)).end, Unknown)


def test_refunds_of_every_payment_of_the_session_are_read(glocal, known):
    payments = [{"id": "pm_1", "status": "failed"}, {"id": "pm_2", "refunds": [refund(status="accepted")]}]

    assert isinstance(talk(glocal.status(known), session(acquiring_payments=payments)).end, Succeeded)


# The payment


def paid(amount, status="succeeded", refunds=(), currency="usd"):
    return {
        "status": status,
        "amount_details": {"amount": amount, "currency": currency},
        "refunds": list(refunds),
    }


def test_what_was_captured_and_what_went_back_are_sums(glocal, order):
    returned = [
        refund(status="accepted", id="a"),
        refund(status="in_progress", id="b"),
        refund(status="declined", id="c"),
        refund(status="error", id="d"),
        refund(status="accepted", id="e", is_chargeback=True),
    ]
    payments = [paid(5000, refunds=returned), paid(3000), paid(7000, "failed")]
    end = talk(glocal.payment(order), session(acquiring_payments=payments)).end

    assert (end.captured, end.refunded, end.currency) == (8000, 3000, "USD")
    assert end.problem is None


@pytest.mark.parametrize(
    ("session_status", "final"),
    [("accepted", True), ("cancelled", True), ("error", False), ("in_progress", False), ("created", False)],
)
def test_a_session_that_never_paid_is_final_once_it_is_over(glocal, order, session_status, final):
    shown = session(acquiring_payments=[paid(1000, "failed")], status=session_status)
    end = talk(glocal.payment(order), shown).end

    assert end.problem
    assert end.final is final
    assert bool(end.problem_code) is final


@pytest.mark.parametrize(
    "odd",
    [
        session(acquiring_payments=[paid(1000), paid(1000, currency="eur")]),
        session(acquiring_payments=[paid("x")]),
        session(acquiring_payments=[paid(1000, refunds=[refund(amount_details=...)])]),
        session(acquiring_payments="x"),
        error("invalid_request"),
        error("authentication_error"),
        answer(500, {}),
        answer(200, b"<html>"),
    ],
)
def test_a_payment_that_cannot_be_added_up_is_a_problem(glocal, order, odd):
    end = talk(glocal.payment(order), odd).end

    assert end.problem
    assert not end.final
    assert end.captured is None


def test_a_payment_question_tells_that_the_credentials_are_refused(glocal, order):
    for refused in (error("authentication_error"), answer(401, b"")):
        assert talk(glocal.payment(order), refused).end.credentials_refused
    for other in (error("invalid_request"), answer(403, b""), answer(500, {}), session()):
        assert not talk(glocal.payment(order), other).end.credentials_refused


@pytest.mark.parametrize(
    ("shown", "health"),
    [
        (error("invalid_request"), Health.OK),
        (error("identification_error", 401), Health.CREDENTIALS_REFUSED),
        (error("authentication_error", 200), Health.CREDENTIALS_REFUSED),
        (answer(401, b""), Health.CREDENTIALS_REFUSED),
        (answer(502, b"<html>"), Health.UNREACHABLE),
        (answer(200, b"<html>"), Health.UNREACHABLE),
        (answer(200, {}), Health.UNREACHABLE),
    ],
)
def test_a_ping_asks_for_a_session_that_does_not_exist(glocal, shown, health):
    heard = talk(glocal.ping(), shown)

    assert body_of(heard.requests[0]) == {"session_id": "ps_0"}
    assert heard.end is health


# Notifications


def signed(body, key="provider"):
    signature = support.key_pair(key).sign(body, PKCS1v15(), SHA256())

    return {"x-partner-sign": base64.b64encode(signature).decode()}


def test_the_webhook_of_the_document_names_session_and_refund(glocal):
    body = json.dumps(EXAMPLE).encode()

    assert glocal.notification(signed(body), body, 0.0) == Notification(
        kind="payment_refunded",
        provider_refund_ids=("rf_203",),
        payment_id="ps_3230",
        claims=(
            Listed(
                provider_refund_id="rf_203",
                verdict=Verdict.SUCCEEDED,
                status="accepted",
                amount=1000,
                currency="USD",
                payment_id="ps_3230",
            ),
        ),
    )


def test_chargebacks_are_told_apart_and_our_handle_is_named(glocal):
    event = copy.deepcopy(EXAMPLE)
    event["session"]["acquiring_payments"][0]["refunds"] = [refund(), refund(id="rf_9", is_chargeback=True)]
    body = json.dumps(event).encode()
    heard = glocal.notification(signed(body), body, 0.0)

    assert heard.provider_refund_ids == ("rf_203",)
    assert heard.chargebacks == ("rf_9",)
    assert heard.handle == HANDLE


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-partner-sign": ""}, {"x-partner-sign": "AAAA"}, {"x-partner-sign": "\xe9!"}, "partner"],
)
def test_a_notification_with_another_signature_is_refused(glocal, headers):
    body = json.dumps(EXAMPLE).encode()
    given = signed(body, headers) if isinstance(headers, str) else headers

    with pytest.raises(NotificationRefused, match="signature"):
        glocal.notification(given, body, 0.0)


def test_a_changed_notification_is_refused(glocal):
    body = json.dumps(EXAMPLE).encode()

    with pytest.raises(NotificationRefused):
        glocal.notification(signed(body), body.replace(b"rf_203", b"rf_204"), 0.0)


def test_without_the_providers_key_nothing_is_believed():
    body = json.dumps(EXAMPLE).encode()

    with pytest.raises(NotificationRefused):
        support.provider("smart_glocal", provider_public_key="").notification(signed(body), body, 0.0)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"session":7}', b"<html>"])
def test_a_signed_body_that_is_no_event_is_refused(glocal, body):
    with pytest.raises(NotificationRefused, match="not an event"):
        glocal.notification(signed(body), body, 0.0)


@pytest.mark.parametrize("kind", ["ready_to_confirm", "ready_to_capture", "action_required", "payment_finished"])
def test_other_kinds_are_hints_about_the_session(glocal, kind):
    body = json.dumps({"type": kind, "session": {"id": "ps_1"}}).encode()

    assert glocal.notification(signed(body), body, 0.0) == Notification(kind=kind, payment_id="ps_1")


# Settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("private_key", "not a key"),
        ("private_key", ""),
        ("provider_public_key", "not a key"),
        ("idempotency_header", "X Once"),
        ("project", "a\nb"),
        ("project", ""),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_without_being_shown(key, value):
    with pytest.raises(ConfigurationError) as refused:
        support.provider("smart_glocal", **{key: value})

    assert refused.value.lines[0].startswith(f"accounts.smart_glocal.{key}: expected ")
    assert "not a key" not in str(refused.value)


def test_the_two_keys_are_not_taken_for_each_other():
    with pytest.raises(ConfigurationError):
        support.provider("smart_glocal", private_key=support.public_pem("partner"))
    with pytest.raises(ConfigurationError):
        support.provider("smart_glocal", provider_public_key=support.private_pem("provider"))


def test_a_job_needs_a_session(glocal, order):
    found = []
    glocal.check(order, lambda pointer, _: found.append(pointer))
    glocal.check(replace(order, payment_id=None), lambda pointer, _: found.append(pointer))

    assert found == ["#/payment/id"]


def test_the_capabilities_are_those_of_the_fact_sheet(glocal):
    can = glocal.capabilities

    assert can.recovery is Recovery.LOOKUP
    assert can.exclusive is Exclusive.ALWAYS
    assert (can.lookup, can.matches_handle, can.omit_amount, can.payment_facts) == (True, False, True, True)
    assert can.handle_lifetime == 86_400
    assert can.poll_schedule == (5, 15, 60, 300)
    assert can.poll_horizon == 72 * 3600


def test_the_fingerprint_names_host_project_and_submerchant():
    assert support.provider("smart_glocal").fingerprint == (
        "smart_glocal https://demo.smart-glocal.com your_project_name"
    )
    assert support.provider("smart_glocal", submerchant="x").fingerprint.endswith("your_project_name x")


def test_while_a_key_is_renewed_what_either_signed_is_believed():
    body = json.dumps(EXAMPLE).encode()
    pems = [support.public_pem(name) for name in ("another", "provider")]
    both = support.provider("smart_glocal", provider_public_key="\n".join(pems))

    for name in ("another", "provider"):
        assert both.notification(signed(body, name), body, 0.0).payment_id == "ps_3230"
    with pytest.raises(NotificationRefused):
        both.notification(signed(body, "a third"), body, 0.0)
