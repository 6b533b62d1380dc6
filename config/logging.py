"""The one log pipeline: structlog's lines and the standard library's leave by the same door, redacted."""

import json
import logging
import os
import re
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

import structlog
from structlog.typing import Processor

from config.redaction import redact
from config.reports import reporters

#: These bring handlers and levels of their own.
_TAKEN_OVER = ("celery", "celery.task", "celery.redirected", "uvicorn", "uvicorn.error", "uvicorn.access")
#: These say something for every request, or at level DEBUG whole messages.
#: `celery.app.trace` and `celery.worker.strategy` say two lines for every doorbell.
_QUIET = (
    "celery.app.trace",
    "celery.pool",
    "celery.worker.strategy",
    "httpx",
    "httpcore",
    "aiohttp.access",
    "asyncio",
    "kombu",
    "sqlalchemy",
    "amqp",
)


#: Where Celery begins to quote a message that it cannot take, which may be a job.
_QUOTED = re.compile(r"The full contents of the message|\n+body: ")


def configure(level: str, json: bool | None = None, stream: TextIO | None = None) -> None:  # noqa: FBT001
    """Send every log line of this process to `stream` (stdout) in one form; a second call replaces the first.

    `json=None` means JSON lines, unless the stream is a terminal.
    """
    out = stream or sys.stdout
    _configure_standard_library(level, _handler(out, json=not out.isatty() if json is None else json))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda thread: _uncaught(thread.exc_type, thread.exc_value, thread.exc_traceback)


def said(logger: str, words: str) -> None:
    """A line out of a signal's handler: written at once, for the log's locks may be held."""
    line = {"event": words.strip(), "logger": logger, "level": "info", "timestamp": f"{datetime.now(UTC):%FT%T.%fZ}"}
    os.write(1, f"{json.dumps(line)}\n".encode())


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """What ends a process or a thread is a line like every other."""
    if error is None or issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger(__name__).critical("process.failed", exc_info=(kind, error, trace))


def _shared() -> list[Processor]:
    """What happens to every line, ours or another's."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _handler(stream: TextIO, *, json: bool) -> logging.Handler:
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.JSONRenderer(ensure_ascii=False) if json else _console(),
    ]
    handler = logging.StreamHandler(stream)
    handler.addFilter(_without_messages)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_shared(), processors=last))
    return handler


def _without_messages(record: logging.LogRecord) -> bool:
    if record.name.startswith("celery.worker") and _QUOTED.search(said := record.getMessage()):
        record.msg, record.args = _QUOTED.split(said, maxsplit=1)[0].rstrip(), ()

    return True


def _console() -> Processor:
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _configure_standard_library(level: str, handler: logging.Handler) -> None:
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers[:] = [handler, *reporters()]
    root.setLevel(level)
    for name in _TAKEN_OVER:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
