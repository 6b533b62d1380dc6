"""The judge finds each thing that must not happen, and has nothing to say where all is well."""

from dataclasses import replace

import pytest

from tests.chaos.judge import Books, judge

REFUND = {
    "id": "rf_1",
    "account": "shop",
    "reference": "chaos-1",
    "state": "succeeded",
    "amount": 1000,
    "currency": "EUR",
    "handle": "h1",
    "payment_ref": "p1",
    "payment_id": "p1",
    "cause": None,
}
PAYMENT = {
    "account": "shop",
    "ref": "p1",
    "captured": 2100,
    "reserved": 0,
    "refunded": 1000,
    "over_refunded": False,
}
ATTEMPT = {"refund_id": "rf_1", "no": 1, "handle": "h1", "body_hash": "a", "outcome": "succeeded"}
MOVED = {"provider": "shop", "payment": "p1", "handle": "h1", "amount": 1000, "currency": "EUR"}
JOB = {"reference": "chaos-1", "account": "shop", "payment": {"id": "p1"}, "amount": 1000}
GOOD = Books(
    refunds=[REFUND],
    payments=[PAYMENT],
    attempts=[ATTEMPT],
    rejected=[],
    moved=[MOVED],
    jobs={"chaos-1": JOB},
    captured={"p1": 2100},
    receipts={"chaos-1": "rf_1"},
    refusals={},
)
OTHER = {**REFUND, "id": "rf_2", "reference": "chaos-2", "handle": "h2", "payment_ref": "p2", "payment_id": "p2"}
OTHER_JOB = {**JOB, "reference": "chaos-2", "payment": {"id": "p2"}}


def rules(books):
    return {flaw.rule for flaw in judge(books)}


def in_state(state, **more):
    open_ = state not in ("succeeded", "failed", "cancelled")
    purse = {**PAYMENT, "refunded": 0, "reserved": 1000 if open_ else 0}

    return {"refunds": [{**REFUND, "state": state, **more}], "payments": [purse]}


def test_nothing_is_wrong_where_all_is_well():
    assert judge(GOOD) == []


def test_a_review_may_have_been_paid_or_not():
    reviewed = replace(GOOD, **in_state("review", cause="mismatch"))

    assert judge(reviewed) == []
    assert judge(replace(reviewed, moved=[])) == []


def test_a_race_lost_with_a_reason_is_no_flaw():
    jobs = {"chaos-1": {**JOB, "amount": 1200}, "chaos-2": {**JOB, "amount": 1200}}
    code = "amount-exceeds-refundable"

    assert judge(replace(GOOD, jobs=jobs, refusals={"chaos-2": code})) == []
    assert judge(replace(GOOD, jobs=jobs, rejected=[{"reference": "chaos-2", "errors": code}])) == []


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("paid once", {"moved": []}),
        (
            "paid once",
            {"moved": [MOVED, {**MOVED, "handle": "h0"}], "attempts": [ATTEMPT, {**ATTEMPT, "handle": "h0"}]},
        ),
        ("paid once", in_state("failed")),
        ("paid once", in_state("cancelled")),
        ("at rest", in_state("unknown")),
        ("amount", {"moved": [{**MOVED, "amount": 999}]}),
        ("amount", {"moved": [{**MOVED, "currency": "JPY"}]}),
        ("payment", {"moved": [{**MOVED, "payment": "p2"}], "captured": {"p1": 2100, "p2": 2100}}),
        ("handle", {"moved": [MOVED, MOVED]}),
        ("stray", {"moved": [MOVED, {**MOVED, "handle": "nobody's"}]}),
        ("cap", {"captured": {"p1": 900}}),
        ("cap", {"captured": {}}),
        ("books", {"payments": [{**PAYMENT, "refunded": 0}]}),
        ("books", {"payments": [{**PAYMENT, "reserved": 1000}]}),
        ("books", {"payments": [{**PAYMENT, "over_refunded": True}]}),
        ("books", {"payments": []}),
        ("jobs", {"jobs": {**GOOD.jobs, "chaos-2": OTHER_JOB}}),
        ("jobs", {"receipts": {"chaos-1": "rf_9"}}),
        ("jobs", {"jobs": {}}),
        ("jobs", {"refunds": [REFUND, {**OTHER, "reference": "chaos-1", "state": "failed"}]}),
        ("jobs", {"refunds": [{**REFUND, "account": "other"}], "payments": [{**PAYMENT, "account": "other"}]}),
        ("refused", {"rejected": [{"reference": "chaos-1", "errors": "unknown-account"}]}),
        ("refused", {"jobs": {**GOOD.jobs, "chaos-2": JOB}, "refusals": {"chaos-2": "amount-exceeds-refundable"}}),
        (
            "refused",
            {"jobs": {**GOOD.jobs, "chaos-2": OTHER_JOB}, "refusals": {"chaos-2": "amount-exceeds-refundable"}},
        ),
        ("review", in_state("review", cause=None)),
        ("bytes", {"attempts": [ATTEMPT, {**ATTEMPT, "no": 2, "body_hash": "b"}]}),
    ],
)
def test_each_thing_that_must_not_happen_is_found(rule, changes):
    assert rule in rules(replace(GOOD, **changes))
