"""One PostgreSQL for all workers of a test run: `python -m tests.support.shared_postgres FOLDER` keeps it.

The first worker that needs it starts the keeper. Every worker holds the writing end of a pipe; when the last
one is gone, however it ended, the keeper reads the pipe's end and removes the server.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import wait_until
from tests.support.servers import Databases, PostgresServer


class SharedPostgres:
    """This worker's share in the server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pipe: int | None = None

    def join(self) -> Databases:
        """The databases of the server, which stays until `leave`."""
        with _locked(self._folder):
            if not self._opened():
                self._launch()
        return Databases(int(_port(self._folder).read_text()))

    def leave(self) -> None:
        """This worker needs it no more."""
        if self._pipe is not None:
            os.close(self._pipe)
        self._pipe = None

    def _opened(self) -> bool:
        """Whether a keeper reads at the other end."""
        try:
            self._pipe = os.open(_pipe(self._folder), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return False
        return True

    def _launch(self) -> None:
        _port(self._folder).unlink(missing_ok=True)
        if not _pipe(self._folder).exists():
            os.mkfifo(_pipe(self._folder))
        log = self._folder / "postgres-keeper.log"
        with log.open("ab") as out:
            subprocess.run(
                [sys.executable, "-m", __name__, str(self._folder)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                check=True,
            )
        try:
            wait_until(self._opened, what="the keeper of PostgreSQL")
            wait_until(lambda: _port(self._folder).exists() or not self._kept(), timeout=60, what="PostgreSQL")
            assert self._kept(), "PostgreSQL did not start"
        except AssertionError as error:
            raise RuntimeError(f"{error}:\n{log.read_text()}") from error

    def _kept(self) -> bool:
        """Whether the keeper is still there."""
        try:
            os.close(os.open(_pipe(self._folder), os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True


def keep(folder: Path) -> None:
    """Run the server until nobody holds the pipe."""
    pipe = os.open(_pipe(folder), os.O_RDONLY | os.O_NONBLOCK)
    server = PostgresServer()
    try:
        server.start()
        draft = folder / "postgres.port.new"
        draft.write_text(str(server.port))
        draft.replace(_port(folder))
        _wait_for_the_last(pipe, folder)
        server.stop()
    finally:
        server.remove()


def _wait_for_the_last(pipe: int, folder: Path) -> None:
    os.set_blocking(pipe, True)
    while True:
        os.read(pipe, 1)  # nobody writes: it returns when the last writer is gone
        with _locked(folder):
            if _is_abandoned(pipe):
                os.close(pipe)
                return


def _is_abandoned(pipe: int) -> bool:
    """Under the lock: whether nobody joined since."""
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False
    finally:
        os.set_blocking(pipe, True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _pipe(folder: Path) -> Path:
    return folder / "postgres.pipe"


def _port(folder: Path) -> Path:
    return folder / "postgres.port"


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # the worker waits for this one only; the keeper outlives it
    keep(Path(sys.argv[1]))
