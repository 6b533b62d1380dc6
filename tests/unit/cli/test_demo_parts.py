from collections import Counter
from dataclasses import replace

import msgspec
import pytest
from rich.console import Console

from cli.demo import faults, show
from cli.demo.orders import Handing, Plan
from cli.demo.proof import Evidence, behind_review, prove
from cli.demo.world import private_folder
from domain.decision import Cause
from domain.state import State
from domain.verdict import Advice, Verdict
from ledger.journal import Flaw
from tests.unit.domain.support import a_refund

VERDICT = Verdict(Advice.HUMAN_ONLY, ("the provider's answer contradicts what was asked",))


def refund(number, state, **changes):
    values = {"id": f"rf_{number}", "reference": f"R-{number}", "handle": f"h-{number}", "payment_ref": f"p-{number}"}
    return a_refund(**{**values, "state": state, "cause": Cause.MISMATCH if state is State.REVIEW else None, **changes})


def movement(number, **changes):
    values = {"provider": "smartpay", "payment": f"p-{number}", "handle": f"h-{number}", "refund_id": f"x-{number}"}
    return {**values, "amount": 100, "currency": "EUR", **changes}


REFUNDS = (refund(1, State.SUCCEEDED), refund(2, State.FAILED), refund(3, State.REVIEW))
EVIDENCE = Evidence(
    refunds=REFUNDS,
    handles={each.id: frozenset({each.handle}) for each in REFUNDS},
    verdicts={"rf_3": VERDICT},
    movements=[movement(1), movement(3)],
    events=9,
    flaws=[],
    unbalanced=0,
    over_refunded=0,
    refused=[{}],
)
PLAN = Plan(
    handings=[Handing({"account": "shop", "reference": f"R-{number}"}, "stream") for number in (1, 2, 3)],
    bad=[b"{"],
    captured={("smartpay", f"p-{number}"): 100 for number in (1, 2, 3)},
    lone={},
)


def broken(evidence, plan=PLAN):
    """The claims that do not hold, by their first words."""
    return [check.says.split(":")[0] for check in prove(evidence, plan) if not check.holds]


def test_a_world_in_order_is_proved():
    assert broken(EVIDENCE) == []


@pytest.mark.parametrize(
    ("movements", "claim"),
    [
        ([movement(3)], "each succeeded refund was paid exactly once, to the amount"),
        ([movement(1), movement(1)], "each succeeded refund was paid exactly once, to the amount"),
        ([movement(1, amount=99)], "each succeeded refund was paid exactly once, to the amount"),
        ([movement(1, currency="USD")], "each succeeded refund was paid exactly once, to the amount"),
        ([movement(1), movement(2)], "no failed refund was paid"),
        (
            [movement(1), movement(3), movement(3)],
            "each refund in review was paid once at most, and says why it is there",
        ),
        ([movement(1), movement(9)], "no money moved that nobody asked for"),
        ([movement(1), movement(3, amount=101)], "no payment gave back more than was captured"),
    ],
)
def test_money_that_moved_wrongly_breaks_the_proof(movements, claim):
    assert claim in broken(replace(EVIDENCE, movements=movements))


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"verdicts": {}}, "each refund in review was paid once at most, and says why it is there"),
        ({"flaws": [Flaw("rf_1", 1, "changed")]}, "the audit journal verifies"),
        ({"unbalanced": 1}, "the books balance"),
        ({"over_refunded": 1}, "the books balance"),
        ({"refused": []}, "jobs that cannot be accepted are kept with the reason"),
        ({"refunds": REFUNDS[:2]}, "every job became one refund"),
        ({"refunds": (*REFUNDS[:2], refund(3, State.UNKNOWN))}, "refunds accepted = final + in review"),
    ],
)
def test_what_is_not_in_order_breaks_the_proof(change, claim):
    assert claim in broken(replace(EVIDENCE, **change))


def test_a_movement_is_known_by_any_handle_that_was_used_and_by_the_providers_id():
    handles = {**EVIDENCE.handles, "rf_1": frozenset({"h-1", "h-renewed"})}
    by_id = msgspec.structs.replace(REFUNDS[0], provider_refund_id="x-7")

    assert broken(replace(EVIDENCE, handles=handles, movements=[movement(1, handle="h-renewed")])) == []
    found = replace(EVIDENCE, refunds=(by_id, *REFUNDS[1:]), movements=[movement(1, handle=None, refund_id="x-7")])
    assert broken(found) == []


def test_what_waits_behind_a_refund_in_review_is_unsent_and_counted():
    behind = refund(4, State.QUEUED, payment_ref="p-3")
    elsewhere = refund(5, State.QUEUED)

    assert behind_review([*REFUNDS, behind, elsewhere]) == [behind]


def test_faults_of_the_provider_strike_payments_of_one_refund():
    lone = {account: ["p-1", "p-2"] for account, _ in faults.TROUBLE}

    rules = faults.make_rules({**lone, "smartpay": []}, 7)

    assert rules["seed"] == 7
    struck = [rule for rule in rules["faults"] if "payment" in rule]
    assert len(struck) == len(faults.TROUBLE) - 1
    assert {rule["fault"] for rule in rules["faults"]} <= set(faults.WORDS)


def test_only_refund_calls_that_end_without_an_answer_are_lost_answers():
    hits = Counter({("refund", "answer_lost"): 3, ("lookup", "answer_lost"): 2, ("refund", "decline"): 1})

    assert faults.lost_answers(hits) == 3


def test_progress_on_a_pipe_is_plain_lines(capsys):
    with show.Display(Console(), 10) as display:
        display.say("begins")
        display._told = -10
        display.update({"queued": 2, "succeeded": 1}, 3, "the answer is lost")

    out = capsys.readouterr().out
    assert "begins" in out
    assert "2 queued, 1 succeeded; 3 faults so far" in out
    assert "\x1b" not in out


def test_progress_on_a_terminal_shows_bars_and_what_is_being_broken():
    console = Console(force_terminal=True, width=100, record=True)

    with show.Display(console, 10) as display:
        display.update({"queued": 2, "succeeded": 8}, 3, "the answer is lost")
        console.print(display._picture({"succeeded": 8}, 3))

    text = console.export_text()
    assert "8 of 10 refunds decided" in text
    assert "Being broken right now: the answer is lost" in text


def test_the_closing_names_outcomes_faults_and_what_waits(capsys):
    console = Console(width=200)

    show.closing(console, EVIDENCE, Counter({("refund", "answer_lost"): 2}), "2 answers lost")
    show.proof(console, prove(EVIDENCE, PLAN))

    out = capsys.readouterr().out
    for part in (
        "Needs review",
        "the money moves, the answer is lost",
        "R-3",
        "another amount",
        "2 answers lost",
        "PROOF",
    ):
        assert part in out
    assert out.count("holds  ") == 10


def test_a_folder_that_is_not_kept_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with private_folder(keep=False) as folder:
        assert folder.is_dir()
    with private_folder(keep=True) as kept:
        pass

    assert list(tmp_path.iterdir()) == [kept]
