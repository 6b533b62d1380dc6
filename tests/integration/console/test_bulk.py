"""Bulk operations over the wire: who may, from where, and what a page that is out of date does."""

import itertools
import re
from urllib.parse import urlencode

import pytest

from domain.bulk import Phase
from domain.decision import Cause
from domain.refund import moved
from domain.state import State
from engine import bulk, bulk_run, review
from engine.people import recognise
from engine.submit import submit
from ledger import queries, refunds
from ledger.refunds import Change

NUMBERS = itertools.count(700_000)


@pytest.fixture
def engine(staffed):
    return staffed.stack.engine


def submitted(engine, tag):
    """A refund that nobody has sent yet; its reference begins with the tag."""
    number = next(NUMBERS)
    job = {
        "reference": f"{tag}-{number}",
        "account": "smart2pay",
        "payment": {"id": str(number), "amount": 2100, "currency": "EUR"},
        "amount": 1000,
        "currency": "EUR",
    }

    return submit(engine, job, actor="shop", via="api").refund


@pytest.fixture
def dead(engine):
    """Makes refunds in review whose retry is safe; answers their ids."""
    made = []

    def make(count=3):
        for _ in range(count):
            before = submitted(engine, "B")
            after = moved(before, State.REVIEW, engine.clock(), cause=Cause.LEASES_LOST, due_at=None)
            change = Change(before=before, after=after, type="refund.review", actor="test", fenced=False)
            engine.ledger.run(lambda connection, change=change: refunds.apply(connection, [change]))
            made.append(before.id)
        return made

    yield make
    with engine.ledger.read() as connection:
        left = [each.id for each in queries.among(connection, made) if each.state is State.REVIEW]
    for each in left:
        review.cancel(engine, recognise(engine, "oli"), each, reason="the test is over")


@pytest.fixture
def waiting(engine):
    """Makes refunds that nobody has sent yet."""
    made = []

    def make(count):
        made.extend(submitted(engine, "W").id for _ in range(count))

    yield make
    for each in made:
        review.cancel(engine, recognise(engine, "oli"), each, reason="the test is over")


def preview_of(ids, **more):
    return f"/bulk/new?{urlencode({'kind': 'retry', 'id': ids, **more}, doseq=True)}"


def form_of(page):
    """What the preview's form would send, with nothing typed yet."""
    hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.split('<h2 id="go">')[1])
    form = {}
    for name, value in hidden:
        form.setdefault(name, []).append(value)
    form.pop("csrf")

    return {name: values if name == "id" else values[0] for name, values in form.items()}


def started(somebody, ids, **typed):
    page = somebody.get(preview_of(ids))
    assert page.status_code == 200, page.text
    form = {**form_of(page.text), "confirm": str(len(ids)), "reason": "the provider is back", **typed}

    return somebody.post("/bulk", form)


@pytest.mark.parametrize("path", ["/bulk", "/bulk/new?kind=retry&q=cause:mismatch"])
def test_every_page_has_its_headers_and_needs_a_session(visitor, staffed, path):
    answer = visitor().get(path)

    assert answer.status_code == 200
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert not re.search(r"<[^>]+\son\w+=|style=\"|<script>|javascript:|hx-on|hx-vals", answer.text)
    assert visitor(None).get(path).status_code == 303


def test_from_ticks_to_a_report(engine, visitor, dead):
    ids, oli = dead(3), visitor()
    answer = started(oli, ids)
    assert answer.status_code == 303
    operation = answer.headers["location"].rsplit("/", 1)[1]

    assert "Waiting 3" in oli.get(f"/bulk/{operation}").text
    taken = bulk_run.take(engine, operation, "here")
    bulk_run.step(engine, taken, "here")
    assert oli.post(f"/bulk/{operation}/stop", {"reason": "enough"}).status_code == 303
    page = oli.get(f"/bulk/{operation}?result=left").text

    assert "Preview the 2 not done" in page
    assert ids[0] not in page
    assert ids[1] in page
    assert "oli" in page
    assert "enough" in page
    assert operation in oli.get("/bulk").text
    again = oli.get(f"/bulk/new?kind=retry&again={operation}").text
    assert "Type 2 to confirm" in again


