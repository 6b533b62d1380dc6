"""Many refunds get somebody who looks after them: all that were meant, or none."""

import pytest

from domain.errors import Forbidden, InvalidJob, NotFound, Refused
from domain.state import State
from engine import bulk_plan
from engine.assign import assign, meant
from engine.bulk_plan import Selection
from engine.people import Actor, Role
from ledger import journal
from tests.support.one_process import SHOP, Bench

OLI = Actor("oli", frozenset({Role.OPERATOR}))
VIC = Actor("vic", frozenset({Role.VIEWER}))


@pytest.fixture
def world(database_url):
    bench = Bench(database_url, other=SHOP)
    yield bench
    bench.close()


def with_whom(world, refunds):
    return [world.read(each.id).assignee for each in refunds]


def test_all_that_fit_are_assigned_and_each_says_so(world):
    those = [world.refund() for _ in range(3)]
    other = world.refund("other")
    count = assign(world.engine, OLI, Selection(query="state:queued account:shop"), "anna")

    assert count == 3
    assert with_whom(world, [*those, other]) == ["anna"] * 3 + [None]
    with world.engine.ledger.read() as connection:
        stories = [journal.story(connection, each.id) for each in those]
    assert [(each[-1]["type"], each[-1]["actor"]) for each in stories] == [("refund.assigned", "oli")] * 3


def test_what_is_final_is_not_meant_by_a_query_and_can_be_named(world):
    done, open_ = world.refund(), world.refund()
    world.turn("send")
    assert world.read(done.id).state in (State.PENDING, State.SUCCEEDED)
    named = assign(world.engine, OLI, Selection(ids=(done.id, open_.id)), "anna")
    taken_back = assign(world.engine, OLI, Selection(ids=(open_.id,)), None)

    assert (named, taken_back) == (2, 1)
    assert with_whom(world, [done, open_]) == ["anna", None]


@pytest.mark.parametrize(
    ("selection", "error"),
    [
        (Selection(ids=("rf_none",)), NotFound),
        (Selection(query="state:nowhere"), InvalidJob),
        (Selection(query="email:lin@example.com"), InvalidJob),
    ],
)
def test_where_one_is_not_there_or_the_query_is_wrong_nobody_is_assigned(world, selection, error):
    here = world.refund()
    if selection.ids:
        selection = Selection(ids=(here.id, *selection.ids))
    with pytest.raises(error):
        assign(world.engine, OLI, selection, "anna")

    assert with_whom(world, [here]) == [None]


def test_too_many_are_refused_and_who_may_not_act_sees_nothing_happen(world, monkeypatch):
    those = [world.refund() for _ in range(3)]
    monkeypatch.setattr(bulk_plan, "MOST", 2)
    with pytest.raises(Refused, match="more than 2"):
        assign(world.engine, OLI, Selection(), "anna")
    with pytest.raises(Refused, match="64 characters"):
        assign(world.engine, OLI, Selection(ids=(those[0].id,)), "a" * 65)
    for act in (lambda: assign(world.engine, VIC, Selection(), "anna"), lambda: meant(world.engine, VIC, Selection())):
        with pytest.raises(Forbidden):
            act()

    assert with_whom(world, those) == [None] * 3
