"""What the console answers over the wire, to browsers and to what only looks like one."""

import re
import time

import httpx
import pytest
from sqlalchemy import text

from console.screens import refunds as screen
from console.screens.refunds import COLUMNS
from engine.submit import submit
from ledger import external, journal
from ledger.queries import Filter

PAGES = ("/", "/refunds", "/refunds?q=order:1", "/refunds/new", "/dead", "/approvals", "/approvals?tab=decided")
PAGES += ("/bulk", "/recon", "/recon?state=all&kind=late", "/recon/runs", "/webhooks", "/webhooks?only=unmatched")
PAGES += ("/webhooks/sent", "/webhooks/endpoints")
PAGES += ("/accounts", "/accounts/smart2pay", "/queues", "/audit", "/audit?subject=account/smart2pay", "/settings")
OURS = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def refund(staffed):
    job = {
        "reference": "R-1",
        "account": "smart2pay",
        "payment": {"id": "900001", "amount": 2100, "currency": "EUR"},
        "amount": 1000,
        "currency": "EUR",
        "description": "<script>alert(1)</script>",
        "customer": {"email": "lin@example.com"},
    }
    return submit(staffed.stack.engine, job, actor="shop", via="api").refund


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_its_headers_and_needs_a_session(staffed, refund, visitor, path):
    answer = visitor().get(path)

    assert answer.status_code == 200, answer.text[:400]
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<[^>]+\son\w+=|style=\"|<script>|javascript:|hx-on|hx-vals", answer.text)
    asked = visitor(None).get(path)
    assert (asked.status_code, asked.headers["location"][:8]) == (303, "/sign-in")


def test_what_the_shop_wrote_is_text_and_never_markup(refund, visitor):
    page = visitor().get(f"/refunds/{refund.id}").text

    assert "&lt;script&gt;alert(1)" in page
    assert "lin@example.com" not in page


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://elsewhere.example"}, 403),
        ({"origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_a_form_of_another_site_does_nothing(staffed, refund, visitor, headers, status):
    before = visitor().post(f"/refunds/{refund.id}/note", {"text": "forged"}, headers=headers)

    assert before.status_code == status
    with staffed.stack.engine.ledger.read() as connection:
        assert not [each for each in journal.story(connection, refund.id) if each["type"] == "refund.noted"]


def test_a_form_without_the_sessions_own_token_does_nothing(refund, visitor):
    somebody = visitor()
    for token in ("", "0" * 96, "forged"):
        answer = somebody.client.post(f"/refunds/{refund.id}/note", data={"text": "x", "csrf": token}, headers=OURS)
        assert answer.status_code == 403


@pytest.mark.parametrize("name", ["vic", "pia", "ada"])
@pytest.mark.parametrize("verb", ["note", "assign", "check", "retry", "cancel", "settle", "new-handle"])
def test_who_may_not_act_is_refused_in_the_use_case_and_it_is_on_record(staffed, refund, visitor, name, verb):
    form = {"text": "x", "to": "x", "outcome": "returned", "evidence": "seen", "reason": "because"}
    answer = visitor(name).post(f"/refunds/{refund.id}/{verb}", form)

    assert answer.status_code == 403
    assert "operator" in answer.text
    with staffed.stack.engine.ledger.read() as connection:
        last = journal.story(connection, f"user/{name}")[-1]
    assert (last["type"], last["data"]["what"]) == ("user.refused", f"POST /refunds/{refund.id}/{verb}")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("oli", "/settings/users"),
        ("oli", "/settings/users/vic/roles"),
        ("vic", "/accounts/smart2pay/pause"),
        ("pia", "/accounts/smart2pay/breaker/open"),
        ("pia", "/refunds?account=smart2pay&payment=1&amount=1&currency=EUR&reference=x"),
        ("vic", "/bulk"),
        ("vic", "/workers/drain?name=w"),
        ("vic", "/settings/users/oli/end"),
    ],
)
def test_other_verbs_are_kept_from_those_who_lack_the_role(staffed, visitor, name, path):
    form = {"name": "new", "role": "admin", "reason": "x", "id": "rf_x", "confirm": "1.00 EUR"}
    form |= {"kind": "retry", "operation": "bo_x", "digest": "x"}

    assert visitor(name).post(path, form).status_code == 403


