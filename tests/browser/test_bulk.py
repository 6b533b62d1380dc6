"""Bulk operations in a real browser, carried out by a real worker: preview, run, stop, report, again."""

import re

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from domain.bulk import Kind
from domain.decision import Cause
from domain.refund import moved
from domain.state import State
from engine import bulk
from engine.bulk_plan import Selection
from engine.people import recognise
from engine.submit import submit
from ledger import refunds
from ledger.refunds import Change
from tests.browser.test_looks import AXE, RULES, TOO_WIDE
from tests.support.processes import wait_until

REPORT = re.compile(r"/bulk/bo_\w{26}$")


@pytest.fixture(scope="module")
def unsent(world):
    """Makes refunds in review that were never sent: of what cause, how many; answers their ids."""
    numbers = iter(range(800_000, 900_000))

    def make(cause, count):
        return [_unsent(world, cause, next(numbers)) for _ in range(count)]

    return make


def _unsent(world, cause, number):
    engine = world.stack.engine
    job = {
        "reference": f"never-{number}",
        "account": "smart2pay",
        "payment": {"id": str(number), "amount": 2100, "currency": "EUR"},
        "amount": 1000,
        "currency": "EUR",
        "not_before": "2099-01-01T00:00:00Z",
    }
    before = submit(engine, job, actor="shop", via="api").refund
    after = moved(before, State.REVIEW, engine.clock(), cause=cause, due_at=None)
    change = Change(before=before, after=after, type="refund.review", actor="test", fenced=False)
    engine.ledger.run(lambda connection: refunds.apply(connection, [change]))

    return before.id


def start(page, count, *, button, pace="10", reason="the provider takes requests again"):
    page.get_by_label("Pace").select_option(pace)
    page.get_by_label("Reason").fill(reason)
    page.get_by_label(f"Type {count} to confirm").fill(str(count))
    page.get_by_role("button", name=button).click()
    expect(page).to_have_url(REPORT, timeout=20_000)


def held(world, operation):
    """Nothing goes on with it: for a page that must not change while it is looked at."""
    with world.stack.engine.ledger.write() as connection:
        connection.execute(
            text("UPDATE bulk_operation SET lease = 'a test', due_at = due_at + 3600 WHERE id = :id"), {"id": operation}
        )


def operation_of(page):
    return page.url.rsplit("/", 1)[1]


def test_what_is_safe_is_retried_in_many_after_a_preview(world, visit):
    page = visit("/dead")
    for reference in ("unsent-smartretry-0", "unsent-smartretry-1", "wrong-smartpay-2"):
        page.get_by_label(f"Select {reference}").check()
    page.get_by_role("button", name="Retry the selected").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Retry with the same handle: 2 of 3")
    expect(page.get_by_role("cell", name="20.00 USD")).to_be_visible()
    page.get_by_label("Reason").fill("the provider takes requests again")
    page.get_by_label("Type 2 to confirm").fill("3")
    page.get_by_role("button", name="Retry 2").click()
    expect(page.get_by_role("alert")).to_contain_text("confirm with exactly 2")
    expect(page.get_by_label("Reason")).to_have_value("the provider takes requests again")
    page.get_by_label("Type 2 to confirm").fill("2")
    page.get_by_role("button", name="Retry 2").dblclick()

    expect(page).to_have_url(REPORT, timeout=20_000)
    expect(page.get_by_role("heading", level=1)).to_contain_text("2 of 2 Done", timeout=20_000)
    for reference in ("unsent-smartretry-0", "unsent-smartretry-1"):
        world.wait_for(reference, "succeeded")
    expect(page.get_by_role("row").filter(has_text="unsent-smartretry-1")).to_contain_text("Succeeded", timeout=20_000)
    expect(page.get_by_role("row").filter(has_text="wrong-smartpay-2")).to_contain_text("Skipped")
    assert world.refund("wrong-smartpay-2").state == "review"
    assert len([each for each in bulk.listed(world.stack.engine, limit=100) if each["total"] == 3]) == 1
    visit.allow("422")


