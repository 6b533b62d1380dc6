"""What goes wrong in the demo, at random but the same for the same seed, and in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Rule = dict[str, Any]

#: Faults of the way there and back: each must be found out about, and none may pay twice.
NOISE: tuple[Rule, ...] = (
    {"call": "refund", "fault": "answer_lost", "probability": 0.08},
    {"call": "refund", "fault": "request_lost", "probability": 0.04},
    {"call": "refund", "fault": "error_500_after", "probability": 0.04},
    {"call": "refund", "fault": "error_500_before", "probability": 0.04},
    {"call": "refund", "fault": "throttled", "probability": 0.04},
    {"call": "refund", "fault": "html", "probability": 0.03},
    {"call": "refund", "fault": "truncated", "probability": 0.03},
    {"call": "refund", "fault": "slow", "probability": 0.1, "seconds": 0.8},
    {"call": "refund", "fault": "unknown_status", "probability": 0.03},
    {"call": "status", "fault": "error_500_before", "probability": 0.05},
    {"call": "lookup", "fault": "answer_lost", "probability": 0.05},
)
#: Faults of the provider itself, at payments of one refund each, by account: refused refunds fail; wrong amounts and
#: refunds that are never decided end before a person.
TROUBLE: tuple[tuple[str, str], ...] = (
    ("smartpay", "wrong_amount"),
    ("smartretry", "decline"),
    ("smartretry", "wrong_amount"),
    ("jpm-smartpay", "decline"),
    ("jpm-smartpay", "stuck"),
    ("jpm-smartpay-oauth", "wrong_amount"),
    ("smart2pay", "decline"),
    ("smart2pay-card", "stuck"),
    ("smart-glocal", "decline"),
    ("smart-glocal", "stuck"),
)

WORDS: Mapping[str, str] = {
    "answer_lost": "the money moves, the answer is lost",
    "request_lost": "the connection is cut before anything happens",
    "error_500_after": "the money moves, the answer is an error 500",
    "error_500_before": "an error 500, and nothing has happened",
    "throttled": "429, come back later",
    "html": "a web page instead of an answer",
    "truncated": "half an answer",
    "slow": "the answer takes long",
    "unknown_status": "a status word that nobody has documented",
    "wrong_amount": "the answer names another amount",
    "decline": "the provider refuses",
    "stuck": "accepted, and never decided",
}
#: After these the shop's side cannot know whether the money moved.
AMBIGUOUS = frozenset(
    {"answer_lost", "request_lost", "error_500_after", "error_500_before", "throttled", "html", "truncated"}
)


def make_rules(lone: Mapping[str, Sequence[str]], seed: int) -> dict[str, Any]:
    """The sandbox's fault plan; `lone` are each account's payments of which one refund is asked."""
    left = {account: list(payments) for account, payments in lone.items()}
    trouble = [
        {"call": "refund", "fault": fault, "payment": left[account].pop()}
        for account, fault in TROUBLE
        if left[account]
    ]

    return {"seed": seed, "faults": [*trouble, *NOISE]}


def counted(rules: Mapping[str, Any]) -> Counter[tuple[str, str]]:
    """How often each fault has struck, by call and fault, from the sandbox's own account of its plan."""
    hits: Counter[tuple[str, str]] = Counter()
    for rule in rules["faults"]:
        hits[rule["call"], rule["fault"]] += rule["hits"]

    return hits


def lost_answers(hits: Mapping[tuple[str, str], int]) -> int:
    """How many refund calls ended without an answer that says what happened."""
    return sum(count for (call, fault), count in hits.items() if call == "refund" and fault in AMBIGUOUS)
