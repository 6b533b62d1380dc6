"""What operators do, in a real browser against a real worker, database and provider."""

import re

import pytest
from playwright.sync_api import expect
from sqlalchemy import text

from ledger import journal


def settle_form(page, refund_id):
    page.goto(f"/refunds/{refund_id}")
    page.get_by_role("link", name="Settle by hand").click()
    page.get_by_label("The money did not go back").check()
    page.get_by_label("Evidence, in words").fill("Portal: no refund under this reference, looked on 1 November")
    page.get_by_label("Reason").fill("the customer is paid by transfer")
    page.get_by_role("button", name="Ask for approval").click()


def test_the_one_box_finds_a_refund_by_each_kind_of_id(world, visit):
    wanted = world.refund("good-smart2pay-0")
    page = visit()
    for word in (wanted.id, wanted.reference, wanted.payment_id, wanted.provider_refund_id, wanted.handle):
        page.goto("/")
        page.locator("#find").fill(word)
        page.locator("#find").press("Enter")

        expect(page).to_have_url(re.compile(f"/refunds/{wanted.id}$"))
        expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded")

    for word in ("lin@example.com", "name:Smith", '"Lin Smith"', "customer:lucky", "smith"):
        page.goto("/refunds")
        page.get_by_label("Search", exact=True).fill(word)
        page.get_by_role("button", name="Search").click()

        expect(page.get_by_role("link", name=wanted.id)).to_be_visible()


def test_what_is_not_understood_is_said_under_the_box(visit):
    page = visit("/refunds?q=colour:blue")

    expect(page.get_by_role("alert")).to_contain_text("there is no 'colour'")
    expect(page.get_by_label("Search", exact=True)).to_have_value("colour:blue")
    visit.allow("422")


def test_a_refund_is_created_once_however_often_it_is_pressed(world, visit):
    (block,) = world.stack.payments("smart2pay", 1, amount=2100)
    page = visit("/refunds/new")
    page.get_by_label("Account").select_option("smart2pay")
    page.get_by_label("Payment id, as the provider has it").fill(block["id"])
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("Amount", exact=True).fill("12,50")
    page.get_by_label("Currency").fill("EUR")
    page.get_by_label("Captured amount").fill("21.00")
    page.get_by_label("Reason").select_option("other")
    page.get_by_role("button", name="Look at it once more").click()
    expect(page.get_by_role("alert")).to_contain_text("say why")
    page.get_by_label("Description").fill("Broken on arrival")
    reference = page.get_by_label("Reference").input_value()
    page.get_by_role("button", name="Look at it once more").click()
    page.get_by_label("Type 12.50 EUR to confirm").fill("12.50 EUR")
    page.get_by_role("button", name="Refund 12.50 EUR").dblclick()
    expect(page).to_have_url(re.compile("/refunds/rf_"))
    first = page.url

    expect(page.get_by_role("heading", level=1)).to_contain_text("Succeeded", timeout=20_000)
    page.go_back()
    page.get_by_label("Type 12.50 EUR to confirm").fill("12.50 EUR")
    page.get_by_role("button", name="Refund 12.50 EUR").click()
    expect(page).to_have_url(first)
    page.reload()
    refund = world.refund(reference)
    assert (refund.amount, refund.currency, refund.state) == (1250, "EUR", "succeeded")
    visit.allow("422")
    assert [each["amount"] for each in world.stack.moved() if each["payment"] == block["id"]] == [1250]


def test_more_than_is_left_is_refused_with_the_figures_and_what_was_typed(world, visit):
    page = visit("/refunds/new")
    wanted = world.refund("good-smart2pay-1")
    page.get_by_label("Order id, payment id").fill(wanted.reference)
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="Refund of it").click()
    expect(page.get_by_label("Amount", exact=True)).to_have_value("11.00")
    page.get_by_label("Amount", exact=True).fill("11.01")
    with page.expect_response(re.compile("/refunds/review")) as answered:
        page.get_by_role("button", name="Look at it once more").click()

    assert answered.value.status == 409
    expect(page.get_by_role("alert")).to_contain_text("1100 still refundable")
    expect(page.get_by_label("Amount", exact=True)).to_have_value("11.01")
    visit.allow("409")