def test_nobody_changes_their_own_roles(staffed, visitor):
    assert visitor("ada").post("/settings/users/ada/roles", {"role": "operator"}).status_code == 403


def test_an_admin_adds_a_user_who_can_sign_in_and_be_signed_out(staffed, visitor):
    ada = visitor("ada")
    form = {"name": "new", "password": "correct horse battery", "role": "viewer"}
    assert ada.post("/settings/users", form).status_code == 303
    new = visitor("new")
    assert new.get("/refunds").status_code == 200
    assert ada.post("/settings/users/new/end").status_code == 303

    assert new.get("/refunds").status_code == 303


def test_a_session_ends_when_the_roles_are_taken(staffed, visitor):
    ada = visitor("ada")
    ada.post("/settings/users", {"name": "gone", "password": "correct horse battery", "role": "operator"})
    gone = visitor("gone")
    ada.post("/settings/users/gone/roles", {})

    assert gone.get("/").status_code == 303


def test_guessing_is_slowed_down_and_told_apart_by_nothing(staffed, visitor):
    client = visitor(None).client
    answers = [
        client.post("/sign-in", data={"name": name, "password": "wrong"}, headers=OURS) for name in ("nobody", "ove")
    ]
    assert {each.status_code for each in answers} == {403}
    tries = [client.post("/sign-in", data={"name": "nobody", "password": "x"}, headers=OURS) for _ in range(6)]

    assert tries[-1].status_code == 429
    assert "wait" in tries[-1].text


def test_the_session_is_a_hash_in_the_ledger_and_ends_with_sign_out(staffed, visitor):
    somebody = visitor(fresh=True)
    secret = somebody.client.cookies["refundry"]
    with staffed.stack.engine.ledger.read() as connection:
        kept = connection.execute(text("SELECT digest FROM session")).scalars().all()
    assert secret not in kept
    assert somebody.post("/sign-out").status_code == 303
    somebody.client.cookies.set("refundry", secret)

    assert somebody.get("/").status_code == 303


def test_a_page_that_refreshes_itself_keeps_no_session_alive(staffed, visitor):
    somebody = visitor("vic", fresh=True)
    with staffed.stack.engine.ledger.write() as connection:
        connection.execute(text("UPDATE session SET seen_at = seen_at - 1000 WHERE person = 'vic'"))
        seen = connection.execute(text("SELECT max(seen_at) FROM session WHERE person = 'vic'")).scalar()
    assert somebody.get("/", headers={"hx-request": "true"}).status_code == 200
    with staffed.stack.engine.ledger.write() as connection:
        assert connection.execute(text("SELECT max(seen_at) FROM session WHERE person = 'vic'")).scalar() == seen
        connection.execute(text("UPDATE session SET seen_at = seen_at - 1000 WHERE person = 'vic'"))

    assert somebody.get("/", headers={"hx-request": "true"}).status_code == 401


def test_it_leads_back_to_where_one_wanted_to_go_and_nowhere_else(staffed, visitor):
    client = visitor(None).client
    asked = client.get("/dead?cause=mismatch")
    assert asked.headers["location"] == "/sign-in?next=%2Fdead%3Fcause%3Dmismatch"
    for onward, reached in (
        ("/dead", "/dead"),
        ("//elsewhere.example", "/"),
        ("https://x.example", "/"),
        ("/\\x", "/"),
    ):
        form = {"name": "oli", "password": "correct horse battery", "next": onward}
        assert client.post("/sign-in", data=form, headers=OURS).headers["location"] == reached


def test_it_answers_under_its_own_name_only(staffed):
    answer = httpx.get(f"{staffed.url}/sign-in", headers={"host": "rebound.example"})

    assert answer.status_code == 421


def test_a_probe_is_answered_under_any_name_and_told_nothing_else(staffed):
    answer = httpx.get(f"{staffed.url}/healthz", headers={"host": "10.1.2.3:8081"})

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert httpx.post(f"{staffed.url}/healthz", headers=OURS).status_code != 200


