"""`refundry up`: everything in one terminal, restarted when it dies, stopped together."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from sqlalchemy import make_url

from cli import embedded, simulated
from cli.children import Child, api_command, beat_command, console_command, stop_all, worker_command
from cli.embedded import EmbeddedRedis
from cli.errors import Unusable
from cli.processes import Host, Port
from cli.session import SANDBOX_ACCOUNTS, environment
from config.celery import QUEUES
from config.settings import Settings, load_settings
from config.sources import Tree
from engine.bootstrap import build_accounts
from ledger import migrate
from sandbox.server import DEFAULT_PORT as SANDBOX_PORT
from tasks.app import longest_call

PAUSE = 0.2
#: What ends within so many seconds of its start is started again only after as many.
TOO_SOON = 5.0
GRACE = 10.0
FIRST_PORT = 8080
PORTS_TRIED = 50

Processes = Annotated[int | None, typer.Option(min=1, help="Worker processes; by default twice the cores.")]
WithSandbox = Annotated[
    bool, typer.Option("--sandbox", help="Run the simulated providers as well, with an account at each.")
]


class _Stopped(Exception):
    """Ctrl-C, or SIGTERM."""


def run_up(
    *, host: Host = "127.0.0.1", port: Port = 8080, processes: Processes = None, sandbox: WithSandbox = False
) -> None:
    """Run everything in one terminal.

    Redis (embedded unless one is configured), migrations, worker, beat, the HTTP API on --port and the console on the
    one after it, or on the next ones that are free. Ctrl-C stops all of it in order: what is on its way to a provider
    is finished first.
    """
    with ExitStack() as stack, _stoppable():
        _run(stack, processes or 2 * (os.cpu_count() or 1), host, port, sandbox=sandbox)


def _run(stack: ExitStack, processes: int, host: str, port: int, *, sandbox: bool) -> None:
    defaults: Tree = {"security": embedded.make_keys()}
    if load_settings(defaults=defaults).redis.url is None:
        redis = EmbeddedRedis()
        stack.callback(redis.stop)
        defaults["redis"] = {"url": redis.start()}
    if sandbox:
        defaults["accounts"] = _start_sandbox(stack)
    settings = load_settings(defaults=defaults)
    longest = longest_call(list(build_accounts(settings.accounts).values()))
    migrate.upgrade(settings.database.url)
    port = _next_free(port)
    children = _children(processes, host, port, _environment(settings, defaults))
    stack.callback(lambda: stop_all(children, longest + GRACE))
    for child in children:
        child.start()
    _introduce(settings, f"http://{host}:{port}")
    _watch(children)


def _next_free(port: int) -> int:
    """The port itself, or the next one that nobody listens on."""
    first = port or FIRST_PORT
    found = next((each for each in range(first, first + PORTS_TRIED) if embedded.is_free(each)), None)
    if found is None:
        raise Unusable(f"no port from {first} to {first + PORTS_TRIED - 1} is free: give another --port")

    return found


def _children(processes: int, host: str, port: int, environ: Mapping[str, str]) -> list[Child]:
    commands = {
        "api": api_command(host=host, port=port),  # first: it is up before the others
        "worker": worker_command(processes=processes, queues=QUEUES),
        "beat": beat_command(),
        "console": console_command(host=host, port=_next_free(port + 1), link=True),
    }

    return [Child(name, command, env=environ, cwd=Path.cwd()) for name, command in commands.items()]


def _environment(settings: Settings, defaults: Tree) -> dict[str, str]:
    """For the children, which know the settings file and the variables, but not our defaults."""
    environ = environment(settings)
    if "accounts" in defaults:
        given: dict[str, Any] = json.loads(environ.get("REFUNDRY_ACCOUNTS") or "{}")
        environ["REFUNDRY_ACCOUNTS"] = json.dumps({**defaults["accounts"], **given})

    return environ


def _start_sandbox(stack: ExitStack) -> dict[str, Any]:
    """The simulated providers; their accounts are left where other commands of this folder find them."""
    embedded.private_folder(embedded.FOLDER)
    port = SANDBOX_PORT if embedded.is_free(SANDBOX_PORT) else 0
    child = simulated.child(embedded.FOLDER.absolute(), os.environ, port=port)
    stack.callback(child.kill)
    child.start()
    try:
        accounts = simulated.accounts(simulated.address(child))
    except simulated.DidNotStart as error:
        raise Unusable(str(error)) from None
    path = embedded.FOLDER / SANDBOX_ACCOUNTS
    stack.callback(lambda: path.unlink(missing_ok=True))
    embedded.write_private(path, json.dumps(accounts))

    return accounts


def _introduce(settings: Settings, api: str) -> None:
    ledger = make_url(settings.database.url).render_as_string(hide_password=True)
    redis = urlsplit(settings.redis.url or "")
    _say(f"Redis     {redis.hostname or redis.path}{f':{redis.port}' if redis.port else ''}")
    _say(f"ledger    {ledger}")
    _say(f"API       {api}  (a key: refundry keys create --name shop --scope refunds:write --scope refunds:read)")
    _say(f"accounts  {', '.join(settings.accounts) or 'none'}")
    if not settings.accounts:
        _say("          add one to refundry.toml (see refundry.example.toml), or try it out: refundry up --sandbox")
    _say("jobs      XADD refundry:intake * job '{…}', or in this folder: refundry submit FILE, refundry refunds create")
    _say("Ctrl-C stops everything")


def _watch(children: Sequence[Child]) -> None:
    """Start again what has ended."""
    started = {child.name: time.monotonic() for child in children}
    while True:
        time.sleep(PAUSE)
        for child in children:
            if child.running:
                continue
            wait = TOO_SOON if time.monotonic() - started[child.name] < TOO_SOON else 0.0
            _say(f"the {child.name} has ended ({child.status}); it is started again{' in 5 seconds' if wait else ''}")
            time.sleep(wait)
            child.start()
            started[child.name] = time.monotonic()


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block; a second Ctrl-C ends the patience with what is being stopped."""

    def stop(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        raise _Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        yield
    except _Stopped:
        _say("stopping: what is on its way is finished first; Ctrl-C again ends it at once")


def _say(words: str) -> None:
    sys.stderr.write(f"refundry: {words}\n")
