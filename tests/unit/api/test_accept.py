"""What was accepted is answered each by itself, also where one of them cannot be shown."""

import json
from types import SimpleNamespace

import pytest
from sqlalchemy import update

from api.refunds import _results, accept
from domain.errors import ConfigurationError
from engine.door import Knock
from engine.keys import Machine, Scope
from ledger import journal
from ledger.models import refund
from tests.unit.engine.support import JPY, Rung, an_engine

MACHINE = Machine(client="shop", key_id="rk_1", scopes=frozenset({Scope.WRITE}), accounts=None)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REQUEST = SimpleNamespace(
    scope={"state": {"traceparent": TRACE, "request_id": "req_1"}}, url=SimpleNamespace(path="/v1/refunds/batch")
)


@pytest.fixture
def engine(tmp_path):
    made = an_engine(tmp_path / "refundry.db", Rung())
    yield made
    made.close()


def a_job(reference):
    job = {"reference": reference, "payment": {**JPY["payment"], "id": reference}, "customer": {"last_name": "Smith"}}
    return json.dumps({**JPY, **job}).encode()


def one(engine, *references):
    return accept(engine, [Knock(MACHINE, a_job(each), TRACE, None) for each in references])


def batch(engine, *references):
    return list(_results(REQUEST, engine, MACHINE, [a_job(each) for each in references]))


@pytest.fixture
def sealed(engine):
    """R-1 has been accepted, and the key of its personal data is gone."""
    one(engine, "R-1")
    with engine.ledger.write() as connection:
        connection.execute(update(refund).values(personal=b"sealed with a key that is gone"))


@pytest.mark.usefixtures("sealed")
def test_one_that_cannot_be_shown_is_no_fault_of_the_others_of_its_moment(engine):
    first, hidden, second = one(engine, "R-2", "R-1", "R-3")

    assert isinstance(hidden, ConfigurationError)
    assert [(view["reference"], replayed) for view, replayed in (first, second)] == [("R-2", False), ("R-3", False)]


@pytest.mark.usefixtures("sealed")
def test_one_that_cannot_be_shown_is_no_fault_of_the_others_of_its_batch(engine):
    results = batch(engine, "R-2", "R-1", "R-3")

    assert [each["status"] for each in results] == [202, 500, 202]
    assert results[1]["problem"]["code"] == "settings-invalid"


def test_one_whose_first_answer_cannot_be_made_again_is_no_fault_of_the_others(engine):
    one(engine, "R-1", "R-2")
    with engine.ledger.write() as connection:
        connection.execute(update(refund).values(job="{}").where(refund.c.reference == "R-1"))
    first, hidden, second = one(engine, "R-2", "R-1", "R-3")

    assert isinstance(hidden, KeyError)
    assert (first[1], second[1]) == (True, False)


def test_replays_that_cannot_be_looked_up_are_no_fault_of_what_is_new(engine, monkeypatch):
    one(engine, "R-1")

    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(journal, "firsts", broken)
    hidden, fresh = one(engine, "R-1", "R-2")

    assert isinstance(hidden, ZeroDivisionError)
    assert fresh[0]["reference"] == "R-2"
