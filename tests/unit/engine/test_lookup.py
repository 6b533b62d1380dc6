import json

import pytest
from sqlalchemy import insert, text, update

from engine import lookup
from engine.submit import submit
from engine.view import refund_view
from ledger import models, refunds
from tests.unit.engine.support import JPY, NOW, Rung, an_engine


@pytest.fixture
def engine(tmp_path):
    made = an_engine(tmp_path / "ledger.db", Rung())
    yield made
    made.close()


def test_the_first_answer_is_made_again_after_a_new_handle_and_the_end(engine):
    job = {**JPY, "amount": None, "customer": {"last_name": "Smith"}, "not_before": "2030-01-01T00:00:00Z"}
    accepted = submit(engine, json.dumps(job), actor="key:shop", via="api").refund
    first = refund_view(engine, accepted)
    attempt = {
        **dict.fromkeys(("method", "url", "headers", "body_hash", "fingerprint", "worker"), "x"),
        "refund_id": accepted.id,
        "no": 1,
        "handle": accepted.handle,
        "body": b"x",
        "started_at": NOW,
        "fence": 1,
    }
    with engine.ledger.write() as connection:
        connection.execute(insert(models.attempt).values(**attempt))
        changes = {"state": "failed", "handle": "another", "handle_no": 2, "attempts": 2, "version": 9, "final_at": NOW}
        changes |= {"failure_code": "declined", "provider_refund_id": "re_1", "due_at": None, "updated_at": NOW + 60}
        connection.execute(update(models.refund).values(**changes))
    with engine.ledger.read() as connection:
        now = refunds.get(connection, accepted.id)
        assert connection.execute(text("SELECT count(*) FROM refund")).scalar() == 1

    assert refund_view(engine, now) != first
    assert [refund_view(engine, each) for each in lookup.as_accepted(engine, [now])] == [first]
