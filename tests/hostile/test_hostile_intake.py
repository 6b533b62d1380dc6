"""Jobs of any kind by each way in: accepted as what they say, or kept with the reason. None raises, none is dropped."""

import json
import time
import uuid
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kombu import serialization
from sqlalchemy import delete, func, select

from domain.errors import InvalidJob, Refused
from domain.money import MAX_MINOR
from engine.bootstrap import Engine
from engine.inbox import errors_json, take, take_one
from engine.submit import submit, submit_many
from ledger import queries, rejected
from ledger.models import metadata, refund
from ledger.models import rejected as dead_letter
from signals.client import connect
from signals.stream import GROUP, INTAKE, Intake
from tasks import jobs
from tests.hostile.judges import assert_job_or_faults, read
from tests.unit.engine.support import JPY, USD, an_engine

EXAMPLES = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One ledger for all examples."""
    made = an_engine(tmp_path_factory.mktemp("intake") / "refundry.db", lambda *_: None)
    yield made
    made.close()


def empty(engine: Engine) -> None:
    with engine.ledger.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))


def count(engine: Engine, table: Any) -> int:
    with engine.ledger.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


# -- hostile jobs -----------------------------------------------------------------------------------------------------

NUMBERS = (
    st.integers() | st.floats() | st.sampled_from([0, -1, 1, 2**63, -(2**63), 10**15, 10**15 + 1, 1e400, float("nan")])
)
TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "a\x00b",
        "\x7f",
        "a\nb",
        "\u202e",
        "\u2028",
        "é",
        "JPY",
        "jpy",
        "EUR",
        "XXX",
        "ＪＰＹ",
        "1000",
        "payment-1",
        "../../etc/passwd",
        "'; DROP TABLE refund; --",
        "${HOME}",
        "{{7*7}}",
        "x" * 300,
        "€" * 64,
        "🙈" * 64,
        "2026-01-31T12:00:00Z",
        "2026-01-31",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        "a@b",
        "DE02120300000000202051",
    ]
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
KNOWN = st.sampled_from(
    [
        "reference",
        "account",
        "payment",
        "amount",
        "currency",
        "reason",
        "description",
        "items",
        "customer",
        "metadata",
        "bank_account",
        "not_before",
        "expect_refundable",
        "custom_references",
        "amonut",
        "__class__",
        "",
        "amount ",
    ]
)
FULL = {
    **JPY,
    "customer": {"email": "a@example.com", "first_name": "Ann", "address": {"city": "Oslo", "country": "NO"}},
    "bank_account": {"iban": "DE02120300000000202051"},
    "items": [{"id": "i", "quantity": 1}],
    "metadata": {"shop": "1"},
    "not_before": "2026-01-31T12:00:00Z",
}


@st.composite
def hostile_jobs(draw: st.DrawFn) -> dict[str, Any]:
    """A good job with some members, at any depth, replaced, removed or added."""
    job: dict[str, Any] = deepcopy(draw(st.sampled_from([JPY, USD, FULL])))
    for _ in range(draw(st.integers(0, 3))):
        place: dict[str, Any] = job
        inner = [each for each in place.values() if isinstance(each, dict)]
        if inner and draw(st.booleans()):
            place = draw(st.sampled_from(inner))
        name = draw(st.sampled_from(sorted(place)) | KNOWN) if place else draw(KNOWN)
        if draw(st.booleans()) and name in place:
            del place[name]
        else:
            place[name] = draw(VALUES)

    return job


BODIES = (
    hostile_jobs().map(lambda job: json.dumps(job).encode())
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
    | hostile_jobs().flatmap(lambda job: st.binary(max_size=3).map(lambda junk: json.dumps(job).encode()[:-1] + junk))
)


def assert_receipt(engine: Engine, receipt: Any, said: Any) -> None:
    """A refund of what was said, or a problem; never both, never neither."""
    if receipt.problem is not None:
        assert receipt.refund is None
        assert isinstance(receipt.problem, InvalidJob | Refused)
        json.loads(errors_json(receipt.problem))
        return
    made = receipt.refund
    assert made.account in engine.accounts
    assert (made.account, made.reference) == (said["account"], said["reference"])
    asked, captured = said.get("amount"), said["payment"].get("amount")
    assert made.amount is None or (type(made.amount) is int and 0 < made.amount <= (captured or MAX_MINOR))
    # Without an amount it is what is left of the payment, where that is known.
    assert made.amount == asked or (asked is None and captured is not None)
    assert asked is None or type(asked) is int
    if made.currency is not None:
        assert made.currency in {said.get("currency"), said["payment"].get("currency")}


def assert_books_hold(engine: Engine) -> None:
    with engine.ledger.read() as connection:
        assert queries.balances(connection) == []


# -- submit -----------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.lists(BODIES, min_size=1, max_size=5))
def test_any_bytes_are_a_refund_of_what_they_say_or_a_problem(engine, bodies):
    empty(engine)
    receipts = submit_many(engine, bodies, actor="mallory", via="api")

    assert len(receipts) == len(bodies)
    for receipt, body in zip(receipts, bodies, strict=True):
        assert_receipt(engine, receipt, read(body))
    made = {receipt.refund.id for receipt in receipts if receipt.refund is not None}
    assert count(engine, refund) == len(made)
    assert_books_hold(engine)


@EXAMPLES
@given(job=hostile_jobs())
@example(job={**JPY, "description": "\ud800"})
@example(job={**JPY, "\ud800": 1})
@example(job={**JPY, "amount": 10**5000})
@example(job={1: 2})
@example(job={**JPY, "metadata": {"a": {"b": Decimal(1)}}})
def test_any_dictionary_is_a_refund_of_what_it_says_or_a_problem(engine, job):
    empty(engine)

    assert_receipt(engine, submit(engine, job, actor="mallory", via="api"), job)
    assert_books_hold(engine)


@EXAMPLES
@given(st.text(st.characters(exclude_categories=["Cs"])) | hostile_jobs().map(json.dumps))
def test_any_text_is_a_refund_of_what_it_says_or_a_problem(engine, text):
    empty(engine)

    assert_receipt(engine, submit(engine, text, actor="mallory", via="api"), read(text.encode()))


def test_text_with_half_a_character_is_a_problem(engine):
    assert submit(engine, '{"reference":"\ud800"}', actor="mallory", via="api").problem is not None


@EXAMPLES
@given(BODIES)
def test_parsing_never_reads_more_into_a_job_than_it_says(body):
    assert_job_or_faults(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"payment":' * 90_000,
        b'{"metadata":' + b'{"a":' * 2000 + b"1" + b"}" * 2001,
        json.dumps({**JPY, "description": "x" * 1_000_000}).encode(),
        json.dumps({**JPY, "reference": "x" * 1_000_000}).encode(),
        json.dumps({**JPY, "x" * 1_000_000: 1}).encode(),
        b'{"amount":' + b"9" * 1_000_000 + b"}",
        b'{"amount":0.' + b"9" * 1_000_000 + b"}",
        b'{"amount":1e' + b"9" * 1_000_000 + b"}",
        b" " * 2_000_000,
        b'"' + b"\\u0041" * 170_000 + b'"',
        json.dumps({**JPY, "custom_references": ["x"] * 100_000}).encode(),
    ],
    ids=lambda body: body[:24],
)
def test_a_megabyte_of_trouble_is_a_problem_at_once(engine, body):
    started = time.monotonic()
    receipt = submit(engine, body, actor="mallory", via="api")

    assert receipt.problem is not None
    assert time.monotonic() - started < 2
    assert len(errors_json(receipt.problem)) < 2 * len(body) + 10_000


@pytest.mark.parametrize("flood", ["members", "metadata", "items"])
def test_the_faults_of_one_job_are_few_enough_to_be_kept(engine, flood):
    job = {
        "members": {**JPY, **{f"k{number:05}": 1 for number in range(20_000)}},
        "metadata": {**JPY, "metadata": {f"k{number:05}": 1 for number in range(20_000)}},
        "items": {**JPY, "items": [{"x": 1}] * 20_000},
    }[flood]
    body = json.dumps(job, separators=(",", ":")).encode()
    assert len(body) < 1_048_576

    assert len(errors_json(submit(engine, body, actor="mallory", via="api").problem)) < 262_144


# -- the stream -------------------------------------------------------------------------------------------------------

FIELDS = st.dictionaries(
    st.sampled_from([b"job", b"job", b"traceparent", b"JOB", b"\xff", b""]),
    BODIES | st.sampled_from([b"00-abc", b"\x00", b"\xff" * 80]),
    min_size=1,
    max_size=3,
)


@settings(EXAMPLES, max_examples=40)
@given(entries=st.lists(FIELDS, min_size=1, max_size=6))
def test_every_entry_of_the_stream_ends_in_the_ledger_and_leaves(engine, shared_redis, entries):
    empty(engine)
    with connect(shared_redis.url) as client:
        client.flushall()
        stream = Intake(client, "c1")
        stream.prepare()
        good = {**JPY, "reference": f"good-{uuid.uuid4()}", "payment": {"id": f"p-{uuid.uuid4()}"}}
        numbers = [client.xadd(INTAKE, fields) for fields in (*entries, {"job": json.dumps(good)})]
        accepted = take(engine, stream, stream.read(100, block=1))

        assert stream.waiting() == 0
        assert client.xpending(INTAKE, GROUP)["pending"] == 0
    with engine.ledger.read() as connection:
        kept = {each["source"] for each in rejected.listed(connection)}
        made = {row.reference for row in connection.execute(select(refund.c.reference))}
    assert good["reference"] in made
    assert kept < {f"stream:{number.decode()}" for number in numbers}
    assert accepted + len(kept) == len(numbers)
    assert_books_hold(engine)


# -- the Celery task --------------------------------------------------------------------------------------------------


@pytest.fixture
def run_task(engine, monkeypatch):
    """Runs `refunds.submit` as a worker would, on our engine."""
    monkeypatch.setattr(jobs, "runtime", lambda: SimpleNamespace(engine=engine))

    def run(job: Any) -> Any:
        content_type, encoding, body = serialization.dumps({"job": job}, serializer="json")
        arrived = serialization.loads(body, content_type, encoding, accept=["application/json"])
        return jobs.submit.apply(kwargs=arrived, task_id=str(uuid.uuid4()), throw=False)

    return run


@settings(EXAMPLES, max_examples=40)
@given(job=hostile_jobs() | VALUES)
def test_whatever_a_celery_shop_sends_is_accepted_or_kept(engine, run_task, job):
    empty(engine)
    result = run_task(job)

    assert result.successful(), result.traceback
    assert count(engine, refund) + count(engine, dead_letter) == 1
    assert_books_hold(engine)


@pytest.mark.parametrize(
    "changes",
    [
        {"not_before": datetime(2026, 1, 31, tzinfo=UTC)},
        {"reference": uuid.UUID(int=7)},
        {"amount": Decimal(10)},
        {"description": b"bytes"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_kombu_can_carry_and_json_cannot_is_accepted_or_kept(engine, run_task, changes):
    empty(engine)
    run_task({**JPY, **changes})

    assert count(engine, refund) + count(engine, dead_letter) == 1


def test_the_same_task_twice_is_one_dead_letter(engine, run_task, monkeypatch):
    empty(engine)
    for _ in range(2):
        take_one(engine, {**JPY, "amount": 1.5}, "celery:the-same", actor="celery", via="celery")

    assert count(engine, dead_letter) == 1
