"""Pages from templates: the one place that knows Jinja, what every page shows, and how values are written."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import jinja2
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.types import Receive, Scope, Send

from console.guard import make_token
from console.session import cookie_name, is_secure
from domain.money import to_major
from domain.state import FINAL, LABELS, State
from domain.words import advice_in_words, ago, cause_in_words
from engine.bootstrap import Engine
from engine.overview import needs
from engine.people import ALLOWED, Actor, Verb
from engine.sessions import SignedIn

HERE = Path(__file__).parent
TOLD = "refundry_told"
#: How each state looks: its icon and its tone. The word beside it says the same.
LOOKS: dict[State, tuple[str, str]] = {
    State.AWAITING_APPROVAL: ("user-check", "violet"),
    State.QUEUED: ("clock", "grey"),
    State.SENDING: ("send", "blue"),
    State.UNKNOWN: ("circle-help", "amber"),
    State.PENDING: ("loader", "blue"),
    State.SUCCEEDED: ("circle-check", "green"),
    State.FAILED: ("circle-x", "red"),
    State.CANCELLED: ("ban", "grey"),
    State.REVERSED: ("undo-2", "red"),
    State.REVIEW: ("hand", "orange"),
    State.SETTLED: ("stamp", "green"),
}
NAVIGATION = (
    ("/", "gauge", "Overview"),
    ("/refunds", "search", "Refunds"),
    ("/dead", "skull", "Dead letters"),
    ("/bulk", "stamp", "Bulk"),
    ("/approvals", "user-check", "Approvals"),
    ("/recon", "scale", "Reconciliation"),
    ("/accounts", "plug", "Accounts"),
    ("/queues", "layers", "Queues"),
    ("/webhooks", "webhook", "Webhooks"),
    ("/audit", "scroll-text", "Audit"),
    ("/settings", "settings", "Settings"),
)


def money(amount: int | None, currency: str | None) -> str:
    """`12.50 EUR`, exactly; what is not known yet is everything that is left."""
    if amount is None or currency is None:
        return "all that is left"

    return f"{to_major(amount, currency)} {currency}"


def exact(moment: float) -> str:
    """`2026-11-01 12:03:11 UTC`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def epoch(moment: str | float | None) -> float | None:
    """Epoch seconds of a time as the engine answers it."""
    return datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else moment


def capped(count: int, most: int = 10_000) -> str:
    """`10 000+` where nobody counted further."""
    return f"{most:,}+".replace(",", " ") if count > most else f"{count:,}".replace(",", " ")


@cache
def static(name: str) -> str:
    """The address of a file of ours: it changes with its content, so browsers may keep it."""
    digest = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]

    return f"/static/{name}?v={digest}"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "money": lambda pair: money(*pair),
        "exact": exact,
        "epoch": epoch,
        "ago": ago,
        "capped": capped,
        "cause": cause_in_words,
        "advice": advice_in_words,
        "pairs": lambda names: [(name, name) for name in names],
        "query": lambda given: urlencode({key: value for key, value in given.items() if value}, doseq=True),
    }
    environment.globals |= {
        "static": static,
        "State": State,
        "LABELS": LABELS,
        "LOOKS": LOOKS,
        "FINAL": FINAL,
        "NAVIGATION": NAVIGATION,
        "Verb": Verb,
    }

    return environment


_templates = _environment()


def may(actor: Actor, verb: Verb) -> bool:
    """Whether a page offers it. What counts is checked in the use case."""
    return any(verb in ALLOWED[role] for role in actor.roles)


def page(request: Request, template: str, /, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page for somebody who signed in."""
    engine: Engine = request.app.state.engine
    signed: SignedIn = request.state.signed
    now = engine.clock()
    frame = {
        "actor": signed.actor,
        "may": lambda verb: may(signed.actor, verb),
        "token": lambda: make_token(request.state.secret),
        "waiting": needs(engine),
        "live": False,
    }
    body = _render(request, template, now, {**frame, **values})

    return _answer(request, body, status)


def bare(request: Request, template: str, /, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page for somebody who has not."""
    engine: Engine = request.app.state.engine

    return _answer(request, _render(request, template, engine.clock(), values), status)


def _render(request: Request, name: str, now: float, values: Mapping[str, Any]) -> str:
    engine: Engine = request.app.state.engine
    url = request.url.path + (f"?{request.url.query}" if request.url.query else "")

    return _templates.get_template(name).render(
        **values,
        now=now,
        url=url,
        path=request.url.path,
        environment=engine.settings.console.environment,
        told=unquote(request.cookies.get(cookie_name(request, TOLD), "")),
    )


def _answer(request: Request, body: str, status: int) -> HTMLResponse:
    response = HTMLResponse(body, status)
    told = cookie_name(request, TOLD)
    if told in request.cookies and "hx-request" not in request.headers:
        response.delete_cookie(told, secure=is_secure(request), httponly=True, samesite="lax")

    return response


class _Onward(RedirectResponse):
    """A redirect that tells something once; only when it is sent it meets the request, which names the cookie."""

    def __init__(self, to: str, told: str) -> None:
        super().__init__(to, 303)
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        request = Request(scope)
        name, secure = cookie_name(request, TOLD), is_secure(request)
        self.set_cookie(name, quote(self._told), max_age=60, secure=secure, httponly=True, samesite="lax")
        await super().__call__(scope, receive, send)


def go(to: str, told: str = "") -> Response:
    """After something was done: on to a page that can be reloaded, which says what was done once."""
    return _Onward(to, told) if told else RedirectResponse(to, 303)
