"""The command `refundry`."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from cli import (
    accounts,
    approvals,
    audit,
    bulk,
    data,
    db,
    dead,
    keys,
    notifications,
    processes,
    recon,
    refunds,
    status,
    submit,
    users,
    views,
    webhooks,
    workers,
)
from cli.command import command, group
from cli.demo import show_demo
from cli.errors import Status, failure_of, report
from cli.up import run_up

app = group(
    "Refundry pays each refund job exactly once through the shop's payment provider, and either proves the outcome or "
    "puts the refund in front of a person."
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - Typer's way
    if wanted:
        try:
            typer.echo(f"refundry {version('refundry')}")
        except PackageNotFoundError:
            typer.echo("refundry, not installed")
        raise typer.Exit


@app.callback()
def _root(
    *,
    shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Refundry pays each refund job exactly once, and either proves the outcome or puts it in front of a person."""


app.command("demo")(show_demo)
app.command("up")(run_up)
app.command("worker")(processes.run_worker)
app.command("beat")(processes.run_beat)
app.command("api")(processes.run_api)
app.command("openapi")(processes.show_openapi)
app.command("console")(processes.run_console)
app.command("sandbox")(processes.run_sandbox)
command(app, "status")(status.show_status)
command(app, "doctor")(status.show_doctor)
command(app, "submit")(submit.submit_file)
command(webhooks.app, "received")(notifications.list_received)
command(webhooks.app, "replay")(notifications.replay_notification)
command(webhooks.app, "link")(notifications.link_notification)
command(webhooks.app, "verify")(notifications.verify_notification)
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(refunds.app, name="refunds")
app.add_typer(dead.app, name="dead")
app.add_typer(bulk.app, name="bulk")
app.add_typer(approvals.app, name="approvals")
app.add_typer(recon.app, name="recon")
app.add_typer(accounts.app, name="accounts")
app.add_typer(workers.app, name="workers")
app.add_typer(workers.queues_app, name="queues")
app.add_typer(views.app, name="views")
app.add_typer(users.app, name="users")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(data.app, name="data")
app.add_typer(db.app, name="db")


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line; answers its exit status."""
    try:
        result = app(list(arguments), prog_name="refundry", standalone_mode=False)
    except BrokenPipeError:
        # Whoever read it has left. What is still buffered must not complain about that at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Status.REFUSED
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(f"{error}\n")
            return Status.USAGE
        failure = failure_of(error)
        if failure is None:
            raise
        return report(failure, as_json=_wants_json(arguments))

    return int(result or Status.DONE)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Also where the rest of the line could not be read."""
    joined = " ".join(arguments)

    return any(f"{option}{between}json" in joined for option in ("-o", "--output") for between in ("", " ", "="))


def main() -> None:
    """The program's entry."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
