"""What went wrong, for a person in one line and for a program as RFC 9457 problem details, and the exit status."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import redis
import typer
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy.exc import InterfaceError, OperationalError

from cli.embedded import EmbeddedRedisError
from config.settings import SettingsError
from domain.errors import (
    ConfigurationError,
    Conflict,
    FieldError,
    Forbidden,
    InvalidJob,
    NotFound,
    Refused,
)


class Status(IntEnum):
    """What every command's exit status means."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    WAITS = 5
    UNREACHABLE = 6


class Unusable(Exception):
    """The command line, a file or the surroundings are not as they must be; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One problem. `lines`: what a person reads; most have one."""

    exit_status: Status
    status: int
    code: str
    title: str
    lines: tuple[str, ...]
    errors: tuple[FieldError, ...] = ()

    def document(self) -> dict[str, Any]:
        """As RFC 9457 says."""
        return {
            "type": f"urn:refundry:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": "; ".join(self.lines),
            "code": self.code,
            "errors": [{"pointer": each.pointer, "detail": each.detail} for each in self.errors],
        }


_HTTP = {
    "malformed-json": 400,
    "body-too-large": 413,
    "expect-refundable-differs": 412,
}


def problem_of(error: BaseException) -> Problem | None:
    """The problem that an exception stands for; None for a defect of ours."""
    return _asked_wrongly(error) or _refused(error) or _surroundings(error)


def _asked_wrongly(error: BaseException) -> Problem | None:
    match error:
        case SettingsError():
            return _settings(error.faults)
        case ConfigurationError():
            return _settings(error.lines)
        case InvalidJob(code="query-invalid"):
            return _usage(str(error), error.code)
        case typer.TyperException():
            return _usage(error.format_message(), "usage")
        case Unusable() | EmbeddedRedisError():
            return _usage(str(error), "unusable")
        case _:
            return None


def _refused(error: BaseException) -> Problem | None:
    match error:
        case InvalidJob():
            return _job(error)
        case Refused():
            return _refusal(error)
        case _:
            return None


def _surroundings(error: BaseException) -> Problem | None:
    match error:
        case OperationalError() | InterfaceError():
            return _away("database-unreachable", f"the database does not answer: {_first_line(error.orig or error)}")
        case redis.RedisError() | BrokerError():
            return _away("redis-unreachable", f"Redis does not answer: {_first_line(error)}")
        case _:
            return None


def report(problem: Problem, *, as_json: bool) -> Status:
    """Tell it on stderr; answers the exit status."""
    lines = [json.dumps(problem.document(), ensure_ascii=False)] if as_json else problem.lines
    for line in lines:
        sys.stderr.write(f"{line}\n" if as_json else f"refundry: {line}\n")

    return problem.exit_status


def _settings(lines: Sequence[str]) -> Problem:
    errors = [line.partition(": ") for line in lines]

    return Problem(
        exit_status=Status.USAGE,
        status=500,
        code="settings-invalid",
        title="The settings cannot be used",
        lines=tuple(lines),
        errors=tuple(
            FieldError("#/" + name.replace(".", "/"), detail or name, "settings-invalid") for name, _, detail in errors
        ),
    )


def _job(error: InvalidJob) -> Problem:
    return Problem(
        exit_status=Status.REFUSED,
        status=_HTTP.get(error.code, 422),
        code=error.code,
        title="The job cannot be accepted",
        lines=(str(error),),
        errors=tuple(error.errors),
    )


def _refusal(error: Refused) -> Problem:
    kinds: dict[type[Refused], tuple[Status, int, str]] = {
        NotFound: (Status.NOT_FOUND, 404, "Not found"),
        Conflict: (Status.CONFLICT, 409, "Something else stands there already"),
        Forbidden: (Status.REFUSED, 403, "Not allowed"),
    }
    exit_status, status, title = kinds.get(type(error), (Status.REFUSED, _HTTP.get(error.code, 422), "Refused"))

    return Problem(
        exit_status=exit_status,
        status=status,
        code=error.code,
        title=title,
        lines=(str(error),),
        errors=error.errors,
    )


def _usage(words: str, code: str) -> Problem:
    line = " ".join(words.split())

    return Problem(exit_status=Status.USAGE, status=400, code=code, title="Cannot be done like this", lines=(line,))


def _away(code: str, words: str) -> Problem:
    return Problem(exit_status=Status.UNREACHABLE, status=503, code=code, title="Unreachable", lines=(words,))


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
