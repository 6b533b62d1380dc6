"""Programs that `up` and `demo` run beside themselves: in sessions of their own, ended together with this one."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PYTHON = (sys.executable, "-m")


class Child:
    """One program. To be started by the main thread: on Linux it ends when that does."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path | None = None
    ) -> None:
        self.name = name
        self._command = list(command)
        self._env = dict(env)
        self._cwd = cwd
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again). What it says goes into its log, else where this program's words go."""
        out = None if self.log is None else self.log.open("ab")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a command of ours
                self._command,
                cwd=self._cwd,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # a Ctrl-C is for this program, which ends the others in order
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - it only makes one system call
            )
        finally:
            if out is not None:
                out.close()

    @property
    def pid(self) -> int | None:
        """Its process id; None before the first start."""
        return None if self._process is None else self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs, or was never started."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def ask_to_stop(self) -> None:
        """Tell it to finish what it does and end."""
        if self._process is not None and self.running:
            self._process.terminate()

    def kill(self) -> None:
        """End it and everything that it started, at once."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):  # its children may outlive it
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        if self.log is None or not self.log.exists():
            return ""

        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def stop_all(children: Iterable[Child], grace: float) -> None:
    """Ask all to stop, give them `grace` seconds together, then end what is left."""
    ending = list(children)
    for child in ending:
        child.ask_to_stop()
    deadline = time.monotonic() + grace
    try:
        while any(child.running for child in ending) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        for child in ending:
            child.kill()


def worker_command(*, processes: int, queues: Sequence[str], name: str | None = None) -> list[str]:
    """A queue worker: a prefork pool, and beside it the companion that reads the stream."""
    options = [
        "worker",
        "--pool=prefork",
        f"--concurrency={processes}",
        f"--queues={','.join(queues)}",
        "--without-mingle",
        "--without-gossip",
    ]

    return [*_PYTHON, "celery", "--quiet", "-A", "worker.app", *options, *([f"--hostname={name}@%h"] if name else [])]


def beat_command() -> list[str]:
    """The clock. Its schedule is kept in memory: each job is due every few seconds, and none is harmed by one more."""
    return [
        *_PYTHON,
        "celery",
        "--quiet",
        "-A",
        "worker.app",
        "beat",
        "--scheduler=celery.beat:Scheduler",
        "--pidfile=",
    ]


def api_command(*, host: str, port: int) -> list[str]:
    """HTTP for machines."""
    return [*_PYTHON, "api", f"--host={host}", f"--port={port}"]


def openapi_command() -> list[str]:
    """The API's OpenAPI document, on stdout."""
    return [*_PYTHON, "api", "--openapi"]


def console_command(*, host: str, port: int, link: bool = False) -> list[str]:
    """The pages for people. `link`: print one that signs in, even where stderr is no terminal."""
    return [*_PYTHON, "console", f"--host={host}", f"--port={port}", *(["--link"] if link else [])]


def sandbox_command(*, host: str, port: int, seed: int | None = None, faults: Path | None = None) -> list[str]:
    """The five providers, simulated."""
    options = [f"--host={host}", f"--port={port}"]
    options += [] if seed is None else [f"--seed={seed}"]
    options += [] if faults is None else [f"--faults={faults}"]

    return [*_PYTHON, "sandbox", *options]


def _die_with(parent: int) -> Callable[[], None] | None:
    """What the new process does before it becomes the program: ask to be ended together with its parent."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return ask
