"""`refundry worker`, `beat`, `api`, `console` and `sandbox`: programs that run until they are stopped."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cli.children import api_command, beat_command, console_command, openapi_command, worker_command
from cli.errors import Unusable
from cli.output import Format
from cli.session import Session, environment
from config.celery import QUEUES
from engine.account import Account
from sandbox import server
from sandbox.faults import FieldError

CONSOLE_PORT = 8081
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 takes a free one.")]


def run_worker(
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes of the pool; by default twice the cores.")
    ] = None,
    queues: Annotated[str | None, typer.Option(help="Only these queues, with commas: " + ",".join(QUEUES))] = None,
) -> None:
    """Run a queue worker.

    It sends refunds, finds out about lost answers, and takes jobs from the Redis stream and the Celery queue.
    """
    chosen = _queues(queues)
    _become(worker_command(processes=processes or 2 * (os.cpu_count() or 1), queues=chosen))


def run_beat() -> None:
    """Run the clock that rings for due work.

    One is enough; two do no harm; without one the workers ring for themselves.
    """
    _become(beat_command())


def run_api(host: Host = "127.0.0.1", port: Port = 8080) -> None:
    """Run the HTTP API for machines.

    Jobs are accepted as long as the ledger answers, with or without Redis. See `refundry keys` and docs/api.md.
    """
    _become(api_command(host=host, port=port))


def show_openapi() -> None:
    """Write the API's OpenAPI 3.1 document to stdout."""
    command = openapi_command()
    os.execv(command[0], command)  # noqa: S606 - a command of ours


def run_console(host: Host = "127.0.0.1", port: Port = CONSOLE_PORT) -> None:
    """Run the pages for people: search, dead letters, approvals, accounts, audit.

    On a loopback address it prints a link that signs in once, while no user exists or for REFUNDRY_ACTOR.
    """
    _become(console_command(host=host, port=port))


def run_sandbox(
    host: Host = server.DEFAULT_HOST,
    port: Port = server.DEFAULT_PORT,
    faults: Annotated[Path | None, typer.Option(metavar="FILE", help="What goes wrong, as TOML or JSON.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same faults.")] = None,
) -> None:
    """Run the five providers, simulated.

    GET /_sandbox/credentials tells the account settings, POST /_sandbox/payments makes payments to refund.
    """
    try:
        with suppress(KeyboardInterrupt):
            server.run(host, port, faults, seed)
    except FieldError as error:
        raise Unusable(f"{faults}: {error}") from None
    except OSError as error:
        raise Unusable(f"{faults or f'{host}:{port}'}: {error.strerror or error}") from None


def _queues(given: str | None) -> tuple[str, ...]:
    chosen = tuple(name.strip() for name in given.split(",") if name.strip()) if given else QUEUES
    strange = [name for name in chosen if name not in QUEUES]
    if strange or not chosen:
        raise typer.BadParameter(f"there is no queue {', '.join(strange) or given!r}; there are {', '.join(QUEUES)}")

    return chosen


def _become(command: list[str]) -> None:
    """Take the program's place, in an environment that names what it would not find by itself."""
    session = Session(Format.TABLE, None)
    try:
        accounts: list[Account] = list(session.engine.accounts.values())
        if not accounts:
            sys.stderr.write("refundry: note: no account is configured, so there is nothing to send\n")
        environ = environment(session.settings)
    finally:
        session.close()
    sys.stdout.flush()
    os.execve(command[0], command, environ)  # noqa: S606 - a command of ours
