"""S13: users, sessions, the rules in force."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from console.pages import HERE, go, money, page
from console.session import Signed, TheEngine, browser_of, drop
from domain.words import ago
from engine import people, sessions
from engine.bootstrap import Engine
from engine.people import Role

router = APIRouter()

Roles = Annotated[list[Role], Form(alias="role")]
_NONE: Roles = []


@router.get("/settings")
def show(request: Request, engine: TheEngine, signed: Signed) -> Response:
    everybody = people.everybody(engine)
    console = engine.settings.console

    return page(
        request,
        "settings.html",
        people=everybody,
        roles=list(Role),
        sessions=sessions.open_sessions(engine, signed.actor),
        mine=signed.session.digest,
        local=any(each.name == signed.actor.name and each.subject is None for each in everybody),
        idle=console.idle,
        lifetime=console.lifetime,
        rules=list(_rules(engine)),
        about=list(_about(engine)),
    )


def _rules(engine: Engine) -> Iterator[str]:
    yield "Settling by hand, a new handle and a re-send after a handle's lifetime always take two people."
    rules = engine.settings.approvals
    for currency, amount in rules.threshold.items():
        ways = ", ".join(rules.applies_to)
        yield f"A refund of {money(amount, currency)} or more takes a second person, when it comes by: {ways}."
    if not rules.threshold:
        yield "No amount needs a second person before it is sent."
    yield f"A request that nobody decides expires after {ago(rules.expires)}."


def _about(engine: Engine) -> Iterator[tuple[str, str]]:
    yield "Version", version("refundry")
    yield "Ledger", engine.ledger.url.get_backend_name()
    vendored = HERE / "static" / "vendor"
    yield (
        "Vendored",
        ", ".join(sorted(each.name for each in vendored.iterdir() if each.suffix in (".js", ".css", ".svg"))),
    )
    yield "Licences", "htmx 0BSD, Bootstrap MIT, uPlot MIT, Lucide ISC"


@router.post("/settings/users")
def add(
    engine: TheEngine,
    signed: Signed,
    name: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=1024)] = "",
    role: Roles = _NONE,
) -> Response:
    people.create(engine, signed.actor, name.strip(), frozenset(role))
    if password:
        sessions.set_password(engine, signed.actor, name.strip(), password)

    return go("/settings", f"{name.strip()} was added.")


@router.post("/settings/users/{name}/roles")
def change(engine: TheEngine, signed: Signed, name: str, role: Roles = _NONE) -> Response:
    wanted = frozenset(role)
    people.change_roles(engine, signed.actor, name, grant=wanted, revoke=frozenset(Role) - wanted)

    return go("/settings", f"{name} has these roles now: {', '.join(sorted(wanted)) or 'none'}.")


@router.post("/settings/users/{name}/end")
def end_theirs(engine: TheEngine, signed: Signed, name: str) -> Response:
    count = sessions.end_sessions(engine, signed.actor, name)

    return go("/settings", f"{count} sessions of {name} ended.")


@router.post("/settings/end")
def end_mine(request: Request, engine: TheEngine, signed: Signed) -> Response:
    sessions.end_sessions(engine, signed.actor, signed.actor.name)
    response = go("/sign-in")
    drop(request, response)

    return response


@router.post("/settings/password")
def change_password(
    request: Request,
    engine: TheEngine,
    signed: Signed,
    current: Annotated[str, Form(max_length=1024)],
    password: Annotated[str, Form(max_length=1024)],
) -> Response:
    sessions.change_password(engine, signed.actor, current, password, browser_of(request))
    response = go("/sign-in")
    drop(request, response)

    return response