def test_all_that_fit_are_taken_not_only_the_page(world, visit, unsent):
    ids = unsent(Cause.LEASES_LOST, 55)
    page = visit("/dead?cause=leases_lost&account=smart2pay")
    page.get_by_label("Select this page").check()
    expect(page.locator("tbody :checked")).to_have_count(50)
    page.get_by_label("All 55 of this group").check()
    page.get_by_role("button", name="Cancel them").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel before it is sent: 55 of 55")
    expect(page.get_by_text("and 45 more")).to_be_visible()
    start(page, 55, button="Cancel 55", pace="50", reason="ordered twice by the shop")

    expect(page.get_by_role("heading", level=1)).to_contain_text("55 of 55 Done", timeout=30_000)
    page.get_by_role("link", name="Done 55").click()
    expect(page.get_by_role("row")).to_have_count(51)
    page.get_by_role("link", name="Further").click()
    expect(page.get_by_role("row")).to_have_count(6)
    with world.stack.engine.ledger.read() as connection:
        assert {refunds.get(connection, each).state for each in ids} == {"cancelled"}


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without"])
def test_what_is_stopped_is_left_and_taken_up_by_a_new_preview(world, visit, unsent, scripts):
    ids = unsent(Cause.ATTEMPTS_EXHAUSTED, 45)
    page = visit(f"/bulk/new?kind=cancel&{'&'.join(f'id={each}' for each in ids)}", java_script_enabled=scripts)
    start(page, 45, button="Cancel 45", pace="1", reason="not wanted")
    operation = operation_of(page)
    wait_until(lambda: bulk.get(world.stack.engine, operation).tried, what="the first refund done")
    held(world, operation)
    page.get_by_text("Stop…").click()
    page.get_by_label("Reason").fill("somebody has a question")
    page.get_by_role("button", name="Stop it").click()

    expect(page.get_by_role("status")).to_contain_text("are left as they were", timeout=20_000)
    stopped = bulk.get(world.stack.engine, operation)
    assert (stopped.state, stopped.ended_by) == ("stopped", "oli")
    assert 0 < stopped.left < 45
    expect(page.get_by_text("somebody has a question")).to_be_visible()
    page.get_by_role("link", name=f"Preview the {stopped.left} not done").click()
    start(page, stopped.left, button=f"Cancel {stopped.left}", pace="50", reason="answered")
    wait_until(lambda: bulk.get(world.stack.engine, operation_of(page)).state == "done", what="the rest done")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"{stopped.left} of {stopped.left} Done")


def test_many_are_given_to_one_person(world, visit, unsent):
    ids = unsent(Cause.ATTEMPTS_EXHAUSTED, 2)
    page = visit("/refunds?q=cause:attempts_exhausted+account:smart2pay")
    for each in ids:
        page.locator(f"#r-{each}").get_by_role("checkbox").check()
    page.get_by_role("button", name="Assign them").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Assign 2 refunds")
    page.get_by_label("Who looks after them").fill("pia")
    page.get_by_role("button", name="Assign 2").dblclick()

    expect(page.get_by_role("status")).to_contain_text("2 refunds are with pia now", timeout=20_000)
    assert [world.refund(each).assignee for each in ids] == ["pia", "pia"]


def test_a_viewer_may_look_and_is_offered_nothing(world, visit, unsent):
    ids = unsent(Cause.ATTEMPTS_EXHAUSTED, 2)
    engine = world.stack.engine
    oli = recognise(engine, "oli")
    chosen = Selection(ids=tuple(ids))
    operation = bulk.start(engine, oli, Kind.CANCEL, chosen, count=2, reason="not wanted")
    page = visit("/bulk", who="vic")
    expect(page.get_by_role("button", name="Preview")).to_have_count(0)
    page.get_by_role("link", name=operation.id).click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("2 of 2 Done", timeout=20_000)
    expect(page.get_by_text("Stop…")).to_have_count(0)


@pytest.mark.parametrize(("scheme", "rules"), [("light", RULES), ("dark", ["color-contrast"])])
def test_axe_finds_nothing_and_it_fits_on_320_pixels(world, visit, unsent, scheme, rules):
    ids = [*unsent(Cause.ATTEMPTS_EXHAUSTED, 40), world.refund("wrong-smartpay-3").id]
    page = visit("/", pace="off", color_scheme=scheme, viewport={"width": 320, "height": 640})
    page.goto(f"/bulk/new?kind=cancel&{'&'.join(f'id={each}' for each in ids)}")
    found = [look(page, rules)]
    start(page, 40, button="Cancel 40", pace="1")
    held(world, operation_of(page))
    found.append(look(page, rules))
    page.get_by_text("Stop…").click()
    found.append(look(page, rules))
    page.get_by_role("button", name="Stop it").click()
    expect(page.get_by_role("status")).to_be_visible(timeout=20_000)
    found.append(look(page, rules))

    assert found == [([], [])] * 4


def look(page, rules):
    """What axe finds on the page, and what is too wide."""
    page.evaluate(AXE.read_text())
    result = page.evaluate("rules => axe.run({ runOnly: rules, resultTypes: ['violations'] })", rules)
    wide = page.evaluate("document.documentElement.scrollWidth") > 320

    return [each["id"] for each in result["violations"]], page.evaluate(TOO_WIDE) if wide else []
