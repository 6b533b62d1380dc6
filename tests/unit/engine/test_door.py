import json

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import DataError, OperationalError

from domain.errors import Refused
from engine import door
from engine.door import Knock, idempotency_key
from engine.keys import Machine, Scope
from ledger.models import refund
from tests.unit.engine.support import JPY, Rung, an_engine

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("fields", "key"),
    [([], None), (["a"], "a"), (['"a"'], "a"), ([" a.B:c_d-9 "], "a.B:c_d-9"), (['"' + "x" * 255 + '"'], "x" * 255)],
)
def test_a_key_is_taken_quoted_or_bare(fields, key):
    assert idempotency_key(fields) == key


@pytest.mark.parametrize("fields", [[""], ['"'], ['""'], ["a", "a"], ["a,b"], ["a b"], ["ä"], ["x" * 256], ['a"']])
def test_what_is_no_key_is_refused(fields):
    with pytest.raises(Refused, match="1 to 255"):
        idempotency_key(fields)


@pytest.fixture
def engine(tmp_path):
    engine = an_engine(tmp_path / "refundry.db", Rung())
    yield engine
    engine.close()


def a_machine(**changes):
    told = {"client": "shop", "key_id": "rk_1", "scopes": frozenset({Scope.WRITE}), "accounts": None}
    return Machine(**{**told, **changes})


def knock(reference, *, machine=None, key=None, **changes):
    job = {**JPY, "reference": reference, "payment": {**JPY["payment"], "id": f"payment-{reference}"}, **changes}
    return Knock(machine or a_machine(), json.dumps(job).encode(), TRACE, key)


def said(answer):
    """The reference that was accepted, or the code of the refusal."""
    problem = answer if isinstance(answer, Exception) else answer.problem
    return getattr(problem, "code", problem) if problem else answer.refund.reference


def references(engine):
    with engine.ledger.read() as connection:
        return sorted(connection.scalars(select(refund.c.reference)))


def test_requests_that_come_at_once_are_answered_each_by_itself(engine):
    bound = a_machine(client="other", key_id="rk_2", accounts=frozenset({"us"}))
    knocks = [
        knock("R-1"),
        knock("R-2", machine=bound),
        knock("R-3", amount=9999),
        Knock(a_machine(), b"{", TRACE, None),
        knock("R-1"),
        knock("R-1", amount=1),
    ]
    answers = door.submit_each(engine, knocks)

    assert [said(each) for each in answers] == [
        "R-1",
        "validation-failed",
        "amount-exceeds-refundable",
        "malformed-json",
        "R-1",
        "reference-conflict",
    ]
    assert [each.replayed for each in answers] == [False, False, False, False, True, False]
    assert references(engine) == ["R-1"]


def test_another_body_under_the_same_key_is_refused_alone(engine):
    [first] = door.submit_each(engine, [knock("R-1", key="a")])
    answers = door.submit_each(
        engine,
        [
            knock("R-1", key="a"),
            knock("R-2", key="a"),
            knock("R-3", key="b"),
            knock("R-4", key="b"),
            knock("R-5", key="c"),
            knock("R-6", key="c", machine=a_machine(client="other")),
        ],
    )

    reused = "idempotency-key-reused"
    assert [said(each) for each in answers] == ["R-1", reused, "R-3", reused, "R-5", "R-6"]
    assert answers[0].refund.id == first.refund.id
    assert references(engine) == ["R-1", "R-3", "R-5", "R-6"]


def test_a_job_that_breaks_the_code_breaks_no_other(engine, monkeypatch):
    check = door.submit_many

    def broken(engine, bodies, **options):
        if any(b"R-2" in each for each in bodies):
            raise ZeroDivisionError
        return check(engine, bodies, **options)

    monkeypatch.setattr(door, "submit_many", broken)
    answers = door.submit_each(engine, [knock("R-1"), knock("R-2"), knock("R-3")])

    assert [said(each) for each in answers[::2]] == ["R-1", "R-3"]
    assert isinstance(answers[1], ZeroDivisionError)


def test_a_ledger_that_is_away_is_asked_once(engine, monkeypatch):
    asked = []

    def away(*_):
        asked.append(1)
        raise OperationalError("SELECT", {}, Exception("away"))

    monkeypatch.setattr(type(engine.ledger), "run", away)
    other = a_machine(client="other", key_id="rk_2")
    answers = door.submit_each(engine, [knock("R-1"), knock("R-2"), knock("R-3", machine=other)])

    assert [type(each) for each in answers] == [OperationalError] * 3
    assert len(asked) == 2  # once for each machine


def test_what_the_ledger_refuses_of_one_job_is_its_own_fault(engine, monkeypatch):
    submit = door.submit_many

    def refusing(engine, bodies, **options):
        if any(b"R-2" in each for each in bodies):
            raise DataError("INSERT", {}, Exception("out of range"))
        return submit(engine, bodies, **options)

    monkeypatch.setattr(door, "submit_many", refusing)
    answers = door.submit_each(engine, [knock("R-1"), knock("R-2"), knock("R-3")])

    assert [said(each) for each in answers[::2]] == ["R-1", "R-3"]
    assert isinstance(answers[1], DataError)


def test_what_was_accepted_earlier_and_cannot_be_read_is_a_conflict_of_its_own(engine):
    door.submit_each(engine, [knock("R-1", customer={"last_name": "Smith"})])
    with engine.ledger.write() as connection:
        connection.execute(update(refund).values(personal=b"sealed with a key that is gone"))
    answers = door.submit_each(engine, [knock("R-1", amount=1), knock("R-2"), knock("R-3")])

    assert [said(each) for each in answers] == ["reference-conflict", "R-2", "R-3"]
    assert [each.replayed for each in answers[1:]] == [False, False]
    assert str(answers[0].problem).endswith("with another content: its content")
