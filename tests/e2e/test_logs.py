"""What the processes write: one JSON line per event on stdout, Celery's and uvicorn's lines included."""

import json
import signal
import sys

import httpx
import pytest

from tests.support.processes import LocalProcess, free_port, wait_until
from tests.support.stack import ROOT, Stack

pytestmark = pytest.mark.timeout(240)


class Separate(Stack):
    """A stack whose processes run as in production, with stderr in a file beside their log."""

    def run(self, name, *arguments):
        """`refundry` with these arguments."""
        command = [sys.executable, "-c", "from cli.main import main; main()", *arguments]
        aside = ["sh", "-c", 'exec "$@" 2>"$0"', str(self.folder / f"{name}.stderr"), *command]
        env = {"REFUNDRY_CONFIG": str(self.folder / "refundry.toml"), "PYTHONPATH": str(ROOT)}
        process = LocalProcess(name, aside, self.folder, env=env)
        self.processes.append(process)
        process.start()
        return process

    def said_aside(self, name):
        return (self.folder / f"{name}.stderr").read_text()


@pytest.fixture
def system(tmp_path, sqlite_url, redis_server):
    stack = Separate(tmp_path / "stack", sqlite_url, redis_server)
    yield stack.start(workers=0, beats=0)
    stack.stop()


def lines(process):
    """Every line of its stdout, read as JSON."""
    said = process.logs().decode().splitlines()
    assert [line for line in said if not line.startswith("{")] == [], process.name
    return [json.loads(line) for line in said]


def answers(url):
    try:
        return httpx.get(url).status_code < 500
    except httpx.TransportError:
        return False


def test_every_line_of_every_process_is_json_and_says_who_what_and_when(system):
    api_port, console_port = free_port(), free_port()
    running = {
        "worker": system.run("worker", "worker", "--processes", "2"),
        "beat": system.run("beat", "beat"),
        "api": system.run("api", "api", "--port", str(api_port)),
        "console": system.run("console", "console", "--port", str(console_port)),
    }
    system.faults({"provider": "smartpay", "fault": "wrong_amount", "probability": 0.5})
    system.enqueue([*system.jobs("smartpay", 10), {"amount": 1.5}])
    for port in (api_port, console_port):
        wait_until(lambda port=port: answers(f"http://127.0.0.1:{port}/"), timeout=120, what="an answer")
        httpx.get(f"http://127.0.0.1:{port}/nowhere?secret=x")
    system.settle(10, allow=frozenset({"review"}))
    system.redis.kill()
    running["worker"].wait_for_log("companion.waiting")
    running["beat"].wait_for_log("Connection")
    system.redis.start()
    running["worker"].kill(signal.SIGTERM)
    for process in running.values():
        process.kill(signal.SIGTERM)
    for process in running.values():
        process.wait(60)

    loggers = set()
    for name, process in running.items():
        said = lines(process)
        assert said, name
        for line in said:
            assert {"timestamp", "level", "event", "logger"} <= line.keys(), (name, line)
            assert line["timestamp"].endswith("Z")
        loggers |= {line["logger"].partition(".")[0] for line in said}
        assert "Traceback" not in system.said_aside(name)
    assert {"celery", "uvicorn", "engine", "worker", "api"} <= loggers


def test_what_ends_a_process_is_a_line_too(tmp_path):
    program = (
        "from config.logging import configure; configure('INFO', json=True); raise ValueError('for ann@example.com')"
    )
    process = LocalProcess("broken", [sys.executable, "-c", program], tmp_path, env={"PYTHONPATH": str(ROOT)})
    process.start()

    assert process.wait() == 1
    (line,) = lines(process)
    assert (line["event"], line["level"]) == ("process.failed", "critical")
    assert "ValueError: for [redacted]" in line["exception"]
