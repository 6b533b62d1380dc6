"""What a refusal looks like to programs: RFC 9457 problem details, the same by every way out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from domain.errors import (
    ConfigurationError,
    Conflict,
    FieldError,
    Forbidden,
    InvalidJob,
    NotFound,
    QuotaExceeded,
    Refused,
    Unauthenticated,
)
from ledger.session import is_away

QUOTA_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
_SERVER_FAULTS = 500
#: Statuses after which the same request may succeed, unchanged.
_PASSING = frozenset({408, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem. `retry_after`: seconds; `more`: further members of the document."""

    status: int
    code: str
    title: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    retry_after: float | None = None
    type: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def retryable(self) -> bool:
        """Whether the same request, unchanged, may succeed later."""
        return self.status >= _SERVER_FAULTS or self.status in _PASSING

    def document(self) -> dict[str, Any]:
        """As RFC 9457 says."""
        return {
            "type": self.type or f"urn:refundry:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "errors": [{"pointer": each.pointer, "detail": each.detail} for each in self.errors],
            "retryable": self.retryable,
            **self.more,
        }


# What a code is called over HTTP, where its kind does not say it.
_BY_CODE = {
    "malformed-json": 400,
    "cursor-invalid": 400,
    "idempotency-key-invalid": 400,
    "body-too-large": 413,
    "expect-refundable-differs": 412,
}
_KINDS: dict[type[Refused], tuple[int, str]] = {
    NotFound: (404, "Not found"),
    Conflict: (409, "Something else stands there already"),
    Forbidden: (403, "Not allowed"),
    Unauthenticated: (401, "Who is asking?"),
}


def problem_of(error: BaseException) -> Problem | None:
    """The problem that an exception stands for; None for a defect of ours."""
    match error:
        case ConfigurationError():
            return settings_problem(error.lines)
        case InvalidJob():
            return _job(error)
        case QuotaExceeded():
            return _quota(error)
        case Refused():
            return _refusal(error)
        case DBAPIError() if is_away(error):
            return away("database-unreachable", f"the database does not answer: {first_line(error.orig or error)}")
        case PoolTimeout():
            return away("overloaded", "every connection to the database is taken")
        case redis.RedisError():
            return away("redis-unreachable", f"Redis does not answer: {first_line(error)}")
        case _:
            return None


def _job(error: InvalidJob) -> Problem:
    return Problem(
        status=_BY_CODE.get(error.code, 422),
        code=error.code,
        title="The job cannot be accepted",
        detail=str(error),
        errors=tuple(error.errors),
    )


def _refusal(error: Refused) -> Problem:
    status, title = _KINDS.get(type(error), (_BY_CODE.get(error.code, 422), "Refused"))

    return Problem(status=status, code=error.code, title=title, detail=str(error), errors=error.errors)


def _quota(error: QuotaExceeded) -> Problem:
    return Problem(
        status=429,
        code=error.code,
        title="Too much at once",
        detail=str(error),
        retry_after=error.retry_after,
        type=QUOTA_TYPE,
        more={"violated-policies": [error.policy]},
    )


def settings_problem(lines: tuple[str, ...]) -> Problem:
    """Settings that cannot be used; each line begins with the setting's full name."""
    parts = [line.partition(": ") for line in lines]

    return Problem(
        status=500,
        code="settings-invalid",
        title="The settings cannot be used",
        detail="; ".join(lines),
        errors=tuple(
            FieldError("#/" + name.replace(".", "/"), detail or name, "settings-invalid") for name, _, detail in parts
        ),
    )


def away(code: str, words: str) -> Problem:
    """Something that this needs does not answer."""
    return Problem(status=503, code=code, title="Unreachable", detail=words, retry_after=1)


def first_line(error: object) -> str:
    """What an exception of a driver says, without the rest of its story."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
