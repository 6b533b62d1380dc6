from sqlalchemy import update

from ledger.models import event


def test_events_are_listed_newest_first(create, refundry):
    made = create("R-1")
    create("R-2", payment="PAY00002")
    refundry("refunds", "note", "R-2", "hello")

    listed = refundry("audit", "list", "-o", "json").json()
    one = refundry("audit", "list", "--subject", made["id"], "-o", "json").json()

    assert [each["type"] for each in listed] == ["refund.noted", "refund.accepted", "refund.accepted"]
    assert [each["type"] for each in one] == ["refund.accepted"]
    assert "refund.noted" in refundry("audit", "list").out


def test_a_journal_that_nobody_touched_verifies(create, refundry):
    create("R-1")

    assert refundry("audit", "verify").status == 0
    assert refundry("audit", "verify", "-o", "json").json() == {"events": 1, "clean": True, "flaws": []}


def test_a_changed_event_is_found(create, engine, refundry):
    made = create("R-1")
    engine.ledger.run(lambda connection: connection.execute(update(event).values(actor="somebody else")))

    told = refundry("audit", "verify", "-o", "json")

    assert told.status == 1
    assert told.json()["flaws"][0] == {"subject": made["id"], "seq": 1, "what": "the event was changed"}
    assert made["id"] in refundry("audit", "verify").out
