import pytest
import redis
from sqlalchemy import exc

from domain.errors import (
    ConfigurationError,
    Conflict,
    FieldError,
    Forbidden,
    InvalidJob,
    NotFound,
    QuotaExceeded,
    RefundError,
    Refused,
    Unauthenticated,
)
from engine.problems import problem_of

FAULT = FieldError("#/amount", "is missing")


def internal(sqlstate):
    said = Exception("said by the server")
    said.sqlstate = sqlstate
    return exc.InternalError("INSERT", {}, said)


@pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        (InvalidJob(FAULT), 422, "validation-failed", False),
        (InvalidJob(FAULT, code="malformed-json"), 400, "malformed-json", False),
        (InvalidJob(FAULT, code="body-too-large"), 413, "body-too-large", False),
        (Refused("amount-exceeds-refundable", "no"), 422, "amount-exceeds-refundable", False),
        (Refused("expect-refundable-differs", "no"), 412, "expect-refundable-differs", False),
        (Refused("cursor-invalid", "no"), 400, "cursor-invalid", False),
        (Conflict("reference-conflict", "no"), 409, "reference-conflict", False),
        (NotFound("not-found", "no"), 404, "not-found", False),
        (Forbidden("forbidden", "no"), 403, "forbidden", False),
        (Unauthenticated("unauthenticated", "no"), 401, "unauthenticated", False),
        (QuotaExceeded("jobs-per-hour", "no", retry_after=5), 429, "quota-exceeded", True),
        (ConfigurationError("a.b: expected more"), 500, "settings-invalid", True),
        (exc.OperationalError("SELECT 1", {}, Exception("gone\nmore")), 503, "database-unreachable", True),
        (internal("25006"), 503, "database-unreachable", True),  # read-only
        (internal("25P03"), 503, "database-unreachable", True),  # idle for too long
        (internal("25P04"), 503, "database-unreachable", True),  # at work for too long
        (exc.InterfaceError("INSERT", {}, Exception("closed")), 503, "database-unreachable", True),
        (exc.TimeoutError("pool"), 503, "overloaded", True),
        (redis.ConnectionError("gone"), 503, "redis-unreachable", True),
    ],
)
def test_each_refusal_is_one_problem(error, status, code, retryable):
    document = problem_of(error).document()

    assert (document["status"], document["code"], document["retryable"]) == (status, code, retryable)
    assert document["type"].endswith(code)
    assert "more\n" not in document["detail"]


def test_a_problem_names_each_field():
    assert problem_of(InvalidJob(FAULT)).document()["errors"] == [{"pointer": "#/amount", "detail": "is missing"}]


def test_a_quota_says_which_and_until_when():
    problem = problem_of(QuotaExceeded("jobs-per-hour", "no", retry_after=5))

    assert problem.retry_after == 5
    assert problem.document()["violated-policies"] == ["jobs-per-hour"]


@pytest.mark.parametrize("error", [ValueError("ours"), RefundError("ours"), KeyError("ours"), internal("XX000")])
def test_a_defect_is_no_problem_of_the_caller(error):
    assert problem_of(error) is None
