"""Webhooks by page: what providers told us, replayed and linked; endpoints, their secrets, what they were told."""

import json
import re

import msgspec
import pytest

from engine import notifications, webhooks
from engine.fanout import fan_out
from engine.submit import submit
from ledger import journal, notification
from providers.base import Notification
from tests.support.console import FIRST


@pytest.fixture(scope="module")
def engine(staffed):
    return staffed.stack.engine


@pytest.fixture(scope="module")
def refund(engine):
    payment = {"id": "payment_w", "amount": 2100, "currency": "JPY"}
    job = {"reference": "W-1", "account": "smartpay", "payment": payment, "amount": 1000, "currency": "JPY"}
    return submit(engine, job, actor="shop", via="api").refund


def forged(engine, count=1):
    for number in range(count):
        body = json.dumps({"event": number, "email": "lin@example.com"}).encode()
        notifications.receive(engine, "smartpay", {"smartpay-signature": "00"}, body)


@pytest.fixture
def told(engine, refund):
    """One that was believed, and that no refund was found for."""

    def work(connection):
        now = engine.clock()
        kept = notification.Kept(
            id=f"nt_{int(now * 1000)}",
            account="smartpay",
            key=f"key-{now}",
            event_id="ev-1",
            kind="refund.updated",
            verified=True,
            why=None,
            hint=msgspec.json.encode(Notification(kind="refund.updated")).decode(),
            body=engine.vault.seal(b'{"refund": "somewhere"}'),
            size=10,
            body_hash="0" * 64,
            at=now,
        )
        notification.keep(connection, kept, again_after=None)
        taken = notification.claim(connection, "smartpay", limit=100, now=now, until=now)
        due = next(each for each in taken if each.id == kept.id)
        notification.settle(connection, due, state="unmatched", result="nobody", refunds=[], due_at=None, now=now)
        return kept.id

    return engine.ledger.run(work)


def test_what_is_not_shown_to_be_theirs_is_counted_and_many_of_it_are_told(engine, visitor):
    forged(engine, 25)
    page = visitor().get("/webhooks").text

    assert "Has the provider&#39;s secret been changed?" in page or "Has the provider's secret been changed?" in page
    assert re.search(r'account=smartpay">smartpay</a></th><td class="num">25</td>', page)
    one = re.search(r"/webhooks/received/(nt_\w+)", page)[1]
    shown = visitor().get(f"/webhooks/received/{one}").text
    assert "Nothing was done with it" in shown
    assert "lin@example.com" not in shown
    assert visitor().post(f"/webhooks/received/{one}/replay").status_code == 404


def test_the_list_goes_on_page_by_page(engine, visitor):
    forged(engine, 60)
    somebody, path, seen = visitor(), "/webhooks?only=unverified", []
    while path:
        page = somebody.get(path).text
        seen += re.findall(r'class="ref" href="/webhooks/received/(nt_\w+)"', page)
        older = re.search(r'href="([^"]+)" rel="next"', page)
        path = older and older[1].replace("&amp;", "&")

    with engine.ledger.read() as connection:
        assert len(seen) == len(set(seen)) == len(notification.listed(connection, limit=1000, unverified=True))


def test_one_that_nobody_was_found_for_is_linked_and_the_provider_is_asked(engine, refund, told, visitor):
    oli, address = visitor(), f"/webhooks/received/{told}"
    assert told in oli.get("/webhooks?only=unmatched").text
    wrong = oli.post(f"{address}/link", {"refund": "nothing"})
    assert (wrong.status_code, "there is no refund" in wrong.text) == (422, True)
    done = oli.post(f"{address}/link", {"refund": "W-1", "reason": "the shop says so"})

    assert done.status_code == 303
    with engine.ledger.read() as connection:
        kept = notification.get(connection, told)
        [event] = journal.story(connection, f"notification/{told}")
    assert (kept["state"], json.loads(kept["hint"])["refund_id"]) == ("received", refund.id)
    assert kept["due_at"] is not None
    assert (event["type"], event["actor"], event["data"]["refund"]) == ("notification.linked", "oli", refund.id)
    assert oli.post(f"{address}/link", {"refund": "W-1"}).status_code == 409


