"""Programs of two releases on one ledger, while it is brought up to date; money moves all the time.

The older program is the repository's own, as it stood before the newest migration: its history is needed. Where there
is none (an archive, a shallow clone) these tests are skipped, and `tests/unit/ledger/test_migrations.py` still holds
every migration against the rules that make them pass.
"""

import signal
import subprocess
import sys

import pytest
from sqlalchemy import text

from ledger.migrate import Fit, current, fit, head, upgrade
from tests.support import older
from tests.support.processes import wait_until
from tests.support.stack import ROOT, Stack

pytestmark = pytest.mark.timeout(600)

FAULTS = [
    {"provider": provider, "call": "refund", "fault": fault, "probability": 0.15}
    for provider in ("smartpay", "smartretry")
    for fault in ("answer_lost", "request_lost", "error_500_after")
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The older program, unpacked."""
    folder = tmp_path_factory.mktemp("older")
    if not older.unpack(folder):
        pytest.skip("needs the repository's history")
    return folder


class Rolling(Stack):
    """A stack that begins with an older program and its schema."""

    def __init__(self, program, *arguments):
        super().__init__(*arguments)
        self.program = program

    def migrate(self):
        older.migrate(self.program, self.database_url, self.folder)

    def start_older(self):
        """A worker of the older program."""
        self.root = self.program
        try:
            worker = self.start_worker()
        finally:
            self.root = ROOT
        worker.wait_for_log("ready.")
        return worker

    def start_newer(self):
        """A worker of this program."""
        worker = self.start_worker()
        worker.wait_for_log("ready.")
        return worker

    def pay(self, tag, count=15):
        """That many jobs for each of two providers."""
        for provider in ("smartpay", "smartretry"):
            self.enqueue(self.jobs(provider, count, tag=tag))

    def senders(self):
        """Who has sent attempts, by the process that did."""
        with self.engine.ledger.read() as connection:
            return set(connection.execute(text("SELECT DISTINCT worker FROM attempt")).scalars())

    def under_way(self):
        """How many refunds are neither done nor untouched."""
        return sum(count for state, count in self.states().items() if state in ("sending", "unknown", "pending"))


@pytest.fixture
def rolling(program, tmp_path, database_url, redis_server):
    stack = Rolling(program, tmp_path / "stack", database_url, redis_server)
    yield stack.start(workers=0)
    stack.stop()


def test_an_upgrade_and_the_way_back_under_load(rolling):
    system = rolling
    system.faults(*FAULTS)
    before = current(system.database_url)
    old = system.start_older()
    system.pay("old-schema-")
    wait_until(lambda: system.states().get("succeeded"), what="a first success")

    upgrade(system.database_url)
    system.pay("old-program-")
    system.settle(60, timeout=240)
    paid_by_the_old_one = system.senders()

    new = system.start_newer()
    system.pay("both-")
    wait_until(lambda: system.senders() - paid_by_the_old_one and system.under_way(), what="work of both under way")
    old.kill(signal.SIGKILL)
    system.settle(90, timeout=240)

    system.pay("new-program-")
    wait_until(system.under_way, what="work of the new one under way")
    new.kill(signal.SIGKILL)
    system.start_older()
    system.settle(120, timeout=240)

    assert before != head() == current(system.database_url)
    assert {row["state"] for row in system.rows("state")} == {"succeeded"}
    system.assert_paid_once()


def test_this_program_does_not_touch_an_older_schema_and_says_what_to_do(rolling):
    system = rolling
    config = {"REFUNDRY_CONFIG": str(system.folder / "refundry.toml"), "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "worker"],
        cwd=system.folder,
        env=config,
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 2
    assert "refundry db upgrade" in told.stderr
    assert fit(system.engine.ledger.engine) is Fit.BEHIND
