"""A settlement file whose reader is killed twice, and that the same command ends at a terminal."""

import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from benchmarks.reconcile import ODD, fill, write
from ledger.migrate import upgrade
from tests.support.processes import free_port, wait_until
from tests.support.settings import ENCRYPTION_KEY, INDEX_KEY

ROOT = Path(__file__).parents[2]
LINES = 100_000
SHOP = '[accounts.shop]\nprovider = "smartpay"\nsecret_key = "sk_test_x"\n'


@pytest.fixture
def ledger(postgres):
    """As many refunds as the file has lines."""
    url = postgres.create(template=postgres.template("refundry_ledger", upgrade))
    fill(url, LINES)
    engine = create_engine(url)
    yield engine
    engine.dispose()
    postgres.drop(url)


@pytest.fixture
def upload(ledger, tmp_path):
    """Starts the command."""
    file = write(tmp_path / "settlement.csv", LINES)
    (tmp_path / "refundry.toml").write_text(SHOP)
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm",
        "REFUNDRY_CONFIG": str(tmp_path / "refundry.toml"),
        "REFUNDRY_DATABASE_URL": ledger.url.render_as_string(hide_password=False),
        "REFUNDRY_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "REFUNDRY_ENCRYPTION_KEYS": ENCRYPTION_KEY,
        "REFUNDRY_INDEX_KEY": INDEX_KEY,
    }
    started = []

    def start(stderr=subprocess.PIPE):
        command = [sys.executable, "-m", "cli.main", "recon", "upload", str(file), "--account", "shop", "-o", "json"]
        started.append(subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


@pytest.mark.timeout(300)
def test_a_file_is_read_on_by_the_command_that_follows_a_killed_one(ledger, upload):
    def run():
        with ledger.connect() as connection:
            found = connection.execute(text("SELECT phase, bookmark, state, compared FROM recon_run")).one_or_none()
        return found._asdict() if found else {"phase": None}

    for phase in ("load", "compare"):
        process = upload()
        wait_until(lambda wanted=phase: run()["phase"] == wanted and run()["bookmark"], timeout=90, what=phase)
        process.kill()
        assert process.communicate()[1] == b""  # no terminal, no bar
        assert run()["state"] == "running"
        with ledger.begin() as connection:  # the killed one's lease is over
            connection.execute(text("UPDATE recon_run SET lease_until = 0"))
    out, seen, status = at_a_terminal(upload)

    done = json.loads(out)
    assert (done["state"], done["compared"], done["bad_lines"]) == ("complete", LINES, 0)
    assert (done["matched"], done["differing"]) == (LINES - LINES // ODD, LINES // ODD)
    assert status == 1
    assert b"compare" in seen
    assert run()["state"] == "complete"


def at_a_terminal(upload):
    """What the command writes where stderr is a terminal: stdout, stderr, status."""
    ours, theirs = pty.openpty()
    seen = bytearray()

    def look():
        try:
            while piece := os.read(ours, 65_536):
                seen.extend(piece)
        except OSError:  # how a terminal says that nobody has it open
            pass

    process = upload(theirs)
    os.close(theirs)
    reader = threading.Thread(target=look)
    reader.start()
    out, _ = process.communicate(timeout=180)
    reader.join(30)
    os.close(ours)

    return out, bytes(seen), process.returncode
