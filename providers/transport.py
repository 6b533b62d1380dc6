"""The way to the provider: kept connections, and the one place where the faults of the network are judged.

A fault stands on one side or the other by when it happens, not by what it is called: before the first byte is handed
to a socket the request was never sent, after that it may have been.
"""

import asyncio
import ssl
from collections import defaultdict, deque
from functools import cache
from socket import SOCK_STREAM
from typing import Any, Protocol

import aiohappyeyeballs
import httpx

from domain.outcome import NotSent, NotSentReason, Unknown
from providers.http1 import Connection, Unfit, written

#: Seconds that an unused connection, and what a name resolves to, are kept.
KEPT_FOR = 15.0
NAMES_KEPT_FOR = 30.0
#: Seconds until the next address of a name is tried beside the first (RFC 8305).
HEAD_START = 0.25

Answer = httpx.Response | NotSent | Unknown
#: Scheme, host, port.
_Origin = tuple[str, str, int]
_PORTS = {"http": 80, "https": 443}
_Addresses = list[Any]


class Network(Protocol):
    """Sends one request: a response, or what its absence proves."""

    async def send(self, request: httpx.Request) -> Answer:
        """Never raises for a fault of the network."""

    async def close(self) -> None:
        """Close every connection."""


class Transport:
    """HTTP/1.1, TLS verified: no proxies, redirects or retries; answers capped at 1 MiB, every phase bounded in time.

    `connect_timeout`: name, socket and TLS together. `read_timeout`: the longest silence. A call takes at most both.
    """

    def __init__(self, *, connect_timeout: float, read_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._names = _Names()
        self._idle: defaultdict[_Origin, deque[Connection]] = defaultdict(deque)
        self._busy: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    async def send(self, request: httpx.Request) -> Answer:
        """See `Network`."""
        until = asyncio.get_running_loop().time() + self._connect_timeout + self._read_timeout
        try:
            wire = written(request)
            origin = _origin(request.url)
            connection = self._kept(origin) or await self._connected(origin)
        except Exception as error:  # noqa: BLE001 - nothing has been handed to a socket yet
            return NotSent(reason=NotSentReason.CONNECTION, detail=_words(error))
        self._busy.add(connection)
        try:
            response = await connection.exchange(request, wire, silence=self._read_timeout, until=until)
        except Exception as error:  # noqa: BLE001 - whatever happened, it may have happened after the request left
            return Unknown(reason=f"no answer: {_words(error)}")
        finally:
            self._busy.discard(connection)
        self._keep(origin, connection)

        return response

    async def close(self) -> None:
        """See `Network`."""
        self._names.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in (*self._busy, *(each for idle in self._idle.values() for each in idle)):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)

    def _kept(self, origin: _Origin) -> Connection | None:
        """The connection that was used last. One that is not free is never used again."""
        idle = self._idle[origin]
        oldest = asyncio.get_running_loop().time() - KEPT_FOR
        while idle:
            connection = idle.pop()
            if connection.free and connection.used_at > oldest:
                return connection
            connection.close()

        return None

    def _keep(self, origin: _Origin, connection: Connection) -> None:
        if not connection.open:
            return
        self._idle[origin].append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(KEPT_FOR, self._close_old)

    def _close_old(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        for idle in self._idle.values():
            while idle and idle[0].used_at <= loop.time() - KEPT_FOR:
                idle.popleft().close()
        if any(self._idle.values()):
            self._sweep = loop.call_later(KEPT_FOR, self._close_old)

    async def _connected(self, origin: _Origin) -> Connection:
        scheme, host, port = origin
        secure = scheme == "https"
        async with asyncio.timeout(self._connect_timeout):
            found = await self._names.addresses(host, port)
            opened = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=HEAD_START, interleave=1)
            try:
                _, connection = await asyncio.get_running_loop().create_connection(
                    Connection,
                    sock=opened,
                    ssl=_trust() if secure else None,
                    server_hostname=host if secure else None,
                )
            except BaseException:
                opened.close()
                raise

        return connection


class _Names:
    """What names resolve to: asked once for all that want it at the same time, and for those of the next 30 seconds."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, int], tuple[float, asyncio.Future[_Addresses]]] = {}

    async def addresses(self, host: str, port: int) -> _Addresses:
        """Raises OSError where there is no such name."""
        loop = asyncio.get_running_loop()
        until, asked = self._asked.get((host, port), (0.0, None))
        if asked is None or loop.time() > until or (asked.done() and (asked.cancelled() or asked.exception())):
            asked = asyncio.ensure_future(self._ask(host, port))
            self._asked[host, port] = loop.time() + NAMES_KEPT_FOR, asked

        return await asyncio.shield(asked)

    @staticmethod
    async def _ask(host: str, port: int) -> _Addresses:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)

    def close(self) -> None:
        """Wait for no answer any more."""
        for _, asked in self._asked.values():
            asked.cancel()
        self._asked.clear()


def _origin(url: httpx.URL) -> _Origin:
    """Where to connect. Raises Unfit for what is no address of the web."""
    if url.scheme not in _PORTS or not url.raw_host:
        raise Unfit("an address without http:// or https://")

    return url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]


@cache
def _trust() -> ssl.SSLContext:
    """The system's certificates, host names checked, TLS 1.2 or later; made on first use, for it takes a while."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])

    return context


def _words(error: BaseException) -> str:
    """What happened, without the URL: it may hold what should not be logged."""
    if isinstance(error, Unfit):
        return str(error)
    name = type(error).__name__

    return f"{name} {error.strerror}" if isinstance(error, OSError) and error.strerror else name
