import io
import json
import logging
import warnings

import pytest
import structlog
from celery.worker.consumer.consumer import (
    INVALID_TASK_ERROR,
    MESSAGE_DECODE_ERROR,
    UNKNOWN_FORMAT,
    UNKNOWN_TASK_ERROR,
)

from config.logging import configure


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def lines(stream):
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_level_time_and_context(stream, lines):
    configure("INFO", stream=stream)

    structlog.contextvars.bind_contextvars(refund_id="rf_1", account="jp-store")
    structlog.get_logger("engine.pump").info("refund.claimed", attempt=1)

    (line,) = lines()
    assert line["event"] == "refund.claimed"
    assert line["level"] == "info"
    assert line["refund_id"] == "rf_1"
    assert line["account"] == "jp-store"
    assert line["attempt"] == 1
    assert line["logger"] == "engine.pump"
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("name", ["celery.worker.strategy", "uvicorn.error", "a.package"])
def test_lines_of_the_standard_library_take_the_same_way(stream, lines, name):
    configure("INFO", stream=stream)
    structlog.contextvars.bind_contextvars(request_id="req_1")

    logging.getLogger(name).warning("lost %s", "connection", extra={"data": {"kwargs": "private"}})

    (line,) = lines()
    assert line["event"] == "lost connection"
    assert line["level"] == "warning"
    assert line["request_id"] == "req_1"
    assert "private" not in stream.getvalue()


@pytest.mark.parametrize(
    ("words", "told"),
    [(UNKNOWN_FORMAT, 0), (UNKNOWN_TASK_ERROR, 1), (INVALID_TASK_ERROR, 1), (MESSAGE_DECODE_ERROR, 4)],
)
def test_a_message_that_celery_cannot_take_is_told_without_its_content(stream, lines, words, told):
    configure("INFO", stream=stream)
    content = ["John Smith"] * (words.count("%") - told)
    logging.getLogger("celery.worker.consumer.consumer").error(words, *["refunds.sumbit"] * told, *content)

    (line,) = lines()
    assert content
    assert line["event"].startswith(words[:20])
    assert "John Smith" not in stream.getvalue()


def test_a_handler_that_a_server_brought_is_taken_away(stream, lines):
    logging.getLogger("uvicorn.access").addHandler(logging.StreamHandler(io.StringIO()))
    logging.getLogger("uvicorn.access").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.access").propagate = False

    configure("INFO", stream=stream)
    logging.getLogger("uvicorn.access").info("GET /healthz")

    assert logging.getLogger("uvicorn.access").handlers == []
    assert [line["event"] for line in lines()] == ["GET /healthz"]


def test_lines_below_the_level_are_left_out(stream, lines):
    configure("WARNING", stream=stream)

    structlog.get_logger("a").info("quiet")
    logging.getLogger("b").info("quiet")
    logging.getLogger("httpx").info("GET https://example.com")
    structlog.get_logger("a").error("loud")

    assert [line["event"] for line in lines()] == ["loud"]


@pytest.mark.parametrize("logger", [structlog.get_logger("ours"), logging.getLogger("theirs")])
def test_an_exception_is_told_redacted(stream, lines, logger):
    configure("INFO", stream=stream)

    try:
        raise RuntimeError("refused for ann@example.com")
    except RuntimeError:
        logger.exception("pump.failed")

    (line,) = lines()
    assert "RuntimeError: refused for [redacted]" in line["exception"]


def test_a_second_call_replaces_the_first(stream, lines):
    configure("INFO", stream=io.StringIO())
    logger = structlog.get_logger("a").bind()
    logger.info("before")

    configure("INFO", stream=stream)
    logger.info("after")

    assert [line["event"] for line in lines()] == ["after"]
    assert len(logging.getLogger().handlers) == 1


def test_a_terminal_gets_readable_lines():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    configure("INFO", stream=terminal)

    structlog.get_logger("a").info("refund.claimed", iban="DE89370400440532013000")
    try:
        raise RuntimeError("x")
    except RuntimeError:
        structlog.get_logger("a").exception("pump.failed")

    assert "refund.claimed" in terminal.getvalue()
    assert "RuntimeError" in terminal.getvalue()
    assert "DE89" not in terminal.getvalue()
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(terminal.getvalue())


def test_warnings_are_lines_too(stream, lines):
    configure("INFO", stream=stream)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("soon gone", DeprecationWarning, stacklevel=1)

    (line,) = lines()
    assert "soon gone" in line["event"]
    assert line["logger"] == "py.warnings"
