"""`refundry accounts`: how they are set, and the switches that people hold."""

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.command import command, group
from cli.output import Row
from cli.session import Session
from cli.times import duration, since
from domain.errors import NotFound
from engine import operate
from engine.account import Account
from engine.people import Verb
from engine.view import stamp
from ledger.accounts import Switch

app = group("Merchant accounts: pause, resume, breakers.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The account's name in the settings.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it goes into the journal.")]


class Position(StrEnum):
    """Where a breaker is held."""

    OPEN = "open"
    CLOSE = "close"


@command(app, "list")
def list_accounts(session: Session) -> None:
    """List the accounts and how they are switched."""
    session.actor(Verb.SEE)
    switches = operate.switches(session.engine)
    everywhere = operate.everywhere(session.engine)
    rows = (_view(session, each, switches[name], everywhere) for name, each in session.engine.accounts.items())
    session.out.rows(rows, COLUMNS, empty="no account is configured: see refundry.example.toml")


def _view(session: Session, account: Account, switch: Switch | None, everywhere: Switch | None) -> dict[str, Any]:
    now = session.engine.clock()

    return {
        "name": account.name,
        "provider": account.provider.name,
        "fingerprint": account.provider.fingerprint,
        "paused": bool(switch and switch.paused),
        "pause_reason": switch.pause_reason if switch else None,
        "queue_paused": bool(everywhere and everywhere.paused),
        "breaker": session.engine.limits.breaker(account.name, account.limit),
        "breaker_held": switch.forced(now) if switch else None,
        "breaker_held_until": stamp(switch.breaker_until) if switch and switch.forced(now) else None,
        "changed_by": switch.changed_by if switch else None,
        "changed_at": stamp(switch.changed_at) if switch else None,
    }


def _sending(row: Row) -> str:
    if row["paused"]:
        return f"paused: {row['pause_reason']}"
    if row["queue_paused"]:
        return "rests: refundry.send is paused"

    return "rests: breaker held open" if row["breaker_held"] == "open" else "sends"


COLUMNS: dict[str, Callable[[Row], Any]] = {
    "Account": lambda row: row["name"],
    "Provider": lambda row: row["provider"],
    "First sendings": _sending,
    "Breaker": lambda row: row["breaker_held"] or row["breaker"],
    "Changed by": lambda row: row["changed_by"],
}


@command(app, "show")
def show_account(session: Session, *, name: Name) -> None:
    """Show an account: what its provider documents, the policy in force, its limits. No secrets."""
    session.actor(Verb.SEE)
    account = the_account(session, name)
    view = {
        **_view(session, account, operate.switches(session.engine)[name], operate.everywhere(session.engine)),
        "policy": asdict(account.policy),
        "limits": asdict(account.limit),
        "capabilities": {key: _plain(value) for key, value in asdict(account.capabilities).items()},
    }
    session.out.one(view, lambda: [_facts(view)])


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset | set) else value


def _facts(view: Row) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in view.items():
        for inner, shown in value.items() if isinstance(value, dict) else [("", value)]:
            if shown not in (None, "", {}):
                table.add_row(f"{name}.{inner}" if inner else name, str(shown))

    return table


@command(app, "pause")
def pause_account(session: Session, *, name: Name, reason: Reason = "") -> None:
    """Stop first sendings of an account; recovery and polling go on."""
    who = session.actor(Verb.SWITCH)
    account = the_account(session, name)
    changed = operate.pause(session.engine, who, account.name, reason=reason or "no reason given")
    session.out.say(f"{name} {'paused' if changed else 'was paused already'}", name=name, paused=True, changed=changed)


@command(app, "resume")
def resume_account(session: Session, *, name: Name, reason: Reason = "") -> None:
    """Let an account send again."""
    who = session.actor(Verb.SWITCH)
    account = the_account(session, name)
    operate.resume(session.engine, who, account.name, reason=reason)
    session.out.say(f"{name} sends again", name=name, paused=False)


@command(app, "breaker")
def hold_breaker(
    session: Session,
    *,
    position: Annotated[Position, typer.Argument(help="open: no first sendings; close: send whatever it has seen.")],
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; it goes into the journal.")],
    time: Annotated[str, typer.Option("--for", metavar="30m", help="How long it is held there.")] = "30m",
) -> None:
    """Hold an account's circuit breaker open or closed for a while."""
    who = session.actor(Verb.SWITCH)
    account = the_account(session, name)
    held = "open" if position is Position.OPEN else "closed"
    seconds = duration(time)
    operate.force_breaker(session.engine, who, account.name, position=held, seconds=seconds, reason=reason)
    until = session.engine.clock() + seconds
    words = f"the breaker of {name} is held {held}, which ends {since(until)}"
    session.out.say(words, name=name, breaker_held=held, breaker_held_until=stamp(until))


def the_account(session: Session, name: str) -> Account:
    """A configured account. Raises NotFound."""
    found = session.engine.accounts.get(name)
    if found is None:
        raise NotFound("not-found", f"there is no account {name!r}; there are {', '.join(session.engine.accounts)}")

    return found
