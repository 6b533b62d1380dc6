"""How the pages look and read: axe without findings in both themes, 320 pixels wide, and the two pictures."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from engine import webhooks
from ledger import notification, reconcile

AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
TOO_WIDE = """[...document.querySelectorAll("main *")]
    .filter(each => each.getBoundingClientRect().right > 320 && !each.closest(".scroll"))
    .map(each => each.outerHTML.slice(0, 80))"""
SCREENS = ("/", "/?window=24h", "/refunds", "/refunds?q=nothing", "/refunds?q=colour:blue", "/refunds/new")
SCREENS += ("/refunds?q=state:review",)
SCREENS += (
    "/refunds/new?account=smart2pay&payment=1",
    "/dead",
    "/bulk",
    "/bulk/new?kind=check&q=state:review",
    "/bulk/assign?within=state:review&all=1",
    "/approvals",
    "/approvals?tab=decided",
    "/accounts",
)
SCREENS += ("/accounts/smart2pay", "/queues", "/audit", "/settings", "/recon", "/recon?state=all", "/recon/runs")
SCREENS += ("/webhooks", "/webhooks?only=unmatched", "/webhooks/sent", "/webhooks/endpoints")


def detail(world):
    """One of each kind that has a page of its own."""
    engine = world.stack.engine
    with engine.ledger.read() as connection:
        differences = [f"/recon/differences/{each.id}" for each in reconcile.differences(connection, limit=2)]
        runs = [f"/recon/runs/{each.id}" for each in reconcile.runs(connection, limit=2)]
        received = [f"/webhooks/received/{each['id']}" for each in notification.listed(connection, limit=1)]
    endpoints = [f"/webhooks/endpoints/{each['id']}" for each in webhooks.endpoints(engine)[:1]]
    sent = [f"/webhooks/sent/{each['id']}" for each in webhooks.sent(engine, limit=1)]
    assert all((differences, runs, received, endpoints, sent))
    return (*differences, *runs, *received, *endpoints, *sent)


def screens(world):
    refund = world.refund("wrong-smartpay-5").id
    return (
        *SCREENS,
        *detail(world),
        f"/refunds/{refund}",
        f"/refunds/{refund}/settle",
        f"/refunds/{world.refund('good-smart2pay-3').id}",
    )


@pytest.mark.parametrize(("scheme", "wanted"), [("light", RULES), ("dark", ["color-contrast"])])
def test_axe_finds_nothing_on_any_screen(world, visit, scheme, wanted):
    """In the dark the pages are the same, and only the colours are not."""
    page = visit("/", who="oli", pace="off", color_scheme=scheme)
    found = {}
    for path in screens(world):
        page.goto(path)
        page.evaluate(AXE.read_text())
        result = page.evaluate("rules => axe.run({ runOnly: rules, resultTypes: ['violations'] })", wanted)
        for each in result["violations"]:
            found[path, each["id"]] = [node["html"][:160] for node in each["nodes"][:3]]

    visit.allow("422")
    assert not found, "\n".join(f"{path} {rule}: {nodes}" for (path, rule), nodes in found.items())


def test_everything_fits_on_320_pixels(world, visit):
    page = visit("/", who="ada", pace="off", viewport={"width": 320, "height": 640})
    wide = {}
    for path in screens(world):
        page.goto(path)
        if page.evaluate("document.documentElement.scrollWidth") > 320:
            wide[path] = page.evaluate(TOO_WIDE)

    visit.allow("422")
    visit.allow("403")
    assert wide == {}


def test_the_sign_in_page_reads_well_and_refuses_politely(world, visit):
    page = visit("/sign-in", who=None)
    page.evaluate(AXE.read_text())
    assert page.evaluate("rules => axe.run({ runOnly: rules })", RULES)["violations"] == []
    page.get_by_label("Name").fill("oli")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_have_text("name or password is wrong")
    expect(page.get_by_label("Name")).to_have_value("oli")
    visit.allow("403")


def test_a_page_is_light(world, visit):
    """What a first visit loads, compressed where it can be."""
    page = visit("/", pace="off")
    sizes = page.evaluate(
        "performance.getEntries().filter(each => each.transferSize !== undefined).map(each => each.encodedBodySize)"
    )

    assert sum(sizes) < 120_000


def test_the_pictures_of_the_readme(world, visit, images, tmp_path):
    folder = images if os.environ.get("PICTURES") else tmp_path
    folder.mkdir(exist_ok=True)
    page = visit("/", pace="off", viewport={"width": 1200, "height": 760})
    for name, path in (
        ("console-overview", "/"),
        ("console-refund", f"/refunds/{world.refund('wrong-smartpay-5').id}"),
    ):
        page.goto(path)
        page.wait_for_timeout(0)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.screenshot(path=folder / f"{name}.png")
        assert (folder / f"{name}.png").stat().st_size > 10_000
