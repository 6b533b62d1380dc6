import os
import signal
import sys
import time
from pathlib import Path

import pytest

from cli.children import Child, stop_all


def program(tmp_path, code):
    return Child("program", [sys.executable, "-c", code], env=os.environ, cwd=tmp_path, log=tmp_path / "log")


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_says_its_words_into_its_log_and_ends_with_its_status(tmp_path):
    child = program(tmp_path, "print('first'); print('last'); raise SystemExit(3)")
    assert (child.running, child.status, child.pid, child.last_words()) == (False, None, None, "")

    child.start()
    until(lambda: not child.running)

    assert child.status == 3
    assert child.last_words(1) == "last"


def test_who_does_not_stop_in_time_is_ended_with_all_that_it_started(tmp_path):
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
        "time.sleep(60)"
    )
    child = program(tmp_path, code)
    child.start()
    until(lambda: child.last_words().isdigit())
    grandchild = int(child.last_words())

    stop_all([child], 0.2)

    assert child.status == -signal.SIGKILL
    until(lambda: not _lives(grandchild))


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_who_stops_when_asked_is_not_ended(tmp_path):
    child = program(
        tmp_path,
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('up', flush=True)\n"
        "time.sleep(60)",
    )
    child.start()
    until(lambda: child.last_words() == "up")

    stop_all([child], 10)

    assert child.status == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_child_ends_with_its_parent(tmp_path):
    code = (
        "import os, pathlib, sys, time\n"
        "from cli.children import Child\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "child = Child('c', command, env=os.environ, cwd=pathlib.Path('.'))\n"
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    parent = program(tmp_path, code)
    parent.start()
    until(lambda: parent.last_words().isdigit())
    grandchild = int(parent.last_words())

    os.kill(parent.pid, signal.SIGKILL)

    until(lambda: not _lives(grandchild))
    parent.kill()
