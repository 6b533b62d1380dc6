"""`refundry webhooks`: what endpoints were told, told again, and the endpoints themselves."""

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from cli.command import command, group
from cli.output import Row, dumps
from cli.session import Session
from cli.times import duration
from domain.webhook import EVENT_TYPES, Told
from engine import webhooks
from engine.people import Verb

app = group("Webhooks: what endpoints were told of refunds, what providers told us, and the endpoints.")
endpoints_app = group("Endpoints: where events are sent, and the secrets that they are signed with.")
app.add_typer(endpoints_app, name="endpoints")

Name = Annotated[str, typer.Argument(metavar="ENDPOINT", help="As `refundry webhooks endpoints list` says: we_….")]
Since = Annotated[str | None, typer.Option(metavar="AGE", help="Made since then, such as 24h or 10d ago.")]
Until = Annotated[str | None, typer.Option(metavar="AGE", help="And before then; else until now.")]


def _answer(row: Row) -> str:
    said = row["last_error"] or (f"HTTP {row['last_status']}" if row["last_status"] is not None else "")

    return f"{said}, {row['last_ms']} ms" if said else ""


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Id": lambda row: row["id"],
    "Endpoint": lambda row: row["endpoint"],
    "Refund": lambda row: row["refund"],
    "Event": lambda row: f"{row['type']} (version {row['version']})",
    "State": lambda row: row["state"],
    "Attempts": lambda row: row["attempts"],
    "Last answer": _answer,
    "Next": lambda row: row["next_at"],
}
ENDPOINTS: dict[str, Callable[[Row], Any]] = {
    "Id": lambda row: row["id"],
    "URL": lambda row: row["url"],
    "State": lambda row: row["state"],
    "Events": lambda row: ", ".join(row["types"]) or "all",
    "Accounts": lambda row: ", ".join(row["accounts"]) or "all",
    "Waiting": lambda row: row["waiting"],
    "Given up": lambda row: row["undelivered"],
    "Failing since": lambda row: row["failing_since"],
}


@command(app, "sent")
def list_sent(
    session: Session,
    *,
    delivery: Annotated[str | None, typer.Argument(metavar="ID", help="One delivery with all its attempts.")] = None,
    endpoint: Annotated[str | None, typer.Option(metavar="ENDPOINT", help="Only to this endpoint.")] = None,
    state: Annotated[Told | None, typer.Option(help="Only those that stand so.")] = None,
    refund: Annotated[str | None, typer.Option(metavar="ID", help="Only of this refund (rf_…).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 50,
) -> None:
    """List what was sent or waits to be sent, the newest first; with ID, one delivery and its attempts."""
    session.actor(Verb.SEE)
    if delivery is not None:
        view = webhooks.delivery(session.engine, delivery)
        session.out.one(view, lambda: _pictured(view))
        return
    found = webhooks.sent(session.engine, endpoint=endpoint, state=state, refund_id=refund, limit=limit)
    session.out.rows(found, COLUMNS, empty="no deliveries")


def _pictured(view: Row) -> list[RenderableType]:
    tried = [f"  {each['at']}  {each['error'] or each['status']}  {each['ms']} ms" for each in view["tried"]]

    return [f"{view['id']} to {view['endpoint']}: {view['state']}", dumps(view["payload"], indent=2), *tried]


@command(app, "resend")
def send_again(
    session: Session,
    *,
    delivery: Annotated[str | None, typer.Argument(metavar="ID", help="One delivery (msg_…).")] = None,
    endpoint: Annotated[str | None, typer.Option(metavar="ENDPOINT", help="All that this endpoint was made.")] = None,
    since: Since = None,
    until: Until = None,
    state: Annotated[Told | None, typer.Option(help="Only those that stand so, such as undelivered.")] = None,
) -> None:
    """Send deliveries once more, each under the webhook-id it had: ID, or --endpoint and --since."""
    who = session.actor(Verb.ACT)
    ranged = (endpoint, since, until, state)
    if delivery is not None and not any(ranged):
        count = webhooks.resend(session.engine, who, delivery)
    elif delivery is None and endpoint is not None and since is not None:
        count = webhooks.resend_range(
            session.engine, who, endpoint, since=_moment(since), until=_moment(until), state=state
        )
    else:
        raise typer.BadParameter("say which: ID, or --endpoint and --since")
    session.out.say(f"{count} deliveries are sent again", resent=count)


def _moment(age: str | None) -> float | None:
    return None if age is None else time.time() - duration(age)


@command(endpoints_app, "list")
def list_endpoints(session: Session) -> None:
    """List endpoints and how they do."""
    session.actor(Verb.SEE)
    session.out.rows(webhooks.endpoints(session.engine), ENDPOINTS, empty="no endpoints yet")


@command(endpoints_app, "show")
def show_endpoint(session: Session, *, name: Name) -> None:
    """Show one endpoint."""
    session.actor(Verb.SEE)
    view = webhooks.endpoint(session.engine, name)
    session.out.one(view, lambda: [f"{key:14} {value}" for key, value in view.items()])


@command(endpoints_app, "create")
def create_endpoint(
    session: Session,
    *,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent: https://…")],
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help=f"Only these events, of {', '.join(EVENT_TYPES)}."),
    ] = None,
    account: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only these accounts.")] = None,
) -> None:
    """Add an endpoint. Its secret is shown once."""
    who = session.actor(Verb.ADMINISTER)
    made, secret = webhooks.create(session.engine, who, url, types=type_ or (), accounts=account or ())

    _with_secret(session, made.id, secret)


@command(endpoints_app, "rotate")
def rotate_secret(
    session: Session,
    *,
    name: Name,
    overlap: Annotated[
        str, typer.Option(metavar="AGE", help="How long the old secret signs beside the new one.")
    ] = "24h",
) -> None:
    """Give an endpoint a new secret, shown once; `--overlap 0s` where the old one is known to others."""
    who = session.actor(Verb.ADMINISTER)
    secret = webhooks.rotate(session.engine, who, name, overlap=duration(overlap))

    _with_secret(session, name, secret)


def _with_secret(session: Session, name: str, secret: str) -> None:
    view = {**webhooks.endpoint(session.engine, name), "secret": secret}
    lines = [f"{name} sends to {view['url']}", f"secret, shown this once: {secret}"]
    session.out.one(view, lambda: lines)


@command(endpoints_app, "disable")
def disable_endpoint(
    session: Session, *, name: Name, reason: Annotated[str, typer.Option(metavar="WORDS", help="Why.")]
) -> None:
    """Send nothing to an endpoint; what happens meanwhile waits for it."""
    who = session.actor(Verb.ADMINISTER)
    webhooks.disable(session.engine, who, name, reason=reason)
    session.out.say(f"{name} is disabled", id=name, state="disabled")


@command(endpoints_app, "enable")
def enable_endpoint(session: Session, *, name: Name) -> None:
    """Send to an endpoint again, first what has waited."""
    who = session.actor(Verb.ADMINISTER)
    webhooks.enable(session.engine, who, name)
    session.out.say(f"{name} is enabled", id=name, state="enabled")


@command(endpoints_app, "delete")
def delete_endpoint(session: Session, *, name: Name) -> None:
    """Delete an endpoint and its secrets. Nothing is sent to it any more, what waits included."""
    who = session.actor(Verb.ADMINISTER)
    webhooks.remove(session.engine, who, name)
    session.out.say(f"{name} is deleted", id=name, state="deleted")
