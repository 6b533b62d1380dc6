"""The seed decides what is submitted and which faults come; the repeat command says all of it."""

import random
import shlex
from collections import Counter
from itertools import islice

import pytest

from tests.chaos.command import command_of, planned
from tests.chaos.faults import KINDS, _dealt, available
from tests.chaos.orders import SHAPES, drafts, orders
from tests.chaos.run import Standstill


def payments(account, count, captured):
    return [{"id": f"{account}-{captured}-{number}", "amount": captured, "currency": "EUR"} for number in range(count)]


def test_a_seed_makes_the_same_orders():
    first, again, other = (drafts(seed, 500, 60) for seed in (7, 7, 8))

    assert first == again
    assert first != other
    assert orders(7, first, payments) == orders(7, again, payments)


def test_there_are_as_many_orders_as_were_asked_for_and_every_shape_and_some_doubled():
    drafted = drafts(7, 500, 60)
    made = orders(7, drafted, payments)

    assert len(made) == len({order.reference for order in made}) == 500
    assert {draft.shape for draft in drafted} == set(SHAPES)
    assert any(len(order.ways) > 1 for order in made)
    assert all(0 <= order.at <= 62 for order in made)


def test_every_fault_is_dealt_once_before_any_comes_again():
    cards = ["a", "b", "c"]

    assert Counter(islice(_dealt(cards, random.Random(1)), 9)) == dict.fromkeys(cards, 3)


def test_kinds_are_chosen_by_database_and_option():
    assert "disk-full" not in available("postgresql", (), ())
    assert "database-fast" not in available("sqlite", (), ())
    assert available("sqlite", ("disk-full", "worker-kill"), ("worker-kill",)) == ["disk-full"]


@pytest.mark.parametrize(
    "words", ["", "--refunds 1500 --seconds 60 --database sqlite", "--only worker-kill,provider", "--without provider"]
)
def test_the_repeat_command_makes_the_same_plan(words):
    plan, _ = planned(shlex.split(words))
    again, _ = planned(shlex.split(command_of(plan))[3:])

    assert again == plan


def test_an_unknown_fault_is_refused(capsys):
    with pytest.raises(SystemExit):
        planned(["--only", "flood"])
    assert "worker-kill" in capsys.readouterr().err
    assert len(KINDS) > 10


def test_a_standstill_is_time_without_attempts_while_refunds_are_due():
    watched = Standstill()
    for attempts, due, now in [(0, 0, 10), (5, 3, 11), (5, 3, 15), (6, 3, 16), (6, 0, 30), (6, 1, 32)]:
        watched.look(attempts, due, now)

    assert watched.longest == 4
