"""The demo's machines: a Redis, a ledger, the sandbox, workers and beat, all private and all gone afterwards."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cli import simulated, toml
from cli.children import Child, beat_command, stop_all, worker_command
from cli.embedded import EmbeddedRedis, make_keys
from config.celery import QUEUES
from config.logging import configure as configure_logging
from config.settings import Settings, load_settings
from engine.bootstrap import Engine
from ledger import migrate
from tasks.app import configure
from tasks.runtime import engine_with_bells

STOP_SECONDS = 8.0
PROCESSES = 2
#: Everything shorter than in life, so that lost answers and lost workers are found out about in seconds.
PACE: dict[str, Any] = {
    "connect_timeout": 1,
    "read_timeout": 2,
    "lease": 8,
    "lookup_delay": 0.5,
    "poll_schedule": [0.5, 1, 2],
    "poll_horizon": 14,
    "retry_backoff": {"base": 0.2, "cap": 1},
    "breaker": {"failures": 40, "window": 10, "cooldown": 1},
}


class WorldFailed(RuntimeError):
    """A program of the demo has ended; the message says which, with its last words."""


@dataclass
class World:
    """What runs, and how to reach it."""

    folder: Path
    environ: Mapping[str, str]
    sandbox: httpx.Client
    settings: Settings
    engine: Engine
    beat: Child
    workers: list[Child] = field(default_factory=list)

    def start_worker(self) -> Child:
        """One more worker."""
        name = f"worker-{len(self.workers) + 1}"
        child = _child(self.folder, name, worker_command(processes=PROCESSES, queues=QUEUES, name=name), self.environ)
        child.start()
        self.workers.append(child)

        return child

    def check(self) -> None:
        """Raises WorldFailed when something that should run has ended."""
        for child in (self.beat, *self.workers):
            if child.status is not None and child.status >= 0:
                raise WorldFailed(f"{child.name} ended by itself ({child.status}):\n{child.last_words()}")


@contextmanager
def private_folder(*, keep: bool) -> Iterator[Path]:
    """A folder for everything; afterwards gone unless it is to be kept."""
    if keep:
        yield Path(tempfile.mkdtemp(prefix="refundry-demo-"))
        return
    with tempfile.TemporaryDirectory(prefix="refundry-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def running(folder: Path, seed: int) -> Iterator[World]:
    """Start everything but the workers; stop everything at the end, however it comes."""
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(folder / "redis"))
        environ = _environment(folder)
        sandbox = simulated.child(folder, environ, port=0, seed=seed)
        stack.callback(sandbox.kill)
        sandbox.start()
        url = simulated.address(sandbox)
        client = stack.enter_context(httpx.Client(base_url=url, timeout=10))
        environ["REFUNDRY_CONFIG"] = str(_write_settings(folder, redis.url, simulated.accounts(url)))
        with (folder / "demo.log").open("w", encoding="utf-8") as log:
            configure_logging("INFO", json=True, stream=log)
            settings = load_settings(environ, folder)
            migrate.upgrade(settings.database.url)
            configure(settings)
            world = World(folder, environ, client, settings, engine_with_bells(settings), _beat(folder, environ))
            stack.callback(world.engine.close)
            stack.callback(lambda: stop_all([world.beat, *world.workers], STOP_SECONDS))
            world.beat.start()
            with stack.pop_all():
                yield world


def _environment(folder: Path) -> dict[str, str]:
    """For the children: nobody's settings, and what they leave lying about stays in our folder."""
    (folder / "tmp").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REFUNDRY_")}

    return {**kept, "TMPDIR": str(folder / "tmp")}


def _child(folder: Path, name: str, command: list[str], environ: Mapping[str, str]) -> Child:
    return Child(name, command, env=environ, cwd=folder, log=folder / f"{name}.log")


def _beat(folder: Path, environ: Mapping[str, str]) -> Child:
    return _child(folder, "beat", beat_command(), environ)


def _write_settings(folder: Path, redis_url: str, accounts: Mapping[str, Mapping[str, Any]]) -> Path:
    """A settings file as a person would write it, with the sandbox's accounts."""
    path = folder / "refundry.toml"
    path.touch(mode=0o600)
    path.write_text(
        toml.dumps(
            {
                "database": {"url": f"sqlite:///{folder / 'ledger.db'}"},
                "redis": {"url": redis_url},
                "security": make_keys(folder / "keys"),
                "accounts": {name: {**account, **PACE} for name, account in accounts.items()},
            }
        ),
        encoding="utf-8",
    )

    return path
