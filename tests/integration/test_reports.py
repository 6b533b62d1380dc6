"""What a receiver of Sentry's protocol hears of faults, on a real socket."""

import gzip
import json
import sys

import pytest

from tests.support.processes import LocalProcess
from tests.support.receiver import Receiver
from tests.support.stack import ROOT

PROGRAM = """
import logging
import structlog
from config.logging import configure

configure("INFO", json=True)


def pay(iban, api_key):
    request = {"body": "raw body with " + iban}
    raise ValueError(f"refused for {iban} with {api_key}")


try:
    try:
        pay("DE89370400440532013000", "sk_live_secret")
    except ValueError as error:
        raise RuntimeError("of ann@example.com") from error
except RuntimeError:
    structlog.get_logger("engine.steps").exception(
        "step.failed", refund_id="rf_1", account="shop", body={"iban": "DE89370400440532013000"}, why="sk_live_secret"
    )
logging.getLogger("celery.worker").error("lost %s", "sk_live_secret")
structlog.get_logger("engine.steps").warning("not.told", refund_id="rf_2")
raise KeyError("sk_live_secret")
"""


@pytest.fixture
def sentry():
    made = Receiver(answers=lambda _got: (200, {}))
    yield made
    made.close()


def told(sentry, tmp_path):
    """The events that arrived, and all bytes of them."""
    dsn = sentry.url.replace("http://", "http://public@").replace("/hooks", "/1")
    env = {"SENTRY_DSN": dsn, "SENTRY_ENVIRONMENT": "staging", "PYTHONPATH": str(ROOT)}
    process = LocalProcess("faulty", [sys.executable, "-c", PROGRAM], tmp_path, env=env)
    process.start()
    process.wait(60)
    bodies = [
        gzip.decompress(got.body) if got.headers.get("content-encoding") == "gzip" else got.body for got in sentry.got
    ]
    items = [json.loads(line) for body in bodies for line in body.splitlines()]
    return [item for item in items if "platform" in item], b"".join(bodies)


def test_faults_are_told_by_kind_and_place_and_nothing_private_goes_with_them(sentry, tmp_path):
    events, sent = told(sentry, tmp_path)
    step, celery, end = events

    assert (step["message"], step["logger"], step["level"]) == ("step.failed", "engine.steps", "error")
    assert step["tags"] == {"refund_id": "rf_1", "account": "shop"}
    assert (step["environment"], step["release"].partition("@")[0]) == ("staging", "refundry")
    cause, error = step["exception"]["values"]
    assert (cause["type"], error["type"]) == ("ValueError", "RuntimeError")
    assert cause["stacktrace"]["frames"][-1] == {"filename": "<string>", "function": "pay", "lineno": 11}
    assert (celery["message"], celery["logger"]) == ("lost %s", "celery.worker")
    assert (end["message"], end["level"], end["exception"]["values"][0]["type"]) == (
        "process.failed",
        "fatal",
        "KeyError",
    )
    for private in (b"sk_live_secret", b"DE8937", b"ann@example", b"raw body", b"rf_2"):
        assert private not in sent


def test_without_an_address_nothing_is_imported_or_told(tmp_path):
    program = (
        "import sys; from config.logging import configure; configure('INFO'); sys.exit('sentry_sdk' in sys.modules)"
    )
    process = LocalProcess("quiet", [sys.executable, "-c", program], tmp_path, env={"PYTHONPATH": str(ROOT)})
    process.start()

    assert process.wait() == 0
