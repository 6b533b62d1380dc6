"""Reconciliation, webhooks and charts in a real browser, with a worker that compares."""

import re

import pytest
from playwright.sync_api import expect

from engine import differences
from ledger import reconcile
from tests.support.processes import wait_until

HEADING = "provider_refund_id,payment_id,amount,currency,at\n"


def upload(page, world, reference, amount, name):
    refund = world.refund(reference)
    line = f"{refund.provider_refund_id},{refund.payment_id},{amount},{refund.currency},2026-11-02"
    page.goto("/recon/runs")
    page.get_by_text("Upload a settlement file…").click()
    page.locator("#f-of").select_option(refund.account)
    page.locator("#f-file").set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": f"{HEADING}{line}\nbroken,p,?,EUR,\n".encode()}
    )
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_text("waits for your decision")).to_be_visible()
    return page.url.rsplit("/", 1)[1]


def test_a_file_is_read_looked_at_compared_and_its_difference_accepted_by_two(world, visit):
    page = visit("/recon/runs", who="ove")
    run = upload(page, world, "good-smart2pay-1", "3.21", "december.csv")
    expect(page.get_by_role("cell", name="amount: '?' is not written as this account's amounts are")).to_be_visible()
    page.get_by_text("Compare it…").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("not whole: 1 lines could not be read", timeout=30_000)
    page.get_by_role("link", name="What it saw differ").click()
    page.locator("tbody a.ref").first.click()
    expect(page.get_by_role("row", name=re.compile("amount 10.00 EUR 3.21 EUR"))).to_contain_text("differs")
    difference = page.url.rsplit("/", 1)[1]
    page.get_by_text("Accept it…").click()
    page.get_by_label("Because of").select_option("rounding")
    form = page.locator("details.ask[open]")
    form.get_by_label("Reason", exact=True).fill("the provider rounds")
    form.get_by_role("button", name="Ask for approval").click()
    expect(page.get_by_text("You asked for this")).to_be_visible()
    request = page.url.rsplit("/", 1)[1]

    second = visit(f"/approvals/{request}", who="pia")
    second.get_by_text("Approve…").click()
    second.get_by_label("Type 3.21 EUR to confirm").fill("3.21 EUR")
    second.get_by_role("button", name="Approve 3.21 EUR").click()
    expect(second).to_have_url(re.compile(f"/recon/differences/{difference}$"))
    found = differences.get(world.stack.engine, difference)
    assert (found.closed_by, found.resolution, found.last_run_id) == ("pia", "accepted", run)


def test_a_difference_is_rechecked_at_the_provider(world, visit):
    page = visit("/recon?kind=amount_mismatch")
    page.locator("tbody a.ref").first.click()
    page.get_by_text("Re-check…").click()
    page.get_by_role("button", name="Re-check", exact=True).click()

    expect(page.get_by_role("status")).to_contain_text("It is closed", timeout=30_000)
    assert differences.get(world.stack.engine, page.url.rsplit("/", 1)[1]).resolution == "rechecked"


def test_a_run_is_started_and_ends_by_itself_without_javascript(world, visit):
    page = visit("/recon/runs", java_script_enabled=False)
    page.get_by_text("Run now…").click()
    page.locator("#f-account").select_option("smart_glocal")
    page.get_by_role("button", name="Run it").click()
    expect(page.get_by_role("status")).to_contain_text("are going on")

    def ended():
        with world.stack.engine.ledger.read() as connection:
            runs = reconcile.runs(connection, limit=5, accounts=("smart_glocal",))
        return runs and all(each.state == "complete" for each in runs)

    wait_until(ended, what="the runs of smart_glocal")


def test_an_endpoint_is_made_and_its_secret_is_shown_once(visit):
    page = visit("/webhooks/endpoints", who="ada")
    page.get_by_text("Add an endpoint…").click()
    page.get_by_label("URL").fill("https://shop.example/second")
    page.get_by_role("button", name="Add it, and show its secret").click()
    expect(page.locator(".alert code")).to_have_text(re.compile("^whsec_"))
    page.get_by_role("link", name="I stored it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("https://shop.example/second")
    expect(page.get_by_text("whsec_")).to_have_count(0)
    page.get_by_text("Disable…").click()
    page.locator("details.ask[open]").get_by_label("Reason", exact=True).fill("not ready")
    page.get_by_role("button", name="Disable", exact=True).click()

    expect(page.get_by_text("disabled: not ready").first).to_be_visible()


def test_what_waits_for_an_endpoint_is_looked_at(world, visit):
    page = visit("/webhooks/sent?state=waiting")
    page.locator("tbody a.ref").first.click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("waiting")
    expect(page.get_by_text('"reference"')).to_be_visible()


@pytest.mark.timeout(200)
def test_charts_are_drawn_from_tables_that_say_the_same(visit):
    page = visit("/", pace="off")
    for table in ("flow-table", "took-table", "due-table", "overdue-table"):
        chart = page.locator(f"rf-chart[data-source={table}]")
        expect(chart.locator("canvas")).to_be_visible()
        assert chart.get_attribute("aria-label")
        assert page.locator(f"#{table} tbody tr").count() == 60
    page.get_by_text("The same as numbers").first.click()
    expect(page.locator("#flow-table")).to_be_visible()

    def banded():
        page.goto("/accounts/smart2pay")
        expect(page.locator("rf-chart canvas")).to_be_visible()
        return page.locator("svg.band rect").count() > 0

    wait_until(banded, timeout=150, what="a minute that was counted")


def test_keys_lead_to_the_new_screens(visit):
    page = visit("/")
    page.locator("h1").click()
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Reconciliation")
    page.keyboard.press("g")
    page.keyboard.press("w")
    expect(page.get_by_role("heading", level=1)).to_have_text("Webhooks received")
