import hashlib
import hmac
import json
import time

import pytest
from sqlalchemy import update

from engine import notifications
from engine.ids import new_id
from ledger import external, models
from ledger.external import Kind, Sighting

EVENT = json.dumps({"id": "evt_1", "type": "transaction.approved", "data": {"transaction_id": "TX2E6G8H"}}).encode()


def signed(body=EVENT, at=None, secret=b"whsec"):
    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()

    return {"X-SmartRetry-Signature": f"t={stamp},v1={digest}"}


@pytest.fixture
def told(engine):
    """One that is the provider's, one that is not."""
    notifications.receive(engine, "shop", signed(), EVENT)
    notifications.receive(engine, "other", {}, b"forged")


def test_what_was_received_is_listed_and_narrowed(told, refundry):
    everything = refundry("webhooks", "received", "-o", "json").json()
    one = refundry("webhooks", "received", "--account", "shop", "-o", "json").json()
    forged = refundry("webhooks", "received", "--unverified", "-o", "json").json()

    assert [each["account"] for each in everything] == ["other", "shop"]
    assert [(each["event_id"], each["verified"], each["state"]) for each in one] == [("evt_1", True, "received")]
    assert [(each["state"], each["why"]) for each in forged] == [("refused", "the signature does not match")]
    assert not {"body", "hint"} & set(one[0])
    assert refundry("webhooks", "received", "--unmatched").out == "nothing was received\n"
    assert "the signature does not match" in refundry("webhooks", "received").out


def test_a_replay_is_done_once_more_and_a_forged_one_never(told, refundry):
    rows = {each["account"]: each["id"] for each in refundry("webhooks", "received", "-o", "json").json()}

    assert refundry("webhooks", "replay", rows["shop"]).out == f"{rows['shop']} is looked at again\n"
    assert refundry("webhooks", "replay", rows["other"]).status == 3
    assert refundry("webhooks", "replay", "nt_none").status == 3
    told = refundry("audit", "list", "--subject", f"notification/{rows['shop']}", "-o", "json").json()
    assert [each["type"] for each in told] == ["notification.replayed"]


def test_one_that_nobody_was_found_for_is_linked_to_a_refund(told, create, engine, refundry):
    refund = create()
    rows = {each["account"]: each["id"] for each in refundry("webhooks", "received", "-o", "json").json()}
    assert refundry("webhooks", "link", rows["shop"], "--refund", refund["id"]).status == 4
    with engine.ledger.write() as connection:
        connection.execute(update(models.notification).values(state="unmatched"))
    assert refundry("webhooks", "link", rows["shop"], "--refund", "nowhere").status == 3
    assert refundry("webhooks", "link", rows["other"], "--refund", refund["id"]).status == 3
    linked = refundry("webhooks", "link", rows["shop"], "--refund", refund["reference"], "--reason", "the shop says so")

    assert linked.out == f"{rows['shop']} is looked at again\n"
    told = refundry("audit", "list", "--subject", f"notification/{rows['shop']}", "-o", "json").json()
    assert [each["type"] for each in told] == ["notification.linked"]


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_signature_is_checked_without_a_network(home, refundry, end):
    lines = ["POST /v1/webhooks/shop HTTP/1.1", *(f"{name}: {value}" for name, value in signed(at=1000).items())]
    (home / "message.txt").write_bytes(end.join([*lines, "", ""]).encode() + EVENT)

    right = refundry("webhooks", "verify", "message.txt", "--account", "shop", "--at", "1100", "-o", "json")
    late = refundry("webhooks", "verify", "message.txt", "--account", "shop")

    assert right.status == 0
    assert (right.json()["verified"], right.json()["hint"]["event_id"]) == (True, "evt_1")
    assert (late.status, late.out) == (1, "refused: the time stamp is not within 300 seconds\n")
    assert refundry("webhooks", "received").out == "nothing was received\n"


def test_what_is_no_message_or_no_account_is_said_so(home, refundry):
    (home / "message.txt").write_text("nothing")

    assert refundry("webhooks", "verify", "message.txt", "--account", "shop").status == 2
    assert refundry("webhooks", "verify", "none.txt", "--account", "shop").status == 2
    (home / "message.txt").write_text("A: b\n\n{}")
    assert refundry("webhooks", "verify", "message.txt", "--account", "nobody").status == 3


def test_what_others_moved_beyond_the_cap_is_a_dead_letter_until_it_is_closed(create, engine, refundry):
    made = create("R-1")
    payment = made["payment"]
    seen = Sighting(
        account="shop",
        provider_refund_id="TX9",
        payment_ref=payment["id"],
        kind=Kind.CHARGEBACK,
        amount=10_000_000,
        currency=payment["currency"],
        source="notification",
        evidence={},
    )
    row_id = new_id("ex", time.time())
    engine.ledger.run(lambda connection: connection.execute(update(models.payment).values(captured=2000)))
    engine.ledger.run(lambda connection: external.book(connection, seen, row_id=row_id, actor="w1", now=time.time()))
    dead = {each["object"]: each for each in refundry("dead", "list", "-o", "json").json()}
    shown = refundry("dead", "list")
    status = refundry("status")

    assert dead["external"]["id"] == row_id
    assert dead["refund"]["review"]["cause"] == "over_refunded"
    assert "a chargeback made elsewhere" in shown.out
    assert "Made elsewhere, to be looked at" in status.out
    assert refundry("dead", "close", row_id).status == 1
    assert refundry("dead", "close", row_id, "--reason", "agreed with the bank").status == 0
    assert refundry("dead", "close", row_id, "--reason", "again").status == 3
    assert [each["object"] for each in refundry("dead", "list", "-o", "json").json()] == ["refund"]
