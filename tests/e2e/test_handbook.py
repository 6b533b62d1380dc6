"""Every command of the handbook's first page, in order, in a fresh root: it must reach a running system."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import free_port
from tests.support.servers import PostgresServer, RedisServer

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "handbook" / "bare-metal.md"
STAND_IN = "<!-- stand-in: servers -->"
#: What the first part left in the shell.
SHELL = "```sh\ncd /opt/refundry\nexport PATH=/opt/refundry/.venv/bin:$PATH\n```\n"

pytestmark = pytest.mark.timeout(1200)  # it installs everything anew


def commands(text):
    """The `sh` blocks of a page, one after the other."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


class Postgres(PostgresServer):
    """As a distribution sets it up: `postgres` comes in without a password, everybody else with one."""

    def start(self):
        self._init()
        rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self.data / "pg_hba.conf").write_text(rules)
        super().start()


@pytest.fixture
def postgres_server():
    server = Postgres()
    server.start()
    yield server
    server.stop()
    server.remove()


@pytest.fixture
def root(tmp_path):
    """A fresh root with a checkout where the page has it."""
    for place in ("opt/refundry", "etc", "tmp"):
        (tmp_path / place).mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        sink = tmp_path / "opt" / "refundry" / name
        sink.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, sink)
    return tmp_path


class RedisWithUsers(RedisServer):
    """Its users' file is the one that the page made."""

    def client(self, **options):
        return super().client(username="probe", password="none", **options)


def test_the_page_reaches_a_running_system(root, postgres_server, tmp_path):
    first, second = PAGE.read_text().split(STAND_IN)
    redis_port, sandbox_port = free_port(), free_port()
    here = {
        "/opt/refundry": f"{root}/opt/refundry",
        "/etc/refundry": f"{root}/etc/refundry",
        "/tmp/": f"{root}/tmp/",
        "sudo -u postgres ": "",
        "5432": str(postgres_server.port),
        "6379": str(redis_port),
        "8090": str(sandbox_port),
    }
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON"))},
        "PATH": f"{postgres_server.programs}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres_server.port),
        "PGUSER": "postgres",
    }

    def run(part):
        script = re.sub("|".join(here), lambda found: here[found[0]], commands(part))
        log = root / "log"
        with log.open("w") as out:  # what stays in the background would keep a pipe open
            shell = subprocess.Popen(
                ["bash", "-euxc", script], cwd=root, env=environ, stdout=out, stderr=out, start_new_session=True
            )
        try:
            shell.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing of it stays behind when the test is cut short
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        assert shell.returncode == 0, log.read_text()[-6000:]
        return log.read_text()

    run(first)
    redis = RedisWithUsers(tmp_path / "redis", port=str(redis_port), aclfile=f"{root}/etc/refundry/secrets/redis_users")
    redis.port = redis_port
    try:
        redis.start()
        told = run(f"{SHELL}{second}")
    finally:
        redis.process.remove()

    assert "RMA-1" in told
    assert "fine" in told
