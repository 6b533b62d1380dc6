"""What went wrong, for a person in one line and for a program as RFC 9457 problem details, and the exit status."""

import json
import sys
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import typer
from kombu.exceptions import OperationalError as BrokerError

from cli.embedded import EmbeddedRedisError
from config.settings import SettingsError
from domain.errors import ConfigurationError, InvalidJob
from engine.problems import Problem, away, first_line, problem_of, settings_problem


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
class Failure:
    """A problem as a command ends with it. `lines`: what a person reads; most have one."""

    exit_status: Status
    problem: Problem
    lines: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As RFC 9457 says."""
        return self.problem.document()


def failure_of(error: BaseException) -> Failure | None:
    """How a command ends after an exception; None for a defect of ours."""
    match error:
        case SettingsError():
            return _told(settings_problem(tuple(error.faults)), Status.USAGE, tuple(error.faults))
        case ConfigurationError():
            return _told(settings_problem(error.lines), Status.USAGE, error.lines)
        case InvalidJob(code="query-invalid"):
            return _usage(str(error), error.code)
        case typer.TyperException():
            return _usage(error.format_message(), "usage")
        case Unusable() | EmbeddedRedisError():
            return _usage(str(error), "unusable")
        case BrokerError():
            return _told(away("redis-unreachable", f"Redis does not answer: {first_line(error)}"), Status.UNREACHABLE)
        case _:
            problem = problem_of(error)
            return None if problem is None else _told(problem, _exit_status(problem))


def report(failure: Failure, *, as_json: bool) -> Status:
    """Tell it on stderr; answers the exit status."""
    lines = [json.dumps(failure.document(), ensure_ascii=False)] if as_json else failure.lines
    for line in lines:
        sys.stderr.write(f"{line}\n" if as_json else f"refundry: {line}\n")

    return failure.exit_status


_EXIT = {404: Status.NOT_FOUND, 409: Status.CONFLICT, 503: Status.UNREACHABLE}


def _exit_status(problem: Problem) -> Status:
    return _EXIT.get(problem.status, Status.REFUSED)


def _told(problem: Problem, exit_status: Status, lines: tuple[str, ...] = ()) -> Failure:
    return Failure(exit_status=exit_status, problem=problem, lines=lines or (problem.detail,))


def _usage(words: str, code: str) -> Failure:
    line = " ".join(words.split())

    return _told(Problem(status=400, code=code, title="Cannot be done like this", detail=line), Status.USAGE)