def test_an_amount_a_currency_and_a_day_narrow_the_list(staffed, refund, visitor):
    today = time.strftime("%Y-%m-%d", time.gmtime())
    row = f'href="/refunds/{refund.id}"'
    for query in (
        "amount:10.00",
        "amount:>9 amount:..10",
        "currency:eur",
        f"created:{today}",
        "amount:5..15 currency:EUR",
    ):
        assert row in visitor().get("/refunds", params={"q": query}).text, query
    for query in ("amount:10.01", "amount:<10", "currency:JPY", "created:<2026-01-01"):
        assert row not in visitor().get("/refunds", params={"q": query}).text, query

    assert "expected a value" in visitor().get("/refunds", params={"q": "amount:lots"}).text


def test_what_others_moved_of_the_payment_stands_with_the_refund(staffed, refund, visitor):
    seen = external.Sighting(
        account="smart2pay",
        provider_refund_id="elsewhere-1",
        payment_ref="900001",
        kind=external.Kind.CHARGEBACK,
        amount=1500,
        currency="EUR",
        source="notification",
        evidence={},
    )
    engine = staffed.stack.engine
    engine.ledger.run(lambda connection: external.book(connection, seen, row_id="ex_1", actor="x", now=engine.clock()))
    for path in (f"/refunds/{refund.id}", "/dead"):
        page = visitor().get(path).text
        assert "Chargeback: 15.00 EUR" in page, path
        assert "4.00 more" in page or "400 more than was captured" in page, path


def test_bodies_are_bounded(staffed, visitor):
    headers = {**OURS, "content-length": str(7 * 1024 * 1024)}

    assert visitor().client.post("/sign-in", content=b"x" * 7 * 1024 * 1024, headers=headers).status_code == 413


def test_what_is_not_there_is_said_so(staffed, visitor):
    for path in ("/refunds/rf_nothing", "/approvals/ap_nothing", "/accounts/nowhere", "/nothing"):
        assert visitor().get(path).status_code == 404, path


def test_a_csv_runs_no_formula_and_shows_no_customer(staffed, refund, visitor):
    job = {"reference": "=1+1", "account": "smart2pay", "payment": {"id": "900002", "amount": 5, "currency": "EUR"}}
    assert submit(staffed.stack.engine, job, actor="shop", via="api").refund
    lines = visitor().get("/refunds.csv?account=smart2pay").text

    assert "'=1+1" in lines
    assert "lin@" not in lines
    assert visitor().get("/audit.csv").text.startswith("at,actor,what")
    assert visitor().get("/refunds.csv?q=lin@example.com").status_code == 200
    with staffed.stack.engine.ledger.read() as connection:
        story = journal.story(connection, "user/oli")
    assert visitor().get("/refunds?q=%00").status_code == 422
    taken = [each["data"]["query"] for each in story if each["type"] == "refunds.exported"]
    assert taken == ["account:smart2pay", "[a person]"]


def test_where_box_and_form_both_say_when_what_is_shown_is_what_is_saved(staffed, visitor):
    page = visitor().get("/refunds?q=created%3A%3E2099-11-01&from=2020-10-01").text

    assert "Nothing matches" in page
    assert 'name="q" value="created:2020-10-01.. created:&gt;2099-11-01"' in page


def test_a_csv_that_is_not_whole_says_so(staffed, refund, visitor, monkeypatch):
    job = {"reference": "C-1", "account": "smart2pay", "payment": {"id": "900014", "amount": 5, "currency": "EUR"}}
    assert submit(staffed.stack.engine, job, actor="shop", via="api").refund
    monkeypatch.setattr(screen, "MOST_EXPORTED", 1)
    lines = list(screen._lines(staffed.stack.engine, Filter()))
    assert len(lines) == 3
    assert lines[-1].startswith('"There are more than these 1')
    monkeypatch.undo()
    assert "There are more" not in "".join(screen._lines(staffed.stack.engine, Filter()))


