import os
import sys

import pytest

from cli.children import Child
from cli.simulated import DidNotStart, address
from config.celery import QUEUES
from tests.unit.cli.conftest import SETTINGS


@pytest.fixture
def executed(monkeypatch):
    """What the program would have become."""
    calls = []
    monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
    return calls


def test_a_worker_becomes_celery_with_all_queues(home, executed, refundry):
    assert refundry("worker").status == 0

    ((program, command, environ),) = executed
    assert program == command[0]
    assert "--pool=prefork" in command
    assert f"--concurrency={2 * os.cpu_count()}" in command
    assert f"--queues={','.join(QUEUES)}" in command
    assert {"--without-mingle", "--without-gossip"} < set(command)
    assert environ["REFUNDRY_REDIS_URL"] == "redis://127.0.0.1:1/0"


def test_processes_and_queues_are_chosen(home, executed, refundry):
    assert refundry("worker", "--processes", "3", "--queues", "refundry.poll, refundry.send").status == 0

    ((_, command, _),) = executed
    assert "--concurrency=3" in command
    assert "--queues=refundry.poll,refundry.send" in command


def test_beat_becomes_celery_beat(home, executed, refundry):
    assert refundry("beat").status == 0

    assert "beat" in executed[0][1]


@pytest.mark.parametrize("arguments", [("worker", "--queues", "default"), ("worker", "--processes", "0")])
def test_what_cannot_be_worked_is_a_usage_fault(home, executed, refundry, arguments):
    assert refundry(*arguments).status == 2
    assert executed == []


@pytest.mark.parametrize("command", ["worker", "beat", "console"])
def test_nobody_works_on_a_database_that_is_not_up_to_date(home, executed, refundry, command):
    (home / "ledger.db").unlink()

    told = refundry(command)

    assert told.status == 2
    assert "refundry db upgrade" in told.err
    assert executed == []


def test_a_worker_without_accounts_says_so(home, executed, refundry):
    (home / "refundry.toml").write_text(SETTINGS[: SETTINGS.index("[accounts.shop]")])

    assert "no account" in refundry("worker").err


@pytest.mark.parametrize(
    ("name", "content"), [("missing.toml", None), ("bad.toml", "faults = ["), ("odd.json", '[{"fault": "rain"}]')]
)
def test_a_wrong_file_of_faults_is_a_usage_fault(folder, refundry, name, content):
    if content is not None:
        (folder / name).write_text(content)

    told = refundry("sandbox", "--faults", name)

    assert told.status == 2
    assert name in told.err


def test_a_sandbox_that_ends_at_once_is_told_with_its_last_words(tmp_path):
    sandbox = Child(
        "sandbox", [sys.executable, "-c", "exit('no port')"], env=os.environ, cwd=tmp_path, log=tmp_path / "log"
    )
    sandbox.start()

    with pytest.raises(DidNotStart, match="no port"):
        address(sandbox)