def test_two_people_settle_a_dead_letter_and_one_cannot(world, visit):
    refund = world.refund("wrong-smartpay-0")
    both = visit(who="ove")
    settle_form(both, refund.id)
    expect(both.get_by_text("You asked for this; another approver must decide")).to_be_visible()
    expect(both.get_by_text("Approve…")).to_have_count(0)
    request = both.url.rsplit("/", 1)[1]
    answer = both.evaluate(
        """async (path) => {
            const csrf = document.querySelector("main input[name=csrf]").value;
            const body = new URLSearchParams({ csrf, confirm: "1000 JPY" });
            return (await fetch(path, { method: "POST", body })).status;
        }""",
        f"/approvals/{request}/approve",
    )
    assert answer == 403
    assert world.refund("wrong-smartpay-0").state == "review"

    second = visit("/approvals", who="pia")
    second.get_by_role("link", name=request).click()
    second.get_by_text("Approve…").click()
    second.get_by_label("Type 1000 JPY to confirm").fill("1000 JPY")
    second.get_by_role("button", name="Approve 1000 JPY").click()
    expect(second.get_by_role("heading", level=1)).to_contain_text("Settled by hand")

    assert world.refund("wrong-smartpay-0").state == "settled"
    with world.stack.engine.ledger.read() as connection:
        story = journal.story(connection, "user/ove")
    assert [each["data"]["code"] for each in story if each["type"] == "user.refused"] == ["same-person"]
    visit.allow("403")


def test_a_viewer_is_offered_nothing_and_may_do_nothing(world, visit):
    refund = world.refund("wrong-smartpay-1")
    page = visit(f"/refunds/{refund.id}", who="vic")
    expect(page.get_by_role("button", name="Check at provider")).to_have_count(0)
    status = page.evaluate(
        """async (path) => {
            const csrf = document.querySelector("input[name=csrf]").value;
            return (await fetch(path, { method: "POST", body: new URLSearchParams({ csrf, text: "x" }) })).status;
        }""",
        f"/refunds/{refund.id}/note",
    )

    assert status == 403
    visit.allow("403")


def test_a_refresh_takes_no_tick_no_focus_and_no_typed_word(world, visit):
    page = visit("/dead?account=smartpay")
    box = page.get_by_label("Select wrong-smartpay-3")
    box.check()
    expect(page.locator("#pace")).to_have_text("updates rest")
    expect(box).to_be_checked()
    box.uncheck()
    link = page.get_by_role("link", name="wrong-smartpay-3")
    link.focus()
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") is not None):
        pass
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") is not None):
        pass
    expect(link).to_be_focused()

    page.goto(f"/refunds/{world.refund('wrong-smartpay-3').id}")
    note = page.get_by_label("A note")
    note.press_sequentially("half a sen")
    expect(page.locator("#pace")).to_have_text("updates rest")
    expect(note).to_have_value("half a sen")
    expect(note).to_be_focused()


@pytest.mark.parametrize("scripts", [True, False], ids=["with JavaScript", "without"])
def test_a_search_is_saved_for_all_and_leads_to_a_bulk_preview(world, visit, scripts):
    page = visit("/refunds", java_script_enabled=scripts)
    page.get_by_role("combobox", name="State").select_option("review")
    page.get_by_role("combobox", name="Account").select_option("smartpay")
    page.get_by_role("button", name="Search").click()
    page.get_by_text("Save this search…").click()
    page.get_by_label("Name", exact=True).fill("odd amounts")
    page.get_by_label("For everybody").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("odd amounts is saved for everybody")

    other = visit("/refunds", who="pia", java_script_enabled=scripts)
    other.get_by_role("link", name="odd amounts").click()
    expect(other.get_by_role("link", name="odd amounts")).to_have_attribute("aria-current", "true")
    expect(other.get_by_label("Search", exact=True)).to_have_value("state:review account:smartpay")
    expect(other.get_by_label("Select this page")).to_have_count(0)

    for reference in ("wrong-smartpay-4", "wrong-smartpay-5"):
        page.get_by_label(f"Select {reference}").check()
    page.get_by_role("button", name="Check them at the provider").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Check at the provider: 2 of 2")
    page.go_back()
    page.get_by_text("Remove a view…").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_role("link", name="odd amounts")).to_have_count(0)