def test_a_search_is_kept_under_a_name_and_shared(staffed, refund, visitor):
    oli, pia = visitor("oli"), visitor("pia")
    saved = oli.post("/views", {"name": "waiting <b>", "q": "state:queued account:smart2pay", "shared": "1"})
    assert (saved.status_code, saved.headers["location"]) == (303, "/refunds?q=state%3Aqueued+account%3Asmart2pay")
    link = 'href="/refunds?q=state%3Aqueued+account%3Asmart2pay"'

    for path, mark in (("/refunds", ""), ("/refunds?state=queued&account=smart2pay", ' aria-current="true"')):
        page = pia.get(path).text
        assert f"{link}{mark}>waiting &lt;b&gt;</a>" in page, path
        assert "/views/remove" not in page
    assert "state:queued account:smart2pay</code>" in pia.get("/refunds?state=queued&account=smart2pay").text
    assert 'value="state:queued account:smart2pay"' in oli.get(saved.headers["location"]).text
    for name, query in (("x", "lin@example.com"), ("", "state:queued"), ("x", "state:nowhere"), ("x", "")):
        assert oli.post("/views", {"name": name, "q": query}).status_code == 422, query
    assert pia.post("/views/remove", {"view": "oli/waiting <b>"}).status_code == 403
    assert oli.post("/views/remove", {"view": "oli/waiting <b>"}).status_code == 303
    assert link not in pia.get("/refunds").text


def test_each_sees_the_columns_and_as_many_rows_as_they_chose(staffed, refund, visitor):
    oli, pia = visitor("oli"), visitor("pia")
    before = titles(oli)
    chosen = oli.post(
        "/refunds/columns", {"column": ["payment", "amount", "nonsense"], "rows": "25", "q": "state:queued"}
    )

    assert (chosen.status_code, chosen.headers["location"]) == (303, "/refunds?q=state%3Aqueued")
    assert titles(oli) == ["Refund", "Payment", "Amount"]
    assert '<option value="25" selected>' in oli.get("/refunds").text
    assert titles(pia) == before
    assert before[:3] == ["Refund", "Reference", "Order"]
    for name in COLUMNS:
        oli.post("/refunds/columns", {"column": [name]})
        assert titles(oli) == ["Refund", COLUMNS[name]]
    assert oli.post("/refunds/columns", {"rows": "1000"}).status_code == 303
    assert titles(oli) == before


def titles(visitor):
    """The columns of the list; that of the ticks has no title."""
    found = re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', visitor.get("/refunds").text)

    return [each.replace("&#39;", "'") for each in found]


def test_the_same_form_twice_is_one_refund(staffed, visitor):
    oli = visitor()
    query = "account=smart2pay&payment=900003&amount=7.00&currency=EUR&captured=10.00&reason=duplicate&reference=W-1"
    answers = [oli.post(f"/refunds?{query}", {"confirm": "7.00 EUR"}) for _ in range(2)]

    assert {each.status_code for each in answers} == {303}
    assert len({each.headers["location"] for each in answers}) == 1
    assert oli.post(f"/refunds?{query}", {"confirm": "8.00 EUR"}).status_code == 422


def test_the_last_word_is_looked_at_again(staffed, visitor):
    """Two people with the same form: the second is told what is left now."""
    oli = visitor()
    query = "account=smart2pay&payment=900004&amount=7.00&currency=EUR&captured=10.00&reason=duplicate&expect=1000"
    assert oli.post(f"/refunds?{query}&reference=X-1", {"confirm": "7.00 EUR"}).status_code == 303
    second = oli.post(f"/refunds?{query}&reference=X-2", {"confirm": "7.00 EUR"})

    assert second.status_code == 409
    assert "300 is refundable, 1000 was expected" in second.text


def test_evidence_is_a_file_to_keep_and_reading_it_is_on_record(staffed, visitor):
    assert visitor().get("/approvals/ap_nothing/evidence").status_code == 404
    assert visitor("vic", fresh=True).get("/approvals/ap_nothing/evidence").status_code == 403


def test_without_redis_the_ledgers_side_is_shown(staffed, visitor):
    redis = staffed.stack.redis
    redis.process.kill()
    try:
        assert "Redis does not answer" in visitor().get("/queues").text
        assert visitor().get("/").status_code == 200
    finally:
        redis.start()
