"""Faults told to Sentry: what kind of fault, where in the code, of which refund. No values, no messages of exceptions.

Off unless SENTRY_DSN is set and the extra `sentry` is installed. An event is made here of what may be told; of what the
SDK would add, only what is on the list goes out.
"""

import atexit
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from config import RELEASE
from config.redaction import clean

_ROOT = Path(__file__).parents[1]
#: What tells one fault from another; everything else of a log line stays here.
TAGS = ("refund_id", "account", "provider", "lane", "loop", "endpoint", "request_id", "trace_id", "error")
#: What an event may have besides the above.
MEMBERS = frozenset(
    {"event_id", "timestamp", "level", "logger", "platform", "release", "environment", "server_name", "message"}
    | {"tags", "exception"}
)


def reporters(environ: Mapping[str, str] = os.environ) -> list[logging.Handler]:
    """What tells of each line at level error; nothing where it is not wanted."""
    if not environ.get("SENTRY_DSN"):
        return []
    try:
        import sentry_sdk  # noqa: PLC0415 - an extra
    except ImportError:
        sys.stderr.write(
            "refundry: SENTRY_DSN is set, and the extra `sentry` is not installed: no faults are reported\n"
        )
        return []
    sentry_sdk.init(
        dsn=environ["SENTRY_DSN"],
        release=f"refundry@{RELEASE}",
        default_integrations=False,
        before_send=allowed,
        include_local_variables=False,
        include_source_context=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        auto_session_tracking=False,
    )

    atexit.register(sentry_sdk.flush, timeout=2)

    return [_Reporter(sentry_sdk.capture_event)]


def allowed(event: Any, _hint: Any) -> Any:
    """The event without anything that is not on the list."""
    return {name: value for name, value in event.items() if name in MEMBERS}


class _Reporter(logging.Handler):
    """Makes an event of a log line."""

    def __init__(self, tell: Any) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of one line; a fault of that is nobody's."""
        try:
            self._tell(event_of(record))
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)


def event_of(record: logging.LogRecord) -> dict[str, Any]:
    """What may be told of a line: its name, who said it, of what, and the kinds and places of its exceptions."""
    line: Mapping[str, Any] = record.msg if isinstance(record.msg, Mapping) else {"event": record.msg}
    found = _exception(line.get("exc_info") or record.exc_info)

    return {
        "level": "fatal" if record.levelno >= logging.CRITICAL else "error",
        "platform": "python",
        "logger": record.name,
        "message": clean("event", str(line["event"])),
        "tags": {name: str(clean(name, line[name])) for name in TAGS if line.get(name) is not None},
        **({"exception": {"values": [_kind(each) for each in _chain(found)]}} if found else {}),
    }


def _exception(given: Any) -> BaseException | None:
    """Of `exc_info` in any of its forms."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        found: BaseException | None = given[1]
        return found

    return sys.exc_info()[1] if given else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The causes first, as Sentry has them."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _chain(cause)
    yield error


def _kind(error: BaseException) -> dict[str, Any]:
    frames = [
        {"filename": _place(each.filename), "function": each.name, "lineno": each.lineno}
        for each in traceback.extract_tb(error.__traceback__)
    ]

    return {"type": type(error).__name__, "module": type(error).__module__, "stacktrace": {"frames": frames}}


def _place(filename: str) -> str:
    path = Path(filename)

    return str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else "/".join(path.parts[-3:])