def test_a_refund_of_another_account_is_not_linked(engine, told, visitor):
    payment = {"id": "900", "amount": 2100, "currency": "EUR"}
    job = {"reference": "W-2", "account": "smart2pay", "payment": payment, "amount": 5, "currency": "EUR"}
    submit(engine, job, actor="shop", via="api")
    answer = visitor().post(f"/webhooks/received/{told}/link", {"refund": "W-2"})

    assert answer.status_code == 422
    assert "account smartpay has no refund" in answer.text


def test_a_replay_is_on_record(engine, told, visitor):
    assert visitor().post(f"/webhooks/received/{told}/replay").status_code == 303

    with engine.ledger.read() as connection:
        assert [each["actor"] for each in journal.story(connection, f"notification/{told}")] == ["oli"]


def test_an_endpoint_is_made_and_its_secret_shown_once(engine, visitor):
    ada = visitor("ada")
    bad = ada.post("/webhooks/endpoints", {"url": "http://10.0.0.1/x"})
    assert (bad.status_code, "http://10.0.0.1/x" in bad.text) == (422, True)
    made = ada.post("/webhooks/endpoints", {"url": "https://shop.example/hooks", "type": "refund.succeeded"})
    secret = re.search(r"whsec_[\w+/=]+", made.text)[0]
    [view] = [each for each in webhooks.endpoints(engine) if each["url"] == "https://shop.example/hooks"]
    address = f"/webhooks/endpoints/{view['id']}"
    assert "whsec_" not in ada.get(address).text
    rotated = ada.post(f"{address}/rotate", {"overlap": "3600"})

    assert re.search(r"whsec_[\w+/=]+", rotated.text)[0] != secret
    assert len(webhooks.endpoint(engine, view["id"])["secrets"]) == 2
    assert ada.post(f"{address}/disable").status_code == 422
    assert ada.post(f"{address}/disable", {"reason": "maintenance"}).status_code == 303
    assert "maintenance" in ada.get(address).text
    assert ada.post(f"{address}/enable").status_code == 303
    assert ada.post(f"{address}/delete").status_code == 303
    assert ada.get(address).status_code == 404


def test_a_delivery_is_looked_at_and_sent_again_by_an_operator(engine, refund, visitor):
    endpoint, _ = webhooks.create(engine, _admin(), "https://shop.example/other")
    job = {"reference": "W-3", "account": "smartpay", "payment": {"id": "payment_x", "amount": 9, "currency": "JPY"}}
    told = submit(engine, {**job, "amount": 9, "currency": "JPY"}, actor="shop", via="api").refund
    fan_out(engine)
    oli = visitor()
    page = oli.get(f"/webhooks/sent?refund={told.id}").text
    [delivery] = set(re.findall(r"/webhooks/sent/(msg_\w+)", page))

    assert "refund.accepted" in oli.get(f"/webhooks/sent/{delivery}").text
    assert oli.post(f"/webhooks/sent/{delivery}/resend").status_code == 303
    assert oli.post(f"/webhooks/endpoints/{endpoint.id}/resend", {"since": "1h"}).status_code == 303
    assert visitor("vic").post(f"/webhooks/sent/{delivery}/resend").status_code == 403


def _admin():
    return type(FIRST)("ada", FIRST.roles)


@pytest.mark.parametrize("who", ["oli", "vic", "pia"])
def test_only_an_admin_changes_endpoints(engine, visitor, who):
    endpoint, _ = webhooks.create(engine, _admin(), f"https://shop.example/{who}")
    somebody, before = visitor(who), webhooks.endpoint(engine, endpoint.id)
    for verb in ("rotate", "disable", "enable", "delete"):
        answer = somebody.post(f"/webhooks/endpoints/{endpoint.id}/{verb}", {"reason": "x"})
        assert answer.status_code == 403, verb
    assert somebody.post("/webhooks/endpoints", {"url": "https://shop.example/z"}).status_code == 403

    assert webhooks.endpoint(engine, endpoint.id) == before


@pytest.mark.parametrize("who", ["vic", "pia", "ada"])
def test_who_may_not_act_replays_and_links_nothing(engine, told, visitor, who):
    for verb in ("replay", "link"):
        answer = visitor(who).post(f"/webhooks/received/{told}/{verb}", {"refund": "W-1"})
        assert answer.status_code == 403, verb

    with engine.ledger.read() as connection:
        assert notification.get(connection, told)["state"] == "unmatched"
