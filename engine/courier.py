"""The way to a receiver: one POST, bounded in time and size, to no address that was not checked."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from domain.webhook import Network, Reply, may_connect

MAX_ANSWER = 4096
RESOLVING = 2
Resolve = Callable[..., Sequence[tuple[Any, ...]]]


class PrivateAddress(OSError):
    """A name led to an address where no webhook goes."""


class Courier:
    """Posts to endpoints. Time-out in seconds for everything together, the name's resolution included.

    Redirects are answers, proxies of the environment and cookies are not used, and each connection is new: one that
    the receiver has closed meanwhile would look like a failure. Names are resolved by threads of its own, so that a
    name server that hangs holds up nobody else.
    """

    def __init__(
        self,
        *,
        timeout: float,
        allowed: Sequence[Network],
        resolve: Resolve = socket.getaddrinfo,
        clock: Callable[[], float] = time.time,
        ssl: Any = True,
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._allowed = tuple(allowed)
        self._resolve = resolve
        self._threads = ThreadPoolExecutor(RESOLVING, thread_name_prefix="names")
        self._clock = clock
        self._ssl = ssl
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """What came of it; never raises for anything that the receiver or the network does."""
        begun = time.monotonic()
        given: dict[str, Any] = {}
        try:
            given = await self._exchange(url, headers, body)
        except Exception as error:  # noqa: BLE001 - whatever it was, it was no 2xx
            given = {"error": _words(error)}

        return Reply(at=self._clock(), ms=int((time.monotonic() - begun) * 1000), **given)

    async def close(self) -> None:
        """Close what is open."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _exchange(self, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        async with self._open().post(url, data=body, headers=headers, allow_redirects=False) as response:
            return {
                "status": response.status,
                "retry_after": _seconds(response.headers.get("Retry-After")),
                "answer": await response.content.read(MAX_ANSWER),
            }

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                force_close=True,
                use_dns_cache=False,
                ssl=self._ssl,
                resolver=_Resolver(self._threads, self._resolve),
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "Refundry", "Content-Type": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            )

        return self._session

    def _socket(self, info: Any) -> socket.socket:
        """Called with the very address that is then connected to, wherever it came from: this is where it is judged."""
        family, kind, protocol, _, target = info
        if not may_connect(ip_address(target[0]), self._allowed):
            raise PrivateAddress(f"{target[0]} is no public address")

        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    def __init__(self, threads: ThreadPoolExecutor, resolve: Resolve) -> None:
        self._threads = threads
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of a name."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, self._resolve, host, port, family, socket.SOCK_STREAM)

        return [
            ResolveResult(
                hostname=host,
                host=target[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, target in found
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is not used by receivers of webhooks."""
    return float(header) if header is not None and header.isascii() and header.isdigit() and len(header) < 8 else None  # noqa: PLR2004


def _words(error: BaseException) -> str:
    """What happened, without the URL: its path may be a secret of the receiver's."""
    cause = error.__cause__ if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, PrivateAddress):
        return str(cause)

    return type(error).__name__
