import io
import json
import logging
import shutil
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import redis
import structlog

from cli import main
from cli.output import Format
from cli.session import Session
from domain.decision import Cause
from domain.refund import moved
from domain.state import State
from ledger import queries, refunds
from ledger.migrate import upgrade
from ledger.refunds import Change
from tests.support.settings import ENCRYPTION_KEY, INDEX_KEY

SETTINGS = f"""
[database]
url = "sqlite:///ledger.db"
[redis]
url = "redis://127.0.0.1:1/0"
[security]
encryption_keys = ["{ENCRYPTION_KEY}"]
index_key = "{INDEX_KEY}"
[accounts.shop]
provider = "smartretry"
base_url = "http://127.0.0.1:1"
api_key = "sk_test"
terminal_id = "ABC123"
webhook_secret = "whsec"
[accounts.other]
provider = "smartretry"
base_url = "http://127.0.0.1:1"
api_key = "sk_test"
terminal_id = "DEF456"
webhook_secret = "whsec"
"""


@dataclass(frozen=True)
class Told:
    """What a command line ended with."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)

    def problem(self) -> Any:
        return json.loads(self.err)


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory):
    """A migrated database, to be copied."""
    path = tmp_path_factory.mktemp("ledger") / "empty.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: nothing in it."""
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


class Refused(redis.Connection):
    """A connection to a server that is not there."""

    def connect(self):
        raise redis.ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused.")


@pytest.fixture
def home(folder, empty_ledger, monkeypatch):
    """A working directory with settings and an empty ledger; its Redis is away."""
    pool = redis.ConnectionPool(connection_class=Refused)
    monkeypatch.setattr("engine.bootstrap.connect", lambda _url, **_options: redis.Redis(connection_pool=pool))
    (folder / "refundry.toml").write_text(SETTINGS)
    shutil.copy(empty_ledger, folder / "ledger.db")
    return folder


@pytest.fixture
def refundry(capsys, monkeypatch):
    """Runs a command line in this process."""

    monkeypatch.setenv("COLUMNS", "400")  # so that nothing is folded

    def run(*arguments, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        status = main.run([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return Told(int(status), out, err)

    return run


@pytest.fixture
def create(home, refundry):
    """Creates a refund; answers it as JSON."""

    def make(reference="R-1", *, payment="PAY00001", amount="12.50", account="shop", more=()):
        told = refundry(
            *(
                "refunds",
                "create",
                "--account",
                account,
                "--payment",
                payment,
                "--order",
                payment.replace("PAY", "ORD"),
            ),
            *("--amount", amount, "--currency", "EUR", "--reference", reference, "-o", "json", *more),
        )
        assert told.status in (0, 5), told.err
        return told.json()

    return make


@pytest.fixture
def engine(home):
    session = Session(Format.TABLE, None)
    yield session.engine
    session.close()


@pytest.fixture
def move(engine):
    """Takes a refund to another state, as the pump would."""

    def go(reference, state, **changes):
        with engine.ledger.read() as connection:
            (before,) = queries.find(connection, reference)
        after = moved(before, State(state), engine.clock(), **changes)
        change = Change(before=before, after=after, type=f"refund.{state}", actor="test", fenced=False)
        assert engine.ledger.run(lambda connection: refunds.apply(connection, [change]))

    return go


@pytest.fixture
def review(create, move):
    """A refund in review."""

    def make(reference="R-1", cause=Cause.MISMATCH, **changes):
        made = create(reference)
        move(reference, "review", **{"cause": cause, "due_at": None, "ambiguous": True, "note": "odd", **changes})
        return made

    return make


@pytest.fixture
def people(refundry, home):
    """An admin, an operator and an approver."""
    for name, role in (("ada", "admin"), ("oli", "operator"), ("pia", "approver")):
        told = refundry("users", "create", name, "--role", role, "--actor", "system" if name == "ada" else "ada")
        assert told.status == 0, told.err