@pytest.mark.parametrize("name", ["vic", "pia", "ada"])
def test_who_may_not_act_sees_and_does_nothing_else(engine, visitor, dead, name):
    ids = dead(1)
    mine = started(visitor(), ids).headers["location"]
    somebody = visitor(name)
    form = {"kind": "retry", "operation": "bo_x", "digest": "x", "id": ids, "confirm": "1", "reason": "x"}

    assert somebody.get(mine).status_code == 200
    assert "Stop it" not in somebody.get(mine).text
    assert somebody.get(preview_of(ids)).status_code == 403
    assert somebody.post("/bulk", form).status_code == 403
    assert somebody.post(f"{mine}/stop").status_code == 403
    assert bulk.get(engine, mine.rsplit("/", 1)[1]).state is Phase.RUNNING
    bulk.stop(engine, recognise(engine, "oli"), mine.rsplit("/", 1)[1])


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"origin": "https://elsewhere.example"}, {}])
def test_a_form_of_another_site_starts_and_stops_nothing(engine, visitor, dead, headers):
    ids, oli = dead(1), visitor()
    before = len(bulk.listed(engine, limit=1000))
    form = {**form_of(oli.get(preview_of(ids)).text), "confirm": "1", "reason": "forged"}

    assert oli.post("/bulk", form, headers=headers).status_code == 403
    assert oli.post("/bulk/bo_x/stop", headers=headers).status_code == 403
    assert len(bulk.listed(engine, limit=1000)) == before


def test_a_preview_that_is_out_of_date_starts_nothing_and_keeps_what_was_typed(engine, visitor, dead):
    ids, oli = dead(2), visitor()
    form = {**form_of(oli.get(preview_of(ids)).text), "confirm": "2", "reason": "the provider is back"}
    review.retry(engine, recognise(engine, "oli"), ids[0], reason="alone")
    answer = oli.post("/bulk", form)

    assert answer.status_code == 409
    assert "changed since the preview" in answer.text
    assert "Type 1 to confirm" in answer.text
    assert 'value="the provider is back"' in answer.text


@pytest.mark.parametrize(
    ("typed", "words"),
    [({"confirm": "3"}, "confirm with exactly 2"), ({"confirm": "2x"}, "exactly 2"), ({"reason": " "}, "say why")],
)
def test_what_is_not_confirmed_starts_nothing(engine, visitor, dead, typed, words):
    ids, oli = dead(2), visitor()
    before = len(bulk.listed(engine, limit=1000))
    answer = started(oli, ids, **typed)

    assert answer.status_code == 422
    assert words in answer.text
    assert len(bulk.listed(engine, limit=1000)) == before


def test_the_same_form_twice_is_one_operation(engine, visitor, dead):
    ids, oli = dead(2), visitor()
    form = {**form_of(oli.get(preview_of(ids)).text), "confirm": "2", "reason": "the provider is back"}
    answers = [oli.post("/bulk", form) for _ in range(2)]

    assert {each.status_code for each in answers} == {303}
    assert len({each.headers["location"] for each in answers}) == 1
    bulk.stop(engine, recognise(engine, "oli"), answers[0].headers["location"].rsplit("/", 1)[1])


def test_all_that_fit_are_meant_only_where_that_was_ticked(visitor, dead):
    ids, oli = dead(3), visitor()
    within = {"within": "cause:leases_lost account:smart2pay"}

    assert oli.get(f"/bulk/new?{urlencode({'kind': 'retry', **within})}").status_code == 422
    assert "Type 1 to confirm" in oli.get(preview_of(ids[:1], **within)).text
    assert "Type 3 to confirm" in oli.get(preview_of(ids[:1], all="1", **within)).text
    assert oli.get(f"/bulk/assign?{urlencode(within)}").status_code == 422
    assert "Assign 1 refund<" in oli.get(f"/bulk/assign?{urlencode({'id': ids[0], **within})}").text
    assert "Assign 3 refunds<" in oli.get(f"/bulk/assign?{urlencode({'all': '1', **within})}").text


def test_all_dead_letters_are_no_other_refunds(visitor, dead, waiting):
    dead(1), waiting(2)
    oli = visitor()
    [within] = set(re.findall(r'name="within" value="([^"]*)"', oli.get("/dead").text))

    assert within == "state:review state:reversed"
    for path in ("assign", "new?kind=cancel&", "new?kind=check&"):
        address = f"/bulk/{path}{'' if '?' in path else '?'}{urlencode({'all': '1', 'within': within})}"
        listed = re.findall(r">(W-\d+|B-\d+)</a>", oli.get(address).text)
        assert [each for each in listed if each.startswith("W-")] == [], path


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/bulk/bo_nothing", 404),
        ("/bulk/new?kind=retry&q=lin@example.com", 422),
        ("/bulk/new?kind=retry&q=colour:blue", 422),
        ("/bulk/new?kind=settle&q=state:review", 422),
        ("/bulk/new?kind=retry", 422),
        ("/bulk/new?kind=retry&id=rf_nobody", 404),
    ],
)
def test_what_cannot_be_is_said_so(visitor, staffed, path, status):
    assert visitor().get(path).status_code == status


def test_get_never_acts(visitor, staffed):
    assert visitor().get("/bulk/bo_x/stop").status_code in (404, 405)
