import pytest

from domain.errors import Refused
from engine import saved
from engine.people import recognise
from ledger import journal


@pytest.fixture
def views(people, refundry):
    """`refundry views …` of somebody."""
    return lambda *words, actor="oli": refundry("views", *words, "--actor", actor, "-o", "json")


def names(told):
    return [(each["owner"], each["name"]) for each in told.json()]


def test_a_view_is_kept_listed_and_used(views, refundry, create):
    refund = create("R-1", more=("--actor", "oli"))["id"]
    assert views("save", "waiting", "state:queued", "attempts:<1").json() == {
        "name": "waiting",
        "query": "state:queued attempts:<1",
        "owner": "oli",
        "shared": False,
    }
    used = ("refunds", "list", "--view", "waiting", "-o", "json", "--actor", "oli")

    assert names(views("list")) == [("oli", "waiting")]
    assert [each["id"] for each in refundry(*used).json()] == [refund]
    assert refundry(*used, "account:nowhere").json() == []
    assert refundry("refunds", "list", "--view", "nothing", "--actor", "oli").status == 3


def test_what_is_private_is_ones_own_and_what_is_shared_everybodys(views):
    assert views("save", "mine", "state:pending").status == 0
    assert views("save", "night", "state:unknown", "--shared").status == 0
    assert views("save", "night", "state:review", actor="pia").status == 0

    assert names(views("list")) == [("oli", "mine"), ("oli", "night")]
    assert names(views("list", actor="pia")) == [("pia", "night"), ("oli", "night")]
    assert names(views("list", actor="ada")) == [("oli", "night")]


def test_ones_own_comes_before_a_shared_one(views, refundry, create):
    create("R-1", more=("--actor", "oli"))
    views("save", "night", "state:failed", "--shared")
    views("save", "night", "state:queued", actor="pia")
    used = ("refunds", "list", "--view", "night", "-o", "json", "--actor")

    assert len(refundry(*used, "pia").json()) == 1
    assert refundry(*used, "oli").json() == []


def test_the_same_name_again_replaces_it(views):
    views("save", "night", "state:unknown")
    views("save", " night ", "state:review", "--shared")

    assert views("list").json() == [{"name": "night", "query": "state:review", "owner": "oli", "shared": True}]
    assert views("save", "night", "state:failed", "--shared", actor="pia").status == 1


def test_only_its_owner_and_for_the_rest_an_admin_removes_what_is_shared(views):
    views("save", "night", "state:unknown", "--shared")
    views("save", "mine", "state:pending")

    assert views("remove", "night", actor="pia").status == 3
    assert views("remove", "night", "--owner", "oli", actor="pia").status == 1
    assert views("remove", "mine", "--owner", "oli", actor="ada").status == 3
    assert views("remove", "night", "--owner", "oli", actor="ada").status == 0
    assert views("remove", "mine").status == 0
    assert views("list").json() == []


@pytest.mark.parametrize(
    ("name", "query", "says"),
    [
        ("", "state:review", "1 to 40"),
        ("n" * 41, "state:review", "1 to 40"),
        ("a\x07b", "state:review", "can be seen"),
        ("v", " ", "1 to 300"),
        ("v", "ref:" + "x" * 300, "1 to 300"),
        ("v", "state:nowhere", "there is no such state"),
        ("v", "email:lin@example.com", "about a person"),
        ("v", "lin", "about a person"),
        ("v", "ref:lin@example.com", "about a person"),
        ("v", "order:DE89370400440532013000", "about a person"),
        ("lin@example.com", "state:review", "can be kept"),
        ("v", "ref:a\u200bb", "can be seen"),
    ],
)
def test_what_cannot_be_kept_is_said(views, name, query, says):
    told = views("save", name, query)

    assert told.status == (1 if says.startswith(("1 to", "can")) else 2)
    assert says in told.err
    assert views("list").json() == []


def test_nobody_has_more_than_can_be_looked_through(people, engine):
    oli = recognise(engine, "oli")
    for number in range(saved.MOST):
        saved.save(engine, oli, f"view {number}", "state:review")
    with pytest.raises(Refused, match="remove one first"):
        saved.save(engine, oli, "one more", "state:review")
    saved.save(engine, oli, "view 1", "state:failed")

    with engine.ledger.read() as connection:
        story = journal.story(connection, "user/oli")
    assert [each["data"]["query"] for each in story if each["type"] == "view.saved"][-1] == "state:failed"
