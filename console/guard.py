"""What every request passes: the right host, the same origin for what acts, bounded bodies; and the headers back."""

import asyncio
import hmac
import ipaddress
import secrets
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 6 * 1024 * 1024
#: Of who has no session: a name and the longest password, percent-encoded.
LARGEST_UNKNOWN = 16 * 1024
BODY_SECONDS = 20.0
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: browsers would then send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_TOO_LARGE = 413, "The request is too large."
_TOO_SLOW = 408, "The request did not arrive in time."


def is_loopback(address: str | None) -> bool:
    """Whether an address is this machine's own."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


class Guard:
    """Middleware around the whole application. `url`: the console's public address, None on a loopback one.

    `known`: whether a cookie's secret is that of a session.
    """

    def __init__(self, app: ASGIApp, *, url: str | None, host: str, known: Callable[[str], bool]) -> None:
        self._app = app
        self._known = known
        self._secure = url is not None and url.startswith("https://")
        public = urlsplit(url or "").hostname
        self._hosts = {public} if public else {*_LOCAL, host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope["method"], Headers(scope=scope))
        if problem is None and scope["method"] not in SAFE_METHODS:
            receive, problem = await self._body(scope, receive)
        answer = self._app if problem is None else PlainTextResponse(problem[1], problem[0])

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._dress(MutableHeaders(scope=message))
            await send(message)

        await answer(scope, receive, dressed)

    def _problem(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Status and words for what must not come in; None for what may."""
        host = headers.get("host", "")
        if host.rsplit(":", 1)[0] not in self._hosts and host not in self._hosts:
            return 421, "This console answers under another name: see [console] url."
        if method in SAFE_METHODS:
            return None
        if not same_origin(headers):
            return 403, "This request comes from another site and was not carried out."
        length = headers.get("content-length")
        if length is None or not length.isdecimal():
            return 411, "The length of the request is missing."

        return _TOO_LARGE if int(length) > LARGEST_BODY else None

    async def _body(self, scope: Scope, receive: Receive) -> tuple[Receive, tuple[int, str] | None]:
        """The body, there as a whole before anybody parses it; or what is wrong with it."""
        connection = HTTPConnection(scope)
        if int(connection.headers["content-length"]) > LARGEST_UNKNOWN:
            secret = connection.cookies.get(bound(secure=self._secure))
            if secret is None or not await run_in_threadpool(self._known, secret):
                return receive, _TOO_LARGE
        try:
            return await arrived(receive, BODY_SECONDS), None
        except TimeoutError:
            return receive, _TOO_SLOW

    def _dress(self, headers: MutableHeaders) -> None:
        for name, value in HEADERS.items():
            headers[name] = value
        if self._secure:
            headers["Strict-Transport-Security"] = "max-age=31536000"
        headers.setdefault("Cache-Control", "no-store")


async def arrived(receive: Receive, seconds: float) -> Receive:
    """The same request, once all of it is here. Raises TimeoutError."""
    messages: deque[Message] = deque()
    async with asyncio.timeout(seconds):
        while not messages or messages[-1].get("more_body", False):
            messages.append(await receive())

    async def again() -> Message:
        return messages.popleft() if messages else await receive()

    return again


def bound(name: str = "refundry", *, secure: bool) -> str:
    """A cookie's name, the session's unless told. Over https the browser itself holds it to this host."""
    return f"__Host-{name}" if secure else name


def same_origin(headers: Headers) -> bool:
    """Whether the browser says that one of our own pages asks. A browser that says nothing is refused."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")

    return origin is not None and urlsplit(origin).netloc == headers.get("host")


def make_token(secret: str) -> str:
    """A form's token for a session; another one each time, so that compression tells nothing about it."""
    nonce = secrets.token_hex(16)

    return nonce + _bound(secret, nonce)


def is_token(secret: str, token: str) -> bool:
    """Whether the token was made for this session."""
    nonce, digest = token[:32], token[32:]

    return hmac.compare_digest(digest.encode(), _bound(secret, nonce).encode())


def _bound(secret: str, nonce: str) -> str:
    return hmac.new(secret.encode(), f"form:{nonce}".encode(), sha256).hexdigest()