def test_what_others_do_appears_by_itself(world, visit):
    page = visit("/refunds?q=live-smart2pay-0")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    world.submit("smart2pay", 1, tag="live-")

    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_text("Succeeded").first).to_be_visible(timeout=20_000)


def test_a_console_that_dies_is_seen_to_and_comes_back(world, visit):
    page = visit("/")
    world.console.stop()
    expect(page.locator("#stale")).to_contain_text("Connection lost", timeout=20_000)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    world.console.start()

    expect(page.locator("#stale")).to_be_hidden(timeout=20_000)
    visit.allow("ERR_CONNECTION")
    visit.allow("fetch")


def test_without_javascript_one_searches_reads_creates_and_retries(world, visit):
    page = visit("/", java_script_enabled=False)
    page.locator("#find").fill("unsent-smartretry-2")
    page.locator("#find").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Needs review")
    page.get_by_text("Retry…").click()
    page.get_by_role("button", name="Retry", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("it goes again")
    world.wait_for("unsent-smartretry-2", "succeeded")

    (block,) = world.stack.payments("smart2pay", 1, amount=500)
    page.goto(f"/refunds/new?account=smart2pay&payment={block['id']}")
    page.get_by_label("Amount", exact=True).fill("5.00")
    page.get_by_label("Currency").fill("EUR")
    reference = page.get_by_label("Reference").input_value()
    page.get_by_role("button", name="Look at it once more").click()
    page.get_by_label("Type 5.00 EUR to confirm").fill("5.00 EUR")
    page.get_by_role("button", name="Refund 5.00 EUR").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("5.00 EUR")
    world.wait_for(reference, "succeeded")


def test_personal_data_is_shown_in_full_once_and_on_record(world, visit):
    refund = world.refund("good-smart2pay-2")
    page = visit(f"/refunds/{refund.id}")
    expect(page.get_by_text("l***@***.com")).to_be_visible()
    page.get_by_role("button", name="Show in full").click()
    expect(page.get_by_text("lin@example.com")).to_be_visible()

    with world.stack.engine.ledger.read() as connection:
        assert [each["actor"] for each in journal.story(connection, f"reveal/{refund.id}")] == ["oli"]


def test_an_account_is_paused_and_resumed_with_a_reason(world, visit):
    page = visit("/accounts/jpm_smartpay")
    page.get_by_text("Pause sending…").click()
    page.get_by_label("Reason", exact=True).first.fill("maintenance at the provider")
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_text("paused: maintenance at the provider")).to_be_visible()
    page.get_by_text("Resume sending…").click()
    page.get_by_label("Reason", exact=True).first.fill("it is over")
    page.get_by_role("button", name="Resume", exact=True).click()

    expect(page.get_by_role("cell", name="sends")).to_be_visible()
    page.goto("/audit?subject=account/jpm_smartpay")
    expect(page.get_by_role("row")).to_have_count(3)


def test_a_session_that_is_over_is_told_and_the_page_stays(world, visit):
    page = visit("/", who="vic")
    with world.stack.engine.ledger.write() as connection:
        connection.execute(text("DELETE FROM session WHERE person = 'vic'"))

    expect(page.locator("#stale")).to_contain_text("Your session ended", timeout=20_000)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    visit.allow("401")


def test_get_never_acts(world, visit):
    page = visit("/")
    refund = world.refund("wrong-smartpay-4")
    for verb in ("retry", "check", "cancel", "note"):
        answer = page.request.get(f"/refunds/{refund.id}/{verb}")
        assert answer.status in (404, 405), verb

    assert world.refund("wrong-smartpay-4").version == refund.version
