"""Local processes that look like containers, so that pytest-celery's nodes can be made of them."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until(condition: Callable[[], Any], *, timeout: float = 30, what: str = "the condition") -> None:
    """Return as soon as the condition holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about in {timeout} s"
        time.sleep(POLL_SECONDS)


class LocalProcess:
    """A process in a session of its own that dies with the test run, its output in a file.

    It has what pytest-docker-tools expects of docker's own Container object. `%h` in the command becomes
    the process's short id, as it would be the host name of a container.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        cwd: Path,
        *,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        user: int | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.name = f"{name}-{self.id[:6]}"
        self.command = [str(part).replace("%h", self.id[:12]) for part in command]
        self.cwd = cwd
        self.port = port
        self.user = user
        self.env = {**os.environ, **(env or {})}
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"
        self.log = cwd / f"{self.name}.log"
        self.attrs = {
            "Config": {
                "Hostname": "127.0.0.1",
                "Env": [f"{key}={value}" for key, value in (env or {}).items()],
            },
            "NetworkSettings": {"Networks": {}, "Ports": {}},
        }
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of the last start."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.process.poll()

    @property
    def status(self) -> str:
        """As docker says it."""
        return "running" if self._process is not None and self._process.poll() is None else "exited"

    def start(self) -> None:
        """Start it (again); what it logged before stays in the file."""
        self.log.touch()
        self._log_start = self.log.stat().st_size
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                preexec_fn=_die_with_parent,  # noqa: PLW1509  one system call
            )

    def stop(self, timeout: float = 30) -> int:
        """Ask it to end, wait, and return its exit status; AssertionError when it does not end in time."""
        self.kill(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float = 30) -> int:
        """Its exit status once it has ended."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout} s:\n{self.tail()}") from None

    def pause(self) -> None:
        """Freeze it and its children."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self, signal: str | int | None = None) -> None:
        """Send a signal: SIGKILL to the whole session, as to a container, any other to the process alone."""
        number = _signal_number(signal)
        if number == _KILL:
            self._kill_session()
        elif self.status == "running":
            self.process.send_signal(number)

    def restart(self, timeout: float = 10) -> None:
        """Stop it, by force if it must be, and start it again."""
        if self.status == "running":
            try:
                self.stop(timeout)
            except AssertionError:
                self._kill_session()
        self.start()

    def remove(self, *, force: bool = True) -> None:
        """Leave nothing of it running."""
        if self._process is not None:
            self._kill_session()

    def reload(self) -> None:
        """Docker would ask its engine; a process needs no asking."""

    def logs(self, *, this_run: bool = False) -> bytes:
        """What it wrote, since it was made or since the last start."""
        data = self.log.read_bytes() if self.log.exists() else b""
        return data[self._log_start :] if this_run else data

    def tail(self, characters: int = 3000) -> str:
        """The end of its output, for messages."""
        return self.logs().decode(errors="replace")[-characters:]

    def wait_for_log(self, text: str, *, timeout: float = 30, this_run: bool = True) -> None:
        """Return once it has logged the text; AssertionError when it ends or time runs out first."""
        deadline = time.monotonic() + timeout
        while text.encode() not in self.logs(this_run=this_run):
            ended = self.status == "exited"
            if ended and text.encode() in self.logs(this_run=this_run):
                return
            assert not ended, f"{self.name} ended ({self.returncode}) before it said {text!r}:\n{self.tail()}"
            assert time.monotonic() < deadline, f"{self.name} did not say {text!r}:\n{self.tail()}"
            time.sleep(POLL_SECONDS)

    def exec_run(self, cmd: str | Sequence[str]) -> tuple[int, bytes]:
        """Run a command where the process runs, as docker does inside a container."""
        done = subprocess.run(
            cmd,
            shell=isinstance(cmd, str),
            cwd=self.cwd,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.returncode, done.stdout

    def _kill_session(self) -> None:
        # The leader may be gone while its children live on.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(10)


_KILL = int(signal.SIGKILL)
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _die_with_parent() -> None:
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, _KILL)


def _signal_number(given: str | int | None) -> int:
    if isinstance(given, str):
        return int(signal.Signals[given])
    return _KILL if given is None else int(given)
