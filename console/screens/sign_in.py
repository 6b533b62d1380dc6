"""S0: signing in and out; by password, by the one-time link of a terminal, by an identity provider."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from console import oidc
from console.guard import is_loopback
from console.pages import bare, go
from console.session import Signed, TheEngine, browser_of, cookie_name, drop, engine_of, is_secure, keep
from domain.errors import Forbidden, NotFound, Refused
from engine import sessions

router = APIRouter()


def ask(request: Request) -> Response:
    """To the sign-in page, and back to where somebody wanted to go."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    kept = {} if request.method != "GET" or wanted == "/" else {"next": wanted}

    return go(f"/sign-in?{urlencode(kept)}" if kept else "/sign-in")


@router.get("/sign-in")
def form(request: Request, next: str = "/") -> Response:  # noqa: A002 - its name in the address
    return _form(request, onward=next)


@router.post("/sign-in")
def enter(
    request: Request,
    engine: TheEngine,
    name: Annotated[str, Form(max_length=64)] = "",
    password: Annotated[str, Form(max_length=1024)] = "",
    onward: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    try:
        secret = sessions.sign_in(engine, name.strip().lower(), password, browser_of(request))
    except NotFound:
        raise
    except Forbidden as error:
        return _form(request, onward=onward, name=name, error=str(error), status=403)
    except Refused as error:
        return _form(request, onward=onward, name=name, error=str(error), status=429)

    return _welcome(request, secret, onward)


@router.get("/sign-in/link")
def show_link(request: Request, secret: str = "") -> Response:
    """Nothing happens by looking: the button signs in."""
    return _form(request, secret=secret)


@router.post("/sign-in/link")
def use_link(request: Request, engine: TheEngine, secret: Annotated[str, Form()]) -> Response:
    if not is_loopback(browser_of(request).address):
        return _form(request, error="this link works on the machine that printed it only", status=403)
    try:
        started = sessions.sign_in_by_link(engine, secret, browser_of(request))
    except Forbidden as error:
        return _form(request, error=str(error), status=403)

    return _welcome(request, started, "/")


@router.get("/sign-in/oidc")
def to_provider(request: Request, engine: TheEngine, next: str = "/") -> Response:  # noqa: A002
    """To the identity provider, with a state that only this browser holds."""
    address, state = oidc.start(engine.settings, str(request.base_url), _local(next))
    response = go(address)
    response.set_cookie(
        cookie_name(request, oidc.COOKIE),
        state,
        max_age=int(oidc.LIFETIME),
        secure=is_secure(request),
        httponly=True,
        samesite="lax",
    )

    return response


@router.get("/sign-in/oidc/back")
def from_provider(request: Request, engine: TheEngine) -> Response:
    """Back from the identity provider with a code."""
    try:
        who = oidc.finish(
            engine.settings,
            str(request.base_url),
            request.cookies.get(cookie_name(request, oidc.COOKIE), ""),
            str(request.url),
        )
        secret = sessions.sign_in_by_provider(
            engine, subject=who.subject, name=who.name, roles=who.roles, browser=browser_of(request)
        )
    except Forbidden as error:
        return _form(request, error=str(error), status=403)
    response = _welcome(request, secret, who.onward)
    response.delete_cookie(cookie_name(request, oidc.COOKIE), secure=is_secure(request), httponly=True, samesite="lax")

    return response


@router.post("/sign-out")
def leave(request: Request, engine: TheEngine, signed: Signed) -> Response:
    sessions.sign_out(engine, signed)
    response = go("/sign-in")
    drop(request, response)

    return response


def _welcome(request: Request, secret: str, onward: str) -> Response:
    response = go(_local(onward))
    keep(request, response, secret)

    return response


def _local(onward: str) -> str:
    """Only to pages of this console."""
    return onward if onward.startswith("/") and not onward.startswith(("//", "/\\")) else "/"


def _form(request: Request, *, onward: str = "/", error: str = "", status: int = 200, **values: Any) -> Response:
    console = engine_of(request).settings.console
    label = console.oidc.label if console.oidc else ""
    frame = {"name": "", "secret": "", "next": _local(onward), "oidc": label, "local": console.signs_in_locally}

    return bare(request, "sign_in.html", status=status, error=error, **{**frame, **values})
