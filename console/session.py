"""Who asks: the session behind the cookie, and the form's token behind everything that acts."""

from typing import Annotated

from fastapi import Depends, Form, Request, Response

from console.guard import SAFE_METHODS, bound, is_token
from domain.errors import Forbidden
from engine.bootstrap import Engine
from engine.people import Verb, require
from engine.sessions import Browser, SignedIn, recognised


class NotSignedIn(Exception):
    """Nobody, or a session that is over."""


def engine_of(request: Request) -> Engine:
    """The engine of this process."""
    engine: Engine = request.app.state.engine

    return engine


def signed_in(request: Request, csrf: Annotated[str, Form()] = "") -> SignedIn:
    """Whose request it is. Raises NotSignedIn; Forbidden where a form is not one of this session's."""
    secret = request.cookies.get(cookie_name(request), "")
    clicked = "hx-request" not in request.headers
    signed = recognised(engine_of(request), secret, clicked=clicked) if secret else None
    if signed is None:
        raise NotSignedIn
    request.state.signed, request.state.secret = signed, secret
    require(signed.actor, Verb.SEE)
    if request.method not in SAFE_METHODS and not is_token(secret, csrf):
        raise Forbidden("form-token", "this form belongs to another session: load the page again")

    return signed


TheEngine = Annotated[Engine, Depends(engine_of)]
Signed = Annotated[SignedIn, Depends(signed_in)]


def browser_of(request: Request) -> Browser:
    """Where a request comes from."""
    address = request.client.host if request.client else "unknown"

    return Browser(address, request.headers.get("user-agent", ""))


def cookie_name(request: Request, name: str = "refundry") -> str:
    """What a cookie is called in this request."""
    return bound(name, secure=is_secure(request))


def keep(request: Request, response: Response, secret: str) -> None:
    """Give the browser its session."""
    lifetime = int(engine_of(request).settings.console.lifetime)
    response.set_cookie(
        cookie_name(request), secret, max_age=lifetime, httponly=True, samesite="lax", secure=is_secure(request)
    )


def drop(request: Request, response: Response) -> None:
    """Take the session from the browser."""
    response.delete_cookie(cookie_name(request), secure=is_secure(request), httponly=True, samesite="lax")


def is_secure(request: Request) -> bool:
    """Whether people come over https."""
    return (engine_of(request).settings.console.url or "").startswith("https://")
